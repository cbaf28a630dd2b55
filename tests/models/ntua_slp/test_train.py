# SPDX-License-Identifier: Apache-2.0
"""Training on tweets that the test writes: reproducible, resumable, and each start as the sheet says."""

from __future__ import annotations

import json
import random
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from zoo import registry
from zoo.data import semeval
from zoo.errors import DataError
from zoo.models.ntua_slp import embeddings
from zoo.models.ntua_slp import train as training
from zoo.models.ntua_slp.model import build

GOOD, BAD = (
    ["so happy today", "what a lovely day", "love this !"],
    ["i hate this", "so sad and angry", "worst day"],
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """E-c files in which joy or sadness follows from the words."""
    root = tmp_path_factory.mktemp("semeval")
    pick = random.Random(0)
    for split, count in (("train", 96), ("dev", 24)):
        rows = ["ID\tTweet\t" + "\t".join(semeval.EMOTIONS)]
        for i in range(count):
            good = i % 2 == 0
            words = f"{pick.choice(GOOD if good else BAD)} {pick.choice(GOOD if good else BAD)}"
            marks = ["0"] * 11
            marks[semeval.EMOTIONS.index("joy" if good else "sadness")] = "1"
            rows.append(f"{split}-{i}\t{words}\t" + "\t".join(marks))
        path = semeval.path_of(root, "E-c", split)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


def variant(**recipe: object):
    _, found = registry.find("ntua-slp-e-c")
    config = {**found.config, "hidden": 8, "noise": 0.0}
    options = {"epochs": 12, "batch": 8, "patience": 12, "lr": 1e-2, "start": "random", **recipe}
    return msgspec.structs.replace(found, config=config, training=options)


def test_it_learns_and_a_second_run_gives_the_same_file(corpus: Path, tmp_path: Path) -> None:
    first = training.train(variant(), data=corpus, out=tmp_path / "a")
    assert first.metrics["Jaccard"] == max(first.scores) > 0.9
    assert first.scores[first.epoch - 1] == first.metrics["Jaccard"]
    again = training.train(variant(), data=corpus, out=tmp_path / "b")
    assert again == first
    assert (tmp_path / "a" / first.weights).read_bytes() == (tmp_path / "b" / first.weights).read_bytes()
    document = json.loads((tmp_path / "a" / first.result).read_text("utf-8"))
    assert document["config"]["hidden"] == 8
    assert document["recipe"]["lr"] == 0.01
    assert "--set lr=0.01" in document["command"]
    assert document["command"].endswith("--set config.hidden=8 --set config.noise=0.0 --seed 1")
    other = training.train(variant(), data=corpus, out=tmp_path / "a", seed=2)
    assert other.weights != first.weights


def test_a_finished_training_is_not_made_again(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = training.train(variant(epochs=1), data=corpus, out=tmp_path)
    monkeypatch.setattr(training, "fit", None)
    assert training.train(variant(epochs=1), data=corpus, out=tmp_path) == done
    with pytest.raises(TypeError):
        training.train(variant(epochs=1), data=corpus, out=tmp_path, resume=False)


def test_a_frozen_extractor_stays_what_it_was() -> None:
    rng = np.random.default_rng(0)
    ids = tuple(rng.integers(1, 50, rng.integers(1, 9)) for _ in range(40))
    encoded = training.Encoded(ids, rng.integers(0, 3, 40))
    net = build({"vocabulary": 50, "hidden": 6, "outputs": 3, "task": "classes", "noise": 0.2})
    before = {name: value.clone() for name, value in net.state_dict().items()}
    recipe = training.Recipe(epochs=2, batch=8, start="frozen")
    fitted = training.fit(
        net, encoded, encoded, recipe, lambda y, x: float((x.argmax(1) == y).mean()), seed=1
    )
    moved = {name for name, value in fitted.state.items() if not torch.equal(value, before[name])}
    assert moved == {"linear.weight", "linear.bias"}
    source = build({"vocabulary": 50, "hidden": 6, "outputs": 2, "task": "classes"})
    training.start_from(net, source.state_dict())
    assert torch.equal(
        net.feature_extractor.encoder.rnn.weight_hh_l0, source.feature_extractor.encoder.rnn.weight_hh_l0
    )


def test_the_class_weights_stand_in_the_order_of_the_classes() -> None:
    # The authors' sorted the labels as strings, which swaps -3 and -1 (sheet 01, section 1).
    truth = np.array([0] * 1 + [1] * 2 + [2] * 4 + [3] * 8)
    net = build({"vocabulary": 50, "hidden": 6, "outputs": 4, "task": "classes"})
    loss = training._loss(net, training.Encoded(tuple(np.ones(1, np.int64) for _ in truth), truth))
    logits = torch.zeros(4, 4)
    logits[0, 0] = logits[1, 1] = logits[2, 2] = 5.0
    rows = np.array([0, 1, 3, 7])
    each = torch.nn.functional.cross_entropy(logits, torch.arange(4), reduction="none")
    weight = torch.tensor([15 / 4, 15 / 8, 15 / 16, 15 / 32])
    assert loss(logits, rows) == pytest.approx(float((each * weight).sum() / weight.sum()), rel=1e-6)


def test_the_loss_of_several_heads_counts_what_has_a_truth() -> None:
    # Columns: two labels, a value, a class of three; NaN: no truth.
    gap = np.nan
    truth = np.array([[1, 0, 0.2, 0], [0, 0, gap, 2], [gap, gap, 0.6, gap], [1, 1, gap, 1]])
    heads = [
        {"outputs": 2, "task": "labels"}, {"outputs": 1, "task": "value"}, {"outputs": 3, "task": "classes"},
    ]  # fmt: skip
    net = build({"vocabulary": 9, "hidden": 2, "heads": heads})
    encoded = training.Encoded(tuple(np.ones(1, np.int64) for _ in truth), truth)
    loss = training._loss(net, encoded)
    everything = np.arange(4)
    shares = torch.tensor([2 / 3, 1 / 3])  # of the labels; the values' mean is 0.4
    constant = torch.cat([torch.logit(shares), torch.tensor([0.4, 0, 0, 0])]).expand(4, -1)
    assert loss(constant, everything) == pytest.approx(1.0, rel=1e-5)
    # Each head's loss in units of its constant's: 0.04 for the values.
    off = constant.clone()
    off[:, 2] = 0.2
    assert loss(off, everything) == pytest.approx((2 + 0.08 / 0.04) / 3, rel=1e-5)
    weighted = training._loss(net, encoded, (1.0, 4.0, 1.0))
    assert weighted(off, everything) == pytest.approx((2 + 4 * 0.08 / 0.04) / 6, rel=1e-5)
    # A tweet without a truth for a head moves nothing there.
    logits = constant.clone().requires_grad_()
    loss(logits, everything).backward()
    for row, columns in ((1, [2]), (2, [0, 1, 3, 4, 5]), (3, [2])):
        assert not logits.grad[row, columns].any()
    off[2, 3:] = 9.0
    assert loss(off[2:3], np.array([2])) == pytest.approx(0.16 / 0.04 / 3, rel=1e-5)


def test_the_learning_rate_falls_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    step = torch.optim.Adam.step

    def note(self: torch.optim.Adam) -> None:
        rates.append(self.param_groups[0]["lr"])
        step(self)

    monkeypatch.setattr(torch.optim.Adam, "step", note)
    encoded = training.Encoded(tuple(np.ones(2, np.int64) for _ in range(8)), np.zeros((8, 1)))
    net = build({"vocabulary": 9, "hidden": 2, "outputs": 1, "task": "value"})
    recipe = training.Recipe(epochs=2, batch=4, lr=0.1, lr_end=0.5)
    training.fit(net, encoded, encoded, recipe, lambda y, x: 0.0, seed=1)
    assert rates == pytest.approx([0.1, 0.0875, 0.075, 0.0625])


def test_the_average_of_the_weights_is_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    step = torch.optim.Adam.step

    def note(self: torch.optim.Adam) -> None:
        step(self)
        seen.append(self.param_groups[0]["params"][-1].detach().clone())

    monkeypatch.setattr(torch.optim.Adam, "step", note)
    encoded = training.Encoded(tuple(np.ones(2, np.int64) for _ in range(8)), np.ones((8, 1)))
    net = build({"vocabulary": 9, "hidden": 2, "outputs": 1, "task": "value"})
    expected = net.linear.bias.detach().clone()
    recipe = training.Recipe(epochs=2, batch=2, lr=0.1, ema=0.25)
    found = training.fit(net, encoded, encoded, recipe, lambda y, x: float(x.mean()), seed=1)
    assert found.epoch == 2
    for i, value in enumerate(seen, 1):
        kept = min(0.25, i / (i + 9))
        expected = kept * expected + (1 - kept) * value
    assert torch.allclose(found.state["linear.bias"], expected, rtol=1e-5)
    assert not torch.equal(found.state["linear.bias"], seen[-1])


def test_what_cannot_be_trained_is_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the official files fix the held-out tweets"):
        training.train(variant(), data=corpus, out=tmp_path, protocol="kfold")
    with pytest.raises(DataError, match=r"none\.safetensors is missing; train that model first"):
        training.train(variant(start="frozen", source="none"), data=corpus, out=tmp_path)
    with pytest.raises(DataError, match="must not be empty"):
        training.fit(
            build({"vocabulary": 9, "hidden": 2, "outputs": 1, "task": "value"}),
            training.Encoded((), np.zeros(0)),
            training.Encoded((), np.zeros(0)),
            training.Recipe(),
            lambda y, x: 0.0,
            seed=1,
        )


def test_one_command_makes_the_files_of_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gensim", reason="gensim is not installed")
    root = tmp_path / "data"

    def put(path: Path, *rows: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")

    for split in ("train", "dev"):
        words = "so happy #goodday" if split == "train" else "only development"
        for subtask, emotion in semeval.HEADS.values():
            path = semeval.path_of(root, subtask, split, emotion)
            if subtask == "E-c":
                rows = [f"{i}\t{words} {'a' * i}\t" + "\t".join("0" * 11) for i in range(6)]
                put(path, "ID\tTweet\t" + "\t".join(semeval.EMOTIONS), *rows)
            else:
                row = f"1\t{words}\t{emotion or 'valence'}\t{'0: none' if subtask in semeval.CLASSES else '0.5'}"
                put(path, "ID\tTweet\tAffect Dimension\tIntensity", row)
    put(
        root / "semeval_2017_4A" / "a.tsv",
        *(f"{i}\t{'positive' if i % 2 else 'negative'}\tgood day {i}" for i in range(8)),
    )
    for part in ("us_trial", "us_test"):
        put(root / "task2" / f"{part}.text", *(f"good day {part} {i}" for i in range(5)))
        put(root / "task2" / f"{part}.labels", *map(str, range(5)))
    np.savez(
        tmp_path / "glove.npz",
        words=np.array(["good", "day", "tree"]),
        vectors=np.eye(3, 100, dtype=np.float16),
    )
    made = ["--data", str(root), "--glove", str(tmp_path / "glove.npz"), "--out"]
    assert embeddings.main([*made, str(tmp_path / "a")]) == 0
    names = (embeddings.COUNTS, embeddings.WORDS, embeddings.TABLE)
    assert capsys.readouterr().out.split() == [str(tmp_path / "a" / name) for name in names]
    words = (tmp_path / "a" / embeddings.WORDS).read_text("utf-8").split("\n")
    assert words[0] == "<unk>"
    assert {"good", "day", "<hashtag>", "happy", "tree"} <= set(words)
    assert "development" not in words
    assert "good\tday\t" in (tmp_path / "a" / embeddings.COUNTS).read_text("utf-8")
    from safetensors.numpy import load_file

    table = load_file(tmp_path / "a" / embeddings.TABLE)
    assert {name.rsplit(".", 1)[1]: value.shape for name, value in table.items()} == {
        "weight": (len(words), 310),  # the last line is empty, the first row is that of padding
        "scale": (len(words), 1),
    }
    assert all(np.isfinite(value).all() and value.any() for value in table.values())
    assert embeddings.main([*made, str(tmp_path / "b")]) == 0
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert embeddings.main(["--data", str(tmp_path), *made[2:], str(tmp_path / "c")]) == 3
    assert "cannot read" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_word_vectors_of_a_small_corpus(tmp_path: Path) -> None:
    pytest.importorskip("gensim", reason="gensim is not installed")
    rng = np.random.default_rng(0)
    names = ["the", "good", "bad", "tweet", "only"]
    np.savez(
        tmp_path / "glove.npz", words=np.array(names), vectors=rng.normal(size=(5, 100)).astype(np.float16)
    )
    tweets = [["a", "good", "tweet"], ["a", "bad", "tweet"]] * 20
    sentiment = [(["good"], 2), (["bad"], 0), (["tweet"], 1)] * 20
    emoji = [(["good"], 0), (["bad"], 1)] * 20
    words, table = embeddings.build(tweets, sentiment, emoji, tmp_path / "glove.npz")
    assert words[:2] == ("<pad>", "<unk>")
    assert set(words) == {"<pad>", "<unk>", "a", "good", "bad", "tweet", "the", "only"}
    assert table.shape == (8, 310)
    assert np.isfinite(table).all()
    assert not table[0].any()
    row = {word: i for i, word in enumerate(words)}
    polarity = table[:, 300:302]  # negative, positive
    assert polarity[row["bad"], 0] > 0 > polarity[row["bad"], 1]
    assert polarity[row["good"], 1] > 0 > polarity[row["good"], 0]
    codes, scale = embeddings.quantize(table)
    assert (np.abs(codes * scale - table) <= scale / 2 + 1e-7).all()
    again, same = embeddings.build(tweets, sentiment, emoji, tmp_path / "glove.npz")
    assert again == words
    assert np.array_equal(same, table)
    (tmp_path / "x.npz").write_bytes(b"no archive")
    with pytest.raises(DataError, match="cannot read"):
        embeddings.build(tweets, sentiment, emoji, tmp_path / "x.npz")
