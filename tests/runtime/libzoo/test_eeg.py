# SPDX-License-Identifier: Apache-2.0
"""EEG in libzoo: recordings and streams give the windows of the Python runtime."""

from __future__ import annotations

import ctypes as c
import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo
import zoo.pipeline
from libzoo_c import (
    BUNDLE_ERROR,
    DTYPES,
    ENGINE_FOLDERS,
    INPUT_ERROR,
    NO_RESULT,
    OK,
    LibZoo,
    Load,
    StreamOptions,
    ZooFailure,
    c_stream,
    exported,
    golden_inputs_agree,
    python_verdict,
    same,
    sealed,
    twin,
    verdict,
)
from zoo.bundle import MANIFEST, open_bundle


@pytest.fixture(scope="session")
def eeg_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of EEG, as exported."""
    return exported("eeg-state-epoc", tmp_path_factory.mktemp("eeg") / "bundle")


@pytest.mark.parametrize("kind", ENGINE_FOLDERS)
def test_golden_recordings(libzoo: LibZoo, eeg_bundle: Path, tmp_path: Path, kind: str) -> None:
    golden_inputs_agree(libzoo, twin(eeg_bundle, tmp_path / "twin", kind=kind))


def test_a_recording_gets_the_answer_of_its_last_window(
    libzoo: LibZoo, eeg_bundle: Path, recording: np.ndarray[Any, Any]
) -> None:
    device, python = libzoo.open(eeg_bundle), zoo.load(eeg_bundle)
    names = python.manifest.input.names
    assert device.about["input"]["names"] == list(names)
    assert [libzoo.lib.zoo_channel(device.handle, i) for i in range(15)] == [*map(str.encode, names), None]
    assert libzoo.lib.zoo_channel(None, 0) is None
    assert device.about["window_seconds"] == 1.0
    cuts = [recording[:n] for n in (128, 191, 192, 1280)]
    for got, cut in zip(device.run(*((cut, 128) for cut in cuts)), cuts, strict=True):
        same(got, python((cut, 128)))
    for dtype in (np.float32, np.int16, np.int32):
        given = (recording[:640].astype(dtype), 128)
        same(device(given), python(given))
    for given, message in (
        ((recording[:127], 128), "fewer than one window of 128"),
        ((recording[:, :13], 128), r"the input has shape \(1280, 13\); the pipeline takes eeg of shape \(any, 14\)"),
        ((recording, 256), r"recorded at 256\.0+ Hz, eeg-state-epoc needs 128 Hz"),
        ((np.where(np.arange(1280)[:, None] == 900, np.nan, recording), 128), "sample 900 of channel 0 is not finite"),
        ((recording.astype(np.uint8), 128), "eeg must not be uint8"),
    ):  # fmt: skip
        with pytest.raises(ZooFailure, match=message) as refused:
            device(given)
        assert refused.value.status == INPUT_ERROR
    device.close()


@pytest.mark.parametrize("chunk", [1, 7, 64, 129, 1280])
def test_a_stream_of_eeg_gives_the_same_windows(
    libzoo: LibZoo, eeg_bundle: Path, recording: np.ndarray[Any, Any], chunk: int
) -> None:
    device, python = libzoo.open(eeg_bundle), zoo.load(eeg_bundle)
    wanted = list(python.stream(np.array_split(recording, range(chunk, len(recording), chunk))))
    loads: list[Load] = []
    found = list(c_stream(libzoo, device, recording, 128, 0.5, chunk, loads=loads))
    assert len(found) == len(wanted) == 19
    for i, (got, want) in enumerate(zip(found, wanted, strict=True)):
        same(got, want)
        assert (got.start, got.end) == (want.start, want.end) == (i / 2, i / 2 + 1)
        assert got.json["timing"]["total"] >= got.json["timing"]["preprocess"] > 0
    # despike looks one sample ahead, so the last window is completed by the end alone
    assert loads[-2].signal == pytest.approx((1280 - 64 + 1) / 128, abs=chunk / 128)
    assert loads[-1].windows == 19
    # what a run on all up to a window's end gives, but for its last sample, which despike then sees without a neighbour
    same(found[-1], python((recording, 128)))
    device.close()


def test_windows_that_only_the_end_completes(
    libzoo: LibZoo, eeg_bundle: Path, recording: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    """Two ops that look one sample ahead keep two windows of a hop of one sample until the recording ends."""
    ops = open_bundle(eeg_bundle).manifest.pipeline
    pipeline = (zoo.pipeline.Despike(limit=900.0), *ops[:2], zoo.pipeline.Bandpower(hop_length=1), ops[-1])
    recording = recording[:200]
    bundle = twin(eeg_bundle, tmp_path / "twin", kind="onnxruntime", pipeline=pipeline)
    device, python = libzoo.open(bundle), zoo.load(bundle)
    wanted = list(python.stream([recording]))
    loads: list[Load] = []
    found = list(c_stream(libzoo, device, recording, 0, 0, 50, loads=loads))
    assert len(found) == len(wanted) == 200 - 128 + 1
    for got, want in zip(found, wanted, strict=True):
        same(got, want)
        assert (got.start, got.end) == (want.start, want.end)
    # the first of the last three was completed by the last sample, the others by the end
    assert [load.signal for load in loads].count(200 / 128) == 3
    device.close()


def test_eeg_that_a_stream_refuses(
    libzoo: LibZoo, eeg_bundle: Path, recording: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    device = libzoo.open(eeg_bundle)
    for signal, rate, hop, message in (
        (recording, 256, 0, "a stream at 256 Hz every 0.5 s; its pipeline is made for 128 Hz and 0.5 s"),
        (recording, 0, 0.25, "a stream at 128 Hz every 0.25 s"),
        (recording[:, :3], 0, 0, "channels is 3; eeg-state-epoc takes 14: AF3, F7"),
        (recording.astype(np.uint8), 0, 0, "EEG may be float32"),
        (np.zeros((2, 4, 4, 14)), 0, 0, "takes EEG: leave them 0"),
        (recording[:127], 0, 0, "the recording has 127 samples, less than one window of 128"),
        (recording[:0], 0, 0, "the recording has 0 samples"),
    ):
        with pytest.raises(ZooFailure, match=message) as refused:
            list(c_stream(libzoo, device, signal, rate, hop, 40))
        assert refused.value.status == INPUT_ERROR
    whole = twin(eeg_bundle, tmp_path / "whole", kind="onnxruntime", pipeline=(zoo.pipeline.Demean(), *open_bundle(eeg_bundle).manifest.pipeline[2:]))  # fmt: skip
    with pytest.raises(ZooFailure, match=r"op 0 \(demean\) needs the whole input") as refused:
        list(c_stream(libzoo, libzoo.open(whole), recording, 0, 0, 40))
    assert refused.value.status == INPUT_ERROR
    device.close()


def test_samples_that_are_not_finite_may_be_left_out(
    libzoo: LibZoo, eeg_bundle: Path, recording: np.ndarray[Any, Any]
) -> None:
    device, python = libzoo.open(eeg_bundle), zoo.load(eeg_bundle)
    stream, taken = c.c_void_p(), c.c_size_t(7)
    options = StreamOptions(abi_version=1, dtype=DTYPES["float64"], channels=14)
    libzoo.call("zoo_stream_open", device.handle, options, c.byref(stream))
    bad = np.full((1, 14), np.nan)
    found = []
    for at in range(256):
        if at == 100:
            with pytest.raises(ZooFailure, match="sample 100 of channel 0 is not finite") as refused:
                libzoo.call("zoo_stream_push", stream, bad.ctypes.data, 1, taken)
            assert (refused.value.status, taken.value) == (INPUT_ERROR, 0)
        row = np.ascontiguousarray(recording[at])
        libzoo.call("zoo_stream_push", stream, row.ctypes.data, 1, taken)
        assert taken.value == 1
        if libzoo.lib.zoo_stream_pop(stream, None) == OK:
            found.append(device.read(libzoo.lib.zoo_stream_session(stream), 0))
    libzoo.call("zoo_stream_end", stream)
    libzoo.call("zoo_stream_pop", stream, None)
    found.append(device.read(libzoo.lib.zoo_stream_session(stream), 0))
    assert libzoo.lib.zoo_stream_pop(stream, None) == NO_RESULT
    with pytest.raises(ZooFailure, match="the stream has ended"):
        libzoo.call("zoo_stream_push", stream, bad.ctypes.data, 1, taken)
    for got, want in zip(found, python.stream([recording[:256]]), strict=True):
        same(got, want)
    libzoo.lib.zoo_stream_close(stream)
    device.close()


def test_an_eeg_pipeline_that_does_not_fit_the_engine(
    libzoo: LibZoo, eeg_bundle: Path, tmp_path: Path
) -> None:
    ops = open_bundle(eeg_bundle).manifest.pipeline
    for name, pipeline, message in (
        ("flat", ops[:2], "the pipeline gives float64, the engine takes float32"),
        ("bands", ops[:3], "the engine's input does not have the pipeline's dimensions"),
    ):
        bundle = twin(eeg_bundle, tmp_path / name, kind="onnxruntime", pipeline=pipeline)
        with pytest.raises(ZooFailure, match=message) as refused:
            libzoo.open(bundle)
        assert refused.value.status == BUNDLE_ERROR


def test_both_readers_refuse_a_montage_that_does_not_fit(
    libzoo: LibZoo, eeg_bundle: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(eeg_bundle, tmp_path / "copy"))
    manifest = json.loads((copy / MANIFEST).read_text())
    manifest["input"]["names"].pop()
    (copy / MANIFEST).write_bytes(sealed(manifest))
    assert "positions has 14 electrodes, the input has 13 channels" in verdict(libzoo, copy)
    assert "positions has 14 electrodes, the input has 13 channels" in python_verdict(copy)


def test_a_stream_of_eeg_allocates_nothing(libzoo: LibZoo, eeg_bundle: Path) -> None:
    program = libzoo.path.parent / "tests" / "csrc" / "allocations"
    done = subprocess.run([program, eeg_bundle, "eeg"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "38 windows, 0 failures"), done.stdout


def test_the_example_of_a_headset(libzoo: LibZoo, eeg_bundle: Path, recording: np.ndarray[Any, Any]) -> None:
    program = libzoo.path.parent / "eeg_stream"
    names = list(open_bundle(eeg_bundle).manifest.input.names)
    rows = [
        ",".join(map(repr, row)) for row in np.column_stack([recording[:, ::-1], np.arange(1280)]).tolist()
    ]
    header = ["# rate: 128", ",".join([*(name.lower() for name in names[::-1]), "counter"])]

    def run(lines: Sequence[str], *options: str) -> subprocess.CompletedProcess[str]:
        text = "\n".join(lines) + "\n"
        return subprocess.run([program, eeg_bundle, *options], input=text, capture_output=True, text=True, check=False)  # fmt: skip

    done = run([*header, *rows])
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    wanted = list(zoo.load(eeg_bundle).stream([recording]))
    assert len(found) == len(wanted) == 19
    for line, expected in zip(found, wanted, strict=True):
        assert (line["start"], line["end"]) == (expected.start, expected.end)
        assert line["result"]["label"] == expected.label
        assert line["result"]["scores"] == pytest.approx(expected.scores, abs=1e-7)
    assert done.stderr.startswith("19 windows of 10.0 s; latency ")
    assert run([*header, *rows], "2").stdout != done.stdout
    for lines, message in (
        ([header[1].replace("af3", "x"), *rows], "line 1: the first line names no column AF3"),
        ([*header, rows[0], rows[1] + ",1"], "line 4: 16 columns, the first line has 15"),
        ([*header, rows[0].replace(",", ",?", 1)], "line 3: '?"),
        ([*header, "nan" + rows[0][rows[0].index(",") :]], "line 3: sample 0 of channel 13 is not finite"),
        (header, "the recording has 0 samples, less than one window of 128"),
        ([], "standard input has no line of column names"),
    ):
        failed = run(lines)
        assert (failed.returncode, failed.stdout) == (INPUT_ERROR, "")
        assert failed.stderr.startswith(f"input error: {message}") or message in failed.stderr, failed.stderr
    sound = subprocess.run([program, "/nowhere"], input="", capture_output=True, text=True, check=False)
    assert sound.returncode == BUNDLE_ERROR
