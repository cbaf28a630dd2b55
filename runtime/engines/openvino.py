# SPDX-License-Identifier: Apache-2.0
"""OpenVINO on CPU (and any other device that a target's flags name)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from zoo.errors import BundleError, InputError, ProviderUnavailable
from zoo.runtime.engines import EngineOptions, NodePlacement, precision_name

if TYPE_CHECKING:
    from zoo.bundle import Bundle, EngineSpec

#: The plugin lowers precision by itself (bf16 on AMX, f16 on arm64) unless told not to.
_HINTS = {"fp32": "f32", "int8": "f32", "fp16": "f16", "bf16": "bf16"}


def version(package: str) -> str:
    """Version of the installed package, without the build number."""
    return str(ov.__version__).split("-")[0]


def hint(precision: str) -> str:
    """The plugin's name of a bundle's precision; told, since the plugin lowers it by itself otherwise."""
    return _HINTS[precision]


def status(package: str) -> tuple[str, tuple[str, ...], str | None]:
    """Version, devices, problem."""
    return version(package), tuple(ov.Core().available_devices), None


class OpenVinoEngine:
    """One compiled model and a pool of infer requests, one for each concurrent caller."""

    kind = "openvino"

    def __init__(self, bundle: Bundle, spec: EngineSpec, options: EngineOptions) -> None:
        self.inputs, self.outputs = spec.inputs, spec.outputs
        self._where = str(bundle.path)
        core = ov.Core()
        device = str(bundle.manifest.key.flags.get("device", "CPU"))
        if device not in core.available_devices:
            raise ProviderUnavailable(
                f"{bundle.path} needs OpenVINO's device {device}; here are {', '.join(core.available_devices)}"
            )
        config: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(options.threads),
            "INFERENCE_PRECISION_HINT": hint(spec.precision),
        }
        weights = bundle.read(spec.extra_files[0]) if spec.extra_files else b""
        try:
            model = core.read_model(bundle.read(spec.file), weights)
            self._compiled = core.compile_model(model, device, config)
        except RuntimeError as error:
            raise BundleError(
                f"{self._where}: OpenVINO {ov.__version__} refuses the engine file: {error}"
            ) from error
        taken = self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if taken != hint(spec.precision):
            raise ProviderUnavailable(
                f"{bundle.path} is {spec.precision}, but this {device} would compute it in {taken}; "
                "take the fp32 or int8 bundle here"
            )
        names = {
            name for port in (*self._compiled.inputs, *self._compiled.outputs) for name in port.get_names()
        }
        absent = [tensor.name for tensor in (*self.inputs, *self.outputs) if tensor.name not in names]
        if absent:
            raise BundleError(f"{self._where}: the engine file has no tensor {', '.join(absent)}")
        self.requested = device
        self._devices = "+".join(self._compiled.get_property("EXECUTION_DEVICES"))
        self._ports = [self._compiled.output(tensor.name) for tensor in self.outputs]
        self._input_names = [tensor.name for tensor in self.inputs]
        self._free: list[Any] = [self._compiled.create_infer_request()]

    def run(self, arrays: Sequence[NDArray[np.generic]]) -> list[NDArray[np.generic]]:
        """Run once. See :class:`zoo.runtime.engines.Engine`."""
        try:
            request = self._free.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        try:
            results = request.infer(dict(zip(self._input_names, arrays, strict=True)), share_inputs=True)
            return [np.array(results[port]) for port in self._ports]
        except RuntimeError as error:
            raise InputError(f"{self._where}: OpenVINO refuses the input: {error}") from error
        finally:
            self._free.append(request)

    def placement(self) -> list[NodePlacement]:
        """Executed layers with their kernel and precision, from the plugin's execution graph."""
        nodes = []
        for op in self._compiled.get_runtime_model().get_ordered_ops():
            info = op.get_rt_info()
            kind = _text(info, "layerType")
            if kind in ("Input", "Output", "Const", "Parameter", "Result"):
                continue
            nodes.append(
                NodePlacement(
                    op.get_friendly_name(),
                    kind,
                    self._devices,
                    precision_name(_text(info, "runtimePrecision")),
                    _text(info, "primitiveType"),
                    self._devices != self.requested,
                )
            )
        return nodes

    def memory(self) -> dict[str, int]:
        """OpenVINO's CPU plugin reports no memory of its own."""
        return {}


def _text(info: Any, key: str) -> str:
    try:
        value = info[key]
    except (KeyError, RuntimeError):
        return "?"
    return str(value.astype(str) if hasattr(value, "astype") else value)


def open(bundle: Bundle, spec: EngineSpec, options: EngineOptions, package: str) -> OpenVinoEngine:
    """Open an engine of a bundle."""
    return OpenVinoEngine(bundle, spec, options)
