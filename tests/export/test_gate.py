# SPDX-License-Identifier: Apache-2.0
"""The accuracy gate on folds whose answer is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo import registry
from zoo.data import Dataset, open_dataset
from zoo.errors import CheckFailed, DataError
from zoo.export.exporter import Exporter
from zoo.export.gate import GateResult, make_folds, run_gate
from zoo.export.targets import find_target
from zoo.export.weights import load_folds
from zoo.specs import Precision


def exporter(toy, name: str, method: str = "minmax") -> Exporter:
    variant = toy.card.variant(name)
    dataset = open_dataset(toy.card, variant.data, toy.data)
    return Exporter(toy.card, variant, find_target("cpu-x86"), None, dataset, method, 0.005, None)  # type: ignore[arg-type]


def gate(made: Exporter, budget: float = 0.005, precision: Precision = "int8") -> GateResult:
    assert made.dataset is not None
    return run_gate(
        made.card, made.recipe(precision), made.dataset, load_folds(made.card, made.variant), budget=budget
    )


@pytest.fixture(scope="module")
def plain(toy) -> Exporter:
    return exporter(toy, "toy")


@pytest.fixture(scope="module")
def outlier(toy) -> Exporter:
    return exporter(toy, "toy-outlier")


def test_calibration_never_sees_the_held_out_group(plain: Exporter) -> None:
    assert plain.dataset is not None
    folds = make_folds(plain.recipe("int8"), plain.dataset, load_folds(plain.card, plain.variant))
    assert [fold.group for fold in folds] == ["a", "b", "c", "d"]
    for fold in folds:
        assert fold.chosen is not None
        assert len(fold.items) == 48
        assert fold.group not in {item.group for item in fold.chosen.items}


def test_a_benign_net_passes_with_nothing_kept(plain: Exporter) -> None:
    result = gate(plain)
    assert result.gate.passed
    assert result.kept == ()
    assert result.gate.n == 192
    assert result.gate.reference > 0.8  # the toy can tell tones apart
    assert result.gate.low <= result.gate.difference <= result.gate.high
    assert result.gate.difference == pytest.approx(result.gate.reference - result.gate.artifact)
    assert result.quality.value == result.gate.artifact


def test_the_layer_that_breaks_is_returned_to_fp32(outlier: Exporter) -> None:
    result = gate(outlier)
    assert result.gate.passed
    assert "conv2" in result.kept
    assert len(result.kept) < 3
    assert result.tried[0][0] == 0
    assert result.tried[0][1] > 0.05  # all in int8 would lose more than five points
    cell = outlier.cell("int8")
    manifest, _ = outlier.bundle(cell)
    assert manifest.engines[0].kept == result.kept
    assert any("stay in fp32" in note for note in manifest.notes)


def test_another_calibration_method_may_need_nothing_kept(toy) -> None:
    """The outlier channel matters little to the labels: clipping it costs less than losing the others."""
    found = gate(exporter(toy, "toy-outlier", "entropy"))
    assert found.gate.passed


def test_integer_weights_alone_are_gated_too(outlier: Exporter) -> None:
    """The weights that read the blown-up channel are a thousandth of the others: int8 loses them."""
    result = gate(outlier, 0.02, "int8-weights")
    assert result.tried[0][1] > 0.05
    assert result.gate.passed
    assert result.kept == ("conv2",)


def test_a_target_without_fp32_is_gated_against_onnxruntime(toy) -> None:
    variant = toy.card.variant("toy")
    dataset = open_dataset(toy.card, variant.data, toy.data)
    pytest.importorskip("openvino", reason="openvino is not installed")
    npu = find_target("openvino-npu")
    made = Exporter(toy.card, variant, npu, None, dataset, "mse", 0.02, None)
    assert "fp32" not in npu.precisions
    assert gate(made, 0.02, "fp16").gate.reference == pytest.approx(0.963, abs=0.2)


def test_a_budget_that_nothing_fits_fails_with_figures(outlier: Exporter) -> None:
    with pytest.raises(
        CheckFailed,
        match=r"toy-outlier int8: loses .* points of UAR \[.*\] on 192 held-out items, the budget is -100",
    ):
        gate(outlier, budget=-1.0)


def test_folds_and_data_must_fit(plain: Exporter, toy) -> None:
    assert plain.dataset is not None
    fewer = Dataset(
        "few", plain.dataset.labels, tuple(i for i in plain.dataset.items if i.group != "d"), "CC0-1.0"
    )
    with pytest.raises(DataError, match="held-out groups are a, b, c, d, few has a, b, c;"):
        make_folds(plain.recipe("int8"), fewer, load_folds(plain.card, plain.variant))
    other = Dataset("other", ("x", "y", "z"), plain.dataset.items, "CC0-1.0")
    with pytest.raises(DataError, match="other has labels x, y, z; the model has low, middle, high"):
        run_gate(plain.card, plain.recipe("int8"), other, load_folds(plain.card, plain.variant), budget=0.1)


def test_real_folds(data_root: Path) -> None:
    """TIM-Net on held-out speakers, where its fold weights ship."""
    card, variant = registry.find("tim-net-emodb")
    if variant.folds is None or not (card.folder / variant.folds.file).is_file():
        pytest.skip("the fold weights of tim-net-emodb are not here")
    dataset = open_dataset(card, variant.data, data_root)
    made = Exporter(card, variant, find_target("cpu-x86"), None, dataset, "mse", 0.005, None)
    result = gate(made)
    assert result.gate.passed
    assert result.gate.n == 535
    assert result.gate.reference > 0.5
    weights = gate(made, precision="int8-weights")
    assert weights.gate.passed
    assert weights.gate.reference == result.gate.reference
