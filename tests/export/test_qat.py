# SPDX-License-Identifier: Apache-2.0
"""The fine-tune for INT8 on a net that calibration breaks: what it gives back, and that a break changes nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from zoo.bundle import write_output
from zoo.data import open_dataset
from zoo.errors import CheckFailed, DataError, ZooError
from zoo.export import quantize
from zoo.export.exporter import Exporter
from zoo.export.fake_quant import FakeQuantized
from zoo.export.gate import make_folds, run_gate
from zoo.export.qat import Options, QatReport, Tuner, distillation, train_qat
from zoo.export.session import Session
from zoo.export.targets import find_target
from zoo.export.weights import Tuned, load_folds, load_weights
from zoo.specs import Embedding, Head, Heads, Regression, Sigmoid, Softmax

QUICK = Options(epochs=2)


def made(toy, name: str, weights: Path | None = None, budget: float = 0.005) -> Exporter:
    variant = toy.card.variant(name)
    dataset = open_dataset(toy.card, variant.data, toy.data)
    return Exporter(toy.card, variant, find_target("cpu-x86"), weights, dataset, "minmax", budget, None)


@pytest.fixture(scope="module")
def outlier(toy) -> Exporter:
    return made(toy, "toy-outlier")


@pytest.fixture(scope="module")
def tuned(toy, tmp_path_factory: pytest.TempPathFactory) -> tuple[QatReport, Path]:
    """The whole fine-tune: the model on all items, and each fold's on the other groups."""
    out = tmp_path_factory.mktemp("qat")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_MODELS", str(toy.root))
        patch.setenv("ZOO_HOME", str(out / "home"))
        report = train_qat("toy-outlier", data=toy.data, out=out, calibration="minmax")
    return report, out / report.weights


def tuner(outlier: Exporter, options: Options = QUICK) -> Tuner:
    assert outlier.dataset is not None
    return Tuner(outlier.card, outlier.recipe("int8"), outlier.weights.tensors, outlier.dataset, "a", options)


def equal(a: Tuned, b: Tuned) -> bool:
    return a.limits == b.limits and all(
        np.array_equal(a.tensors[name], b.tensors[name]) for name in a.tensors
    )


def test_at_least_half_of_the_loss_comes_back_on_unheard_groups(tuned) -> None:
    report, _ = tuned
    figures = report.metrics
    lost = figures["UAR fp32"] - figures["UAR int8 calibrated"]
    assert lost > 0.3  # all layers in int8, ranges from minmax: the net is no better than chance
    assert figures["UAR int8 tuned"] > figures["UAR fp32"] - lost / 2
    assert report.n == 192
    assert report.gain[1] > 0
    assert [model.without for model in report.models] == [None, "a", "b", "c", "d"]
    assert all(model.after < model.before for model in report.models)
    assert [model.items for model in report.models] == [192, 144, 144, 144, 144]


def test_the_exported_graph_is_the_tuned_model(toy, tuned) -> None:
    report, path = tuned
    weights = load_weights(toy.card, toy.card.variant("toy-outlier"), path)
    graph = toy.trace.finish(weights.tensors)
    features = toy.inputs.features
    net = FakeQuantized(toy.card, toy.variant, weights.tensors, graph, weights.limits, features[0])
    session = Session(quantize.quantize(graph.model, weights.limits), optimize=False)
    with torch.no_grad():
        errors = [
            np.abs(
                net.forward([torch.from_numpy(x[0][None])])["probs"].numpy() - session.run(x)["probs"]
            ).max()
            for x in features
        ]
    assert np.median(errors) < 1e-6
    assert np.max(errors) < 0.05
    assert all(model.difference < 1e-6 for model in report.models)


def test_the_gate_scores_the_tuned_folds_against_the_cards_fp32(toy, tuned) -> None:
    _, path = tuned
    plain, better = made(toy, "toy-outlier"), made(toy, "toy-outlier", path, budget=0.35)
    folds = load_folds(toy.card, plain.variant)
    assert plain.dataset is not None
    with pytest.raises(CheckFailed, match=r"fine-tune it \(zoo train toy-outlier --qat\), export fp32"):
        run_gate(toy.card, plain.recipe("int8"), plain.dataset, folds, budget=-1.0)
    cell = better.cell("int8")
    assert cell.gate is not None
    assert cell.gate.gate.passed
    assert cell.gate.gate.reference == tuned[0].metrics["UAR fp32"]
    assert cell.gate.gate.artifact == tuned[0].metrics["UAR int8 tuned"]
    assert cell.gate.kept == ()
    with pytest.raises(
        CheckFailed, match=r"held-out items, .*; fine-tune it longer \(zoo train toy-outlier --qat"
    ):
        run_gate(
            toy.card,
            better.recipe("int8"),
            plain.dataset,
            folds,
            budget=-1.0,
            tuned=better.weights.folds,
        )
    manifest, _ = better.bundle(cell)
    assert manifest.provenance.weights_source.startswith(
        "fine-tuned for int8 (8 epochs, seed 0) from: solved"
    )
    assert any("ranges were learned with the weights" in note for note in manifest.notes)
    assert cell.artifact.lowered.limits == better.weights.limits
    with pytest.raises(
        DataError, match="the weights of zoo train --qat have folds a, the card has a, b, c, d"
    ):
        make_folds(better.recipe("int8"), plain.dataset, folds, {"a": better.weights.folds["a"]})


def test_an_interrupted_fine_tune_goes_on_to_the_same_weights(outlier: Exporter, tmp_path: Path) -> None:
    whole, _ = tuner(outlier).run(tmp_path / "whole")

    def interrupt(stage: str, done: int, total: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tuner(outlier).run(tmp_path / "parts", interrupt)
    seen: list[int] = []
    parts, _ = tuner(outlier).run(tmp_path / "parts", lambda _s, done, _t: seen.append(done))
    assert seen == [1, 2]
    assert equal(whole, parts)
    assert (tmp_path / "parts").read_bytes() == (tmp_path / "whole").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts", "whole"]


def test_a_damaged_or_foreign_checkpoint_is_refused(outlier: Exporter, tmp_path: Path) -> None:
    checkpoint = tmp_path / "file"
    one = tuner(outlier, replace(QUICK, epochs=1))
    one.run(checkpoint)
    good = checkpoint.read_bytes()
    for bad in (good[:-3], good[:99] + bytes([good[99] ^ 1]) + good[100:], b""):
        checkpoint.write_bytes(bad)
        with pytest.raises(DataError, match=r"not a usable checkpoint: .*; delete it, or use --restart"):
            one.run(checkpoint)
    write_output(checkpoint, good)
    other = tuner(outlier, replace(QUICK, epochs=1, seed=1))
    assert other.key != one.key
    with pytest.raises(DataError, match="it is of another training"):
        other.run(checkpoint)


def test_held_out_items_are_not_read(outlier: Exporter, tmp_path: Path, monkeypatch) -> None:
    seen: set[str] = set()
    one = tuner(outlier, replace(QUICK, epochs=1))
    read = outlier.preprocessor.item

    def watch(item):
        seen.add(item.group)
        return read(item)

    monkeypatch.setattr(outlier.preprocessor, "item", watch)
    one.run(tmp_path / "file")
    assert seen == {"b", "c", "d"}


def test_what_cannot_be_tuned_is_refused(toy_models: Path, toy, outlier: Exporter, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="declares no data set"):
        train_qat("toy-random", data=toy.data, out=tmp_path / "out")
    with pytest.raises(ZooError, match="the loss is not finite in epoch 1"):
        tuner(outlier, replace(QUICK, lr=float("inf"))).run(tmp_path / "file")
    assert not (tmp_path / "file").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "decode",
    [
        Softmax(output="y"),
        Sigmoid(output="y", thresholds=(0.5, 0.5, 0.5)),
        Regression(output="y", range=(-1.0, 3.0)),
        Embedding(output="y"),
        Heads(
            heads=(
                Head(name="a", labels=("u", "v", "w"), decode=Sigmoid(output="y", thresholds=(0.5,) * 3)),
                Head(name="b", labels=("x", "y", "z"), decode=Regression(output="y", range=(0.0, 1.0))),
            )
        ),
    ],
)
def test_losses_are_least_where_both_agree(decode) -> None:
    teacher = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]])
    assert abs(float(distillation(decode, {"y": teacher}, {"y": teacher}))) < 1e-6
    for seed in range(5):
        noise = 0.05 * torch.randn(2, 3, generator=torch.Generator().manual_seed(seed))
        student = (teacher + noise).clamp(0.01, 0.99)
        if isinstance(decode, Softmax):
            student = student / student.sum(1, keepdim=True)
        student.requires_grad_()
        loss = distillation(decode, {"y": student}, {"y": teacher})
        loss.backward()
        assert loss.item() > 0
        assert student.grad is not None
        nearer = student.detach() + 0.1 * (teacher - student.detach())
        assert float(distillation(decode, {"y": nearer}, {"y": teacher})) < loss.item()


def test_a_confident_mistake_still_has_a_gradient() -> None:
    logits = torch.tensor([[60.0, 0.0]], requires_grad=True)
    probs = torch.softmax(logits, 1)
    loss = distillation(Softmax(output="y"), {"y": probs}, {"y": torch.tensor([[0.0, 1.0]])})
    loss.backward()
    assert loss.item() == pytest.approx(60, abs=1e-3)
    assert logits.grad is not None
    np.testing.assert_allclose(logits.grad.numpy(), [[1, -1]], atol=1e-4)
