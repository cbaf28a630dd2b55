# SPDX-License-Identifier: Apache-2.0
"""EEG ops beside SciPy and MNE, each peer in the memory layout that suits it best."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import mne
import numpy as np
import scipy.signal as signal
from mne.viz import topomap as mne_topomap
from run import Row

from zoo.ops import isa, project_positions
from zoo.pipeline import Bandpower, Filter, Op, Pipeline, Topomap

Array = np.ndarray[Any, Any]
RATE = 128
INPUTS = 8
BANDS = ((4, 8), (8, 14), (14, 31), (31, 45))


def recording(channels: int, seconds: float, seed: int) -> Array:
    """Noise with a falling spectrum on a large offset; the arithmetic does not depend on the samples."""
    rng = np.random.default_rng(seed)
    steps = rng.standard_normal((int(seconds * RATE), channels))
    return 4000 + 10 * signal.lfilter([1], [1, -0.95], steps, axis=0)


def positions(channels: int) -> Array:
    """Electrodes spread over the upper part of a sphere."""
    k = np.arange(channels)
    z, angle = 1 - 0.9 * (k + 0.5) / channels, k * 2.399963
    r = np.sqrt(1 - z * z)
    return np.stack([r * np.cos(angle), r * np.sin(angle), z], 1)


def close(ours: Array, theirs: Array, bound: float) -> str | None:
    """None when both are within ``bound`` of the largest value."""
    worst = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    return None if worst <= bound else f"worst difference {worst:.3g} of the largest value, bound {bound:g}"


def row(
    name: str, peer: str, ops: list[Op], inputs: list[Array], theirs: Callable[[Array], Array], goal: float
) -> Row:
    """One chain beside a peer that gets channels first."""
    pipeline = Pipeline(ops, isa=isa())
    turned = [np.ascontiguousarray(x.T) for x in inputs]
    return Row(
        op=name,
        peer=peer,
        ours=lambda i: pipeline.run(inputs[i], RATE),
        theirs=lambda i: theirs(turned[i]),
        inputs=len(inputs),
        check=lambda: close(pipeline.run(inputs[0], RATE), theirs(turned[0]), 1e-6),
        goal=goal,
    )


def entropy(x: Array) -> Array:
    """Differential entropy of bands in windows with SciPy, [windows, bands, channels]."""
    f, _, power = signal.spectrogram(x, RATE, window="hann", nperseg=128, noverlap=64, detrend="constant")
    bands = np.stack([power[:, (f >= lo) & (f < hi)].sum(1) * f[1] for lo, hi in BANDS])
    return 0.5 * np.log(2 * np.pi * np.e * (bands.transpose(2, 0, 1) + 1e-12))


def map_rows() -> Iterator[Row]:
    """Topomaps of 64 x 64 pixels. A spline costs the same: one matrix product as well."""
    rng = np.random.default_rng(0)
    for channels in (14, 32):
        place = positions(channels)
        flat = project_positions(place)
        outlines = mne_topomap._make_head_outlines(np.array([0, 0, 0, 1.0]), flat, "head", (0.0, 0.0))
        _, xi, yi, interpolator = mne_topomap._setup_interp(flat, 64, "cubic", "head", outlines, "mean")
        interpolator.set_locations(xi, yi)
        radius = outlines["clip_radius"][0]
        inside = np.hypot(xi, yi) <= radius * (1 - 1e-9)
        spacing = float(np.hypot(*interpolator.tri.points[-1]) - 1.1 * radius)
        op = Topomap(
            positions=tuple(place.ravel().tolist()), size=64, method="clough_tocher", spacing=spacing
        )
        pipeline = Pipeline([op], isa=isa(), shape=(-1, channels))
        for count, goal in ((1, 60), (64, 200)):
            values = [rng.standard_normal((count, channels)).astype(np.float32) for _ in range(INPUTS)]

            def ours(i: int, pipeline: Pipeline = pipeline, values: list[Array] = values) -> Array:
                return pipeline.run(values[i])

            def theirs(i: int, interpolator: Any = interpolator, values: list[Array] = values) -> Array:
                return np.stack([interpolator.set_values(v.astype(float))() for v in values[i]])

            def check(ours: Any = ours, theirs: Any = theirs, inside: Array = inside) -> str | None:
                return close(
                    ours(0)[:, ::-1][:, inside], theirs(0)[:, inside], 1e-5
                )  # MNE's lowest row is the first

            yield Row(
                op=f"topomap 64x64, {channels} channels, {count} maps",
                peer="MNE viz.topomap, cubic",
                ours=ours,
                theirs=theirs,
                inputs=INPUTS,
                check=check,
                goal=goal,
            )


def rows() -> Iterator[Row]:
    """Recordings of 117 s, 14 and 32 channels; one channel of sound; maps."""
    mne.set_log_level("error")
    sos = signal.butter(4, [1, 45], "bandpass", fs=RATE, output="sos")
    taps = signal.firwin(101, [1, 45], pass_zero=False, fs=RATE)
    edges = (1.0, 45.0)
    for channels in (14, 32):
        eeg = [recording(channels, 117, seed) for seed in range(INPUTS)]
        what = f"{channels} channels x 117 s"
        yield row(
            f"filter band-pass 4, {what}", "scipy sosfilt", [Filter(freqs=edges)], eeg,
            lambda x: signal.sosfilt(sos, x).T, 5,
        )  # fmt: skip
        yield row(
            f"filter zero phase, {what}", "scipy sosfiltfilt", [Filter(freqs=edges, phase="zero")], eeg,
            lambda x: signal.sosfiltfilt(sos, x).T, 5,
        )  # fmt: skip
        yield row(
            f"filter FIR 101, {what}", "scipy lfilter", [Filter(freqs=edges, design="fir", taps=101)], eeg,
            lambda x: signal.lfilter(taps, 1, x).T, 5,
        )  # fmt: skip
        yield row(
            f"filter FIR auto, {what}", "mne filter_data", [Filter(freqs=edges, design="fir", phase="zero")], eeg,
            lambda x: mne.filter.filter_data(x, RATE, 1, 45).T, 5,
        )  # fmt: skip
        yield row(f"bandpower entropy, {what}", "scipy spectrogram", [Bandpower()], eeg, entropy, 5)
    sound = [np.random.default_rng(i).standard_normal((44100 * 5, 1)) for i in range(INPUTS)]
    low = signal.butter(4, 0.1, output="sos")
    yield row(
        "filter low-pass 4, 1 channel x 220500", "scipy sosfilt", [Filter(kind="lowpass", freqs=(6.4,))], sound,
        lambda x: signal.sosfilt(low, x).T, 1,
    )  # fmt: skip
    yield from map_rows()
