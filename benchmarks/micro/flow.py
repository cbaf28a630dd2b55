# SPDX-License-Identifier: Apache-2.0
"""Optical flow beside OpenCV."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from run import Row

from zoo.ops import isa
from zoo.pipeline import FlowDis, Pipeline

PAIRS = 16

Array = np.ndarray[Any, Any]


def moving_texture(width: int, height: int, seed: int) -> tuple[Array, Array, Array]:
    """Two frames with texture on all scales that turn, grow and shift by some pixels, with camera noise; their flow."""
    rng = np.random.default_rng(seed)
    canvas = np.zeros((height, width), np.float32)
    for octave in range(2, 8):
        cells = rng.standard_normal((height * 2**octave // 256 + 2, width * 2**octave // 256 + 2)).astype(
            np.float32
        )
        canvas += cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC) * 2.0 ** (-octave / 2)
    canvas = 128 + 45 * canvas / canvas.std()
    angle, scale = rng.uniform(-0.02, 0.02, 2)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    dx, dy = x - width / 2, y - height / 2
    shift = rng.uniform(-4, 4, 2)
    flow = np.stack([scale * dx - angle * dy + shift[0], angle * dx + scale * dy + shift[1]], -1).astype(
        np.float32
    )
    first = cv2.remap(
        canvas, x + flow[..., 0], y + flow[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )
    frames = [
        np.clip(np.rint(f + rng.normal(0, 1.5, f.shape)), 0, 255).astype(np.uint8) for f in (first, canvas)
    ]
    return frames[0], frames[1], flow


def no_worse(flows: list[Array], ours: list[Array], theirs: list[Array]) -> str | None:
    """None when our mean end-point error over all pairs is at most 1 % above the peer's."""
    errors = [
        np.mean([np.hypot(*np.moveaxis(f - g, -1, 0)).mean() for f, g in zip(side, flows, strict=True)])
        for side in (ours, theirs)
    ]
    if errors[0] <= 1.01 * errors[1]:
        return None
    return f"end-point error {errors[0]:.4f} px, the peer's {errors[1]:.4f} px"


def rows() -> Iterator[Row]:
    """Each method at the size of a face crop and of a camera's frame."""
    cv2.setNumThreads(1)
    for width, height in ((224, 224), (640, 480)):
        made = [moving_texture(width, height, seed) for seed in range(PAIRS)]
        pairs = [np.stack([a, b]) for a, b, _ in made]
        flows = [flow for *_, flow in made]
        for index, preset in enumerate(("ultrafast", "fast", "medium")):
            pipeline = Pipeline([FlowDis(preset=preset)], isa=isa())  # type: ignore[arg-type]
            peer = cv2.DISOpticalFlow_create(index)

            def ours(i: int, p: Pipeline = pipeline, pairs: list[Array] = pairs) -> Array:
                return p.run(pairs[i])

            def theirs(i: int, d: Any = peer, pairs: list[Array] = pairs) -> Array:
                result: Array = d.calc(pairs[i][0], pairs[i][1], None)
                return result

            yield Row(
                op=f"flow_dis {preset} {width}x{height}",
                peer="cv2.DISOpticalFlow",
                ours=ours,
                theirs=theirs,
                inputs=PAIRS,
                check=lambda o=ours, t=theirs, f=flows: no_worse(  # type: ignore[misc]
                    f, [o(i)[0] for i in range(PAIRS)], [t(i) for i in range(PAIRS)]
                ),
                goal=1.5,
            )
