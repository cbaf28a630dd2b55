# SPDX-License-Identifier: Apache-2.0
"""The audio reader against libsndfile (python-soundfile)."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from zoo import InputError, ops

soundfile = pytest.importorskip("soundfile")

FORMATS = [("WAV", s) for s in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")]
FORMATS += [("WAVEX", s) for s in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")]
FORMATS += [("RF64", "PCM_16"), ("W64", "PCM_24"), ("FLAC", "PCM_S8"), ("FLAC", "PCM_16"), ("FLAC", "PCM_24")]


@pytest.mark.parametrize(("container", "subtype"), FORMATS)
@pytest.mark.parametrize("channels", [1, 2, 8])
def test_samples_equal_libsndfile(
    tmp_path: Path, isa: str, container: str, subtype: str, channels: int
) -> None:
    rng = np.random.default_rng(channels)
    wave = rng.uniform(-1, 1, (30011, channels))
    wave[:4] = [[1], [-1], [0], [1 / 32768]]
    path = tmp_path / "a.wav"
    soundfile.write(path, wave, 11025, format=container, subtype=subtype)
    want, rate = soundfile.read(path, dtype="float64", always_2d=True)
    info = ops.audio_info(path)
    assert (info.rate, info.channels, info.frames) == (rate, channels, len(want))
    got, got_rate = ops.read_audio(path)
    assert got_rate == rate
    mean = want.mean(1)
    if channels == 1:
        np.testing.assert_array_equal(got, mean.astype(np.float32))
    else:
        assert np.abs(got - mean).max() <= 6e-8
    for start, frames in ((0, 1), (17, 4096), (29000, 1011), (30010, 1), (12345, -1), (30011, -1)):
        part, _ = ops.read_audio(path, start, frames)
        np.testing.assert_array_equal(part, got[start : None if frames < 0 else start + frames])


def test_real_flac_and_any_range_of_it(data_root: Path) -> None:
    for path in sorted((data_root / "emodb" / "full4").glob("*.flac"))[::40]:
        want, rate = soundfile.read(path, dtype="float32")
        got, got_rate = ops.read_audio(path)
        assert got_rate == rate
        np.testing.assert_array_equal(got, want)
        rng = np.random.default_rng(1)
        for start in rng.integers(0, len(want), 5):
            part, _ = ops.read_audio(path, int(start), min(1000, len(want) - int(start)))
            np.testing.assert_array_equal(part, want[start : start + 1000])


def test_a_chunk_that_leads_back_is_an_error(tmp_path: Path) -> None:
    """Found by fuzz_audio: the format's size, negative as an int, led back to the empty chunks before it, for ever."""
    junk = b"JUNK" + struct.pack("<I", 40) + bytes(40)
    form = struct.pack("<HHIIHHH", 1, 1, 16000, 32000, 2, 16, 0)
    for size, good in ((18, True), (2**32 - 40, False)):
        body = (
            b"WAVE"
            + junk
            + b"fmt "
            + struct.pack("<I", size)
            + form
            + b"data"
            + struct.pack("<I", 8)
            + bytes(8)
        )
        path = tmp_path / "a.wav"
        path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
        if good:
            np.testing.assert_array_equal(ops.read_audio(path)[0], np.zeros(4, np.float32))
        else:
            with pytest.raises(InputError, match=r"a\.wav"):
                ops.read_audio(path)
