# SPDX-License-Identifier: Apache-2.0
"""Sound of files: WAV and FLAC by the built-in reader, other files by PyAV; files are written here."""

from __future__ import annotations

import builtins
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoo import ops
from zoo.errors import InputError, ProviderUnavailable
from zoo.media import of_frames, of_samples, open_pictures, open_sound

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


def film(path: Path, rate: int, count: int) -> Path:
    """A film whose k-th picture is grey 8 * k."""
    av = pytest.importorskip("av", reason="PyAV is not installed")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "gray"
        for k in range(count):
            picture = np.full((32, 48), 8 * k, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="gray")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("rate", "shown"), [(25, 1.0), (50, 2.0), (10, 0.4), (24, 0.96)])
def test_pictures_are_what_is_on_the_screen(rate: int, shown: float, tmp_path: Path) -> None:
    pictures = open_pictures(film(tmp_path / "a.mkv", rate, 30), 25)
    assert (pictures.rate, pictures.shape) == (25, (32, 48, 3))
    blocks = list(pictures.blocks())
    assert max(map(len, blocks)) <= 16
    found = np.concatenate(blocks)
    assert found.dtype == np.uint8
    wanted = [int(k * shown + 1e-3) for k in range(math.ceil(30 * 25 / rate))]
    assert found[:, 5, 7, 1].tolist() == [8 * min(k, 29) for k in wanted]
    np.testing.assert_array_equal(np.concatenate(list(pictures.blocks())), found)  # again


def test_pictures_that_are_not_there_are_told(golden_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="PyAV is not installed")
    with pytest.raises(InputError, match=r"none\.mp4: cannot be read: no such file"):
        open_pictures(tmp_path / "none.mp4", 25)
    with pytest.raises(InputError, match="it has no pictures"):
        open_pictures(golden_folder / "calm_22050.flac", 25)
    with pytest.raises(InputError, match=r"frames are float64 \(3, 4\); give uint8"):
        of_frames(np.zeros((3, 4)), 25)
