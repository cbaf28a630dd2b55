# SPDX-License-Identifier: Apache-2.0
"""ONNX to a TensorRT or TensorRT-RTX plan, from one code path: strongly typed network, explicit Q/DQ, one shape profile.

Needs neither torch nor onnx: the exporter builds with it, and a device finishes a recipe bundle with it.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zoo.bundle import EngineKind
from zoo.errors import TargetError
from zoo.specs import Precision, Range3, TensorSpec

#: Lines of the builder's log that are kept: everything above verbose, the last of them.
_LOG_LINES = 200
#: A verbose message that is kept all the same: layers with the types of their tensors. The engine inspector
#: says the same, but only on a GPU.
_LAYERS = "Layers:\n"


@dataclass(frozen=True)
class PlanRequest:
    """What to build. ``graph`` is ONNX, already quantised or cast; ``timing_cache`` saves TensorRT measuring kernels again."""

    name: str
    engine: EngineKind
    graph: bytes
    inputs: tuple[TensorSpec, ...]
    precision: Precision
    profile: Mapping[str, Range3]
    compute_capability: str | None = None
    optimization_level: int | None = None
    workspace_mib: int | None = None
    timing_cache: bytes = b""


@dataclass(frozen=True)
class Plan:
    """A serialised engine. ``timing_cache`` is empty for TensorRT-RTX, which has none."""

    data: bytes
    version: str
    log: tuple[str, ...]
    timing_cache: bytes


def build_plan(request: PlanRequest, package: str, *, module: Any = None) -> Plan:
    """Parse, configure and build.

    TensorRT-RTX builds for a named compute capability without a GPU; TensorRT builds for the GPU at hand.

    Parameters
    ----------
    package : str
        ``tensorrt`` or ``tensorrt_rtx``.
    module : module or None
        For tests; None imports ``package``.

    Raises
    ------
    TargetError
        The parser refuses a node (named, with the reason), or the builder fails.
    """
    trt: Any = module if module is not None else importlib.import_module(package)
    logger = _make_logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(request.graph):
        raise TargetError(f"{request.name}: {request.engine} refuses the graph: {_parser_errors(parser)}")
    config = builder.create_builder_config()
    _configure(trt, config, request)
    if any(low != high for low, _, high in request.profile.values()):
        config.add_optimization_profile(_shape_profile(builder, request))
    cached = request.engine == "tensorrt"
    if cached:
        config.set_timing_cache(config.create_timing_cache(request.timing_cache), False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise TargetError(
            f"{request.name}: {request.engine} {trt.__version__} cannot build: {logger.last_error()}"
        )
    cache = bytes(memoryview(config.get_timing_cache().serialize())) if cached else b""
    return Plan(bytes(memoryview(plan)), str(trt.__version__), tuple(logger.lines[-_LOG_LINES:]), cache)


def _make_logger(trt: Any) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc]
        """Keeps what the builder says."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []
            self._errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self._errors.append(message)
            if severity != trt.ILogger.Severity.VERBOSE or message.startswith(_LAYERS):
                self.lines.append(f"{severity.name}: {message}")

        def last_error(self) -> str:
            return self._errors[-1] if self._errors else "no reason given"

    return Logger()


def _network_flags(trt: Any) -> int:
    flags = trt.NetworkDefinitionCreationFlag
    value = 0
    # TensorRT < 10 knows explicit batch instead; from 10 on it is always explicit. 8.x has no strong typing.
    for name in ("STRONGLY_TYPED",) if hasattr(flags, "STRONGLY_TYPED") else ("EXPLICIT_BATCH",):
        value |= 1 << int(getattr(flags, name))
    return value


def _configure(trt: Any, config: Any, request: PlanRequest) -> None:
    capability = request.compute_capability
    if request.engine == "tensorrt_rtx" and capability is not None:
        name = "SM" + capability.replace(".", "")
        if not hasattr(trt.ComputeCapability, name):
            raise TargetError(f"TensorRT-RTX {trt.__version__} has no compute capability {capability}")
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, name), 0)
    if not hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"):
        for precision, flag in (("fp16", "FP16"), ("int8", "INT8")):
            if request.precision == precision:
                config.set_flag(getattr(trt.BuilderFlag, flag))
    if hasattr(trt.BuilderFlag, "TF32"):
        config.clear_flag(trt.BuilderFlag.TF32)  # fp32 means fp32
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if request.optimization_level is not None and hasattr(config, "builder_optimization_level"):
        config.builder_optimization_level = request.optimization_level
    if request.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, request.workspace_mib << 20)


def _shape_profile(builder: Any, request: PlanRequest) -> Any:
    profile = builder.create_optimization_profile()
    for tensor in request.inputs:
        sizes = [
            tuple(dim if isinstance(dim, int) else request.profile[dim][k] for dim in tensor.shape)
            for k in range(3)
        ]
        profile.set_shape(tensor.name, *sizes)
    return profile


def _parser_errors(parser: Any) -> str:
    found = []
    for i in range(parser.num_errors):
        error = parser.get_error(i)
        node = error.node_name() if hasattr(error, "node_name") else ""
        operator = error.node_operator() if hasattr(error, "node_operator") else ""
        found.append(f"node {node or error.node()} ({operator or 'unknown op'}): {error.desc()}")
    return "; ".join(found[:3]) or "no reason given"
