# SPDX-License-Identifier: Apache-2.0
"""Sound of files: WAV and FLAC by the built-in reader, other files by PyAV; files are written here."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoo import ops
from zoo.errors import InputError, ProviderUnavailable
from zoo.media import of_samples, open_sound

RATE = 8000


def tone(seconds: float, channels: int = 2) -> np.ndarray:
    t = np.arange(int(seconds * RATE)) / RATE
    waves = [0.4 * np.sin(2 * np.pi * (200 + 50 * c) * t) for c in range(channels)]
    return (np.stack(waves, axis=1) * 32767).astype(np.int16)


def write(path: Path, samples: np.ndarray, codec: str) -> Path:
    """A file with one sound track."""
    av = pytest.importorskip("av", reason="PyAV is not installed")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE, layout="stereo")
        for start in range(0, len(samples), 1000):
            frame = av.AudioFrame.from_ndarray(
                samples[start : start + 1000].reshape(1, -1), format="s16", layout="stereo"
            )
            frame.sample_rate = RATE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mkv", "pcm_s16le"), ("a.mov", "pcm_s16le"), ("a.avi", "pcm_s16le")]
)
def test_lossless_tracks_come_out_exactly(name: str, codec: str, tmp_path: Path) -> None:
    samples = tone(23.4)
    sound = open_sound(write(tmp_path / name, samples, codec))
    assert sound.rate == RATE
    blocks = list(sound.blocks())
    assert len(blocks) > 1
    assert max(len(block) for block in blocks) < 12 * RATE
    np.testing.assert_array_equal(np.concatenate(blocks), samples.astype(np.float32) / 32768)
    np.testing.assert_array_equal(np.concatenate(list(sound.blocks())), np.concatenate(blocks))  # again


def test_lossy_tracks_are_near(tmp_path: Path) -> None:
    samples = tone(3.0)
    found = np.concatenate(list(open_sound(write(tmp_path / "a.mp4", samples, "aac")).blocks()))
    assert found.shape[1] == 2
    assert abs(len(found) - len(samples)) < 3000  # the codec's own padding
    assert np.abs(found).max() == pytest.approx(0.4, abs=0.05)


def test_the_built_in_reader_needs_no_pyav(golden_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_pyav(monkeypatch)
    for path in sorted(golden_folder.glob("*_*.*a*")):
        sound = open_sound(path)
        expected, rate = ops.read_audio(path)
        assert sound.rate == rate
        np.testing.assert_array_equal(np.concatenate(list(sound.blocks())), expected)


def test_what_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed")
    with pytest.raises(InputError, match=r"none\.mp4: cannot be read: No such file"):
        open_sound(tmp_path / "none.mp4")
    (tmp_path / "text.mp4").write_text("no film at all", encoding="utf-8")
    with pytest.raises(InputError, match=r"text\.mp4: cannot be decoded"):
        open_sound(tmp_path / "text.mp4")
    with av.open(str(tmp_path / "mute.mkv"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))))
        container.mux(stream.encode(None))
    with pytest.raises(InputError, match=r"mute\.mkv: it has no sound"):
        open_sound(tmp_path / "mute.mkv")
    without_pyav(monkeypatch)
    with pytest.raises(ProviderUnavailable, match=r"pip install 'affect-zoo\[media\]'"):
        open_sound(tmp_path / "mute.mkv")


def test_samples_at_hand_in_blocks() -> None:
    samples = tone(25.0)
    blocks = list(of_samples(samples, RATE).blocks())
    assert [len(block) for block in blocks] == [80000, 80000, 40000]
    np.testing.assert_array_equal(np.concatenate(blocks), samples)


def without_pyav(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine where it is not installed."""
    original = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "av":
            raise ImportError("No module named 'av'")
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
