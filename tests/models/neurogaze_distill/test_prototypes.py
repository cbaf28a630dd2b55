# SPDX-License-Identifier: Apache-2.0
"""Prototypes: the sheet's rule against a plain implementation, the file, and the one that ships."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import zoo.models.neurogaze_distill
from zoo.errors import DataError
from zoo.models.neurogaze_distill.losses import Prototypes, read_prototypes
from zoo.models.neurogaze_distill.prototypes import average, bin_of, main, make, rule_values, save

SHIPPED = Path(zoo.models.neurogaze_distill.__path__[0]) / "prototypes" / "eye_state_5x5_synthetic.npz"


def test_the_five_ratings_fill_the_five_bins() -> None:
    axis = [(rating - 3) / 2 for rating in range(1, 6)]
    pairs = [(valence, arousal) for valence in axis for arousal in axis]
    assert bin_of(pairs).tolist() == list(range(25))
    assert bin_of([(-1.0, 1.0), (9.0, -9.0), (-0.6, 0.2), (-0.6001, 0.1999)]).tolist() == [4, 20, 8, 2]


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 60), seed=st.integers(0, 1000), spread=st.sampled_from([0.2, 1.0]))
def test_averages_are_the_sheets(n: int, seed: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    features = np.maximum(rng.standard_normal((n, 512)), 0) * rng.uniform(0.1, 10, (n, 1))
    values = rng.uniform(-spread, spread, (n, 2))
    vectors, counts = average(features, values)
    mean: dict[tuple[int, int], np.ndarray] = {}
    places = [tuple(min(4, max(0, math.floor((v + 1) / 0.4))) for v in pair) for pair in values]
    for place in set(places):
        chosen = [f / np.linalg.norm(f) for f, at in zip(features, places, strict=True) if at == place]
        mean[place] = np.mean(chosen, axis=0)  # type: ignore[index]
    for i in range(5):
        for j in range(5):
            expected = mean.get((i, j))
            if expected is None:
                nearest = min((i - a) ** 2 + (j - b) ** 2 for a, b in mean)
                near = [value for (a, b), value in mean.items() if (i - a) ** 2 + (j - b) ** 2 == nearest]
                expected = np.mean(near, axis=0)
            assert counts[5 * i + j] == places.count((i, j))
            np.testing.assert_allclose(vectors[5 * i + j], expected / np.linalg.norm(expected), atol=1e-6)


def test_what_gives_no_prototypes_is_told() -> None:
    with pytest.raises(DataError, match=r"give \(n, 512\) and \(n, 2\)"):
        average(np.ones((3, 511)), np.zeros((3, 2)))
    with pytest.raises(DataError, match=r"give \(n, 512\)"):
        average(np.ones((0, 512)), np.zeros((0, 2)))
    with pytest.raises(DataError, match="all zero"):
        average(np.zeros((1, 512)), np.zeros((1, 2)))
    with pytest.raises(DataError, match="not finite"):
        average(np.ones((1, 512)), np.full((1, 2), np.nan))
    with pytest.raises(DataError, match="cancel out"):
        average(np.stack([np.ones(512), -np.ones(512)]), np.zeros((2, 2)))


def test_the_file_keeps_what_it_is_made_of(tmp_path: Path) -> None:
    vectors, counts = average(np.abs(np.random.default_rng(1).standard_normal((9, 512))), np.zeros((9, 2)))
    about: dict[str, object] = {"synthetic": True, "counts": counts.tolist(), "teacher": "x"}
    for name in ("a.npz", "b.npz"):
        save(tmp_path / name, Prototypes(vectors, about, True))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    found = read_prototypes(tmp_path / "a.npz")
    np.testing.assert_array_equal(found.vectors, vectors)
    assert (found.provenance, found.synthetic) == (about, True)


def test_stand_ins_for_ratings_are_ranks() -> None:
    powers = np.zeros((10, 4, 14), np.float32)
    powers[:, 1, 11] = np.arange(10)  # alpha at F4
    values = rule_values(powers)
    np.testing.assert_allclose(values[:, 0], np.linspace(-0.9, 0.9, 10))
    np.testing.assert_allclose(values[:, 1], np.linspace(0.9, -0.9, 10))


def test_the_shipped_ones_say_that_they_are_synthetic() -> None:
    found = read_prototypes(SHIPPED)
    assert found.synthetic
    counts = found.provenance["counts"]
    assert isinstance(counts, list)
    assert (len(counts), sum(counts)) == (25, found.provenance["n"])
    assert str(found.provenance["labels"]).startswith("none:")


def test_the_shipped_ones_can_be_made_again(data_root: Path) -> None:
    made = make("eeg-state-epoc", data_root)
    shipped = read_prototypes(SHIPPED)
    assert {**made.provenance, "code_version": ""} == {**shipped.provenance, "code_version": ""}
    np.testing.assert_allclose(made.vectors, shipped.vectors, atol=1e-4)


def test_the_command_tells_what_is_wrong(tmp_path: Path) -> None:
    run = CliRunner().invoke
    failed = run(main, ["eeg-va-dreamer", "--data", str(tmp_path), "--out", str(tmp_path / "p.npz")])
    assert (failed.exit_code, "weights of eeg-va-dreamer are random" in failed.output) == (3, True)
    failed = run(main, ["tim-net-emodb", "--data", str(tmp_path), "--out", str(tmp_path / "p.npz")])
    assert (failed.exit_code, "is no EEG teacher" in failed.output) == (3, True)
    assert not list(tmp_path.iterdir())
