# SPDX-License-Identifier: Apache-2.0
"""ONNX to a TensorRT or TensorRT-RTX plan, from one code path: strongly typed network, explicit Q/DQ, one shape profile.

Needs neither torch nor onnx: the exporter builds with it, and a device finishes a recipe bundle with it.
"""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from zoo.bundle import BuildRecord, EngineKind
from zoo.errors import NodeRefused, TargetError
from zoo.runtime.engines.tensorrt_layers import Layer, inspect, parse_log
from zoo.specs import Precision, Range3, TensorSpec

#: Lines of the builder's log that are kept: everything above verbose, the last of them.
_LOG_LINES = 200
#: Warnings and errors that go into the manifest: the first of them, each cut to a length.
_WARNINGS, _WARNING_LENGTH = 32, 500
#: The verbose message with the layers and the types of their tensors. The engine inspector says the same, but only
#: on a GPU: it needs the deserialised engine.
_LAYERS = "Layers:\n"
#: How Myelin names the operation that it cannot compile; a loop's has the loop's name in front.
_OPERATION = re.compile(r"operation '(?:\$\$myelin\$\$[^^]*\^)?([^']+)'")
_ONNX_LAYER = re.compile(r"\[ONNX Layer: ([^\]]+)\]")

LAYERS_FILE, LOG_FILE, TIMING_CACHE_FILE = "layers.json", "build.log", "timing.cache"


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
    """A serialised engine. ``timing_cache`` is empty for TensorRT-RTX, which times nothing when it builds.

    ``warnings`` are the log's lines that the manifest repeats.
    """

    data: bytes
    version: str
    log: tuple[str, ...]
    timing_cache: bytes
    warnings: tuple[str, ...] = ()
    layers: tuple[Layer, ...] = ()

    @property
    def record(self) -> BuildRecord:
        """What the manifest says of the build."""
        cache = hashlib.sha256(self.timing_cache).hexdigest() if self.timing_cache else None
        return BuildRecord(
            log=self.warnings, layers=LAYERS_FILE if self.layers else None, timing_cache_sha256=cache
        )

    @property
    def evidence(self) -> dict[str, bytes]:
        """The files that lie beside the engine."""
        files = {}
        if self.log:
            files[LOG_FILE] = ("\n".join(self.log) + "\n").encode()
        if self.layers:
            files[LAYERS_FILE] = msgspec.json.format(msgspec.json.encode(self.layers), indent=1) + b"\n"
        if self.timing_cache:
            files[TIMING_CACHE_FILE] = self.timing_cache
        return files


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
    NodeRefused
        The parser or the builder does not take a node; it is named where they name it.
    TargetError
        The builder has no such compute capability, or refuses the timing cache.
    """
    trt: Any = module if module is not None else importlib.import_module(package)
    logger = _make_logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(request.graph):
        raise _parser_refusal(request, parser)
    config = builder.create_builder_config()
    _configure(trt, config, request)
    if any(low != high for low, _, high in request.profile.values()):
        config.add_optimization_profile(_shape_profile(builder, request))
    cached = request.engine == "tensorrt"  # in TensorRT-RTX it has been without effect since 1.2
    if cached:
        _set_timing_cache(config, request)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise _builder_refusal(request, trt, network, logger)
    cache = bytes(memoryview(config.get_timing_cache().serialize())) if cached else b""
    data = bytes(memoryview(plan))
    layers = parse_log(logger.layers) if logger.layers else inspect(trt, data)
    return Plan(
        data, str(trt.__version__), tuple(logger.lines[-_LOG_LINES:]), cache, tuple(logger.warnings), layers
    )


def _set_timing_cache(config: Any, request: PlanRequest) -> None:
    """Without this check a cache of another release or GPU would be left out without a word."""
    cache = config.create_timing_cache(request.timing_cache)
    if cache is None or not config.set_timing_cache(cache, False):
        raise TargetError(
            f"{request.name}: {request.engine} refuses the timing cache ({len(request.timing_cache)} bytes): it is damaged, or "
            "of another release or GPU; build without it"
        )


def _make_logger(trt: Any) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc]
        """Keeps what the builder says."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []
            self.warnings: list[str] = []
            self.layers = ""
            self._errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            kinds = trt.ILogger.Severity
            if severity == kinds.VERBOSE:
                self.layers = message.removeprefix(_LAYERS) if message.startswith(_LAYERS) else self.layers
                return
            self.lines.append(f"{severity.name}: {message}")
            if severity in (kinds.ERROR, kinds.INTERNAL_ERROR):
                self._errors.append(message)
            if severity != kinds.INFO and len(self.warnings) < _WARNINGS:
                self.warnings.append(self.lines[-1][:_WARNING_LENGTH])

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


def _parser_refusal(request: PlanRequest, parser: Any) -> NodeRefused:
    found = []
    for i in range(parser.num_errors):
        error = parser.get_error(i)
        node = error.node_name() if hasattr(error, "node_name") else ""
        operator = error.node_operator() if hasattr(error, "node_operator") else ""
        found.append((node or str(error.node()), operator or None, str(error.desc())))
    text = "; ".join(f"node {node} ({op or 'unknown op'}): {reason}" for node, op, reason in found[:3])
    node, op, reason = found[0] if found else (None, None, "no reason given")
    return NodeRefused(
        f"{request.name}: {request.engine} refuses the graph: {text or reason}",
        node=node,
        op=op,
        reason=reason,
    )


def _builder_refusal(request: PlanRequest, trt: Any, network: Any, logger: Any) -> NodeRefused:
    """The operation is found in what the builder says; the layer that it belongs to names the graph's node."""
    reason = logger.last_error()
    match = _OPERATION.search(reason)
    node, op, origin = match.group(1) if match else None, None, None
    for i in range(network.num_layers) if node else ():
        layer = network.get_layer(i)
        # Layers inside a loop do not say which node they came from; those around them do.
        origin = _ONNX_LAYER.search(str(getattr(layer, "metadata", ""))) or origin
        if layer.name == node:
            node, op = origin.group(1) if origin else node, str(layer.type).rpartition(".")[2]
            break
    where = f" node {node}" + (f" ({op})" if op else "") if node else ""
    return NodeRefused(
        f"{request.name}: {request.engine} {trt.__version__} cannot build{where}: {reason}",
        node=node,
        op=op,
        reason=reason,
    )
