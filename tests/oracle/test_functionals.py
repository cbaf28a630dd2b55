# SPDX-License-Identifier: Apache-2.0
"""Functionals beside openSMILE's own, both from openSMILE's descriptors: our descriptors have their own tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from zoo import ops

pytest.importorskip("opensmile", reason="opensmile is in the dev extra")

F32 = NDArray[np.float32]
RATE = 16000
FUNCTIONAL = np.array([name.rsplit("_", 1)[1] for name in ops.FUNCTIONAL_NAMES])
#: Column of the descriptors that each value is computed from; the last two have none.
COLUMN = np.repeat([*range(34), *range(38, 72), *range(34, 38), *range(72, 76)], [21] * 68 + [19] * 8)
DOCS = Path(__file__).resolve().parents[2] / "docs"


class Case(NamedTuple):
    """openSMILE's descriptors of a signal, and its functionals of the whole and of windows of 400 ms every 40 ms."""

    name: str
    rows: F32
    whole: F32
    windows: F32


def synthetic() -> dict[str, F32]:
    """Music-like, noise, silence, and signals that end in the middle of something."""
    rng = np.random.default_rng(5)
    t = np.arange(3 * RATE) / RATE
    notes = np.array([220.0, 277.2, 329.6, 440.0, 392.0, 330.0])[(t * 2).astype(int)]
    phase = 2 * np.pi * np.cumsum(notes * (1 + 0.01 * np.sin(2 * np.pi * 5.5 * t))) / RATE
    melody = sum(np.sin(k * phase) / k**1.5 for k in range(1, 9)) * np.exp(-3 * (t * 2 % 1))
    drums = rng.standard_normal(t.size) * np.exp(-30 * (t * 4 % 1))
    noise = rng.standard_normal(t.size)
    bursts = np.where(np.sin(2 * np.pi * 1.7 * t) > 0, np.sin(2 * np.pi * 140 * t) ** 9, 0.0)
    signals = {
        "music": 0.2 * melody + 0.05 * drums,
        "noise": 0.1 * noise,
        "bursts of a tone": 0.5 * bursts,
        "tone in noise": 0.3 * np.sin(2 * np.pi * 200 * t) + 0.02 * noise,
        "silence": np.zeros(t.size),
        "quiet": 1e-4 * noise,
    }
    return {name: signal.astype(np.float32) for name, signal in signals.items()}


class Extractor:
    """openSMILE's levels as the arrays that our ops take and give."""

    def __init__(self, opensmile: ModuleType) -> None:
        self.levels = opensmile.FUNCTIONAL_LEVELS
        self.lld_levels = opensmile.LLD_LEVELS
        taps = (*self.lld_levels, *self.levels)
        self.whole = opensmile.Emobase2010(taps, RATE)
        self.windows = opensmile.Emobase2010(self.levels, RATE, window=(0.4, 0.04))

    def _functionals(self, levels: dict[str, F32]) -> F32:
        found = [levels[name] for name in self.levels]
        count = min(len(level) for level in found)
        return (
            np.concatenate([level[:count, 0] for level in found], axis=1)
            if count
            else np.zeros((0, 1582), np.float32)
        )

    def __call__(self, name: str, wave: F32) -> Case:
        levels = self.whole(wave)
        lld, lld_de, lld2, lld2_de = (levels[level][:, 0] for level in self.lld_levels)
        rows = np.concatenate([lld, lld2, lld_de[: len(lld)], lld2_de[: len(lld)]], axis=1)
        return Case(name, rows, self._functionals(levels), self._functionals(self.windows(wave)))


@pytest.fixture(scope="module")
def extractor(script: Callable[[str], ModuleType]) -> Extractor:
    return Extractor(script("peers/_opensmile"))


@pytest.fixture(scope="module")
def cases(extractor: Extractor) -> list[Case]:
    return [extractor(name, wave) for name, wave in synthetic().items()]


@pytest.fixture(scope="module")
def speech(extractor: Extractor, data_root: Path) -> list[Case]:
    soundfile = pytest.importorskip("soundfile")
    files = sorted((data_root / "emodb" / "full4").glob("*.flac"))[::28]
    return [extractor(file.stem, soundfile.read(file, dtype="float32")[0]) for file in files]


def check(got: F32, want: F32, rows: F32, windows: list[slice], name: str) -> None:
    """Agreement of each row of functionals, and how many values have the same bits."""
    assert got.shape == want.shape
    assert np.isfinite(got).all()
    # Counts and places: equal. Values of the column itself: a float32 step. Values of higher order, which cancel: 1e-6 of
    # their size plus the rounding of a column that hardly varies around a large mean.
    exact = np.isin(
        FUNCTIONAL, ["maxPos", "minPos", "upleveltime75", "upleveltime90", "numOnsets", "duration"]
    )
    np.testing.assert_array_equal(got[:, exact], want[:, exact], err_msg=name)
    size = np.array([np.abs(rows[w]).max(axis=0)[COLUMN] for w in windows])
    size = np.concatenate([size, np.ones((len(size), 2))], axis=1)
    order = np.select([FUNCTIONAL == "linregerrQ", np.isin(FUNCTIONAL, ["skewness", "kurtosis"])], [2, 0], 1)
    floor = np.where(order == 0, 1.0, size ** np.maximum(order, 1))
    error = np.abs(got.astype(np.float64) - want) / (np.abs(want) + 1e-6 * floor + 1e-30)
    worst = np.unravel_index(error.argmax(), error.shape)
    assert error.max() <= 2e-6, (name, ops.FUNCTIONAL_NAMES[worst[1]], want[worst], got[worst])
    assert (got == want).mean() >= 0.998, (name, (got == want).mean())


def check_case(case: Case) -> None:
    check(ops.functionals(case.rows), case.whole, case.rows, [slice(0, -3)], case.name)
    got = ops.sliding_functionals(case.rows)
    spans = [slice(4 * w, 4 * w + 40) for w in range(len(case.windows))]
    # openSMILE has no window that ends with the last row: its contour of pitch is a row shorter
    assert len(got) - len(case.windows) == (1 if (len(case.rows) - 40) % 4 == 0 else 0)
    check(got[: len(case.windows)], case.windows, case.rows, spans, case.name)


def test_names_are_those_of_opensmile(extractor: Extractor) -> None:
    names = extractor.whole.names()
    assert tuple(n for level in extractor.levels for n in names[level]) == ops.FUNCTIONAL_NAMES
    assert len(ops.FUNCTIONAL_NAMES) == len(set(ops.FUNCTIONAL_NAMES)) == 1582


def test_speech(isa: str, speech: list[Case]) -> None:
    assert len(speech) >= 12
    for case in speech:
        check_case(case)


def test_music_noise_and_silence(isa: str, cases: list[Case]) -> None:
    for case in cases:
        check_case(case)


def test_short_signals(isa: str, extractor: Extractor) -> None:
    """From the first length that gives openSMILE two rows: one row always stays for the statistics."""
    wave = synthetic()["music"]
    for n in range(1120, 2721, 160):
        case = extractor(str(n), wave[:n])
        assert len(case.rows) == (n - 960) // 160 + 1
        want = case.whole
        check(ops.functionals(case.rows), want, case.rows, [slice(0, max(1, len(case.rows) - 3))], case.name)


def test_the_number_of_onsets_is_exact_on_every_window(
    extractor: Extractor, speech: list[Case], cases: list[Any]
) -> None:
    """The contour behind the smoothed pitch is recovered: gaps of one or two frames count, as they do in openSMILE."""
    seen = np.concatenate([case.windows[:, -2] for case in [*speech, *cases]])
    assert len(np.unique(seen)) >= 4  # windows without onsets, with one, and with several
    gaps = 0
    for case in speech:
        naive = [np.count_nonzero(np.diff(row) > 0) for row in (case.rows[:, 34] > 0)[None].astype(int)]
        gaps += int(case.whole[0, -2]) - naive[0]
        assert ops.functionals(case.rows)[0, -2] == case.whole[0, -2]
    assert gaps > 0


def test_from_audio(data_root: Path, script: Callable[[str], ModuleType]) -> None:
    """The whole chain, ours beside openSMILE's: the script that makes the table of docs/functionals.md."""
    agreement = script("lld_agreement")
    files = sorted((data_root / "emodb" / "full4").glob("*.flac"))[::17]
    found = agreement.Agreement(RATE)
    for file in files:
        wave, rate = ops.read_audio(file)
        assert rate == RATE
        found.add(wave)
    for pairs in (found.whole, found.windows):
        r = agreement.pearson(*(np.concatenate(side) for side in zip(*pairs, strict=True)))
        assert r.min() >= 0.99, ops.FUNCTIONAL_NAMES[r.argmin()]
        assert agreement.close(pairs) >= 0.9
    whole = agreement.pearson(*(np.concatenate(side) for side in zip(*found.whole, strict=True)))
    table = agreement.cells(whole)
    assert len(table) == 2 + 2 * 10 * 21
    assert sum(value is None for value in table.values()) == 2 * 4 * 2  # group B has 19
    assert table["F0final__Turn_numOnsets"] == 1


def test_the_document_holds_the_whole_table(script: Callable[[str], ModuleType]) -> None:
    agreement = script("lld_agreement")
    text = (DOCS / "functionals.md").read_text(encoding="utf-8")
    written = text.split(agreement.BEGIN)[1].split(agreement.END)[0]
    for functional in agreement.FUNCTIONALS:
        assert written.count(f"| {functional} |") == 2
    assert all(group in written for group in agreement.GROUPS)
    numbers = [
        float(cell)
        for line in written.splitlines()
        if line.startswith("| ")
        for cell in line.split("|")[2:-1]
        if cell.strip()[:1].isdigit()
    ]
    assert len(numbers) == 2 * (6 * 21 + 4 * 19)
    assert min(numbers) >= 0.99
