# SPDX-License-Identifier: Apache-2.0
"""TensorRT and TensorRT-RTX engines; the building itself is :mod:`zoo.runtime.engines.tensorrt_builder`."""

from __future__ import annotations

from collections import Counter

import msgspec

from zoo.errors import NodeRefused
from zoo.export.builders import Built, Request, fixed_specs
from zoo.runtime.engines.tensorrt import gpu_problem
from zoo.runtime.engines.tensorrt_builder import PlanRequest, build_plan
from zoo.runtime.engines.tensorrt_layers import placement


def build(request: Request, package: str) -> Built:
    """Parse, configure and build.

    Raises
    ------
    NodeRefused
        The parser or the builder does not take a node: its name, its ONNX operator and the reason.
    """
    target = request.target
    asked = PlanRequest(
        name=f"target {target.name}",
        engine=target.engine,
        graph=request.graph.data,
        inputs=request.graph.inputs,
        precision=request.precision,
        profile=request.profile,
        compute_capability=target.compute_capability,
        optimization_level=request.options.optimization_level,
        workspace_mib=request.options.workspace_mib,
    )
    try:
        plan = build_plan(asked, package)
    except NodeRefused as error:
        # The builder calls operators by its own names.
        operators = {node.name: node.op_type for node in request.graph.model.graph.node}
        raise NodeRefused(
            str(error), node=error.node, op=operators.get(error.node or "", error.op), reason=error.reason
        ) from error
    counts = Counter(f"{layer.provider} {layer.precision}" for layer in placement(plan.layers, target.engine))
    spec = msgspec.structs.replace(
        fixed_specs(request),
        file="engine.plan",
        opset=request.graph.opset,
        placement=dict(sorted(counts.items())),
    )
    return Built(spec, {"engine.plan": plan.data} | plan.evidence, plan.version, record=plan.record)


def problem(request: Request, package: str) -> str | None:
    """Why the engine cannot run here: no driver, no GPU, or one of another compute capability."""
    return gpu_problem(request.target.compute_capability)
