# SPDX-License-Identifier: Apache-2.0
"""Makes the golden clips of this folder: synthetic film sound (chords, a beat, a swell, a voice-like buzz), no recording.

Usage: python make.py   (needs numpy and soundfile). They cover other rates than the pipeline's, stereo, and silence.
"""

from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

HERE = Path(__file__).parent


def chord(t: NDArray[np.float64], roots: list[float], every: float) -> NDArray[np.float64]:
    """Triads, one every ``every`` seconds, each dying away."""
    sound: NDArray[np.float64] = np.zeros_like(t)
    for i, root in enumerate(roots):
        since = t - i * every
        on = (since >= 0) * np.exp(-2.5 * np.maximum(since, 0))
        for ratio in (1, 5 / 4, 3 / 2, 2):
            sound += on * np.sin(2 * np.pi * root * ratio * since) / ratio
    return sound


def buzz(t: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """A voiced sound whose pitch glides and whose level comes in syllables."""
    pitch = low + (high - low) * (0.5 - 0.5 * np.cos(2 * np.pi * 0.4 * t))
    phase = 2 * np.pi * np.cumsum(pitch) * (t[1] - t[0])
    voice: NDArray[np.float64] = np.stack([np.sin(k * phase) / k**1.5 for k in range(1, 12)]).sum(axis=0)
    level: NDArray[np.float64] = np.maximum(np.sin(2 * np.pi * 2.2 * t), 0)
    return level * voice


def write(name: str, sound: NDArray[np.float64], rate: int) -> None:
    """Scaled to half of the range, 16 bit."""
    soundfile.write(HERE / name, 0.5 * sound / np.abs(sound).max(), rate, subtype="PCM_16")


def main() -> None:
    """Write the three clips."""
    t = np.arange(int(2.4 * 16000)) / 16000
    write("voice_16000.flac", buzz(t, 110, 190), 16000)
    t = np.arange(int(2.0 * 44100)) / 44100
    left = chord(t, [220.0, 261.6, 196.0, 246.9], 0.45)
    write("chords_44100_stereo.flac", np.stack((left, np.roll(left, 441)), axis=1), 44100)
    t = np.arange(int(2.2 * 48000)) / 48000
    beat = np.exp(-30 * (t % 0.5)) * np.sin(2 * np.pi * 60 * (t % 0.5))
    write("beat_48000.flac", np.where(t < 1.7, beat * (0.2 + t) + 0.1 * buzz(t, 220, 330), 0.0), 48000)


if __name__ == "__main__":
    main()
