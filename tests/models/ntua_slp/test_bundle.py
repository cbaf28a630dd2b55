# SPDX-License-Identifier: Apache-2.0
"""From a tweet to labels and attention: bundle, runtime and commands."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import zoo
from zoo import registry
from zoo.cli import cli
from zoo.data import semeval
from zoo.errors import InputError, ZooError
from zoo.runtime.bench.subject import open_subject
from zoo.store import find_bundle

pytest.importorskip("torch", reason="torch is not installed")

HAPPY = "I can't believe it!!! We won, so happy #blessed"
SAD = "this is awful :( I hate it"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from zoo.export import export_model

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ZOO_DATA", raising=False)
        out = tmp_path_factory.mktemp("ntua") / "bundle"
        return export_model("ntua-slp-e-c", target="cpu-x86", precision="fp32", out=out).path


@pytest.fixture(scope="module")
def model(bundle: Path) -> zoo.Model:
    return zoo.load(bundle)


def test_a_tweet_gives_labels_and_the_weight_of_each_token(model: zoo.Model) -> None:
    assert model.selftest().passed
    glad = model(HAPPY)
    assert glad.label is None
    assert "joy" in glad.labels
    assert "anger" not in glad.labels
    tokens = [token for token, _ in glad.attention]
    assert tokens[:7] == ["i", "can", "not", "believe", "it", "!", "<repeated>"]
    assert tokens[-3:] == ["<hashtag>", "blessed", "</hashtag>"]
    assert sum(weight for _, weight in glad.attention) == pytest.approx(1.0, abs=1e-5)
    assert {"anger", "sadness"} & set(model(SAD).labels)


def test_any_length_and_kind_of_text(model: zoo.Model, tmp_path: Path) -> None:
    for count in (1, 500):
        assert len(model("no " * count).attention) == count
    cut = model("no " * 512)
    started = time.process_time()
    long = model("no " * 350_000)  # a megabyte: the first 512 tokens count
    assert time.process_time() - started < 5
    assert long.attention == cut.attention
    assert long.scores == cut.scores
    for text in ("\u202eעברית", "مرحبا", "👍🏽❤️", "a\0b", "\ud800", "?"):
        found = model(text)
        assert np.isfinite(list(found.scores.values())).all()
        assert sum(weight for _, weight in found.attention) == pytest.approx(1.0, abs=1e-5)
    # Right-to-left marks turn the display, not the text.
    assert [token for token, _ in model("\u202eעברית").attention][-1] == "עברית"
    for text in ("", " ", "\t\n\u2028"):
        with pytest.raises(
            InputError, match="ntua-slp-e-c: the text has no token to judge by; give at least"
        ):
            model(text)
    with pytest.raises(InputError, match="input 1: ntua-slp-e-c: the text has no token"):
        model.batch([HAPPY, "", SAD])
    (tmp_path / "tweet.txt").write_text(HAPPY, encoding="utf-8")
    assert model(tmp_path / "tweet.txt").scores == model(HAPPY).scores
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(InputError, match=r"latin\.txt: not a readable UTF-8 text"):
        model(tmp_path / "latin.txt")
    with pytest.raises(InputError, match="input is tuple; give a text"):
        model((np.zeros(3, np.float32), 16000))


def test_a_batch_equals_singles(model: zoo.Model) -> None:
    texts = [HAPPY, SAD, "!", "ok", HAPPY, "ok then", "no " * 500, "so " * 500, "so " * 600]
    for text, found in zip(texts, model.batch(texts), strict=True):
        one = model(text)
        assert found.labels == one.labels
        assert [token for token, _ in found.attention] == [token for token, _ in one.attention]
        for name in ("logits", "attention"):
            assert np.abs(found.outputs[name] - one.outputs[name]).max(initial=0) <= 1e-6


def test_commands_take_texts(bundle: Path) -> None:
    shown = CliRunner().invoke(cli, ["run", str(bundle), HAPPY])
    assert shown.exit_code == 0
    assert "joy" in shown.stdout
    assert "happy 9  <hashtag> 10" in shown.stdout
    found = CliRunner().invoke(cli, ["run", str(bundle), "-", "--json"], input=f"{HAPPY}\n{SAD}\n")
    rows = json.loads(found.stdout)
    assert [row["input"] for row in rows] == [HAPPY, SAD]
    assert {"token": "awful", "weight": pytest.approx(0.15, abs=0.05)} in rows[1]["attention"]
    hop = CliRunner().invoke(cli, ["run", str(bundle), HAPPY, "--hop", "1"])
    assert hop.exit_code == 2
    assert "takes texts" in hop.stderr
    name = CliRunner().invoke(cli, ["run", str(bundle), __file__])
    assert name.exit_code == 0
    assert f"{__file__} is also a file; the text was its name" in name.stderr


def test_run_goes_on_after_a_text_that_it_cannot_take(bundle: Path) -> None:
    given = HAPPY.encode() + b"\r\n\ncaf\xe9\n" + "a\u2028b".encode()
    found = CliRunner().invoke(cli, ["run", str(bundle), "-", SAD, "--json"], input=given)
    assert found.exit_code == 3
    rows = json.loads(found.stdout)
    assert [row["input"] for row in rows] == [HAPPY, "", "caf\ufffd", "a\u2028b", SAD]
    assert ["error" in row for row in rows] == [False, True, True, False, False]
    assert found.stderr.splitlines() == [
        "zoo: input 2: ntua-slp-e-c: the text has no token to judge by; give at least one word, mark or emoji",
        "zoo: input 3: ntua-slp-e-c: the text is not UTF-8: 'caf\ufffd'; convert it, with iconv for example",
    ]
    assert rows[1]["error"] in found.stderr
    # An argument that is no UTF-8 reaches Python as lone surrogates.
    alone = CliRunner().invoke(cli, ["run", str(bundle), "caf\udce9"])
    assert (alone.exit_code, alone.stdout) == (3, "")
    assert "zoo: ntua-slp-e-c: the text is not UTF-8" in alone.stderr
    table = CliRunner().invoke(cli, ["run", str(bundle), "", "so\nhappy " * 20])
    assert table.exit_code == 3
    assert "so happy so happy" in table.stdout
    assert "\u2026" in table.stdout
    none = CliRunner().invoke(cli, ["run", str(bundle), "-", "--json"], input=b"")
    assert (none.exit_code, json.loads(none.stdout)) == (0, [])


def test_eval_names_an_item_that_the_model_refuses(bundle: Path, tmp_path: Path) -> None:
    head = "ID\tTweet\t" + "\t".join(semeval.EMOTIONS)
    marks = "\t".join(["1"] + ["0"] * 10)
    (tmp_path / "gold.txt").write_text(f"{head}\n1\t{HAPPY}\t{marks}\n2\t \t{marks}\n", encoding="utf-8")
    done = CliRunner().invoke(cli, ["eval", str(bundle), "--data", str(tmp_path / "gold.txt")])
    assert done.exit_code == 3
    assert "item file/2: ntua-slp-e-c: the text has no token" in done.stderr


def test_diff_takes_a_text(bundle: Path) -> None:
    done = CliRunner().invoke(cli, ["diff", str(bundle), "--input", HAPPY, "--json"])
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["first_over"] is None


def test_eval_takes_a_file_in_semevals_format(bundle: Path, tmp_path: Path) -> None:
    marks = ["0"] * 11
    marks[semeval.EMOTIONS.index("joy")] = "1"
    rows = ["ID\tTweet\t" + "\t".join(semeval.EMOTIONS)]
    rows += [f"{i}\t{HAPPY} {i}\t" + "\t".join(marks) for i in range(4)]
    (tmp_path / "gold.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
    done = CliRunner().invoke(cli, ["eval", str(bundle), "--data", str(tmp_path / "gold.txt"), "--json"])
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["metric"], result["n"]) == ("Jaccard", 4)
    assert set(result["metrics"]) == {"Jaccard", "micro-F1", "macro-F1"}
    assert 0.2 < result["metrics"]["Jaccard"] <= 1
    bad = CliRunner().invoke(cli, ["eval", str(bundle), "--data", str(tmp_path / "none.txt")])
    assert bad.exit_code == 3
    assert "none.txt: no such file or folder" in bad.stderr


@pytest.mark.parametrize("name", ["ekphrasis_onnxruntime", "ekphrasis_torch"])
def test_a_peer_answers_as_the_bundle_does(name: str, bundle: Path, model: zoo.Model) -> None:
    pytest.importorskip("ekphrasis", reason="ekphrasis is in the dev extra")
    spec = f"{Path(__file__).resolve().parents[3] / 'benchmarks' / 'peers' / name}.py:factory"
    peer: Any = open_subject(spec, bundle, 1)
    assert set(peer.versions()) == {*name.split("_"), "numpy"}
    texts = [HAPPY, SAD, "ok", "#ihappyday soooo GOOD :-)) @me http://t.co/x 5% f**k", "no " * 600]
    for text, found in zip(texts, peer.many(texts), strict=True):
        expected = model(text)
        assert peer.features(text)[0].tolist() == model.features(text).tolist()
        assert peer.pipeline(text).scores == pytest.approx(expected.scores, abs=1e-5)
        assert found.scores == pytest.approx(expected.scores, abs=1e-5)
        assert found.label is None
    with pytest.raises(ZooError, match="needs a bundle"):
        open_subject(spec, None, 1)
    with pytest.raises(ZooError, match="know social_tokenize and vocab only"):
        open_subject(spec, find_bundle("tim-net-emodb"), 1)


def test_eleven_answers_from_one_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo.export import export_model

    monkeypatch.delenv("ZOO_DATA", raising=False)
    path = tmp_path / "joint"
    export_model("ntua-slp-joint", target="cpu-x86", precision="fp32", out=path)
    model = zoo.load(path)
    assert model.selftest().passed
    glad, sad = model(HAPPY), model(SAD)
    assert tuple(glad.heads) == tuple(semeval.HEADS)
    assert "joy" in glad.heads["e-c"].labels
    assert "joy" not in sad.heads["e-c"].labels
    assert glad.heads["v-reg"].values["valence"] > 0.5 > sad.heads["v-reg"].values["valence"]
    assert sum(glad.heads["v-oc"].scores.values()) == pytest.approx(1.0, abs=1e-5)
    assert sum(weight for _, weight in glad.attention) == pytest.approx(1.0, abs=1e-5)
    # One official file is scored by the head that it belongs to.
    rows = ["ID\tTweet\tAffect Dimension\tIntensity Score"]
    rows += [
        f"{i}\t{text}\tjoy\t{score}"
        for i, (text, score) in enumerate([(HAPPY, 0.9), (SAD, 0.1), ("ok", 0.5)])
    ]
    (tmp_path / "gold.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
    done = CliRunner().invoke(cli, ["eval", str(path), "--data", str(tmp_path / "gold.txt"), "--json"])
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    assert {name.split("/")[0] for name in result["metrics"] if "/" in name} == {"ei-reg-joy"}
    assert result["metrics"]["heads-mean"] == result["metrics"]["ei-reg-joy/Pearson"] > 0.8
    shown = CliRunner().invoke(cli, ["run", str(path), HAPPY])
    assert all(head in shown.stdout for head in semeval.HEADS)


def test_recurrent_layers_keep_their_time_free_when_captured_again() -> None:
    from zoo.export.graph import Trace, capture
    from zoo.export.session import Session
    from zoo.export.weights import random_tensors

    card, variant = registry.find("ntua-slp-v-reg")
    Trace(card, variant)
    again = Trace(card, variant).finish(random_tensors(card, variant, 1))
    # Time was a constant of the second graph once: torch remembers what it did with a recurrent operator.
    assert again.inputs[0].shape == ("batch", "time")
    session = Session(again.model)
    for length in (3, 24, 40):
        assert session.run((np.ones(length, np.int64),))["attention"].shape == (1, length)
    program = capture(card, variant, card.build(variant.config).eval())
    names = [str(node.target) for node in program.graph.nodes]
    assert names.count("aten.lstm.input") == 4


@pytest.mark.parametrize("name", [v.name for c, v in registry.variants() if c.file.model == "ntua-slp"])
def test_the_shipped_weights_give_the_cards_figures(name: str, data_root: Path) -> None:
    from zoo.data import open_dataset
    from zoo.evaluation import judge
    from zoo.models.ntua_slp import train

    card, variant = registry.find(name)
    from zoo.export.weights import build_reference, load_weights

    net = build_reference(card, variant, load_weights(card, variant).tensors)
    assert variant.data is not None
    held_out = open_dataset(card, variant.data, data_root).only(variant.held_out)
    by = judge(card.decode(variant), variant.labels)
    encoded = train._encode(held_out, card.pipeline(variant), by)
    found = by.decide(train.scores_of(net, train.logits_of(net, encoded.ids)))
    value = by.function(variant.metric)(encoded.truth, found)
    row = next(
        row
        for row in variant.quality
        if row.source == "reproduced" and row.metric == variant.metric and "mean of" not in row.protocol
    )
    assert value == pytest.approx(row.value, abs=1e-4)
    assert row.n == len(held_out.items)
