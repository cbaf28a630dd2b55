# SPDX-License-Identifier: Apache-2.0
"""Farneback's and the TV-L1 flow beside OpenCV with one thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
from run import Row

from zoo.ops import isa
from zoo.pipeline import FlowFarneback, FlowTvl1, Pipeline

INPUTS = 4
SIZES = ((224, 224), (480, 640))
Array = np.ndarray[Any, Any]


def pair(height: int, width: int, seed: int) -> tuple[Array, Array]:
    """Two frames of noise with a falling spectrum, [2, height, width], and the smooth flow of up to 3 pixels between them."""
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width), np.float32)
    for sigma in (1, 3, 9, 27):
        image += (
            cv2.GaussianBlur(rng.standard_normal((height, width)).astype(np.float32), (0, 0), sigma) * sigma
        )
    image = np.clip(128 + 45 * (image - image.mean()) / image.std(), 0, 255)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    a, b, c, d = rng.uniform(2, 7, 4).astype(np.float32)
    flow = 3 * np.stack([np.sin(a * x / width + b * y / height), np.cos(c * y / height - d * x / width)], -1)
    seen = cv2.remap(
        image, x + flow[..., 0], y + flow[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )
    return np.stack([np.clip(np.rint(f), 0, 255).astype(np.uint8) for f in (seen, image)]), flow


def row(
    op: str,
    size: tuple[int, int],
    peer: str,
    ours: Pipeline,
    theirs: Callable[[Array, Array], Any],
    goal: float,
) -> Row:
    """The error of ours may be 1 % larger than the peer's."""
    inputs = [pair(*size, seed) for seed in range(INPUTS)]

    def error(flow: Array) -> float:
        return float(np.sqrt(((flow - inputs[0][1]) ** 2).sum(-1)).mean())

    def check() -> str | None:
        got, expected = error(ours.run(inputs[0][0])[0]), error(theirs(*inputs[0][0]))
        return None if got <= 1.01 * expected else f"end-point error {got:.4f} pixels, peer {expected:.4f}"

    return Row(
        op=f"{op}, {size[1]} x {size[0]}",
        peer=peer,
        ours=lambda i: ours.run(inputs[i][0]),
        theirs=lambda i: theirs(*inputs[i][0]),
        inputs=INPUTS,
        check=check,
        goal=goal,
    )


def rows() -> Iterator[Row]:
    """Pairs of frames: both expansions (Farneback) and pyramids are part of each call."""
    cv2.setNumThreads(1)
    for size in SIZES:
        for window, flags in (("box", 0), ("gaussian", cv2.OPTFLOW_FARNEBACK_GAUSSIAN)):
            yield row(
                f"farneback, {window}",
                size,
                "opencv calcOpticalFlowFarneback",
                Pipeline([FlowFarneback(window=window)], isa=isa()),  # type: ignore[arg-type]
                lambda p, q, flags=flags: cv2.calcOpticalFlowFarneback(
                    p, q, None, 0.5, 3, 15, 3, 5, 1.2, flags
                ),
                2,
            )
    default = cv2.optflow.DualTVL1OpticalFlow_create()
    yield row(
        "tvl1",
        SIZES[0],
        "opencv DualTVL1OpticalFlow",
        Pipeline([FlowTvl1()], isa=isa()),
        lambda p, q: default.calc(p, q, None),
        2,
    )
    # the defaults cost OpenCV up to a minute a pair of this size
    brief = cv2.optflow.DualTVL1OpticalFlow_create(warps=2, innnerIterations=10, outerIterations=1)
    yield row(
        "tvl1, 2 warps of 10",
        SIZES[1],
        "opencv DualTVL1OpticalFlow",
        Pipeline([FlowTvl1(warps=2, inner_iterations=10, outer_iterations=1)], isa=isa()),
        lambda p, q: brief.calc(p, q, None),
        2,
    )
