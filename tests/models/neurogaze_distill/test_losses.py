# SPDX-License-Identifier: Apache-2.0
"""The losses against the sheet's formulas written with numpy, and their limits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from zoo.errors import DataError

torch = pytest.importorskip("torch", reason="torch is not installed")

from zoo.models.neurogaze_distill import losses  # noqa: E402

RNG = np.random.default_rng(2)


def tensor(*shape: int) -> torch.Tensor:
    return torch.from_numpy(RNG.normal(size=shape).astype(np.float32))


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("weighted", [False, True])
def test_hard_targets_give_pytorchs_cross_entropy(weighted: bool) -> None:
    logits, labels = tensor(16, 8), torch.arange(16) % 8
    weights = torch.rand(8) + 0.5 if weighted else None
    expected = torch.nn.functional.cross_entropy(logits, labels, weights, label_smoothing=0.055)
    found = losses.classification(logits, torch.eye(8)[labels], smoothing=0.055, weights=weights)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_class_weights_are_inverse_square_roots_with_mean_one() -> None:
    weights = losses.class_weights(
        np.array([[1, 0, 0]] * 16 + [[0, 1, 0]] * 4 + [[0, 0, 1]], np.float32), 0.5
    )
    assert weights == pytest.approx(np.array([1, 2, 4]) / (7 / 3))


def test_kd_is_the_square_at_the_temperature_and_kl_vanishes_at_the_teacher() -> None:
    student, teacher = tensor(6, 8), tensor(6, 8)
    expected = ((student.numpy() / 5 - teacher.numpy() / 5) ** 2).mean()
    assert float(losses.distillation(student, teacher)) == pytest.approx(float(expected), rel=1e-5)
    p, q = softmax(teacher.numpy() / 2), softmax(student.numpy() / 2)
    divergence = 4 * (p * (np.log(p) - np.log(q))).sum(axis=1).mean()
    found = losses.distillation(student, teacher, temperature=2.0, mode="kl")
    assert float(found) == pytest.approx(float(divergence), rel=1e-4)
    assert float(losses.distillation(teacher, teacher + 3, mode="kl")) == pytest.approx(0, abs=1e-5)


def test_anchors_of_the_sheet_make_bumps_over_the_bins() -> None:
    wanted = losses.prototype_targets()
    assert wanted.shape == (8, 25)
    assert wanted.sum(axis=1) == pytest.approx(np.ones(8), abs=1e-6)
    # happiness (.8, .4): valence bin 4, arousal bin 3; k = 5 i_v + i_a. Its neighbour is one spread away.
    assert wanted[1].argmax() == 23
    assert wanted[1, 18] / wanted[1, 23] == pytest.approx(np.exp(-0.5), rel=1e-5)
    assert wanted[0].argmax() == 12
    assert wanted[4].argmax() == 4  # anger (-.8, .8)


def test_proto_kd_is_the_divergence_of_cosines() -> None:
    features, prototypes = tensor(5, 512), torch.nn.functional.normalize(tensor(25, 512), dim=1)
    wanted = torch.from_numpy(losses.prototype_targets())[torch.tensor([0, 1, 2, 3, 4])]
    f = features.numpy().astype(np.float64)
    cosines = f @ prototypes.numpy().T / np.linalg.norm(f, axis=1, keepdims=True)
    q, p = softmax(cosines / 0.9), wanted.numpy()
    expected = (p * (np.log(p) - np.log(q))).sum(axis=1).mean()
    found = losses.prototype_distillation(features, prototypes, wanted, tau=0.9)
    assert float(found) == pytest.approx(float(expected), rel=1e-4)
    longer = losses.prototype_distillation(7 * features, prototypes, wanted, tau=0.9)
    assert float(longer) == pytest.approx(float(found), rel=1e-4)


def test_geometry_caps_the_spread_of_the_positive_classes_and_keeps_means_apart() -> None:
    def at(*degrees: float) -> np.ndarray:
        angles = np.radians(degrees)
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)

    # Class 0 on 0 and 90 degrees: mean (.5, .5), each sqrt(.5) away: spread 0.5. Class 1 at 60 degrees.
    features = torch.from_numpy(3 * at(0, 90, 60, 60))
    labels = torch.tensor([0, 0, 1, 1])
    margin = 0.3 - (1 - np.cos(np.radians(15)))
    found = losses.geometry(features, labels, (0,), cap=0.2, margin=0.3)
    assert float(found) == pytest.approx(0.3 + margin, rel=1e-6)
    # Not positive: no cap. Far apart: no margin. Without a label: left out.
    assert float(losses.geometry(features, labels, (1,))) == pytest.approx(margin, rel=1e-6)
    apart = torch.from_numpy(at(0, 0, 90, 45))
    assert float(losses.geometry(apart, torch.tensor([0, 0, 1, -1]), (0,))) == pytest.approx(0, abs=1e-9)
    alone = losses.geometry(apart, torch.tensor([-1, -1, -1, 1]), (0,))
    assert float(alone) == 0


def test_the_schedule_starts_late_and_rises_on_a_cosine() -> None:
    found = [losses.late_cosine(epoch, 20, 60) for epoch in (0, 19.9, 20, 30, 40, 50, 60, 99)]
    expected = [0, 0, 0, 0.5 * (1 - np.cos(np.pi / 4)), 0.5, 0.5 * (1 - np.cos(3 * np.pi / 4)), 1, 1]
    assert found == pytest.approx(expected)


def test_all_parts_can_be_learned_from() -> None:
    features = tensor(8, 512).requires_grad_()
    prototypes = torch.nn.functional.normalize(tensor(25, 512), dim=1)
    targets = torch.eye(8)
    loss = losses.prototype_distillation(
        features, prototypes, targets @ torch.from_numpy(losses.prototype_targets())
    ) + losses.geometry(features, torch.tensor([1, 1, 1, 1, 2, 2, 2, 2]), (1, 2), cap=0.0, margin=2.0)
    loss.backward()
    assert torch.isfinite(features.grad).all()
    assert (features.grad.abs().sum(dim=1) > 0).all()


def write(path: Path, vectors: np.ndarray, about: object) -> Path:
    np.savez(path, prototypes=vectors, provenance=np.array(json.dumps(about)))
    return path


def test_prototypes_come_with_what_they_are_made_of(tmp_path: Path) -> None:
    unit = RNG.normal(size=(25, 512))
    unit = (unit / np.linalg.norm(unit, axis=1, keepdims=True)).astype(np.float32)
    found = losses.read_prototypes(write(tmp_path / "p.npz", unit, {"synthetic": True, "seed": 1}))
    assert np.array_equal(found.vectors, unit)
    assert found.synthetic
    assert found.provenance["seed"] == 1
    for vectors, about, message in (
        (2 * unit, {"synthetic": True}, "must have length 1"),
        (unit[:24], {"synthetic": True}, "expected float32"),
        (unit.astype(np.float64), {"synthetic": True}, "float64"),
        (unit, {"synthetic": "no"}, "expected true or false"),
        (unit, {}, "not a readable prototype file"),
        (unit, [], "not a readable prototype file"),
    ):
        with pytest.raises(DataError, match=message):
            losses.read_prototypes(write(tmp_path / "p.npz", vectors, about))
    (tmp_path / "p.npz").write_bytes(b"no")
    with pytest.raises(DataError, match=r"p\.npz: not a readable prototype file"):
        losses.read_prototypes(tmp_path / "p.npz")


def test_the_shipped_prototypes_are_marked_synthetic() -> None:
    folder = Path(losses.__file__).parent / "prototypes"
    found = losses.read_prototypes(folder / "eye_state_5x5_synthetic.npz")
    assert found.synthetic
    assert found.vectors.shape == (25, 512)
