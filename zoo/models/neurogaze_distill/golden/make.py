# SPDX-License-Identifier: Apache-2.0
"""Draws the golden inputs: faces of nobody, from ellipses and arcs. ``python make.py`` writes them beside itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

#: Drawn at this many times the size and reduced, so that edges are soft.
_FINER = 4


def face(width: int, height: int, mouth: str, *, seed: int) -> Image.Image:
    """An RGB drawing of a face with a ``smile``, a ``frown`` or a mouth that is ``open``, with a little noise."""
    w, h = _FINER * width, _FINER * height
    image = Image.new("RGB", (w, h), (94, 104, 120))
    draw = ImageDraw.Draw(image)

    def box(left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
        return left * w, top * h, right * w, bottom * h

    line = max(1, w // 40)
    draw.ellipse(box(0.1, -0.1, 0.9, 0.6), fill=(60, 44, 36))  # hair
    draw.ellipse(box(0.15, 0.05, 0.85, 1.0), fill=(205, 170, 146))
    tall = 0.09 if mouth == "open" else 0.06
    for centre, tilt in ((0.34, 1), (0.66, -1)):
        draw.ellipse(box(centre - 0.09, 0.42 - tall, centre + 0.09, 0.42 + tall), fill=(240, 238, 232))
        draw.ellipse(box(centre - 0.04, 0.38, centre + 0.04, 0.46), fill=(40, 32, 30))
        lift = {"smile": 0.0, "frown": 0.05 * tilt, "open": 0.0}[mouth]
        top = 0.24 if mouth == "open" else 0.29
        draw.line(
            [((centre - 0.1) * w, (top - lift) * h), ((centre + 0.1) * w, (top + lift) * h)],
            fill=(70, 50, 42),
            width=2 * line,
        )
    draw.line(
        [(0.5 * w, 0.45 * h), (0.46 * w, 0.62 * h), (0.54 * w, 0.62 * h)], fill=(160, 122, 104), width=line
    )
    if mouth == "smile":
        draw.chord(
            box(0.3, 0.58, 0.7, 0.88), 10, 170, fill=(250, 244, 238), outline=(150, 62, 62), width=line
        )
    elif mouth == "frown":
        draw.arc(box(0.34, 0.76, 0.66, 0.96), 200, 340, fill=(150, 62, 62), width=2 * line)
    else:
        draw.ellipse(box(0.41, 0.68, 0.59, 0.92), fill=(82, 28, 30), outline=(150, 62, 62), width=line)
    pixels = np.asarray(image.resize((width, height), Image.Resampling.LANCZOS), np.float64)
    noise = np.random.default_rng(seed).normal(0, 5, pixels.shape)
    return Image.fromarray(np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8))


def main() -> None:
    """Write the three files: grey at the model's size, grey and larger, RGB that is not square and lies on its side."""
    here = Path(__file__).parent
    face(48, 48, "smile", seed=1).convert("L").save(here / "smile.png")
    face(96, 96, "frown", seed=2).convert("L").save(here / "frown.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees
    face(112, 128, "open", seed=3).transpose(Image.Transpose.ROTATE_90).save(
        here / "surprise_rgb.jpg", quality=92, exif=exif
    )


if __name__ == "__main__":
    main()
