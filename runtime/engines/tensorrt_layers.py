# SPDX-License-Identifier: Apache-2.0
"""Layers of a TensorRT engine with the types they compute in: from the engine inspector, or from the builder's log.

Both give the same facts. The inspector needs the deserialised engine, so a GPU; the log is there without one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from zoo.errors import BundleError
from zoo.runtime.engines import NodePlacement
from zoo.specs import Spec

if TYPE_CHECKING:
    from zoo.bundle import Bundle

#: How TensorRT releases call their types, longest first; the inspector of releases before 10 puts them in a sentence
#: ("Row major linear FP32").
_TYPES = {
    "bfloat16": "bf16",
    "bf16": "bf16",
    "float8": "fp8",
    "fp8": "fp8",
    "half": "fp16",
    "fp16": "fp16",
    "float": "fp32",
    "fp32": "fp32",
    "int8": "int8",
    "int4": "int4",
    "int32": "int32",
    "int64": "int64",
    "bool": "bool",
    "uint8": "uint8",
}
_TYPE = re.compile("|".join(sorted(_TYPES, key=len, reverse=True)), re.IGNORECASE)
_LINE = re.compile(
    r"^Name: (?P<name>.*), LayerType: (?P<op>[^,]*), Inputs: \[(?P<inputs>.*?)\](?:, Constants: \[(?P<constants>.*?)\])?"
    r", Outputs: \[(?P<outputs>.*?)\](?:, (?!Outputs: )|$)"
)
_DATATYPE = re.compile(r"(?:Datatype|Format/Datatype): ([^,}\]]*)")
_ORIGIN = re.compile(r"\[ONNX Layer: ([^\]]+)\]")


class Layer(Spec, frozen=True):
    """One layer. ``inputs``, ``constants`` and ``outputs`` are the types of its tensors, ``nodes`` the graph's that it came from."""

    name: str
    op: str
    inputs: tuple[str, ...] = ()
    constants: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()

    @property
    def precision(self) -> str:
        """What it computes on: the type of its first input, else of its first output, else ``-``.

        The output alone would call an int8 product with float results a float one.
        """
        return next(iter((*self.inputs, *self.outputs)), "-")


def parse_log(text: str) -> tuple[Layer, ...]:
    """Layers from the builder's message, one a line."""
    found = []
    for line in text.splitlines():
        # Dimensions and strides hold brackets too: without them the lists of tensors end at the first bracket.
        plain = re.sub(r"(Dimensions|Strides|StrideOrder): \[[^\]]*\],? ?", "", line)
        match = _LINE.match(plain)
        if match is None:
            continue
        types = {
            key: _types(_DATATYPE.findall(match[key] or "")) for key in ("inputs", "constants", "outputs")
        }
        found.append(Layer(match["name"], match["op"], **types, nodes=_nodes(line)))
    return tuple(found)


def parse_inspector(text: str) -> tuple[Layer, ...]:
    """Layers from the engine inspector's JSON; without detailed profiling verbosity they are only names."""
    found = []
    for layer in json.loads(text).get("Layers", []):
        if not isinstance(layer, dict):
            found.append(Layer(str(layer), "?"))
            continue
        types = {
            key: _types(_datatype(tensor) for tensor in layer.get(key.capitalize()) or [])
            for key in ("inputs", "constants", "outputs")
        }
        name, op = str(layer.get("Name", "?")), str(layer.get("LayerType", "?"))
        found.append(Layer(name, op, **types, nodes=_nodes(str(layer.get("Metadata", "")))))
    return tuple(found)


def inspect_engine(trt: Any, engine: Any) -> tuple[Layer, ...]:
    """Ask the inspector of a deserialised engine."""
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return parse_inspector(text)


def inspect(trt: Any, plan: bytes) -> tuple[Layer, ...]:
    """Deserialise a plan only to inspect it; nothing where this machine cannot."""
    engine = trt.Runtime(trt.Logger(trt.Logger.ERROR)).deserialize_cuda_engine(plan)
    return inspect_engine(trt, engine) if engine is not None else ()


def _datatype(tensor: Any) -> str:
    if not isinstance(tensor, dict):
        return "?"
    return str(tensor.get("Datatype", tensor.get("Format/Datatype", "?")))


def _types(texts: Iterable[str]) -> tuple[str, ...]:
    found = []
    for text in texts:
        match = _TYPE.search(text)
        found.append(_TYPES[match.group(0).lower()] if match else "?")
    return tuple(found)


def _nodes(metadata: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_ORIGIN.findall(metadata)))


def placement(layers: Iterable[Layer], kind: str) -> list[NodePlacement]:
    """Layers as the runtime reports them. All of an engine's layers run on its GPU."""
    return [NodePlacement(layer.name, layer.op, kind, layer.precision) for layer in layers]


def recorded_placement(bundle: Bundle) -> list[NodePlacement] | None:
    """What the builder listed when it made the bundle's engine; None where it listed nothing. Needs no GPU.

    Raises
    ------
    BundleError
        The list is not one of layers.
    """
    build = bundle.manifest.build
    if build is None or build.layers is None:
        return None
    try:
        layers = msgspec.json.decode(bundle.read(build.layers), type=tuple[Layer, ...])
    except msgspec.DecodeError as error:
        raise BundleError(f"{bundle.path}: {build.layers} is not a list of layers: {error}") from error
    return placement(layers, bundle.manifest.engines[0].kind)
