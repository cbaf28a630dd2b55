# SPDX-License-Identifier: Apache-2.0
"""Activation ranges: streamed histograms against direct computation, refusals, records."""

from __future__ import annotations

import shutil
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from zoo import registry
from zoo.card import Card
from zoo.data import Dataset, Item, open_dataset
from zoo.errors import DataError
from zoo.export import calibrate, quantize
from zoo.export.histogram import BINS, Histogram
from zoo.export.inputs import Preprocessor
from zoo.export.recordings import RecordingFile

METHODS = ("minmax", "percentile", "entropy", "mse")


def filled(chunks: list[np.ndarray]) -> Histogram:
    histogram = Histogram()
    for chunk in chunks:
        histogram.add(chunk)
    return histogram


def test_a_histogram_does_not_depend_on_chunks_and_order() -> None:
    values = np.random.default_rng(0).standard_normal(20000).astype(np.float32)
    values[777] = 9.0
    whole = filled([values])
    for parts in (np.array_split(values, 50), np.array_split(values[::-1], 7)):
        other = filled(parts)
        assert other.counts.sum() == whole.counts.sum() == 20000
        for method in METHODS:
            # Ranges double as larger values come, so bins may be up to twice as wide.
            assert other.threshold(method) == pytest.approx(whole.threshold(method), rel=0.05)


def test_thresholds_against_direct_computation() -> None:
    values = np.random.default_rng(1).laplace(size=200_000).astype(np.float32)
    histogram = filled(np.array_split(values, 20))
    magnitude = np.abs(values)
    assert histogram.threshold("minmax") == magnitude.max()
    assert histogram.threshold("percentile") == pytest.approx(
        np.quantile(magnitude, calibrate.PERCENTILE), rel=0.02
    )

    def error(limit: float) -> float:
        scale = limit / 127
        return float(np.mean((values - np.clip(np.rint(values / scale), -127, 127) * scale) ** 2))

    candidates = np.linspace(0.2, 1, 81) * magnitude.max()
    best = min(error(limit) for limit in candidates)
    assert error(histogram.threshold("mse")) <= 1.02 * best
    assert error(histogram.threshold("entropy")) <= 3 * best
    assert histogram.threshold("entropy") < magnitude.max()


@pytest.mark.parametrize("method", METHODS)
def test_degenerate_tensors(method: str) -> None:
    assert filled([np.zeros(10, np.float32)]).threshold(method) > 0
    assert filled([np.zeros(10, np.float32), np.ones(3, np.float32)]).threshold(method) == pytest.approx(
        1, rel=0.02
    )
    assert filled([np.full(5, 3.0, np.float32)]).threshold(method) == pytest.approx(3, rel=0.02)


def test_choice_is_stratified_and_leaves_groups_out(toy) -> None:
    dataset = open_dataset(toy.card, toy.variant.data, toy.data)
    chosen = calibrate.choose(dataset, without=["a"], count=130)
    assert len(chosen.items) == 130
    assert {item.group for item in chosen.items} == {"b", "c", "d"}
    counts = [sum(item.label == label for item in chosen.items) for label in range(3)]
    assert max(counts) - min(counts) <= 1
    with pytest.raises(DataError, match="has 48 items for calibration, INT8 needs 128"):
        calibrate.choose(dataset, without=["a", "b", "c"])
    with pytest.raises(DataError, match="127 calibration items are too few: INT8 needs 128; ask for more"):
        calibrate.choose(dataset, count=127)


def test_the_record_names_items_and_changes_with_them(toy) -> None:
    dataset = open_dataset(toy.card, toy.variant.data, toy.data)
    chosen = calibrate.choose(dataset)
    record = chosen.record(toy.preprocessor, "mse")
    assert record.data == "toy-tones"
    assert record.items == tuple(item.id for item in dataset.items)
    digests = {
        record.sha256,
        chosen.record(toy.preprocessor, "minmax").sha256,
        calibrate.choose(dataset, count=150).record(toy.preprocessor, "mse").sha256,
    }
    assert len(digests) == 3


def test_a_changed_file_of_an_op_changes_the_record_and_the_recording(tmp_path: Path, monkeypatch) -> None:
    """Pipelines name their files; the same names with another vocabulary make other numbers of the same texts."""
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    found, variant = registry.find("ntua-slp-e-c")
    shutil.copy(found.folder / "card.toml", tmp_path)
    card = Card(tmp_path, None)
    words = tmp_path / "vocabulary" / "words.txt"
    words.parent.mkdir()
    (tmp_path / "vocabulary" / "counts.tsv").write_bytes(b"one\t1\n")
    texts = [f"{['one', 'two', 'three'][i % 3]} {i}" + " one" * i for i in range(130)]
    items = tuple(Item(str(i), text, i % 2, "train") for i, text in enumerate(texts))
    chosen = calibrate.choose(Dataset("texts", ("a", "b"), items, "CC0-1.0"), count=130)
    table = np.arange(6, dtype=np.float32).reshape(6, 1)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"], "rows"),
        helper.make_node("MatMul", ["rows", "w"], ["y"], "product"),
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "time"])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "time", 1])],
            [numpy_helper.from_array(table, "table"), numpy_helper.from_array(table[1:2], "w")],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    digests, limits = [], []
    for order in ("<unk>\none\ntwo\nthree\n<number>\n", "one\n<number>\n<unk>\ntwo\nthree\n"):
        words.write_text(order, encoding="utf-8")
        preprocessor = Preprocessor(card, variant)
        digests.append(chosen.record(preprocessor, "minmax").sha256)
        recording = calibrate.record_items(model, "graph", ["rows"], chosen, preprocessor)
        limits.append(float(recording["rows"].counts[: BINS // 2].sum()))
    assert digests[0] != digests[1]
    assert limits[0] != limits[1]
    assert len(list((tmp_path / "home").rglob("*.hist"))) == 2


@pytest.mark.parametrize("stop", [1, 7, 63])
def test_an_interrupted_recording_goes_on_to_the_same_bytes(
    toy, tmp_path: Path, monkeypatch, stop: int
) -> None:
    names = list(dict.fromkeys(name for layer in quantize.layers(toy.graph.model) for name in layer.data))
    inputs = toy.inputs.features
    whole, parts = (RecordingFile(tmp_path / name, "key") for name in ("whole", "parts"))
    calibrate.record(toy.graph.model, names, inputs, kept=whole)
    monkeypatch.setattr(calibrate, "_SAVE_EVERY", 0.0)

    def interrupt(stage: str, done: int, total: int) -> None:
        if done == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate.record(toy.graph.model, names, inputs, interrupt, kept=parts)
    seen: list[int] = []
    calibrate.record(toy.graph.model, names, inputs, lambda _s, done, _t: seen.append(done), kept=parts)
    assert seen == list(range(stop + 1, len(inputs) + 1))  # nothing twice
    assert parts.path.read_bytes() == whole.path.read_bytes()


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "key"])
def test_a_damaged_recording_is_made_anew(toy, tmp_path: Path, damage: str) -> None:
    names = list(dict.fromkeys(name for layer in quantize.layers(toy.graph.model) for name in layer.data))
    kept = RecordingFile(tmp_path / "file", "key")
    calibrate.record(toy.graph.model, names, toy.inputs.features, kept=kept)
    good = kept.path.read_bytes()
    if damage == "key":
        calibrate.record(toy.graph.model, names, toy.inputs.features, kept=RecordingFile(kept.path, "other"))
        assert kept.path.read_bytes() != good
    else:
        middle = len(good) // 2
        bad = {"flip": good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :], "cut": good[:-9]}
        kept.path.write_bytes(bad.get(damage, b""))
    assert kept.load(names, 64)[0] == 0
    calibrate.record(toy.graph.model, names, toy.inputs.features, kept=kept)
    assert kept.path.read_bytes() == good
    assert list(tmp_path.iterdir()) == [kept.path]


def test_items_are_recorded_once_and_a_missing_or_bad_one_is_named(toy, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    names = list(dict.fromkeys(name for layer in quantize.layers(toy.graph.model) for name in layer.data))

    def run(preprocessor, progress=None):
        chosen = calibrate.choose(open_dataset(toy.card, toy.variant.data, toy.data), count=130)
        return calibrate.record_items(
            toy.graph.model, toy.graph.sha256, names, chosen, preprocessor, progress
        )

    class Bad:
        description = toy.preprocessor.description

        def item(self, item):
            return (np.full((16, 12), np.nan, np.float32),)

    with pytest.raises(
        DataError, match=r"calibration input [abcd]-\w+-\d\d: tensor .* is not finite; repair"
    ):
        run(Bad())
    first = calibrate.thresholds(run(toy.preprocessor), "mse")
    seen: list[int] = []
    # Bad would raise if the pipeline were asked again.
    assert calibrate.thresholds(run(Bad(), lambda _s, done, _t: seen.append(done)), "mse") == first
    assert seen == [130]
    dataset = open_dataset(toy.card, toy.variant.data, toy.data)
    same = [replace(item, source=dataset.items[0].source) for item in dataset.items]
    chosen = calibrate.choose(replace(dataset, items=tuple(same), _fingerprints={}))
    with pytest.raises(DataError, match="only 1 of 192 calibration items differ, INT8 needs 128; give real"):
        calibrate.record_items(toy.graph.model, toy.graph.sha256, names, chosen, toy.preprocessor)
    gone = [replace(item, source=tmp_path / f"{item.id}.wav") for item in dataset.items]
    chosen = calibrate.choose(replace(dataset, items=tuple(gone), _fingerprints={}))
    with pytest.raises(DataError, match=r"calibration item .*\.wav cannot be read: No such file"):
        calibrate.record_items(toy.graph.model, toy.graph.sha256, names, chosen, toy.preprocessor)


def test_no_inputs_are_refused_and_nan_is_named(toy) -> None:
    names = [name for layer in quantize.layers(toy.graph.model) for name in layer.data]
    with pytest.raises(DataError, match="needs calibration data: give --data DIR"):
        calibrate.record(toy.graph.model, names, [])
    with pytest.raises(DataError, match=r"calibration input 0: tensor .* is not finite"):
        calibrate.record(toy.graph.model, names, [(np.full((16, 12), np.nan, np.float32),)])


def test_a_recording_with_nan_samples_is_named(toy, tmp_path: Path, monkeypatch) -> None:
    """A real file through the real pipeline: float32 WAV, one sample not a number."""
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    samples = np.sin(np.arange(2000, dtype=np.float32))
    samples[1234] = np.nan
    data = samples.astype("<f4").tobytes()
    head = struct.pack(
        "<4sI4s4sIHHIIHH", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, 3, 1, 8000, 32000, 4, 32
    )
    bad = tmp_path / "bad.wav"
    bad.write_bytes(head + struct.pack("<4sI", b"data", len(data)) + data)
    dataset = open_dataset(toy.card, toy.variant.data, toy.data)
    items = (replace(dataset.items[0], id="bad", source=bad), *dataset.items[1:])
    chosen = calibrate.choose(replace(dataset, items=items, _fingerprints={}))
    names = [name for layer in quantize.layers(toy.graph.model) for name in layer.data]
    with pytest.raises(
        DataError,
        match=r"calibration input bad: .*bad\.wav: sample 1234 is not finite .*; repair that input or take it out",
    ):
        calibrate.record_items(
            toy.graph.model, toy.graph.sha256, names, chosen, Preprocessor(toy.card, toy.variant)
        )
    assert not list((tmp_path / "home").rglob("*.hist"))
