# SPDX-License-Identifier: Apache-2.0
"""From raw input to prediction: files, arrays, batches, streams, threads."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zoo
from zoo import ops
from zoo.errors import BundleError, InputError, ZooError
from zoo.runtime.stream import AudioWindows

CLIPS = ("calm_22050.flac", "excited_16000.flac", "short_44100_stereo.flac", "english_48000.wav")


@pytest.fixture(scope="module")
def model(ready_bundle: Path) -> zoo.Model:
    return zoo.load(ready_bundle)


def test_selftest_passes(model: zoo.Model) -> None:
    report = model.selftest()
    assert report.passed
    assert len(report.errors) >= 3
    assert max(report.errors) <= report.tolerance


def test_selftest_notices_a_wrong_pipeline(model: zoo.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    original = model.pipeline.run
    monkeypatch.setattr(
        model, "pipeline", type("Off", (), {"run": staticmethod(lambda x, r: original(x, r) + 1)})()
    )
    assert not model.selftest().passed


@pytest.mark.parametrize("clip", CLIPS)
def test_a_file_and_its_samples_give_the_same_numbers(
    model: zoo.Model, golden_folder: Path, clip: str
) -> None:
    from_file = model(golden_folder / clip)
    samples, rate = ops.read_audio(golden_folder / clip)
    from_array = model((samples, rate))
    assert from_file.scores == from_array.scores
    assert from_file.label == max(from_file.scores, key=lambda name: from_file.scores[name])
    assert sum(from_file.scores.values()) == pytest.approx(1, abs=1e-5)
    assert set(from_file.scores) == set(model.labels)
    timing = from_file.timing
    assert min(timing.decode_input, timing.preprocess, timing.engine, timing.decode) >= 0
    parts = timing.decode_input + timing.preprocess + timing.engine + timing.decode
    assert parts == pytest.approx(timing.total, rel=0.05)
    assert from_array.timing.decode_input == 0


def test_stereo_is_the_mean_of_its_channels(model: zoo.Model) -> None:
    rng = np.random.default_rng(0)
    stereo = rng.uniform(-0.5, 0.5, (30000, 2)).astype(np.float32)
    both = model((stereo, 22050)).outputs["logits"]
    mean = model((stereo.mean(axis=1), 22050)).outputs["logits"]
    np.testing.assert_allclose(both, mean, atol=1e-4)


def test_batch_equals_singles(model: zoo.Model, golden_folder: Path) -> None:
    raws = [golden_folder / clip for clip in CLIPS] * 9 + [(np.zeros(10, np.float32), 8000)]
    batch = model.batch(raws)
    assert len(batch) == len(raws)
    for prediction, raw in zip(batch, raws, strict=True):
        np.testing.assert_allclose(
            prediction.outputs["logits"], model(raw).outputs["logits"], atol=2e-6, rtol=1e-6
        )
    assert model.batch([]) == []


def test_calls_from_several_threads_agree(model: zoo.Model, golden_folder: Path) -> None:
    raws = [golden_folder / clip for clip in CLIPS]
    expected = [model(raw).scores for raw in raws]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: model(raws[i % 4]).scores, range(64)))
    assert all(scores == expected[i % 4] for i, scores in enumerate(found))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ((np.zeros(0, np.float32), 16000), "0 samples|empty"),
        ((np.full(1000, np.nan, np.float32), 16000), "finite|NaN"),
        ((np.array([0, np.inf], np.float32), 16000), "finite|inf"),
        ((np.zeros(1000, np.float32), 0), "rate"),
        ((np.zeros((2, 2, 2), np.float32), 16000), "dimensions"),
        ((np.zeros(1000, "U1"), 16000), "dtype|float32"),
        (np.zeros(1000, np.float32), r"\(samples, rate\)"),
        (None, r"\(samples, rate\)"),
        ("no/such/file.wav", "no/such/file.wav"),
    ],
)
def test_bad_input_is_one_clear_error(model: zoo.Model, raw: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model(raw)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ((1, 10, 20), r"the input is too long: it gives \d+ time, the engine takes 1 to 20"),
        ((1000, 1000, 2000), r"the input is too short: it gives \d+ time, the engine takes 1000 to 2000"),
    ],
)
def test_an_input_outside_the_profile_is_refused_before_the_engine_runs(
    model: zoo.Model, monkeypatch: pytest.MonkeyPatch, profile: tuple[int, int, int], message: str
) -> None:
    key = msgspec.structs.replace(model.manifest.key, profile={"time": profile})
    monkeypatch.setattr(model, "manifest", msgspec.structs.replace(model.manifest, key=key))
    monkeypatch.setattr(model, "_feature_shape", ("time", *model._feature_shape[1:]))
    with pytest.raises(InputError, match=message):
        model((np.ones(22_050, np.float32), 22_050))


def test_extreme_but_valid_input_gives_finite_scores(model: zoo.Model) -> None:
    n = 44100
    t = np.arange(n) / 22050
    for wave in (
        np.zeros(n),
        np.full(n, 1.0),
        np.sign(np.sin(2 * np.pi * 440 * t)),
        np.eye(1, n).ravel(),
        np.full(n, 1e-42),
        1e6 * np.sin(2 * np.pi * 440 * t),
        np.array([0.3]),
    ):
        prediction = model((wave.astype(np.float32), 22050))
        assert np.isfinite(list(prediction.scores.values())).all()


@settings(max_examples=25)
@given(
    sizes=st.lists(st.integers(0, 9000), min_size=1, max_size=30), hop=st.sampled_from([0.1, 0.5, 1.0, 3.0])
)
def test_stream_windows_do_not_depend_on_chunk_sizes(sizes: list[int], hop: float) -> None:
    signal = np.arange(60000, dtype=np.float32)
    chunks, at = [], 0
    for size in sizes:
        chunks.append(signal[at : at + size])
        at += size
    chunks.append(signal[at:])
    cutter = AudioWindows(8000, 2.0, hop)
    found = [(window.copy(), start, end) for window, start, end in cutter.cut(chunks)]
    starts = list(range(0, 60000 - 16000 + 1, round(hop * 8000)))
    assert [start for _, start, _ in found] == [i / 8000 for i in starts]
    for (window, start, end), i in zip(found, starts, strict=True):
        assert (window == signal[i : i + 16000]).all()
        assert end - start == pytest.approx(2.0)


def test_stream_predictions_equal_calls(model: zoo.Model) -> None:
    rng = np.random.default_rng(1)
    signal = (rng.standard_normal(16000 * 4) * 0.1).astype(np.float32)
    predictions = list(model.stream(np.split(signal, 50), rate=16000, hop=0.5))
    assert [p.start for p in predictions] == [0, 0.5, 1, 1.5, 2]
    for prediction in predictions:
        i = round(prediction.start * 16000)
        assert prediction.scores == model((signal[i : i + 32000], 16000)).scores


def test_short_stream_gives_one_prediction_and_an_empty_one_none(model: zoo.Model) -> None:
    chunk = np.full(100, 0.1, np.float32)
    (only,) = model.stream([chunk], rate=16000)
    assert only.scores == model((chunk, 16000)).scores
    assert list(model.stream([], rate=16000)) == []


@pytest.mark.parametrize("arguments", [{"hop": 0}, {"hop": float("nan")}, {"rate": -5}, {"hop": -1}])
def test_stream_refuses_nonsense(model: zoo.Model, arguments: dict[str, float]) -> None:
    with pytest.raises(InputError, match="stream"):
        list(model.stream([np.zeros(10, np.float32)], **{"rate": 16000, **arguments}))  # type: ignore[arg-type]


def test_stream_refuses_chunks_that_change(model: zoo.Model) -> None:
    with pytest.raises(InputError, match="chunk"):
        list(model.stream([np.zeros(10, np.float32), np.zeros((10, 2), np.float32)], rate=16000))


def test_placement_lists_every_node(model: zoo.Model) -> None:
    nodes = model.placement()
    assert len(nodes) > 10
    assert {node.provider for node in nodes} == {"CPUExecutionProvider"}


def test_names_resolve_to_the_store_before_the_package(ready_bundle: Path) -> None:
    from zoo.store import store_path

    assert zoo.load("tim-net-emodb").bundle.path == ready_bundle
    stored = store_path("tim-net-emodb", "cpu-x86", "fp32")
    shutil.copytree(ready_bundle, stored)
    try:
        assert zoo.load("tim-net-emodb").bundle.path == stored
    finally:
        shutil.rmtree(stored)
    with pytest.raises(BundleError, match="zoo export tim-net-emodb --target cpu-x86 --precision int8"):
        zoo.load("tim-net-emodb", precision="int8")
    with pytest.raises(ZooError, match="did you mean tim-net-emodb"):
        zoo.load("tim-net-emodbb")
    with pytest.raises(ZooError, match="threads"):
        zoo.load(ready_bundle, threads=0)
