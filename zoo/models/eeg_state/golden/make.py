# SPDX-License-Identifier: Apache-2.0
"""Makes the golden recordings: seeded noise shaped as EEG, no person's. Run in this folder: ``python make.py``.

``open.csv``: little alpha and two blinks. ``closed.csv``: alpha at the back of the head, columns in another order, under the
older names. ``spike.csv``: as open, with a transmission error in one row.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

CHANNELS = ("AF3", "F7", "F3", "FC5", "T7", "P7", "O1", "O2", "P8", "T8", "FC6", "F4", "F8", "AF4")
RATE, SAMPLES = 128, 320


def signal(seed: int, alpha: float, blinks: tuple[int, ...]) -> np.ndarray:
    """Microvolts (320, 14) around the offset of 4200 that the headset's converter has."""
    rng = np.random.default_rng(seed)
    freqs = np.fft.rfftfreq(SAMPLES, 1 / RATE)
    shape = 1 / np.sqrt(np.maximum(freqs, 1))
    spectrum = rng.standard_normal((len(freqs), 14)) + 1j * rng.standard_normal((len(freqs), 14))
    noise = np.fft.irfft(spectrum * shape[:, None], SAMPLES, axis=0)
    x: np.ndarray = 4200 + 8 * noise / noise.std()
    t = np.arange(SAMPLES) / RATE
    for column, name in enumerate(CHANNELS):
        back = {"O": 1.0, "P": 0.7, "T": 0.3}.get(name[0], 0.1)
        x[:, column] += alpha * back * np.sin(2 * np.pi * 10.2 * t + 0.2 * column)
        front = {"A": 1.0, "F": 0.4}.get(name[0], 0.0)
        for blink in blinks:
            x[:, column] += 90 * front * np.exp(-0.5 * ((np.arange(SAMPLES) - blink) / 9) ** 2)
    return x


def write(name: str, x: np.ndarray, channels: tuple[str, ...]) -> None:
    """One CSV file."""
    lines = [f"# rate: {RATE}", ",".join(channels), *(",".join(f"{value:.2f}" for value in row) for row in x)]
    Path(name).write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    write("open.csv", signal(1, 2.0, (90, 250)), CHANNELS)
    older = {"T7": "T3", "P7": "T5", "T8": "T4", "P8": "T6"}
    order = list(reversed(range(14)))
    write(
        "closed.csv",
        signal(2, 14.0, ())[:, order],
        tuple(f"EEG {older.get(CHANNELS[i], CHANNELS[i])}" for i in order),
    )
    spiked = signal(3, 2.0, (140,))
    spiked[285] += np.linspace(-4000, 300_000, 14)
    write("spike.csv", spiked, CHANNELS)
