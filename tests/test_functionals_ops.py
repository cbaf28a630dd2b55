# SPDX-License-Identifier: Apache-2.0
"""Properties and errors of the functionals: windows, streams, threads, extremes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from zoo import _native, ops
from zoo.errors import InputError
from zoo.pipeline import Functionals, Lld, Pipeline, SlidingFunctionals

F32 = NDArray[np.float32]
ISAS = _native.isas()
QUICK = settings(max_examples=40, suppress_health_check=list(HealthCheck))
KINDS = ["normal", "few values", "constant", "large mean", "tiny", "huge"]
SPARSE = [*range(34, 38), *range(72, 76)]
ORDER = [*range(34), *range(38, 72), *SPARSE]


@pytest.fixture(autouse=True)
def _default_isa() -> Iterator[None]:
    yield
    _native.set_isa("")


def contour(rng: np.random.Generator, n: int) -> F32:
    """A contour of pitch whose first frame is not voiced, with gaps of any length."""
    voiced = np.repeat(rng.random(n) < 0.6, rng.choice([1, 2, 3, 9, 40], n))[:n]
    voiced[0] = False
    return np.where(voiced, rng.uniform(50, 600, n), 0).astype(np.float32)


def smoothed(x: F32) -> F32:
    """Its moving average over three frames, one row longer: the ends are repeated."""
    padded = np.concatenate([x[:1], x, x[-1:], x[-1:]])
    return ((padded[1:-1] + padded[:-2]) + padded[2:]) / np.float32(3)


def descriptors(n: int, seed: int, kind: str = "normal") -> F32:
    """N rows, columns of group B zero now and then, in runs."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, 76))
    if kind == "few values":
        rows = np.round(rows)
    elif kind == "constant":
        rows = np.repeat(rows[:1], n, axis=0)
    elif kind == "large mean":
        rows = rows + 1e4
    elif kind == "tiny":
        rows = rows * 1e-38
    elif kind == "huge":
        rows = rows * 1e17
    rows = rows.astype(np.float32)
    rows[:, SPARSE] *= np.repeat(rng.random((n, 8)) < 0.5, rng.choice([1, 3, 30], n), axis=0)[:n]
    if kind in ("normal", "few values") and n > 1:
        rows[:, 34] = smoothed(contour(rng, n - 1))
    return rows


# ------------------------------------------------------------------------------------------------ what is computed


@QUICK
@given(n=st.integers(1, 150), kind=st.sampled_from(KINDS), seed=st.integers(0, 99), isa=st.sampled_from(ISAS))
def test_a_window_is_its_rows(n: int, kind: str, seed: int, isa: str) -> None:
    """The sliding form shares work between windows, and gives the bits of the whole form on each of them."""
    _native.set_isa(isa)
    rng = np.random.default_rng(seed)
    window, hop = int(rng.integers(1, n + 1)), int(rng.integers(1, 12))
    rows = descriptors(n, seed, kind)
    got = ops.sliding_functionals(rows, window=window, hop=hop)
    assert got.shape == (1 + (n - window) // hop, 1582)
    assert got.dtype == np.float32
    for w, values in enumerate(got):
        at = w * hop
        np.testing.assert_array_equal(values[:-2], ops.functionals(rows[at : at + window], tail=0)[0, :-2])
        assert values[-1] == np.float32(window) * np.float32(0.01)


@QUICK
@given(n=st.integers(1, 400), seed=st.integers(0, 999))
def test_onsets_of_the_contour_behind_the_smoothed_pitch(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = contour(rng, n)
    rows = np.zeros((n + 1, 76), np.float32)
    rows[:, 34] = smoothed(x)
    onset = np.diff(x > 0, prepend=True) & (x > 0)
    assert ops.functionals(rows)[0, -2] == onset.sum()
    window, hop = int(rng.integers(1, n + 1)), int(rng.integers(1, 9))
    got = ops.sliding_functionals(rows[:-1], window=window, hop=hop)[:, -2]
    np.testing.assert_array_equal(got, [onset[w * hop + 1 : w * hop + window].sum() for w in range(len(got))])


@QUICK
@given(n=st.integers(2, 300), seed=st.integers(0, 99), tail=st.integers(0, 400), period=st.floats(1e-3, 10))
def test_definitions(n: int, seed: int, tail: int, period: float) -> None:
    """Beside NumPy in float64; openSMILE itself is the oracle in tests/oracle."""
    rows = descriptors(n, seed)
    used = rows[: max(1, n - tail)].astype(np.float64)
    got = ops.functionals(rows, tail=tail, period=period)[0]
    table = got[: 68 * 21].reshape(68, 21)
    columns = np.concatenate([used[:, :34], used[:, 38:72]], axis=1)
    m = len(columns)
    np.testing.assert_array_equal(table[:, 0], (columns.argmax(0) / np.float32(m)).astype(np.float32))
    np.testing.assert_array_equal(table[:, 1], (columns.argmin(0) / np.float32(m)).astype(np.float32))
    mean, std = columns.mean(0), columns.std(0)
    close: dict[str, Any] = {"rtol": 3e-5, "atol": 3e-6}
    np.testing.assert_allclose(table[:, 2], mean, **close)
    np.testing.assert_allclose(table[:, 7], std, **close)
    if m > 2:
        slope, offset = np.polyfit(np.arange(m), columns, 1)
        residual = columns - (np.arange(m)[:, None] * slope + offset)
        np.testing.assert_allclose(
            table[:, 3:7].T, [slope, offset, abs(residual).mean(0), (residual**2).mean(0)], **close
        )
        z = (columns - mean) / std
        np.testing.assert_allclose(table[:, 8:10].T, [(z**3).mean(0), (z**4).mean(0)], rtol=1e-4, atol=1e-5)
    q1, q2, q3, low, high = np.percentile(columns, [25, 50, 75, 1, 99], axis=0)
    want = [q1, q2, q3, q2 - q1, q3 - q2, q3 - q1, low, high, high - low]
    np.testing.assert_allclose(table[:, 10:19].T, want, **close)
    assert got[-1] == np.float32(n - 1) * np.float32(period)
    sparse = got[68 * 21 : -2].reshape(8, 19)
    for values, column in zip(sparse, used[:, SPARSE].T, strict=True):
        some = column[column != 0]
        if len(some) == 0:
            assert not values.any()
        else:
            np.testing.assert_allclose(
                values[[2, 10, 16]], [some.mean(), *np.percentile(some, [25, 99])], **close
            )


@QUICK
@given(n=st.integers(1, 200), seed=st.integers(0, 99), kind=st.sampled_from(KINDS))
def test_isas_agree(n: int, seed: int, kind: str) -> None:
    """Sums run in the same order on each, but may be contracted: a step of float32 on what does not cancel."""
    rows = descriptors(n, seed, kind)
    found = []
    for isa in ISAS:
        _native.set_isa(isa)
        found.append(ops.functionals(rows)[0])
    # of the column for its own values, of its square for squared errors, 1 for ratios
    scale = np.repeat(np.abs(rows[:, ORDER]).max(axis=0).astype(np.float64), [21] * 68 + [19] * 8)
    names = np.array([name.rsplit("_", 1)[1] for name in ops.FUNCTIONAL_NAMES[:-2]])
    scale = np.where(
        names == "linregerrQ", scale**2, np.where(np.isin(names, ["skewness", "kurtosis"]), 1, scale)
    )
    for other in found[1:]:
        error = np.abs(other.astype(np.float64) - found[0])
        assert (error[:-2] <= 1e-6 * (np.abs(found[0][:-2]) + 1e-6 * scale)).all()
        assert not error[-2:].any()


# --------------------------------------------------------------------------------------------- streams and threads


def in_chunks(pipeline: Pipeline, rows: F32, sizes: list[int]) -> F32:
    stream = pipeline.stream(shape=(76,))
    out, at, i = [], 0, 0
    while at < len(rows):
        out.append(stream.push(rows[at : at + sizes[i % len(sizes)]]))
        at += sizes[i % len(sizes)]
        i += 1
    return np.concatenate([*out, stream.finish()])


@QUICK
@given(
    n=st.integers(1, 900),
    window=st.integers(1, 90),
    hop=st.integers(1, 120),
    sizes=st.lists(st.integers(0, 200), min_size=1, max_size=5).filter(any),
    kind=st.sampled_from(KINDS),
    threads=st.integers(1, 4),
    isa=st.sampled_from(ISAS),
)
def test_chunks_and_threads_do_not_change_a_bit(
    n: int, window: int, hop: int, sizes: list[int], kind: str, threads: int, isa: str
) -> None:
    rows = descriptors(n, n, kind)
    pipeline = Pipeline([SlidingFunctionals(window=window, hop=hop)], isa=isa, shape=(-1, 76))
    if n < window:
        message = f"the input has {n} rows, fewer than a window of {window}"
        for run in (pipeline, lambda r: in_chunks(pipeline, r, sizes)):
            with pytest.raises(InputError, match=message):
                run(rows)
        return
    whole = pipeline(rows)
    np.testing.assert_array_equal(in_chunks(pipeline, rows, sizes), whole)
    np.testing.assert_array_equal(pipeline(rows, threads=threads), whole)
    for got in pipeline.batch([rows, rows[: max(window, n // 2)]], threads=threads):
        np.testing.assert_array_equal(got, whole[: len(got)])


def test_a_voiced_run_longer_than_the_context_keeps_its_bits() -> None:
    """Onsets look back 3 s for a row without pitch; behind that, every row above zero counts as voiced."""
    rows = np.zeros((900, 76), np.float32)
    x = np.full(899, 120, np.float32)
    x[[0, 5, 150, 290, 500, 700]] = 0
    rows[:, 34] = smoothed(x)
    pipeline = Pipeline([SlidingFunctionals()], shape=(-1, 76))
    whole = pipeline(rows)
    np.testing.assert_array_equal(in_chunks(pipeline, rows, [7, 64]), whole)
    assert whole[28, -2] == 1  # rows 112 to 152: the gap at 150 ends at 151
    assert whole[118, -2] == 0  # rows 472 to 512: nothing to start from within 3 s
    assert ops.functionals(rows)[0, -2] == 6


def test_the_stream_answers_with_the_row_that_completes_a_window() -> None:
    stream = Pipeline([SlidingFunctionals()], shape=(-1, 76)).stream(shape=(76,))
    rows = descriptors(60, 0)
    assert [len(stream.push(rows[i : i + 1])) for i in range(60)] == [
        int(i >= 39 and (i - 39) % 4 == 0) for i in range(60)
    ]


@pytest.mark.parametrize("size", [160, 777, 16000])
def test_audio_to_windows_in_a_stream(size: int) -> None:
    rng = np.random.default_rng(size)
    t = np.arange(24000) / 16000
    wave = (
        0.3 * np.sin(2 * np.pi * 130 * t) ** 7 * (np.sin(9 * t) > 0) + 0.01 * rng.standard_normal(t.size)
    ).astype(np.float32)
    pipeline = Pipeline([Lld(rate=16000), SlidingFunctionals()])
    whole = pipeline(wave, 16000)
    assert whole.shape == (27, 1582)
    np.testing.assert_array_equal(whole, ops.sliding_functionals(ops.lld(wave, 16000)))
    stream = pipeline.stream(16000)
    parts = [stream.push(wave[at : at + size]) for at in range(0, len(wave), size)]
    np.testing.assert_array_equal(np.concatenate([*parts, stream.finish()]), whole)
    assert len(np.unique(whole[:, -2])) > 1
    segment = Pipeline([Lld(rate=16000), Functionals()])(wave, 16000)
    np.testing.assert_array_equal(segment, ops.functionals(ops.lld(wave, 16000)))


# -------------------------------------------------------------------------------------------------- extremes, errors


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -3.25, 1e-40, 1e18, -1e18, 1.17549435e-38])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 41])
def test_constant_input(isa: str, value: float, n: int) -> None:
    _native.set_isa(isa)
    rows = np.full((n, 76), value, np.float32)
    kept = np.float32(value) if abs(value) > 1e-38 else np.float32(0)
    got = ops.functionals(rows)[0]
    table = got[: 68 * 21].reshape(68, 21)
    assert (table[:, [0, 1, 19, 20]] == 0).all()  # places; nothing lies above a level
    assert (table[:, 2] == kept).all()
    # a percentile between two equal values is that value but for a rounding, as in openSMILE
    assert (np.abs(table[:, [10, 11, 12, 16, 17]] - kept) <= 1.2e-7 * abs(kept)).all()
    assert (table[:, [13, 14, 15, 18]] <= 1.2e-7 * abs(kept)).all()
    assert (np.abs(table[:, [3, 5, 7]]) <= 1e-7 * abs(kept)).all()
    assert np.isfinite(got).all()
    if kept == 0:
        assert not got[:-1].any()
    np.testing.assert_array_equal(ops.functionals(np.where(rows == 0, np.float32(0), rows))[0], got)


def test_one_row() -> None:
    rows = descriptors(1, 3)
    got = ops.functionals(rows)[0, : 34 * 21].reshape(34, 21)
    np.testing.assert_array_equal(got[:, [2, 4, 10, 17]], np.repeat(rows[0, :34, None], 4, axis=1))
    assert not got[:, [0, 1, 3, 5, 6, 7, 8, 9, 13, 18, 19, 20]].any()
    assert ops.functionals(rows)[0, -1] == 0


def test_denormals_take_no_slow_path() -> None:
    rows = descriptors(400, 0)
    times: list[list[float]] = [[], []]
    for _ in range(9):
        for data, t in zip((rows, rows * np.float32(1e-40)), times, strict=True):
            start = time.perf_counter()
            ops.sliding_functionals(data)
            t.append(time.perf_counter() - start)
    assert min(times[1]) <= 3 * min(times[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: ops.functionals(r[:, :75]), r"op 0 \(functionals\): it needs rows of the 76 descriptors"),
        (lambda r: ops.functionals(r[0]), r"op 0 \(functionals\): it needs rows of the 76 descriptors"),
        (lambda r: ops.functionals(r[:0]), r"functionals: the input has shape \(0, 76\)"),
        (lambda r: ops.functionals(r.astype(np.float64)), "the input must be float32"),
        (lambda r: ops.functionals(r, tail=-1), "tail is -1; it must lie between 0 and 65536"),
        (lambda r: ops.functionals(r, period=0.0), "period is 0; it must lie between"),
        (lambda r: ops.functionals(np.where(r == r[7, 5], np.nan, r)), f"value {7 * 76 + 5} is not finite"),
        (lambda r: ops.functionals(np.where(r == r[7, 5], np.float32(2e18), r)), "row 7, column 5 is beyond 1e18"),
        (lambda r: ops.sliding_functionals(np.where(r == r[47, 75], np.float32(-2e18), r)), "row 47, column 75 is beyond"),
        (lambda r: ops.sliding_functionals(r[:39]), "the input has 39 rows, fewer than a window of 40"),
        (lambda r: ops.sliding_functionals(r, window=0), "window is 0; it must lie between 1 and 65536"),
        (lambda r: ops.sliding_functionals(r, hop=0), "hop is 0; it must lie between 1 and 65536"),
        (lambda r: Pipeline([Functionals()], shape=(-1, 76)).stream(shape=(76,)), r"\(functionals\) needs the whole input"),
    ],
)  # fmt: skip
def test_messages(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(descriptors(60, 1))


def test_a_bad_row_inside_a_pipeline_is_named() -> None:
    """Between ops nothing else looks at the values."""
    rows = descriptors(60, 1)
    rows[50, 3] = 1e19
    stream = Pipeline([SlidingFunctionals()], shape=(-1, 76)).stream(shape=(76,))
    assert len(stream.push(rows[:48])) == 3
    with pytest.raises(InputError, match="sliding_functionals: row 50, column 3 is beyond 1e18"):
        stream.push(rows[48:])
