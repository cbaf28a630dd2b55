# SPDX-License-Identifier: Apache-2.0
"""TensorRT and TensorRT-RTX engines; the building itself is :mod:`zoo.runtime.engines.tensorrt_builder`."""

from __future__ import annotations

import msgspec

from zoo.export.builders import Built, Request, fixed_specs
from zoo.runtime.engines.tensorrt import gpu_problem
from zoo.runtime.engines.tensorrt_builder import PlanRequest, build_plan


def build(request: Request, package: str) -> Built:
    """Parse, configure and build.

    Raises
    ------
    TargetError
        The parser refuses a node (named, with the reason), or the builder fails.
    """
    target = request.target
    plan = build_plan(
        PlanRequest(
            name=f"target {target.name}",
            engine=target.engine,
            graph=request.graph.data,
            inputs=request.graph.inputs,
            precision=request.precision,
            profile=request.profile,
            compute_capability=target.compute_capability,
            optimization_level=request.options.optimization_level,
            workspace_mib=request.options.workspace_mib,
        ),
        package,
    )
    spec = msgspec.structs.replace(fixed_specs(request), file="engine.plan", opset=request.graph.opset)
    files = {"engine.plan": plan.data} | ({"timing.cache": plan.timing_cache} if plan.timing_cache else {})
    return Built(spec, files, plan.version, log=plan.log)


def problem(request: Request, package: str) -> str | None:
    """Why the engine cannot run here: no driver, no GPU, or one of another compute capability."""
    return gpu_problem(request.target.compute_capability)
