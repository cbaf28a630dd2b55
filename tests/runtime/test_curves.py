# SPDX-License-Identifier: Apache-2.0
"""Rows of inputs of any length in blocks: the same bits as of the whole."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.errors import InputError
from zoo.media import Sound, of_samples
from zoo.pipeline import Lld, Mfcc, MinMax, Op, Pipeline, Resample, SlidingFunctionals, Standardize
from zoo.runtime.curves import Rows, together, windows

RATE = 22050
CHAINS: dict[str, tuple[Op, ...]] = {
    "own bounds": (Resample(rate=16000), Lld(), SlidingFunctionals(), MinMax()),
    "none": (Resample(rate=16000), Lld(), SlidingFunctionals()),
    "own bounds of others": (Mfcc(rate=RATE, center=False, top_db=None), MinMax()),
}


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(0, 0.1, int(seconds * RATE)) * np.linspace(0, 1, int(seconds * RATE))).astype(
        np.float32
    )


def cut(samples: np.ndarray, sizes: list[int]) -> Sound:
    """The samples in blocks of these sizes, used in turn."""

    def blocks() -> Iterator[np.ndarray]:
        at = 0
        for size in sizes * (len(samples) // sum(sizes) + 1):
            if at < len(samples):
                yield samples[at : at + size]
            at += size

    return Sound(RATE, blocks)


@pytest.mark.parametrize("remembered", [1 << 30, 0], ids=["remembered", "twice"])
@pytest.mark.parametrize("name", CHAINS)
def test_blocks_give_the_rows_of_the_whole(name: str, remembered: int) -> None:
    samples = noise(3.0)
    expected = Pipeline(CHAINS[name]).run(samples, RATE)
    for sizes in ([RATE], [977, 5000, 1], [10 * RATE]):
        rows = list(Rows(CHAINS[name], {}, remembered=remembered).of(cut(samples, sizes)))
        np.testing.assert_array_equal(np.concatenate(rows), expected)


def test_an_input_is_gone_through_twice_only_where_its_rows_are_not_remembered() -> None:
    for remembered, times in ((1 << 30, 1), (1000, 2)):
        whole = of_samples(noise(3.0), RATE)
        passes = []

        def counted(seen: list[int] = passes, sound: Sound = whole) -> Iterator[np.ndarray]:
            seen.append(1)
            yield from sound.blocks()

        rows = list(Rows(CHAINS["own bounds"], {}, remembered=remembered).of(Sound(RATE, counted)))
        assert sum(len(block) for block in rows) > 50
        assert len(passes) == times


def test_what_cannot_go_block_by_block_is_refused() -> None:
    with pytest.raises(InputError, match=r"25 rows, fewer than a window of 40"):
        list(Rows(CHAINS["own bounds"], {}).of(of_samples(noise(0.3), RATE)))
    with pytest.raises(InputError, match=r"0\.000 s of sound, too little for one step"):
        list(Rows(CHAINS["own bounds"], {}).of(of_samples(noise(0.0), RATE)))
    with pytest.raises(InputError, match=r"op 1 \(standardize\) needs the whole input"):
        list(
            Rows((Mfcc(rate=RATE, center=False, top_db=None), Standardize()), {}).of(
                of_samples(noise(1.0), RATE)
            )
        )
    bad = noise(1.0)
    bad[7] = np.nan
    with pytest.raises(InputError, match=r"sample 7 is not finite"):
        list(Rows(CHAINS["own bounds"], {}).of(of_samples(bad, RATE)))


@settings(max_examples=80)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    steps=st.integers(1, 7),
    context=st.integers(0, 5),
)
def test_windows_cover_each_row_once_with_its_context(sizes: list[int], steps: int, context: int) -> None:
    ends = np.cumsum([0, *sizes])
    rows = np.arange(ends[-1], dtype=np.float32)[:, None]
    seen: list[float] = []
    pairs = ((rows[a:b], -rows[a:b]) for a, b in pairwise(ends))
    for (block, other), lead in windows(pairs, steps, context):
        np.testing.assert_array_equal(other, -block)
        assert 0 < len(block) - lead <= steps
        assert lead == min(context, len(seen))
        assert block[:lead, 0].tolist() == seen[len(seen) - lead :]
        seen += block[lead:, 0].tolist()
    assert seen == rows[:, 0].tolist()


@settings(max_examples=60)
@given(sizes=st.lists(st.lists(st.integers(1, 9), max_size=6), min_size=1, max_size=3))
def test_sources_go_side_by_side_until_the_shortest_ends(sizes: list[list[int]]) -> None:
    def blocks(lengths: list[int]) -> Iterator[np.ndarray]:
        for a, b in pairwise(np.cumsum([0, *lengths])):
            yield np.arange(a, b, dtype=np.float32)

    found = list(together([blocks(lengths) for lengths in sizes]))
    assert all(len({len(block) for block in several}) == 1 for several in found)
    for k in range(len(sizes)):
        rows = np.concatenate([several[k] for several in found]) if found else np.empty(0)
        np.testing.assert_array_equal(rows, np.arange(min(map(sum, sizes))))
