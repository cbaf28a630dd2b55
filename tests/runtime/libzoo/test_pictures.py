# SPDX-License-Identifier: Apache-2.0
"""Streams of pictures in libzoo and in the Python runtime."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

import zoo
import zoo.pipeline
from libzoo_c import (
    INPUT_ERROR,
    USAGE_ERROR,
    CModel,
    LibZoo,
    Load,
    ZooFailure,
    c_stream,
)


def test_a_stream_of_pictures_allocates_nothing(libzoo: LibZoo, face_bundle: Path) -> None:
    program = libzoo.path.parent / "tests" / "csrc" / "allocations"
    done = subprocess.run([program, face_bundle, "pictures"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "80 windows, 0 failures"), done.stdout


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_a_stream_of_pictures_judges_one_every_hop(
    libzoo: LibZoo, face_bundle: Path, channels: int, chunk: int
) -> None:
    rng = np.random.default_rng(channels)
    frames = rng.integers(0, 256, (23, 40, 56, channels)).astype(np.uint8)
    device, python = libzoo.open(face_bundle), zoo.load(face_bundle)
    loads: list[Load] = []
    found = list(c_stream(libzoo, device, frames, 30, 0.1, chunk, loads=loads))
    wanted = [python(frame if channels == 3 else frame[..., 0]) for frame in frames[::3]]
    chunks = np.split(frames, [5, 6]) if channels == 3 else list(frames[..., 0])
    live = list(python.stream(chunks, rate=30, hop=0.1))
    assert [(p.start, p.end, p.scores) for p in live] == [
        (p.start, p.end, w.scores) for p, w in zip(found, wanted, strict=True)
    ]
    assert len(found) == len(wanted) == 8
    for i, (got, expected) in enumerate(zip(found, wanted, strict=True)):
        np.testing.assert_array_equal(got.values, list(expected.scores.values()))
        assert got.json["label"] == expected.label
        assert (got.start, got.end) == pytest.approx((i * 0.1, i * 0.1 + 1 / 30))
    assert loads[-1].windows == 8
    device.close()


def test_pictures_of_a_stream_are_smoothed(libzoo: LibZoo, face_bundle: Path) -> None:
    frames = np.random.default_rng(1).integers(0, 256, (12, 48, 48, 3)).astype(np.uint8)
    device = libzoo.open(face_bundle)
    plain = list(c_stream(libzoo, device, frames, 10, 0.1, 5))
    found = list(c_stream(libzoo, device, frames, 10, 0.1, 5, smoothing=0.5))
    mean = np.asarray(plain[0].values, np.float64)
    for got, now in zip(found, plain, strict=True):
        if now is not plain[0]:
            mean += (1 - np.exp(-0.1 / 0.5)) * (np.asarray(now.values) - mean)
        np.testing.assert_allclose(got.values, mean, atol=1e-6)
    device.close()


def test_wrong_streams_of_pictures_are_told(libzoo: LibZoo, face_bundle: Path, model: CModel) -> None:
    device = libzoo.open(face_bundle)
    frames = np.zeros((2, 48, 48, 3), np.uint8)
    for signal, rate, message in (
        (frames.astype(np.float32), 10, "pictures are uint8"),
        (frames[:, :0], 10, "height and width are 0 and 48"),
        (frames, 0, "rate is 0"),
        (np.zeros((2, 48, 48, 5), np.uint8), 10, r"channels is 5; it must be 1 \(grey\) or 3"),
    ):
        with pytest.raises(ZooFailure, match=message) as refused:
            list(c_stream(libzoo, device, signal, rate, 0.5, 1))
        assert refused.value.status == INPUT_ERROR
    with pytest.raises(ZooFailure, match="takes sound: leave them 0"):
        list(c_stream(libzoo, model, np.zeros((2, 4, 4, 1), np.float32), 16000, 0.5, 1))
    device.close()


def test_the_example_of_a_camera(libzoo: LibZoo, face_bundle: Path) -> None:
    program = libzoo.path.parent / "camera_faces"
    frames = np.random.default_rng(3).integers(0, 256, (11, 60, 80, 3)).astype(np.uint8)

    def run(*options: str, data: bytes = frames.tobytes()) -> subprocess.CompletedProcess[bytes]:
        command = [program, face_bundle, "80", "60", "10", "0.2", *options]
        return subprocess.run(command, input=data, capture_output=True, check=False)

    python = zoo.load(face_bundle)
    for options, cut in (((), np.s_[:, :, 10:70]), (("--face", "5,7,33"), np.s_[:, 7:40, 5:38])):
        done = run(*options)
        assert done.returncode == 0, done.stderr
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(lines) == 6
        for line, face in zip(lines, frames[cut][::2], strict=True):
            expected = python(np.ascontiguousarray(face))
            assert line["result"]["label"] == expected.label
            assert line["result"]["scores"] == pytest.approx(expected.scores, abs=1e-7)
        assert done.stderr.startswith(b"6 faces of 1.1 s; latency ")
    assert run("--smoothing", "1").stdout != run().stdout
    for options, data, code, message in (
        (("--face", "50,7,33"), b"", USAGE_ERROR, b"outside the frame"),
        (("--zoom", "2"), b"", USAGE_ERROR, b"unknown option"),
        ((), frames.tobytes()[:-1], INPUT_ERROR, b"the last frame has 14399 of 14400 bytes"),
        ((), b"", INPUT_ERROR, b"standard input ended before the first frame"),
    ):
        failed = run(*options, data=data)
        assert (failed.returncode, message in failed.stderr) == (code, True), failed.stderr
