# SPDX-License-Identifier: Apache-2.0
"""Annotated films that can be learned from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

RATE = 16000


def wav(path: Path, samples: np.ndarray) -> None:
    data = np.clip(np.rint(samples * 32767), -32768, 32767).astype("<i2").tobytes()
    head = b"RIFF" + (36 + len(data)).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
    head += (1).to_bytes(2, "little") * 2 + RATE.to_bytes(4, "little") + (2 * RATE).to_bytes(4, "little")
    path.write_bytes(head + b"\x02\0\x10\0data" + len(data).to_bytes(4, "little") + data)


@pytest.fixture(scope="session")
def write_films(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Noise that is loud where arousal is high, high-pitched where valence is; a multiple of four seconds of each film."""

    def write(names: tuple[str, ...], seconds: int) -> Path:
        folder = tmp_path_factory.mktemp("films")
        for seed, name in enumerate(names):
            rng = np.random.default_rng(seed)
            arousal = np.repeat(rng.permutation([-0.9, 0.9, -0.9, 0.9]), seconds * 25 // 4)
            valence = np.repeat(rng.permutation([-0.9, 0.9]), seconds * 25 // 2)
            t = np.arange(seconds * RATE) / RATE
            level = np.where(arousal > 0, 0.5, 0.02).repeat(RATE // 25)
            pitch = np.where(valence > 0, 3000, 200).repeat(RATE // 25)
            sound = level * (np.sin(2 * np.pi * pitch * t) + 0.2 * rng.normal(size=len(t)))
            wav(folder / f"{name}.wav", 0.5 * sound)
            rows = [f"{name}_{i},{v},{a}" for i, (v, a) in enumerate(zip(valence, arousal, strict=True))]
            (folder / f"intended3_{name}.csv").write_text("\n".join(rows), encoding="utf-8")
        return folder

    return write


@pytest.fixture(scope="module")
def bundle(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """movie-affect-audio with the weights of the module's own fixture, exported."""
    from zoo.export import export_model

    out = tmp_path_factory.mktemp("movie") / "bundle"
    return export_model(
        "movie-affect-audio", target="cpu-x86", precision="fp32", out=out, weights=weights
    ).path
