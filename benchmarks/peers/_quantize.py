# SPDX-License-Identifier: Apache-2.0
"""What all quantising peers share: what they get and what they give.

A peer is a file ``quantize_<tool>.py`` with ``QUANTIZERS``. Each takes the tool's own defaults: what a user gets who reads its
first page. What it makes is run by the zoo's runtime, as the zoo's own engines are, so that only the quantisers differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

#: Input name to array, with the batch dimension.
Feeds = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Source:
    """A float32 ONNX graph and what to calibrate it on.

    ``shapes`` are the inputs' as the zoo's own engine file has them, -1 where they vary: OpenVINO is faster with fixed ones,
    and the comparison is of the quantiser.
    """

    onnx: bytes
    shapes: Mapping[str, tuple[int, ...]]
    calibration: Sequence[Feeds]


@dataclass(frozen=True)
class Quantizer:
    """One way to quantise without the zoo, for one engine.

    ``make`` writes into an empty folder and returns the engine's file; one of another suffix beside it belongs to it.
    """

    name: str
    engine: Literal["onnxruntime", "openvino"]
    settings: str
    make: Callable[[Source, Path], Path]
    versions: Callable[[], Mapping[str, str]]
