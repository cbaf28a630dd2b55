# SPDX-License-Identifier: Apache-2.0
"""Inference engines behind one protocol. One module a kind, imported only when a bundle asks for it."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from zoo.errors import BundleError, ProviderUnavailable
from zoo.specs import TensorSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zoo.bundle import Bundle

#: kind -> (module here, package that provides it, how to install it)
KINDS: dict[str, tuple[str, str, str]] = {
    "onnxruntime": ("onnxruntime", "onnxruntime", "pip install onnxruntime"),
    "openvino": ("openvino", "openvino", "pip install 'affect-zoo[openvino]'"),
    "tensorrt": (
        "tensorrt",
        "tensorrt",
        "pip install 'affect-zoo[tensorrt]' (an NVIDIA GPU and its driver are needed)",
    ),
    "tensorrt_rtx": (
        "tensorrt",
        "tensorrt_rtx",
        "pip install 'affect-zoo[tensorrt-rtx]' (an NVIDIA RTX GPU and its driver are needed)",
    ),
}


#: How onnxruntime and OpenVINO call the types that a bundle's precision is named after.
_PRECISIONS = {
    "float": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "f32": "fp32",
    "f16": "fp16",
    "i8": "int8",
    "u8": "uint8",
    "i32": "int32",
    "i64": "int64",
}


@dataclass(frozen=True)
class NodePlacement:
    """Where one node of the graph runs, as the engine itself reports it.

    ``precision`` is what the node computes or gives out, in a manifest's words where it has one. ``kernel`` is the
    engine's name of its implementation, where it tells. ``fallback`` means that the node runs elsewhere, or in another
    precision, than the bundle says.
    """

    node: str
    op: str
    provider: str
    precision: str
    kernel: str = ""
    fallback: bool = False


@dataclass(frozen=True)
class EngineOptions:
    """How to open an engine. ``threads`` counts intra-op threads; ``strict`` refuses a partial fallback."""

    threads: int = 1
    strict: bool = True
    device: int = 0
    flags: dict[str, str | int | bool] = field(default_factory=dict)


class Engine(Protocol):
    """One compiled graph, ready to run.

    ``run`` takes one C-contiguous array for each of ``inputs``, in order, and returns one new array for each
    of ``outputs``, in order. It may be called from several threads at once.
    """

    kind: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    requested: str
    """The provider or device that every node should run on, by the name that ``placement`` uses."""

    def run(self, arrays: Sequence[NDArray[np.generic]]) -> list[NDArray[np.generic]]: ...

    def placement(self) -> list[NodePlacement]: ...

    def memory(self) -> dict[str, int]: ...


def precision_name(text: str) -> str:
    """An engine's name of a number type as a manifest says it: ``fp32`` for ``float`` and ``f32``; others unchanged."""
    return _PRECISIONS.get(text, text)


def fallback_problem(nodes: Sequence[NodePlacement], requested: str) -> str | None:
    """A sentence that names the nodes which do not run as ``requested``; None where all do."""
    fallen = [node for node in nodes if node.fallback]
    if not fallen:
        return None
    shown = ", ".join(
        f"{node.node} ({node.op}) on {node.provider} in {node.precision}" for node in fallen[:8]
    )
    more = f", and {len(fallen) - 8} more" if len(fallen) > 8 else ""
    return f"{len(fallen)} of {len(nodes)} nodes do not run on {requested}: {shown}{more}"


@dataclass(frozen=True)
class EngineStatus:
    """Whether an engine can be used on this machine. ``devices`` is empty where it cannot run anything."""

    kind: str
    version: str | None
    devices: tuple[str, ...]
    problem: str | None


def engine_status(kind: str) -> EngineStatus:
    """What this machine can do with ``kind``; never raises for a missing engine."""
    module, package, install = KINDS[kind]
    try:
        backend = importlib.import_module(f"zoo.runtime.engines.{module}")
        version, devices, problem = backend.status(package)
    except ImportError as error:
        return EngineStatus(kind, None, (), f"not installed ({error}); {install}")
    return EngineStatus(kind, version, devices, problem)


def open_engine(bundle: Bundle, options: EngineOptions, index: int = 0) -> Engine:
    """Check the key against this machine, then deserialise and open an engine of a bundle.

    Raises
    ------
    BundleError
        A key field differs from what is here, or the engine refuses the file.
    ProviderUnavailable
        The engine or its device is not here.
    """
    spec = bundle.manifest.engines[index]
    if bundle.manifest.recipe is not None:
        raise BundleError(
            f"{bundle.path} is a recipe: its {spec.kind} engine is built on the device. Finish it there: "
            f"zoo build {bundle.path} --out DIR"
        )
    module, package, install = KINDS[spec.kind]
    try:
        backend = importlib.import_module(f"zoo.runtime.engines.{module}")
        version = backend.version(package)
    except ImportError as error:
        raise ProviderUnavailable(
            f"{bundle.path} needs {spec.kind}, which cannot be imported here ({error}); {install}"
        ) from error
    check_requirement(bundle, "engine_version", bundle.manifest.key.engine_version, version)
    engine: Engine = backend.open(bundle, spec, options, package)
    return engine


def check_requirement(bundle: Bundle, field_name: str, requirement: str, found: str) -> None:
    """Compare a version here with a key's requirement such as ``>=1.20,<2``.

    Raises
    ------
    BundleError
        It is not met; names the field, both values and the rebuild command.
    """
    from zoo.bundle import rebuild_command

    if not meets(found, requirement):
        raise BundleError(
            f"{bundle.path}: key.{field_name} is {requirement}, this machine has {found}; "
            f"rebuild it here: {rebuild_command(bundle.manifest)}"
        )


def meets(version: str, requirement: str) -> bool:
    """Whether a dotted version meets every clause (``>=``, ``==``, ``<``) of a requirement."""
    have = _numbers(version)
    for clause in requirement.split(","):
        operator, wanted = (clause[:2], clause[2:]) if clause[1] == "=" else (clause[:1], clause[1:])
        want = _numbers(wanted)
        width = max(len(have), len(want))
        left, right = have + (0,) * (width - len(have)), want + (0,) * (width - len(want))
        if not {">=": left >= right, "==": left == right, "<": left < right}[operator]:
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    numbers = []
    for part in version.split("."):
        digits = ""
        for char in part:
            if not char.isdigit():
                break
            digits += char
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


__all__ = [
    "KINDS",
    "Engine",
    "EngineOptions",
    "EngineStatus",
    "NodePlacement",
    "check_requirement",
    "engine_status",
    "fallback_problem",
    "meets",
    "open_engine",
    "precision_name",
]
