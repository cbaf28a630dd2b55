# SPDX-License-Identifier: Apache-2.0
"""EEG from recording to label: an exported bundle on arrays, files, streams and the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import zoo
from zoo import registry
from zoo.cli import cli
from zoo.errors import DataError, InputError
from zoo.pipeline import Pipeline
from zoo.recording import Recording, read_recording

CARD, VARIANT = registry.find("eeg-state-epoc")
NAMES = CARD.file.input.names


def test_a_model_that_looks_at_the_whole_recording(tmp_path: Path) -> None:
    """eeg-va-dreamer standardises over all windows: one answer for a recording, and no streams."""
    from zoo.export import export_model

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ZOO_DATA", raising=False)
        out = tmp_path / "bundle"
        made = export_model("eeg-va-dreamer", target="cpu-x86", precision="fp32", out=out).path
    model = zoo.load(made)
    assert model.selftest().passed
    rng = np.random.default_rng(3)
    samples = rng.normal(4000, 30, (700, 14))
    path = tmp_path / "long.csv"
    lines = [",".join(model.manifest.input.names), *(",".join(map(repr, row)) for row in samples.tolist())]
    path.write_text("\n".join(lines) + "\n")
    told = CliRunner().invoke(cli, ["run", str(made), str(path), "--rate", "128", "--json"])
    assert told.exit_code == 0, told.output
    (found,) = json.loads(told.stdout)
    rows = Pipeline(model.manifest.pipeline, shape=(-1, 14)).run(samples, 128)
    assert len(rows) == 1 + (700 - 128) // 64
    expected = model.run_engine(rows[-1:])["answer"][0]
    assert found["values"] == pytest.approx(dict(zip(model.labels, expected.tolist(), strict=True)), abs=1e-6)
    with pytest.raises(InputError, match=r"op 0 \(demean\) needs the whole input"):
        list(model.stream([samples]))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fp32 bundle; parity on inputs derived from the golden recordings."""
    from zoo.export import export_model

    where = tmp_path_factory.mktemp("eeg") / "bundle"
    return export_model("eeg-state-epoc", target="cpu-x86", precision="fp32", out=where).path


@pytest.fixture(scope="module")
def model(bundle: Path) -> Any:
    return zoo.load(bundle)


@pytest.fixture(scope="module")
def recording() -> Recording:
    """Seven seconds: the golden recordings one after the other, with the transmission error in them."""
    parts = [read_recording(CARD.path(name), channels=NAMES) for name in CARD.file.golden]
    return Recording(np.concatenate([np.asarray(part.samples) for part in parts]), 128, NAMES)


def test_golden_inputs_pass(model: Any) -> None:
    report = model.selftest()
    assert report.passed
    assert len(report.errors) == 3


@pytest.mark.parametrize("size", [1, 77, 128, 4000])
def test_a_stream_gives_every_window_whatever_the_chunks(model: Any, recording: Recording, size: int) -> None:
    samples = np.asarray(recording.samples)
    chunks = [samples[at : at + size] for at in range(0, len(samples), size)]
    found = list(model.stream(chunks))
    rows = model.pipeline.run(samples, 128.0)
    assert len(found) == len(rows) == 1 + (960 - 128) // 64
    for i, (prediction, row) in enumerate(zip(found, rows, strict=True)):
        assert (prediction.start, prediction.end) == (i / 2, i / 2 + 1)
        expected = model.run_engine(row[None])
        for name, value in prediction.outputs.items():
            np.testing.assert_array_equal(value, expected[name][0])
    assert {prediction.label for prediction in found} <= {"open", "closed"}
    whole = model(recording)
    np.testing.assert_array_equal(whole.outputs["embedding"], found[-1].outputs["embedding"])


def test_inputs_in_any_order_are_the_same(model: Any, recording: Recording) -> None:
    samples = np.asarray(recording.samples)
    mixed = Recording(samples[:, ::-1], 128, tuple(f"EEG {name}" for name in reversed(NAMES)))
    outputs = [model(raw).outputs["answer"] for raw in (recording, mixed, (samples, 128))]
    outputs += [prediction.outputs["answer"] for prediction in model.batch([mixed, recording])]
    for other in outputs[1:]:
        np.testing.assert_allclose(other, outputs[0], atol=1e-6)


def test_a_transmission_error_changes_little(model: Any, recording: Recording) -> None:
    samples = np.array(recording.samples)
    clean = list(model.stream([samples[:640]]))
    samples[300] += np.linspace(-300_000, 600_000, 14)
    struck = list(model.stream([samples[:640]]))
    for one, other in zip(clean, struck, strict=True):
        np.testing.assert_allclose(one.outputs["answer"], other.outputs["answer"], atol=0.1)


def test_inputs_that_do_not_fit_are_told(model: Any, recording: Recording) -> None:
    samples = np.array(recording.samples)
    with pytest.raises(InputError, match="eeg-state-epoc needs channel AF4; there are AF3, F7"):
        model(Recording(samples[:, :13], 128, NAMES[:13]))
    with pytest.raises(
        InputError, match=r"recorded at 256 Hz, eeg-state-epoc needs 128 Hz. Resample it first"
    ):
        model((samples, 256))
    with pytest.raises(InputError, match=r"samples of shape \(960,\) and 14 channel names"):
        model((samples[:, 0], 128))
    with pytest.raises(InputError, match="fewer than one window of 128"):
        model((samples[:127], 128))
    with pytest.raises(InputError, match="fewer than one window of 128"):
        list(model.stream([samples[:100]]))
    with pytest.raises(
        InputError, match=r"a stream at 128 Hz every 0.25 s; its pipeline is made for 128 Hz and 0.5 s"
    ):
        list(model.stream([samples], hop=0.25))
    with pytest.raises(InputError, match="input is int; give a file path, a Recording"):
        model(3)
    samples[200, 2] = np.nan
    for use in (lambda: model((samples, 128)), lambda: list(model.stream([samples]))):
        with pytest.raises(InputError, match=r"sample 200 \(1.562 s\) of channel F3 is nan"):
            use()


def test_the_command_line(bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from PIL import Image

    runner = CliRunner()
    given = str(CARD.path("golden/closed.csv"))
    done = runner.invoke(cli, ["run", str(bundle), given, "--json"])
    assert done.exit_code == 0, done.output
    results = json.loads(done.stdout)
    assert [(row["start_s"], row["end_s"]) for row in results] == [(0, 1), (0.5, 1.5), (1, 2), (1.5, 2.5)]
    assert all(row["label"] in VARIANT.labels for row in results)
    shown = runner.invoke(cli, ["run", str(bundle), given])
    assert "0.50-1.50" in shown.stdout
    plain = tmp_path / "plain.csv"
    plain.write_text("".join(Path(given).read_text().splitlines(keepends=True)[1:]))
    failed = runner.invoke(cli, ["run", str(bundle), str(plain)])
    assert (failed.exit_code, "give it (zoo run --rate 128)" in failed.output) == (3, True)
    assert runner.invoke(cli, ["run", str(bundle), str(plain), "--rate", "128"]).exit_code == 0
    assert runner.invoke(cli, ["run", str(bundle), given, "--rate", "64"]).exit_code == 3
    assert runner.invoke(cli, ["run", str(bundle), given, "--hop", "1"]).exit_code == 2
    picture = tmp_path / "strip.png"
    drawn = runner.invoke(cli, ["plot", str(bundle), given, "--out", str(picture)])
    assert drawn.exit_code == 0, drawn.output
    with Image.open(picture) as image:
        assert image.format == "PNG"
        assert np.ptp(np.asarray(image.convert("L"))) > 200
    assert runner.invoke(cli, ["plot", str(bundle), given, "--out", str(picture)]).exit_code == 1


def test_bench_takes_recordings(bundle: Path, tmp_path: Path, bench_inputs: Any) -> None:
    samples, rate = bench_inputs(bundle)[0]
    assert (samples.shape, samples.dtype, rate) == ((256, 14), np.float64, 128)
    with pytest.raises(DataError, match="holds no EEG file"):
        bench_inputs(bundle, data=tmp_path)
    for name in CARD.file.golden[:2]:
        (tmp_path / Path(name).name).write_bytes(CARD.path(name).read_bytes())
    assert bench_inputs(bundle, data=tmp_path, seconds=1.5)[0][0].shape == (192, 14)


def test_int8_goes_through_the_gate_with_real_recordings(data_root: Path, tmp_path: Path) -> None:
    from zoo.export import export_model

    where = tmp_path / "int8"
    export_model("eeg-state-epoc", target="cpu-x86", precision="int8", data=data_root, out=where)
    opened = zoo.load(where)
    manifest = opened.manifest
    assert opened.selftest().passed
    assert manifest.calibration is not None
    assert manifest.calibration.data == "eye_state"
    assert len(manifest.calibration.items) >= 128
    assert manifest.gate is not None
    assert (manifest.gate.n, manifest.gate.passed) == (168, True)
    assert manifest.parity is not None
    assert "64 items of eye_state" in manifest.parity.input_source
