# SPDX-License-Identifier: Apache-2.0
"""Engines that only the device can build: the graph and how to build it, finished there by ``zoo build``."""

from __future__ import annotations

import msgspec

from zoo.bundle import BuildRecipe
from zoo.export.builders import Built, Request, fixed_specs

GRAPH = "model.onnx"


def build(request: Request, package: str) -> Built:
    """The graph in the precision asked for, and the builder's configuration."""
    recipe = BuildRecipe(
        graph=GRAPH,
        optimization_level=request.options.optimization_level,
        workspace_mib=request.options.workspace_mib,
    )
    spec = msgspec.structs.replace(fixed_specs(request), file="engine.plan", opset=request.graph.opset)
    note = f"A recipe: zoo build on the device makes the engine with {package} {request.target.engine_version} and verifies it."
    return Built(spec, {GRAPH: request.graph.data}, "", notes=(note,), recipe=recipe)


def problem(request: Request, package: str) -> str | None:
    """Always: the engine is built on the device."""
    return f"{request.target.title} builds its engine itself"
