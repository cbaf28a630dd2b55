# SPDX-License-Identifier: Apache-2.0
"""TensorRT and TensorRT-RTX. Device memory comes from the CUDA driver API, so no further package is needed."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import BundleError, InputError, ProviderUnavailable
from zoo.runtime.engines import EngineOptions, NodePlacement, check_requirement
from zoo.runtime.engines.tensorrt_layers import inspect_engine, placement

if TYPE_CHECKING:
    from zoo.bundle import Bundle, EngineSpec

_LIBRARIES = ("libcuda.so.1", "nvcuda.dll")
_CC_MAJOR, _CC_MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR


class Driver:
    """The few calls of the CUDA driver API that an engine needs, on one device's primary context.

    Parameters
    ----------
    device : int
        Index of the GPU.
    library : ctypes library or None
        For tests; None loads the driver.

    Raises
    ------
    ProviderUnavailable
        There is no driver, or no such GPU.
    """

    def __init__(self, device: int = 0, library: Any = None) -> None:
        self._cuda = library if library is not None else _load_driver()
        self._call("cuInit", 0)
        count = ctypes.c_int()
        self._call("cuDeviceGetCount", ctypes.byref(count))
        if device >= count.value:
            raise ProviderUnavailable(f"the NVIDIA driver finds {count.value} GPUs; there is no GPU {device}")
        handle = ctypes.c_int()
        self._call("cuDeviceGet", ctypes.byref(handle), device)
        self._device = handle
        self._context = ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), handle)

    def compute_capability(self) -> str:
        """Such as ``8.9``."""
        parts = []
        for attribute in (_CC_MAJOR, _CC_MINOR):
            value = ctypes.c_int()
            self._call("cuDeviceGetAttribute", ctypes.byref(value), attribute, self._device)
            parts.append(str(value.value))
        return ".".join(parts)

    def version(self) -> str:
        """CUDA version that the driver supports, such as ``12.9``."""
        value = ctypes.c_int()
        self._call("cuDriverGetVersion", ctypes.byref(value))
        return f"{value.value // 1000}.{value.value % 1000 // 10}"

    def name(self) -> str:
        """The GPU's name."""
        text = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", text, 256, self._device)
        return text.value.decode(errors="replace")

    def activate(self) -> None:
        """Make the context current in the calling thread."""
        self._call("cuCtxSetCurrent", self._context)

    def stream(self) -> int:
        """A new stream."""
        handle = ctypes.c_void_p()
        self._call("cuStreamCreate", ctypes.byref(handle), 1)
        return int(handle.value or 0)

    def allocate(self, size: int) -> int:
        """Device memory; ProviderUnavailable where the GPU has too little left."""
        pointer = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(max(size, 1)))
        return pointer.value

    def free(self, pointer: int) -> None:
        """Give device memory back."""
        self._call("cuMemFree_v2", ctypes.c_uint64(pointer))

    def upload(self, pointer: int, array: NDArray[Any], stream: int) -> None:
        """Copy a contiguous array to the device."""
        self._call(
            "cuMemcpyHtoDAsync_v2",
            ctypes.c_uint64(pointer),
            ctypes.c_void_p(array.ctypes.data),
            ctypes.c_size_t(array.nbytes),
            ctypes.c_void_p(stream),
        )

    def download(self, array: NDArray[Any], pointer: int, stream: int) -> None:
        """Copy from the device into a contiguous array."""
        self._call(
            "cuMemcpyDtoHAsync_v2",
            ctypes.c_void_p(array.ctypes.data),
            ctypes.c_uint64(pointer),
            ctypes.c_size_t(array.nbytes),
            ctypes.c_void_p(stream),
        )

    def synchronize(self, stream: int) -> None:
        """Wait until the stream has done its work."""
        self._call("cuStreamSynchronize", ctypes.c_void_p(stream))

    def destroy_stream(self, stream: int) -> None:
        """Destroy a stream."""
        self._call("cuStreamDestroy_v2", ctypes.c_void_p(stream))

    def release(self) -> None:
        """Give the primary context back."""
        self._call("cuDevicePrimaryCtxRelease_v2", self._device)

    def _call(self, function: str, *arguments: Any) -> None:
        code = int(getattr(self._cuda, function)(*arguments))
        if code != 0:
            text = ctypes.c_char_p()
            try:
                self._cuda.cuGetErrorString(code, ctypes.byref(text))
            except AttributeError:
                text.value = None
            reason = text.value.decode(errors="replace") if text.value else "unknown error"
            raise ProviderUnavailable(f"CUDA driver: {function} failed with {code}: {reason}")


def _load_driver() -> Any:
    for name in _LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise ProviderUnavailable("libcuda.so.1 not found: this machine has no NVIDIA driver")


def gpu_problem(compute_capability: str | None, device: int = 0, driver: Driver | None = None) -> str | None:
    """Why an engine for ``compute_capability`` cannot run on this machine; None where it can."""
    try:
        driver = driver or Driver(device)
        found = driver.compute_capability()
    except ProviderUnavailable as error:
        return str(error)
    if compute_capability is not None and found != compute_capability:
        return f"the engine is for compute capability {compute_capability}, this GPU ({driver.name()}) has {found}"
    return None


def version(package: str) -> str:
    """Version of the installed package."""
    return str(importlib.import_module(package).__version__)


def status(package: str) -> tuple[str, tuple[str, ...], str | None]:
    """Version, devices, problem."""
    found = version(package)
    try:
        driver = Driver()
        return found, (f"{driver.name()} (compute capability {driver.compute_capability()})",), None
    except ProviderUnavailable as error:
        return found, (), str(error)


class TensorRtEngine:
    """One engine with one execution context, one stream, and device buffers of the profile's greatest size.

    Calls from several threads wait for each other: a context runs one inference at a time.
    """

    def __init__(
        self,
        bundle: Bundle,
        spec: EngineSpec,
        options: EngineOptions,
        package: str,
        driver: Driver | None = None,
    ) -> None:
        self.kind = self.requested = spec.kind
        self.inputs, self.outputs = spec.inputs, spec.outputs
        self._where = str(bundle.path)
        try:
            self._driver = driver or Driver(options.device)
        except ProviderUnavailable as error:
            raise ProviderUnavailable(f"{bundle.path} needs an NVIDIA GPU: {error}") from error
        _check_device(bundle, self._driver)
        self._driver.activate()
        self._trt: Any = importlib.import_module(package)
        self._logger = self._trt.Logger(self._trt.Logger.ERROR)
        self._runtime = self._trt.Runtime(self._logger)
        plan = bundle.read(spec.file)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise BundleError(
                f"{self._where}: {package} {self._trt.__version__} refuses the engine file {spec.file}"
            )
        actual = {self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)}
        absent = [tensor.name for tensor in (*self.inputs, *self.outputs) if tensor.name not in actual]
        if absent:
            raise BundleError(f"{self._where}: the engine file has no tensor {', '.join(absent)}")
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise ProviderUnavailable(f"{self._where}: the GPU has too little memory for this engine")
        self._lock = threading.Lock()
        self._stream = self._driver.stream()
        self._buffers: dict[str, int] = {}
        self._sizes: dict[str, int] = {}
        profile = bundle.manifest.key.profile
        for tensor in (*self.inputs, *self.outputs):
            shape = [dim if isinstance(dim, int) else profile[dim][2] for dim in tensor.shape]
            size = int(np.prod(shape)) * np.dtype(tensor.dtype).itemsize
            self._sizes[tensor.name] = size
            self._buffers[tensor.name] = self._driver.allocate(size)
            self._context.set_tensor_address(tensor.name, self._buffers[tensor.name])

    def run(self, arrays: Sequence[NDArray[np.generic]]) -> list[NDArray[np.generic]]:
        """Run once. See :class:`zoo.runtime.engines.Engine`."""
        with self._lock:
            self._driver.activate()
            for tensor, array in zip(self.inputs, arrays, strict=True):
                fits = array.ndim == len(tensor.shape) and array.nbytes <= self._sizes[tensor.name]
                if not fits or array.dtype != np.dtype(tensor.dtype):
                    raise InputError(
                        f"{self._where}: input {tensor.name} is {array.dtype} {array.shape}, "
                        f"the engine takes {tensor.dtype} {tensor.shape} up to {self._sizes[tensor.name]} bytes"
                    )
                if not self._context.set_input_shape(tensor.name, tuple(array.shape)):
                    raise InputError(
                        f"{self._where}: shape {array.shape} of {tensor.name} is outside the engine's profile"
                    )
                self._driver.upload(self._buffers[tensor.name], array, self._stream)
            if not self._context.execute_async_v3(self._stream):
                raise ProviderUnavailable(f"{self._where}: the engine could not be started on the GPU")
            outputs: list[NDArray[np.generic]] = []
            for tensor in self.outputs:
                shape = tuple(self._context.get_tensor_shape(tensor.name))
                array = np.empty(shape, np.dtype(tensor.dtype))
                self._driver.download(array, self._buffers[tensor.name], self._stream)
                outputs.append(array)
            self._driver.synchronize(self._stream)
        return outputs

    def placement(self) -> list[NodePlacement]:
        """Layers with the types they compute in, from the engine inspector. All of them run on the GPU."""
        return placement(inspect_engine(self._trt, self._engine), self.kind)

    def memory(self) -> dict[str, int]:
        """Bytes on the device: buffers here, and the engine's own scratch memory where it tells."""
        scratch = getattr(self._engine, "device_memory_size_v2", 0)
        return {"buffer_bytes": sum(self._sizes.values()), "scratch_bytes": int(scratch)}

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # half-built, or the driver is already gone at exit
            self.close()

    def close(self) -> None:
        """Give back everything on the device. The engine cannot be used afterwards."""
        with self._lock:
            if self._context is None:
                return
            self._driver.activate()
            self._context = self._engine = self._runtime = None
            for pointer in self._buffers.values():
                self._driver.free(pointer)
            self._buffers.clear()
            self._driver.destroy_stream(self._stream)
            self._driver.release()


def _check_device(bundle: Bundle, driver: Driver) -> None:
    """Compare the key with the GPU and its driver, before anything is deserialised."""
    key = bundle.manifest.key
    if key.compute_capability is not None:
        check_requirement(
            bundle, "compute_capability", f"=={key.compute_capability}", driver.compute_capability()
        )
    if key.driver is not None:
        check_requirement(bundle, "driver", key.driver, driver.version())


def open(bundle: Bundle, spec: EngineSpec, options: EngineOptions, package: str) -> TensorRtEngine:
    """Open an engine of a bundle."""
    return TensorRtEngine(bundle, spec, options, package)
