# SPDX-License-Identifier: Apache-2.0
"""Export targets as data: one TOML file each in ``targets/``."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, cast, get_args

import msgspec
from msgspec import Meta

from zoo.bundle import EngineKind
from zoo.card import Refused
from zoo.errors import TargetError, ZooError
from zoo.specs import Name, Precision, Range3, Spec

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_FOLDER = Path(__file__).parent / "targets"


#: A GPU's, such as ``8.9``.
Capability: TypeAlias = Annotated[str, Meta(pattern=r"^[0-9]+\.[0-9]$")]


class BuildOptions(Spec, frozen=True):
    """How one precision is built for a target.

    ``static`` names dynamic dimensions that the engine file fixes at their usual size.
    ``hint`` says that the engine lowers a float32 graph to this precision itself, when told; else the graph is cast.
    ``float_ops`` are operators that the engine cannot build with integer weights: their layers stay float.
    ``quantize_outputs`` says that the engine computes convolutions in integers only where their outputs are quantised too.
    ``optimization_level`` (0 to 5) and ``workspace_mib`` are TensorRT's.
    """

    static: tuple[str, ...] = ()
    hint: bool = False
    float_ops: tuple[str, ...] = ()
    quantize_outputs: bool = False
    optimization_level: Annotated[int, Meta(ge=0, le=5)] | None = None
    workspace_mib: Annotated[int, Meta(ge=1)] | None = None


class Rewrite(Spec, frozen=True):
    """A rewrite of :mod:`zoo.export.rewrites` that the target's builder needs, and ``why``.

    Without ``compute_capability`` it is for all of the target's.
    """

    name: Literal[
        "dequantize_tables", "integer_lstms", "plain_layer_norms", "plain_matrix_products", "shield_recurrent"
    ]
    precisions: Annotated[tuple[Precision, ...], Meta(min_length=1)]
    why: str
    compute_capability: Capability | None = None


class Target(Spec, frozen=True):
    """One kind of device with one engine.

    ``engine_version`` is the key's requirement; ``{version}``, ``{major}`` and ``{minor}`` stand for the
    version that built the engine. ``refused`` has the public reason for each precision that cannot work.
    ``compute_capability`` is the GPU's that is built for when none is named; ``compute_capabilities`` all that can be.
    ``build`` is ``device`` where the engine can only be built on the device itself: the bundle then holds the graph and a
    recipe, which ``zoo build`` finishes. ``rewrites`` work around what the engine's builder refuses; ``refused_ops`` are ONNX operators
    that it does not know, so that a graph with one is refused before it travels to a device. ``memory_gib`` is what CPU and GPU
    share, or the GPU has.
    """

    name: Name
    title: str
    engine: EngineKind
    engine_version: str
    arch: Annotated[tuple[str, ...], Meta(min_length=1)]
    precisions: dict[Precision, BuildOptions]
    refused: dict[Precision, str] = {}
    compute_capability: Capability | None = None
    compute_capabilities: tuple[Capability, ...] = ()
    build: Literal["here", "device"] = "here"
    memory_gib: Annotated[float, Meta(gt=0)] | None = None
    power_modes: tuple[str, ...] = ()
    rewrites: tuple[Rewrite, ...] = ()
    refused_ops: tuple[str, ...] = ()
    flags: dict[str, str | int | bool] = {}
    notes: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    def options(self, precision: str) -> BuildOptions:
        """Build options of a precision.

        Raises
        ------
        TargetError
            The target does not take it; the message has the reason and what it takes.
        """
        if precision in self.precisions:
            return self.precisions[precision]
        supported = ", ".join(self.precisions)
        if precision in self.refused:
            reason = self.refused[precision]
            raise TargetError(f"target {self.name} does not take {precision}: {reason}. It takes {supported}")
        if precision in get_args(Precision):
            raise TargetError(f"target {self.name} does not take {precision}; it takes {supported}")
        raise TargetError(f"no precision is called {precision!r}; target {self.name} takes {supported}, auto")

    def for_capability(self, capability: str | None) -> Target:
        """The same target for a GPU of another compute capability; None leaves the usual one.

        Raises
        ------
        TargetError
            It is not one that this target is built for.
        """
        if capability in (None, self.compute_capability):
            return self
        if capability not in self.compute_capabilities:
            known = ", ".join(self.compute_capabilities) or "none: its engine does not depend on it"
            raise TargetError(f"target {self.name} has no compute capability {capability}; it has {known}")
        return msgspec.structs.replace(self, compute_capability=capability)

    @property
    def folder(self) -> str:
        """The target's name where bundles are kept: with the compute capability where it is not the usual one."""
        usual = find_target(self.name).compute_capability
        return self.name if self.compute_capability == usual else f"{self.name}-{self.compute_capability}"

    def refusal(self, precision: str, refused: Sequence[Refused]) -> str | None:
        """Why a card with ``refused`` cells cannot have this precision here; None where it can."""
        for cell in refused:
            if cell.target in ("*", self.name) and cell.precision in ("*", precision):
                return cell.reason
        return self.refused.get(cast("Precision", precision))

    def cells(self, refused: Sequence[Refused]) -> dict[str, str | None]:
        """Every precision of this target with the reason of its refusal, or None."""
        return {str(p): self.refusal(p, refused) for p in (*self.precisions, *self.refused)}

    def passes(self, precision: str) -> tuple[str, ...]:
        """Names of the rewrites that a graph of this precision needs here, in order."""
        return tuple(
            rewrite.name
            for rewrite in self.rewrites
            if precision in rewrite.precisions
            and rewrite.compute_capability in (None, self.compute_capability)
        )

    def requirement(self, version: str) -> str:
        """The key's ``engine_version`` for an engine built by ``version``."""
        parts = [*version.split("."), "0", "0"]
        return self.engine_version.format(version=version, major=parts[0], minor=parts[1])

    def profile(self, profile: dict[str, Range3], precision: str) -> dict[str, Range3]:
        """The card's shape profile with the dimensions fixed that this target's engine file fixes."""
        static = self.options(precision).static
        return {dim: (r[1], r[1], r[1]) if dim in static else r for dim, r in profile.items()}


@cache
def load_targets() -> dict[str, Target]:
    """All targets by name, sorted.

    Raises
    ------
    ZooError
        A file is not a valid target, or is not named as its content.
    """
    targets = {}
    for path in sorted(_FOLDER.glob("*.toml")):
        target = read_target(path)
        if target.name != path.stem:
            raise ZooError(f"{path}: name is {target.name!r}, the file is called {path.name}")
        targets[target.name] = target
    return targets


def read_target(path: Path) -> Target:
    """Read one target file; ZooError where it is not valid."""
    try:
        return msgspec.convert(tomllib.loads(path.read_text("utf-8")), Target)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ZooError(f"{path}: not a valid target: {error}") from error


def find_target(name: str) -> Target:
    """The target called ``name``.

    Raises
    ------
    TargetError
        No such target; the message suggests the nearest names.
    """
    known = load_targets()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    hint = f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(known)}"
    raise TargetError(f"no target is called {name!r}; {hint}")
