# SPDX-License-Identifier: Apache-2.0
"""Makes the golden films of this folder: drawn shapes that move, and tones; no recording.

Usage: python make.py   (needs numpy)
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parent
FRAMES, RATE, SOUND_RATE = 18, 25, 16000
HEIGHT, WIDTH = 48, 64


def write(name: str, frames: NDArray[np.float64], sound: NDArray[np.float64]) -> None:
    """Frames in [0, 1], sound in [-1, 1]."""
    np.savez_compressed(
        HERE / name,
        frames=np.rint(255 * np.clip(frames, 0, 1)).astype(np.uint8),
        rate=np.array(RATE),
        sound=np.rint(16000 * sound).astype(np.int16),
        sound_rate=np.array(SOUND_RATE),
    )


def main() -> None:
    """Write the three films."""
    t = np.arange(FRAMES)[:, None, None, None] / FRAMES
    y = np.arange(HEIGHT)[None, :, None, None]
    x = np.arange(WIDTH)[None, None, :, None]
    colour = np.array([1.0, 0.6, 0.3])
    s = np.arange(FRAMES * SOUND_RATE // RATE) / SOUND_RATE
    near = np.hypot(y - 24, x - 10 - 40 * t) < 9
    write("circles.npz", 0.2 + 0.7 * near * colour, np.sin(2 * np.pi * (300 + 400 * s) * s))
    bars = 0.5 + 0.4 * np.sin(2 * np.pi * (x / 11 + 2 * t)) * colour
    write("bars.npz", bars + 0 * y, np.sign(np.sin(2 * np.pi * 180 * s)) * np.exp(-3 * (s % 0.2)))
    blink = (np.floor(8 * t) % 2) * colour[::-1] * (0.4 + 0.6 * (x + y) / (HEIGHT + WIDTH))
    write("blink.npz", blink, np.sin(2 * np.pi * 500 * s) * (s > 0.3))


if __name__ == "__main__":
    main()
