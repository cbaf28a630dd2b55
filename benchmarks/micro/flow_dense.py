# SPDX-License-Identifier: Apache-2.0
"""Farneback's and the TV-L1 flow beside OpenCV with one thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
from flow import moving_texture, no_worse
from run import Row

from zoo.ops import isa
from zoo.pipeline import FlowFarneback, FlowTvl1, Pipeline

INPUTS = 4
SIZES = ((224, 224), (640, 480))
Array = np.ndarray[Any, Any]


def row(
    op: str,
    size: tuple[int, int],
    peer: str,
    ours: Pipeline,
    theirs: Callable[[Array, Array], Any],
    goal: float,
) -> Row:
    """The mean error of ours may be 1 % larger than the peer's."""
    made = [moving_texture(*size, seed) for seed in range(INPUTS)]
    pairs = [np.stack([first, second]) for first, second, _ in made]
    flows = [flow for *_, flow in made]
    return Row(
        op=f"{op} {size[0]}x{size[1]}",
        peer=peer,
        ours=lambda i: ours.run(pairs[i]),
        theirs=lambda i: theirs(*pairs[i]),
        inputs=INPUTS,
        check=lambda: no_worse(flows, [ours.run(p)[0] for p in pairs], [theirs(*p) for p in pairs]),
        goal=goal,
    )


def rows() -> Iterator[Row]:
    """Pairs of frames: both expansions (Farneback) and pyramids are part of each call."""
    cv2.setNumThreads(1)
    for size in SIZES:
        for window, flags in (("box", 0), ("gaussian", cv2.OPTFLOW_FARNEBACK_GAUSSIAN)):
            yield row(
                f"flow_farneback {window}",
                size,
                "cv2.calcOpticalFlowFarneback",
                Pipeline([FlowFarneback(window=window)], isa=isa()),  # type: ignore[arg-type]
                lambda p, q, flags=flags: cv2.calcOpticalFlowFarneback(
                    p, q, None, 0.5, 3, 15, 3, 5, 1.2, flags
                ),
                2,
            )
    default = cv2.optflow.DualTVL1OpticalFlow_create()
    yield row(
        "flow_tvl1",
        SIZES[0],
        "cv2.optflow.DualTVL1OpticalFlow",
        Pipeline([FlowTvl1()], isa=isa()),
        lambda p, q: default.calc(p, q, None),
        2,
    )
    # the defaults cost OpenCV up to a minute a pair of this size
    brief = cv2.optflow.DualTVL1OpticalFlow_create(warps=2, innnerIterations=10, outerIterations=1)
    yield row(
        "flow_tvl1, 2 warps of 10,",
        SIZES[1],
        "cv2.optflow.DualTVL1OpticalFlow",
        Pipeline([FlowTvl1(warps=2, inner_iterations=10, outer_iterations=1)], isa=isa()),
        lambda p, q: brief.calc(p, q, None),
        2,
    )
