# SPDX-License-Identifier: Apache-2.0
"""onnxruntime: CPU, CUDA and TensorRT execution providers."""

from __future__ import annotations

import json
import platform
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from zoo.errors import BundleError, InputError, ProviderUnavailable
from zoo.runtime.engines import EngineOptions, NodePlacement, fallback_problem, precision_name

if TYPE_CHECKING:
    from zoo.bundle import Bundle, EngineSpec

#: Targets name their providers in ``key.flags["providers"]``, best first, separated by commas.
_DEFAULT_PROVIDERS = "CPUExecutionProvider"
#: Nodes that onnxruntime adds around one whose kernel does not take fp16 or bf16.
_INSERTED_CAST = "InsertedPrecisionFreeCast_"


def version(package: str) -> str:
    """Version of the installed package."""
    return str(ort.__version__)


def status(package: str) -> tuple[str, tuple[str, ...], str | None]:
    """Version, providers, problem."""
    return version(package), tuple(ort.get_available_providers()), None


def saturates(architecture: str, cpu_info: str) -> bool:
    """Whether integer kernels may add pairs of uint8 × int8 products in 16 bits, which do not hold them.

    Those of x86 do without VNNI; where ``/proc/cpuinfo`` does not say that it is there, it is taken not to be.
    """
    flags = set(cpu_info.split())
    return architecture.lower() in ("x86_64", "amd64") and not flags & {"avx512_vnni", "avx_vnni"}


def _cpu_info() -> str:
    try:
        return Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return ""


class OnnxRuntimeEngine:
    """One session. Sessions are safe to run from several threads."""

    kind = "onnxruntime"

    def __init__(self, bundle: Bundle, spec: EngineSpec, options: EngineOptions) -> None:
        self.inputs, self.outputs = spec.inputs, spec.outputs
        self._where = str(bundle.path)
        self._precision, self._kept = spec.precision, frozenset(spec.kept)
        self._profile = bundle.manifest.key.profile
        self._model = bundle.read(spec.file)
        self._providers = str(bundle.manifest.key.flags.get("providers", _DEFAULT_PROVIDERS)).split(",")
        missing = [name for name in self._providers if name not in ort.get_available_providers()]
        if missing:
            raise ProviderUnavailable(
                f"{bundle.path} needs onnxruntime's {', '.join(missing)}; installed are "
                f"{', '.join(ort.get_available_providers())}. Install onnxruntime-gpu, or export for target cpu-x86"
            )
        self.requested = self._providers[0]
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
        # onnxruntime adds its CPU provider to any list, and gives it what the others lack without a word.
        elsewhere = self._session.get_providers() != [self.requested]
        half = self._precision in ("fp16", "bf16")
        if options.strict and (elsewhere or half):
            wanted = f"{self.requested} in {self._precision}" if half else self.requested
            problem = fallback_problem(self.placement(), wanted)
            if problem is not None:
                raise ProviderUnavailable(
                    f"{self._where}: {problem}. Export for another target, or load with strict=False to accept it"
                )

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
        if self._precision == "int8":
            # The first makes MatMul and the bias one Gemm, which runs in float between its Q/DQ pairs; apart, the product is
            # integer. The second moves QuantizeLinear from behind a MaxPool to before it, where no channels-last kernel takes
            # the integers: 340 in place of 9 us in SER-CNN's first.
            session_options.add_session_config_entry(
                "optimization.disable_specified_optimizers", "MatMulAddFusion;QDQPropagationTransformer"
            )
            if saturates(platform.machine(), _cpu_info()):
                # The weights become uint8 as well, whose kernels add in 32 bits. They are slower: 1.3 of the time of TIM-Net.
                session_options.add_session_config_entry("session.x64quantprecision", "1")
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
        """Provider and output type of each executed node, read from onnxruntime's own profile of one run."""
        with tempfile.TemporaryDirectory() as folder:
            session_options = self._session_options()
            session_options.enable_profiling = True
            session_options.profile_file_prefix = str(Path(folder) / "profile")
            session = self._open(session_options)
            feeds = {}
            for spec in self.inputs:
                shape = [dim if isinstance(dim, int) else self._usual(dim) for dim in spec.shape]
                feeds[spec.name] = np.zeros(shape, np.dtype(spec.dtype))
            session.run(self._output_names, feeds)
            events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
        nodes: dict[str, tuple[str, str, str]] = {}
        for event in events:
            name = str(event.get("name", ""))
            if event.get("cat") != "Node" or not name.endswith("_kernel_time"):
                continue
            arguments = event["args"]
            types = arguments.get("output_type_shape") or [{}]
            precision = precision_name(next(iter(types[0]), "unknown"))
            nodes[name.removesuffix("_kernel_time")] = (
                arguments.get("op_name", "?"),
                arguments.get("provider", "?"),
                precision,
            )
        lowered = any(name.startswith(_INSERTED_CAST) for name in nodes)
        return [
            NodePlacement(
                name,
                op,
                provider,
                precision,
                fallback=provider != self.requested
                or (lowered and precision == "fp32" and op != "Cast" and name not in self._kept),
            )
            for name, (op, provider, precision) in nodes.items()
        ]

    def _usual(self, dim: str) -> int:
        return self._profile[dim][1] if dim in self._profile else 1

    def memory(self) -> dict[str, int]:
        """Bytes of the serialised graph; onnxruntime reports no arena size."""
        return {"model_bytes": len(self._model)}


def open(bundle: Bundle, spec: EngineSpec, options: EngineOptions, package: str) -> OnnxRuntimeEngine:
    """Open an engine of a bundle."""
    return OnnxRuntimeEngine(bundle, spec, options)
