# SPDX-License-Identifier: Apache-2.0
"""Promises of the EEG ops: any length, any chunks, clear errors, equal bits."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zoo import _native, ops
from zoo.errors import InputError
from zoo.pipeline import Bandpower, Demean, Filter, Op, Pipeline, Topomap

Array = np.ndarray[Any, Any]
QUICK = settings(max_examples=60, suppress_health_check=list(HealthCheck))
RATE = 128.0


def recording(n: int, channels: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((n, channels)) * 20 + 4000


def sphere(channels: int, seed: int = 0) -> Array:
    """Directions that lie apart, over the upper part of the head."""
    k = np.arange(channels)
    z, angle = 1 - 0.9 * (k + 0.5) / channels, k * 2.399963 + seed
    r = np.sqrt(1 - z * z)
    return np.stack([r * np.cos(angle), r * np.sin(angle), z], 1)


#: Chains that work on streams.
STREAMS: dict[str, tuple[Op, ...]] = {
    "band-pass": (Filter(freqs=(1.0, 45.0)),),
    "long cascade": (Filter(freqs=(4.0, 30.0), order=11, initial="steady"),),
    "notch": (Filter(kind="notch", freqs=(50.0,), initial="steady"),),
    "fir": (Filter(freqs=(4.0, 30.0), design="fir", taps=33),),
    "fir steady": (Filter(kind="lowpass", freqs=(30.0,), design="fir", taps=40, initial="steady"),),
    "band power": (Bandpower(window_length=64, hop_length=17, segment_length=32),),
    "chain": (Filter(freqs=(1.0, 45.0), initial="steady"), Filter(kind="notch", freqs=(50.0,)), Bandpower()),
}
WHOLE: dict[str, tuple[Op, ...]] = {
    "zero phase": (Filter(freqs=(1.0, 45.0), phase="zero"),),
    "zero phase fir": (Filter(freqs=(4.0, 30.0), design="fir", taps=33, phase="zero"),),
    "zero phase long fir": (Filter(freqs=(4.0, 30.0), design="fir", phase="zero"),),
    "demean": (Demean(),),
}


@QUICK
@given(
    name=st.sampled_from(sorted(STREAMS)), n=st.integers(1, 900), channels=st.integers(1, 19), seed=st.integers(0, 9),
    sizes=st.lists(st.integers(0, 300), min_size=1, max_size=5).filter(any), isa=st.sampled_from(_native.isas()),
)  # fmt: skip
def test_a_stream_equals_the_whole(
    name: str, n: int, channels: int, seed: int, sizes: Sequence[int], isa: str
) -> None:
    pipeline, x = Pipeline(STREAMS[name], isa=isa), recording(n, channels, seed)
    stream = pipeline.stream(RATE, shape=(channels,))
    out, at, i = [], 0, 0
    while at < n:
        out.append(stream.push(x[at : at + sizes[i % len(sizes)]]))
        at += sizes[i % len(sizes)]
        i += 1
    needed = next((op.window_length for op in STREAMS[name] if isinstance(op, Bandpower)), 1)
    if n < needed:
        for use in (lambda: pipeline(x, RATE), stream.finish):
            with pytest.raises(InputError, match="fewer than one window"):
                use()
        return
    whole = pipeline(x, RATE)
    np.testing.assert_array_equal(np.concatenate([*out, stream.finish()]), whole)


def test_streams_answer_as_early_as_they_can() -> None:
    x = recording(500, 3)
    for name, done in (("band-pass", 500), ("fir", 500), ("band power", 1 + (500 - 64) // 17)):
        assert len(Pipeline(STREAMS[name]).stream(RATE, shape=(3,)).push(x)) == done
    for name in WHOLE:
        with pytest.raises(InputError, match=r"op 0 \(.*\) needs the whole input"):
            Pipeline(WHOLE[name]).stream(RATE, shape=(3,))


@QUICK
@given(
    name=st.sampled_from(sorted(STREAMS | WHOLE)), n=st.integers(130, 3000), channels=st.integers(1, 19),
    threads=st.integers(1, 4), cut=st.tuples(st.floats(0, 1), st.floats(0, 1)), isa=st.sampled_from(_native.isas()),
)  # fmt: skip
def test_parts_threads_and_batches_give_the_same_bits(
    name: str, n: int, channels: int, threads: int, cut: tuple[float, float], isa: str
) -> None:
    pipeline, x = Pipeline((STREAMS | WHOLE)[name], isa=isa), recording(n, channels)
    whole = pipeline(x, RATE)
    np.testing.assert_array_equal(pipeline(x, RATE, threads=threads), whole)
    for got in pipeline.batch([x, x], RATE, threads=threads):
        np.testing.assert_array_equal(got, whole)
    start, stop = pipeline.input_range((n, channels), RATE)
    assert 0 <= start <= stop <= n
    np.testing.assert_array_equal(pipeline(x[start:stop], RATE, start=start, total=n), whole)


@QUICK
@given(
    name=st.sampled_from(sorted(STREAMS | WHOLE)), channels=st.integers(1, 37), pick=st.integers(0, 36),
    isa=st.sampled_from(_native.isas()),
)  # fmt: skip
def test_channels_do_not_meet(name: str, channels: int, pick: int, isa: str) -> None:
    pipeline, x = Pipeline((STREAMS | WHOLE)[name], isa=isa), recording(700, channels)
    alone = pipeline(np.ascontiguousarray(x[:, pick % channels]), RATE)[..., 0]
    # one channel may run in narrower vectors than many, but with the same arithmetic
    np.testing.assert_array_equal(pipeline(x, RATE)[..., pick % channels], alone)


@pytest.mark.parametrize("name", sorted(STREAMS | WHOLE))
def test_instruction_sets_agree(name: str) -> None:
    x = recording(2000, 14)
    results = [Pipeline((STREAMS | WHOLE)[name], isa=isa)(x, RATE) for isa in _native.isas()]
    for got in results[1:]:
        # they differ in fused multiply-adds only; the filters take an offset of 4000 out of a signal of 20
        np.testing.assert_allclose(got, results[0], rtol=3e-7, atol=1e-7)


@pytest.mark.parametrize("name", sorted(STREAMS | WHOLE))
def test_extremes(name: str) -> None:
    pipeline = Pipeline((STREAMS | WHOLE)[name])
    for value in (0.0, 7.5, -1e100, 1e-310, 5e-324):
        out = pipeline(np.full((400, 2), value), RATE)
        assert np.isfinite(out).all() or abs(value) > 1e18  # the power of 1e100 is beyond float32
    for size in (1e-30, 1e15):
        x = recording(400, 2) * size
        assert np.isfinite(pipeline(x, RATE)).all()


def test_denormals_cost_nothing() -> None:
    """A filter that rings out over an hour of zeros: its state sinks through the denormals."""
    x = np.zeros((400000, 8))
    x[0] = 1
    pipeline = Pipeline([Filter(freqs=(4.0, 8.0))])
    noise = recording(400000, 8)

    def seconds(data: Array) -> float:
        best = np.inf
        for _ in range(5):
            start = time.thread_time()
            pipeline(data, RATE)
            best = min(best, time.thread_time() - start)
        return best

    assert seconds(x) < 3 * seconds(noise)


@QUICK
@given(n=st.integers(1, 200), channels=st.integers(1, 5), taps=st.sampled_from([1, 3, 33, 301]))
def test_short_signals(n: int, channels: int, taps: int) -> None:
    x = recording(n, channels)
    assert ops.filter(x, RATE, [30], kind="lowpass").shape == (n, channels)
    assert ops.filter(x, RATE, [30], kind="lowpass", design="fir", taps=taps, phase="zero").shape == (
        n,
        channels,
    )
    assert ops.filter(x, RATE, [30], kind="lowpass", phase="zero", pad="none").shape == (n, channels)
    if n > 15:
        assert ops.filter(x, RATE, [30], kind="lowpass", phase="zero").shape == (n, channels)
    else:
        with pytest.raises(InputError, match=f"has {n} samples; forward and backward .* needs 16"):
            ops.filter(x, RATE, [30], kind="lowpass", phase="zero")
    if n >= 16:
        assert ops.bandpower(x, RATE, bands=(0, 64), window_length=16, hop_length=3).shape == (
            1 + (n - 16) // 3,
            1,
            channels,
        )


def test_inputs_of_other_kinds() -> None:
    x = np.random.default_rng(0).integers(-3000, 3000, (300, 3))
    want = ops.filter(x.astype(float), RATE, [4, 8])
    for dtype in (np.int16, np.int32, np.float32):
        np.testing.assert_array_equal(ops.filter(x.astype(dtype), RATE, [4, 8]), want)
    np.testing.assert_array_equal(ops.filter(x[:, 0].astype(float), RATE, [4, 8]), want[:, :1])


bad = recording(300, 3)
bad[100, 2] = np.nan


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: ops.filter(bad, RATE, [4, 8]), "sample 100 of channel 2 is not finite"),
        (lambda: ops.bandpower(np.full((300, 1), np.inf), RATE), "sample 0 of channel 0 is not finite"),
        (lambda: ops.filter(np.zeros((0, 3)), RATE, [4, 8]), "the signal has 0 samples"),
        (lambda: ops.filter(np.zeros((9, 3)), 0.5, [4, 8]), "the rate is 0.5 Hz"),
        (lambda: ops.filter(np.zeros((9, 3)), RATE, [4, 70]), r"filter: freqs\[1\] is 70 Hz; .* half the rate of 128 Hz"),
        (lambda: ops.filter(np.zeros((9, 3)), RATE, [8, 4]), "the lower edge comes first"),
        (lambda: ops.filter(np.zeros((9, 3)), RATE, [8]), "a bandpass needs 2: its edges"),
        (lambda: ops.filter(np.zeros((9, 3)), RATE, [np.nan], kind="lowpass"), r"freqs\[0\] is -?nan Hz"),
        (lambda: ops.filter(np.zeros((9, 3)), RATE, [0], kind="highpass"), r"freqs\[0\] is 0 Hz; it must lie between"),
        (lambda: ops.filter(np.zeros((9, 3)), RATE, [9], kind="notch", design="fir"), "use kind = bandstop"),
        (lambda: ops.filter(np.zeros((9, 3)), RATE, [4, 8], taps=31), "taps belongs to design = fir"),
        (lambda: ops.filter(np.zeros((9, 3)), RATE, [9], kind="highpass", design="fir", taps=8), "must be odd for a highpass"),
        (lambda: ops.filter(np.zeros((9, 3)), RATE, [9, 12], design="fir", taps=8, phase="zero"), "must be odd for a filter without delay"),
        (lambda: ops.filter(np.zeros((9, 3)), 768000, [0.001, 0.0011], order=8), "is not stable in double precision; lower the order"),
        (lambda: ops.filter(np.zeros((9, 3)), RATE, [1e-9], kind="highpass", design="fir"), "lies too near to 0"),
        (lambda: ops.filter(np.zeros((9, 3)), RATE, [20, 20.5], kind="bandstop", design="fir"), "narrower than its transitions"),
        (lambda: ops.filter_coefficients(RATE, [4], kind="low"), "kind is 'low'; it must be one of lowpass"),  # type: ignore[arg-type]
        (lambda: ops.bandpower(np.zeros((9, 3)), RATE), "has 9 samples, fewer than one window of 128"),
        (lambda: ops.bandpower(np.zeros((900, 3)), RATE, bands=(4, 8, 9)), "bands has 3 values"),
        (lambda: ops.bandpower(np.zeros((900, 3)), RATE, bands=(8, 4)), r"band 0 \(8 to 4 Hz\) must rise"),
        (lambda: ops.bandpower(np.zeros((900, 3)), RATE, bands=(4, 80)), "half the rate of 128 Hz"),
        (lambda: ops.bandpower(np.zeros((900, 3)), RATE, bands=(4.2, 4.8)), "holds too few of the frequencies of 128 samples"),
        (lambda: ops.bandpower(np.zeros((900, 3)), RATE, segment_length=200), "segment_length is 200; it must lie between 2 and"),
        (lambda: ops.bandpower(np.zeros((900, 3)), RATE, segment_length=64, overlap=64), "overlap is 64; it must be less"),
        (lambda: ops.topomap(np.zeros((2, 5), np.float32), sphere(6)), "positions has 6 electrodes, the input has 5"),
        (lambda: ops.topomap(np.zeros(5), sphere(5)), "values is float64; it must be float32"),
        (lambda: ops.topomap(np.full(5, np.nan, np.float32), sphere(5)), "value 0 is not finite"),
        (lambda: ops.topomap(np.zeros(5, np.float32), sphere(5) * [[1], [1], [np.nan], [1], [1]]), "electrode 2 has no position"),
        (lambda: ops.topomap(np.zeros(5, np.float32), sphere(5) * [[1], [1], [1], [0], [1]]), "electrode 3 has no position"),
        (lambda: ops.topomap(np.zeros(5, np.float32), sphere(5)[[0, 1, 2, 3, 1]] * [[1], [1], [1], [1], [2]]), "electrodes 1 and 4 are at the same place"),
        (lambda: ops.topomap(np.zeros(2, np.float32), sphere(2)), "has 2 electrodes; a map needs at least 3"),
        (lambda: ops.topomap(np.zeros(3, np.float32), sphere(3), method="clough_tocher"), "needs at least 4"),
        (lambda: ops.topomap(np.zeros(4, np.float32), [[0, y, 1] for y in range(4)], method="clough_tocher"), "lie on one line"),
        (lambda: ops.topomap(np.zeros(3, np.float32), [[y, 0, 1] for y in range(3)]), "lie on one line"),
        (lambda: ops.topomap(np.zeros(5, np.float32), np.ones((5, 2))), r"positions has shape \(5, 2\)"),
        (lambda: ops.topomap(np.zeros((1, 1, 1, 5), np.float32), sphere(5)), r"takes \[rows, channels\]"),
        (lambda: ops.topomap(np.zeros(90, np.float32), sphere(90), size=1000), "make size smaller"),
        (lambda: ops.project_positions([[0, 0, np.inf]]), "electrode 0 has no position"),
        (lambda: Pipeline([Bandpower(), Topomap(positions=tuple(sphere(5).ravel().tolist()))]), r"give the pipeline the shape \(-1, 5\)"),
    ],
)  # fmt: skip
def test_messages(use: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        use()


# ------------------------------------------------------------------------------------------------------------ topomaps


@QUICK
@given(
    channels=st.integers(4, 40), rows=st.integers(1, 9), bands=st.integers(0, 3), size=st.integers(1, 40),
    method=st.sampled_from(["spline", "clough_tocher"]), isa=st.sampled_from(_native.isas()), seed=st.integers(0, 99),
)  # fmt: skip
def test_maps_of_any_shape(
    channels: int, rows: int, bands: int, size: int, method: Any, isa: str, seed: int
) -> None:
    place = sphere(channels, seed)
    shape = (rows, bands, channels) if bands else (rows, channels)
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    op = Topomap(positions=tuple(place.ravel().tolist()), size=size, method=method)
    pipeline = Pipeline([op], isa=isa, shape=(-1, *shape[1:]))
    maps = pipeline(values)
    assert maps.shape == (*shape[:-1], size, size)
    for r in range(rows):  # batch of n = n singles
        np.testing.assert_array_equal(pipeline(values[r : r + 1])[0], maps[r])
    np.testing.assert_array_equal(pipeline(values, threads=3), maps)
    baseline = Pipeline([op], isa="baseline", shape=(-1, *shape[1:]))(values)
    np.testing.assert_allclose(maps, baseline, rtol=0, atol=1e-5)
    # constants pass, and nothing else than the values matters: an offset moves the inside
    inside = pipeline(np.ones_like(values))[0].reshape(-1, size, size)[0]
    assert np.isin(np.round(inside, 4), (0, 1)).all()
    shifted = pipeline(values + np.float32(1000))
    np.testing.assert_allclose(shifted, maps + 1000 * np.round(inside), rtol=0, atol=1e-3)


@pytest.mark.parametrize("method", ["spline", "clough_tocher"])
def test_maps_turn_with_the_head(method: Any) -> None:
    """A quarter turn of the electrodes turns the image: the projection and both interpolations have no preferred axis."""
    place = sphere(17, 3) + np.random.default_rng(1).normal(0, 0.02, (17, 3))
    turned = place[:, [1, 0, 2]] * [-1, 1, 1]  # x -> y, y -> -x: anticlockwise
    values = np.random.default_rng(0).standard_normal(17).astype(np.float32)
    image = ops.topomap(values, place, size=31, method=method)
    quarter = ops.topomap(values, turned, size=31, method=method)
    if method == "spline":
        np.testing.assert_allclose(quarter, np.rot90(image), rtol=0, atol=1e-5)
    else:  # the ring of outer points is a polygon: it turns with the head only where its corners do
        assert np.corrcoef(quarter.ravel(), np.rot90(image).ravel())[0, 1] > 0.99


def test_values_at_electrodes_are_kept() -> None:
    """Clough-Tocher interpolates: the pixel on an electrode has its value."""
    place = np.array(
        [[0, 0, 1], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0.7, 0.7, 0.3], [-0.6, 0.5, 0.4]], float
    )
    values = np.array([3, -1, 2, 5, 4, 0.5, 1], np.float32)
    image = ops.topomap(values, place, size=203, method="clough_tocher")
    head = 1.01 * max(1, np.hypot(*ops.project_positions(place).T).max())
    for value, (x, y) in zip(values, ops.project_positions(place), strict=True):
        row, column = (head - y) / (2 * head) * 202, (x + head) / (2 * head) * 202
        if np.allclose([row, column], np.round([row, column]), atol=1e-6):
            assert image[round(row), round(column)] == pytest.approx(value, abs=1e-5)
    assert image[101, 101] == pytest.approx(3, abs=1e-5)


def test_electrodes_on_common_circles_are_accepted() -> None:
    """A symmetric cap: many fours lie on circles, up to rounding."""
    grid = [(x, y) for x in range(-3, 4) for y in range(-3, 4)]
    angle = [np.pi / 8 * np.hypot(x, y) for x, y in grid]
    place = [
        (np.sin(a) * x / max(np.hypot(x, y), 1e-9), np.sin(a) * y / max(np.hypot(x, y), 1e-9), np.cos(a))
        for a, (x, y) in zip(angle, grid, strict=True)
    ]
    values = np.array([x + 2 * y for x, y in grid], np.float32) / 4
    image = ops.topomap(values, place, size=65, method="clough_tocher")
    assert np.isfinite(image).all()
    centre = image[24:41, 24:41]  # a plane stays a plane, far from the ring
    y, x = np.mgrid[24:41, 24:41]
    plane = np.c_[x.ravel(), y.ravel(), np.ones(x.size)]
    rest = centre.ravel() - plane @ np.linalg.lstsq(plane, centre.ravel(), rcond=None)[0]
    assert np.abs(rest).max() <= 2e-3 * np.ptp(values)
