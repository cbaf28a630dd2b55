# SPDX-License-Identifier: Apache-2.0
"""TensorRT and TensorRT-RTX from one code path: strongly typed network, explicit Q/DQ, one shape profile."""

from __future__ import annotations

import importlib
from typing import Any

import msgspec

from zoo.errors import TargetError
from zoo.export.builders import Built, Request, fixed_specs
from zoo.export.graph import OPSET
from zoo.runtime.engines.tensorrt import gpu_problem

#: Lines of the builder's log that are kept: everything above verbose, the last of them.
_LOG_LINES = 200
#: A verbose message that is kept all the same: layers with the types of their tensors. The engine inspector
#: says the same, but only on a GPU.
_LAYERS = "Layers:\n"


def build(request: Request, package: str) -> Built:
    """Parse, configure and build.

    TensorRT-RTX builds for a named compute capability without a GPU; TensorRT builds for the GPU at hand.

    Raises
    ------
    TargetError
        The parser refuses a node (named, with the reason), or the builder fails.
    """
    trt: Any = importlib.import_module(package)
    logger = _make_logger(trt)
    engine = request.target.engine
    builder = trt.Builder(logger)
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(request.graph.data):
        raise TargetError(
            f"target {request.target.name}: {engine} refuses the graph: {_parser_errors(parser)}"
        )
    config = builder.create_builder_config()
    _configure(trt, config, request)
    if any(low != high for low, _, high in request.profile.values()):
        config.add_optimization_profile(_shape_profile(builder, request))
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise TargetError(
            f"target {request.target.name}: {engine} {trt.__version__} cannot build: {logger.last_error()}"
        )
    data = bytes(memoryview(plan))
    spec = msgspec.structs.replace(fixed_specs(request), file="engine.plan", opset=OPSET)
    return Built(spec, {"engine.plan": data}, str(trt.__version__), log=tuple(logger.lines[-_LOG_LINES:]))


def problem(request: Request, package: str) -> str | None:
    """Why the engine cannot run here: no driver, no GPU, or one of another compute capability."""
    return gpu_problem(request.target.compute_capability)


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


def _configure(trt: Any, config: Any, request: Request) -> None:
    capability = request.target.compute_capability
    if request.target.engine == "tensorrt_rtx" and capability is not None:
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
    if request.options.optimization_level is not None:
        config.builder_optimization_level = request.options.optimization_level
    if request.options.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, request.options.workspace_mib << 20)


def _shape_profile(builder: Any, request: Request) -> Any:
    profile = builder.create_optimization_profile()
    for tensor in request.graph.inputs:
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
