# SPDX-License-Identifier: Apache-2.0
"""ONNX to an engine's own file. One module an engine, imported only when a target asks for it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, cast

from zoo.bundle import BuildRecipe, BuildRecord, EngineKind, EngineSpec
from zoo.errors import ProviderUnavailable
from zoo.export.graph import Graph
from zoo.export.targets import BuildOptions, Target
from zoo.runtime.engines import KINDS
from zoo.specs import Precision, Range3, TensorSpec

_MODULES: Mapping[EngineKind, str] = {
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "tensorrt": "tensorrt",
    "tensorrt_rtx": "tensorrt",
}


@dataclass(frozen=True)
class Request:
    """What to build. ``graph`` is already quantised or cast; ``kept`` names its layers of higher precision."""

    graph: Graph
    target: Target
    options: BuildOptions
    precision: Precision
    profile: Mapping[str, Range3]
    kept: tuple[str, ...] = ()


@dataclass(frozen=True)
class Built:
    """Engine files and how to run them. ``record`` is what the builder said, ``notes`` what the user should know.

    ``recipe`` stands in for engine files that only the device can build; ``version`` is "" then.
    """

    spec: EngineSpec
    files: Mapping[str, bytes]
    version: str
    record: BuildRecord | None = None
    notes: tuple[str, ...] = ()
    recipe: BuildRecipe | None = None


class Builder(Protocol):
    """A builder module."""

    def build(self, request: Request, package: str) -> Built:
        """Build an engine; TargetError where the engine refuses the graph."""
        ...

    def problem(self, request: Request, package: str) -> str | None:
        """Why an engine of this request cannot run on this machine; None where it can."""
        ...


def builder(target: Target) -> tuple[Builder, str]:
    """The builder of a target's engine, and the package that it uses.

    Raises
    ------
    ProviderUnavailable
        The package is not installed.
    """
    _, package, install = KINDS[target.engine]
    if target.build == "device":
        return cast("Builder", importlib.import_module("zoo.export.builders.recipe")), package
    try:
        importlib.import_module(package)
        module = importlib.import_module(f"zoo.export.builders.{_MODULES[target.engine]}")
    except ImportError as error:
        raise ProviderUnavailable(
            f"target {target.name} is built with {package}, which cannot be imported here ({error}); {install}"
        ) from error
    return cast("Builder", module), package


def fixed_specs(request: Request) -> EngineSpec:
    """The engine's description without its file: dimensions that the profile fixes become numbers."""
    fixed = {dim: low for dim, (low, _, high) in request.profile.items() if low == high}
    return EngineSpec(
        kind=request.target.engine,
        file="engine",
        precision=request.precision,
        inputs=tuple(_resolved(spec, fixed) for spec in request.graph.inputs),
        outputs=tuple(_resolved(spec, fixed) for spec in request.graph.outputs),
        kept=request.kept,
    )


def _resolved(spec: TensorSpec, fixed: Mapping[str, int]) -> TensorSpec:
    shape = tuple(fixed.get(dim, dim) if isinstance(dim, str) else dim for dim in spec.shape)
    return TensorSpec(name=spec.name, dtype=spec.dtype, shape=shape)
