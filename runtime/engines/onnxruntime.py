# SPDX-License-Identifier: Apache-2.0
"""onnxruntime: CPU, CUDA and TensorRT execution providers."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from zoo.errors import BundleError, InputError, ProviderUnavailable
from zoo.runtime.engines import EngineOptions, NodePlacement

if TYPE_CHECKING:
    from zoo.bundle import Bundle, EngineSpec

#: Targets name their providers in ``key.flags["providers"]``, best first, separated by commas.
_DEFAULT_PROVIDERS = "CPUExecutionProvider"


def version(package: str) -> str:
    """Version of the installed package."""
    return str(ort.__version__)


def status(package: str) -> tuple[str, tuple[str, ...], str | None]:
    """Version, providers, problem."""
    return version(package), tuple(ort.get_available_providers()), None


class OnnxRuntimeEngine:
    """One session. Sessions are safe to run from several threads."""

    kind = "onnxruntime"

    def __init__(self, bundle: Bundle, spec: EngineSpec, options: EngineOptions) -> None:
        self.inputs, self.outputs = spec.inputs, spec.outputs
        self._where = str(bundle.path)
        self._model = bundle.read(spec.file)
        self._providers = str(bundle.manifest.key.flags.get("providers", _DEFAULT_PROVIDERS)).split(",")
        missing = [name for name in self._providers if name not in ort.get_available_providers()]
        if missing:
            raise ProviderUnavailable(
                f"{bundle.path} needs onnxruntime's {', '.join(missing)}; installed are "
                f"{', '.join(ort.get_available_providers())}. Install onnxruntime-gpu, or export for target cpu-x86"
            )
        self._options = options
        self._weights_only = spec.precision.endswith("-weights")
        self._session = self._open(self._session_options())
        # onnxruntime drops a provider that cannot start (no GPU, say) with a mere warning.
        lost = [name for name in self._providers if name not in self._session.get_providers()]
        if lost and options.strict:
            raise ProviderUnavailable(
                f"{bundle.path}: onnxruntime could not start {', '.join(lost)} on this machine"
            )
        declared = [spec.name for spec in self.inputs], [spec.name for spec in self.outputs]
        actual = [i.name for i in self._session.get_inputs()], [o.name for o in self._session.get_outputs()]
        if declared != actual:
            raise BundleError(
                f"{bundle.path}: the manifest says tensors {declared}, the engine file has {actual}"
            )
        self._input_names, self._output_names = declared
        if options.strict and len(self._providers) > 1:
            self._refuse_fallback()

    def _session_options(self) -> Any:
        session_options = ort.SessionOptions()
        session_options.intra_op_num_threads = self._options.threads
        session_options.inter_op_num_threads = 1
        session_options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        session_options.log_severity_level = 3
        # Spinning workers would burn a device's battery between calls.
        session_options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if self._weights_only:
            # Weights become float once, when the session opens. Else most nodes would dequantise them in every run, and
            # a matrix product would round its activations to int8, which this precision promises not to do.
            session_options.add_session_config_entry("session.disable_quant_qdq", "1")
        return session_options

    def _open(self, session_options: Any) -> Any:
        try:
            return ort.InferenceSession(self._model, session_options, providers=self._providers)
        except Exception as error:  # onnxruntime's own exception types have no common base
            raise BundleError(
                f"{self._where}: onnxruntime {ort.__version__} refuses the engine file: {error}"
            ) from error

    def run(self, arrays: Sequence[NDArray[np.generic]]) -> list[NDArray[np.generic]]:
        """Run once. See :class:`zoo.runtime.engines.Engine`."""
        try:
            outputs: list[NDArray[np.generic]] = self._session.run(
                self._output_names, dict(zip(self._input_names, arrays, strict=True))
            )
        except Exception as error:
            raise InputError(f"{self._where}: onnxruntime refuses the input: {error}") from error
        return outputs

    def placement(self) -> list[NodePlacement]:
        """Provider of each node, read from onnxruntime's own profile of one run."""
        with _profiled(self) as records:
            return records

    def _refuse_fallback(self) -> None:
        wanted = self._providers[0]
        fallen = [node for node in self.placement() if node.provider != wanted]
        if fallen:
            names = ", ".join(f"{node.node} ({node.op}) on {node.provider}" for node in fallen[:5])
            raise ProviderUnavailable(
                f"{self._where}: {len(fallen)} nodes do not run on {wanted}: {names}. "
                "Export for another target, or load with strict=False to accept it"
            )

    def memory(self) -> dict[str, int]:
        """Bytes of the serialised graph; onnxruntime reports no arena size."""
        return {"model_bytes": len(self._model)}


@contextlib.contextmanager
def _profiled(engine: OnnxRuntimeEngine) -> Iterator[list[NodePlacement]]:
    with tempfile.TemporaryDirectory() as folder:
        session_options = engine._session_options()
        session_options.enable_profiling = True
        session_options.profile_file_prefix = str(Path(folder) / "profile")
        session = engine._open(session_options)
        feeds = {}
        for spec in engine.inputs:
            shape = [dim if isinstance(dim, int) else 2 for dim in spec.shape]
            feeds[spec.name] = np.zeros(shape, np.dtype(spec.dtype))
        session.run(engine._output_names, feeds)
        events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    seen: dict[str, NodePlacement] = {}
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") != "Node" or not name.endswith("_kernel_time"):
            continue
        arguments = event["args"]
        types = arguments.get("output_type_shape") or [{}]
        precision = next(iter(types[0]), "unknown")
        node = name.removesuffix("_kernel_time")
        seen[node] = NodePlacement(
            node, arguments.get("op_name", "?"), arguments.get("provider", "?"), precision
        )
    yield list(seen.values())


def open(bundle: Bundle, spec: EngineSpec, options: EngineOptions, package: str) -> OnnxRuntimeEngine:
    """Open an engine of a bundle."""
    return OnnxRuntimeEngine(bundle, spec, options)
