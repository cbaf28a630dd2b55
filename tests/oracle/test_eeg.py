# SPDX-License-Identifier: Apache-2.0
"""EEG ops beside SciPy and MNE, on real recordings and on extremes."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoo import ops
from zoo.pipeline import Bandpower, Demean, Filter, Pipeline, Standardize, Topomap

signal = pytest.importorskip("scipy.signal")
mne = pytest.importorskip("mne")

Array = np.ndarray[Any, Any]
RATE = 128
BANDS = ((4, 8), (8, 14), (14, 31), (31, 45))
EMOTIV = ["AF3", "F7", "F3", "FC5", "T7", "P7", "O1", "O2", "P8", "T8", "FC6", "F4", "F8", "AF4"]
#: Fact sheet 9: left side; the right side mirrors x.
SHEET = {
    "AF3": (-0.3130, 0.7986, 0.5142, -0.2395, 0.6110),
    "F7": (-0.7695, 0.5590, 0.3090, -0.6473, 0.4702),
    "F3": (-0.4591, 0.5800, 0.6730, -0.3290, 0.4156),
    "FC5": (-0.7658, 0.3000, 0.5688, -0.5725, 0.2243),
    "T7": (-0.9511, 0.0, 0.3090, -0.8000, 0.0),
    "P7": (-0.7695, -0.5590, 0.3090, -0.6473, -0.4702),
    "O1": (-0.2939, -0.9045, 0.3090, -0.2472, -0.7609),
}


def sheet_positions() -> Array:
    """The 14 electrodes of fact sheet 9 in their order."""
    left = np.array([SHEET[name][:3] for name in EMOTIV[:7]])
    return np.concatenate([left, left[::-1] * [-1, 1, 1]])


def relative(ours: Array, theirs: Array) -> float:
    """Largest difference over the largest value."""
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.fixture(scope="session")
def eye_state(data_root: Path) -> Array:
    """117 s of a 14-channel Emotiv headset, offset 4000, with four rows of outliers far beyond."""
    path = data_root / "eeg" / "eye_state" / "eeg_eye_state.arff"
    if not path.is_file():
        pytest.skip(f"real data not at hand: {path}")
    rows = path.read_text().split("@DATA")[1].split()
    eeg = np.array([[float(v) for v in row.split(",")[:14]] for row in rows])
    assert eeg.shape == (14980, 14)
    return eeg


@pytest.fixture(scope="session")
def eeglab(data_root: Path) -> tuple[Array, Array]:
    """238 s of 32 channels, in volts, and the electrodes' positions."""
    path = data_root / "eeg" / "eeglab" / "eeglab_data.set"
    if not path.is_file():
        pytest.skip(f"real data not at hand: {path}")
    raw = mne.io.read_raw_eeglab(path, preload=True, verbose="error")
    eeg = np.ascontiguousarray(raw.get_data().T)
    lines = [line.split() for line in (path.parent / "eeglab_chan32.locs").read_text().splitlines()]
    # EEGLAB: angle from the nose to the right, radius 0.5 is the equator
    angle, pole = np.deg2rad([float(p[1]) for p in lines]), np.pi * np.array([float(p[2]) for p in lines])
    place = np.stack([np.sin(pole) * np.sin(angle), np.sin(pole) * np.cos(angle), np.cos(pole)], 1)
    assert eeg.shape == (30504, 32)
    assert place.shape == (32, 3)
    return eeg, place


def synthetic() -> dict[str, Array]:
    """Extremes: offset, gain, impulse, constant."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((900, 5))
    impulse = np.zeros((900, 3))
    impulse[400] = 1
    return {
        "offset": noise + 1e6,
        "volts": noise * 1e-6,
        "huge": noise * 1e100,
        "impulse": impulse,
        "constant": np.full((900, 2), 7.5),
    }


# ------------------------------------------------------------------------------------------------------------- filters

KINDS = {
    "lowpass": ([0.31], [0.008]),
    "highpass": ([0.01], [0.2]),
    "bandpass": ([1 / 128, 45 / 128], [0.1, 0.22]),
    "bandstop": ([0.36, 0.41], [0.1, 0.13]),
}


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("order", range(1, 13))
def test_butterworth_sections_are_scipys(kind: Any, order: int) -> None:
    for rate, edges in itertools.product((128, 250, 1000, 44100), KINDS[kind]):
        hz = [rate * e for e in edges]
        want = signal.butter(order, hz if len(hz) > 1 else hz[0], kind, fs=rate, output="sos")
        got = ops.filter_coefficients(rate, hz, kind=kind, order=order)
        assert got.shape == want.shape
        # every coefficient but those of the first numerator, which hold the gain, is of the order of 1
        np.testing.assert_allclose(got[:, 3:], want[:, 3:], rtol=0, atol=1e-12)
        np.testing.assert_allclose(got[1:, :3], want[1:, :3], rtol=0, atol=1e-12)
        np.testing.assert_allclose(got[0, :3], want[0, :3], rtol=1e-12, atol=0)


def test_notch_is_scipys() -> None:
    for rate, hz, q in ((128, 50, 30), (250, 60, 5), (44100, 100, 100)):
        want = np.concatenate(signal.iirnotch(hz, q, fs=rate))
        np.testing.assert_allclose(
            ops.filter_coefficients(rate, [hz], kind="notch", q=q)[0], want, rtol=1e-12
        )


@pytest.mark.parametrize("window", ["hamming", "hann", "blackman"])
def test_fir_taps_are_scipys_and_mnes(window: Any) -> None:
    for taps, (kind, edges) in itertools.product(
        (1, 31, 101, 400),
        [("lowpass", [20.0]), ("highpass", [5.0]), ("bandpass", [4.0, 30.0]), ("bandstop", [45.0, 55.0])],
    ):
        if taps == 400 and kind in ("highpass", "bandstop"):
            continue  # refused: tests/test_eeg_ops.py
        want = signal.firwin(taps, edges, window=window, pass_zero=kind, fs=RATE)
        got = ops.filter_coefficients(RATE, edges, kind=kind, design="fir", taps=taps, window=window)  # type: ignore[arg-type]
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)
    for low, high in ((1, 45), (None, 30), (0.5, None), (4, 8), (75, 35)):
        want = mne.filter.create_filter(None, 256, low, high, fir_window=window, verbose="error")
        kind = (
            "lowpass"
            if low is None
            else "highpass"
            if high is None
            else "bandpass"
            if low < high
            else "bandstop"
        )
        edges = sorted(f for f in (low, high) if f is not None)
        got = ops.filter_coefficients(256, edges, kind=kind, design="fir", window=window)  # type: ignore[arg-type]
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


def same(ours: Array, theirs: Array, x: Array) -> bool:
    """1e-9 of the largest value (1e-6 is asked for), beside what double precision leaves of the offset that is taken out."""
    return float(np.abs(ours - theirs).max()) <= 1e-9 * float(np.abs(theirs).max()) + 1e-12 * float(
        np.abs(x).max()
    )


def check_filters(x: Array, rate: float, edges: tuple[float, float]) -> None:
    """All forms of a band-pass, a low-pass and a notch against SciPy."""
    for kind, hz, order in (
        ("bandpass", list(edges), 4),
        ("lowpass", [edges[1]], 5),
        ("notch", [edges[1]], 1),
    ):
        if kind == "notch":
            sos = np.concatenate(signal.iirnotch(hz[0], 30, fs=rate))[None]
        else:
            sos = signal.butter(order, hz if len(hz) > 1 else hz[0], kind, fs=rate, output="sos")
        options: dict[str, Any] = {"kind": kind, "order": order}
        assert same(ops.filter(x, rate, hz, **options), signal.sosfilt(sos, x, axis=0), x)
        steady = signal.sosfilt_zi(sos)[:, :, None] * x[0]
        want = signal.sosfilt(sos, x, axis=0, zi=steady)[0]
        assert same(ops.filter(x, rate, hz, initial="steady", **options), want, x)
        for pad in ("odd", "even", "constant", "none"):
            want = signal.sosfiltfilt(sos, x, axis=0, padtype=None if pad == "none" else pad)
            assert same(ops.filter(x, rate, hz, phase="zero", pad=pad, **options), want, x)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(synthetic()))
def test_filters_on_extremes(isa: str, name: str) -> None:
    check_filters(synthetic()[name], RATE, (1.0, 45.0))


def test_filters_on_real_eeg(isa: str, eye_state: Array, eeglab: tuple[Array, Array]) -> None:
    check_filters(eye_state, RATE, (1.0, 45.0))
    check_filters(eeglab[0], RATE, (4.0, 40.0))


def test_filter_of_sound(isa: str) -> None:
    x = np.random.default_rng(1).standard_normal((44100, 1))
    check_filters(x, 44100, (60.0, 9000.0))


def test_fir_on_real_eeg(isa: str, eye_state: Array) -> None:
    want = mne.filter.filter_data(eye_state.T, RATE, 1, 45, verbose="error").T
    assert relative(ops.filter(eye_state, RATE, [1, 45], design="fir", phase="zero"), want) <= 1e-10
    short = eye_state[:300]  # shorter than the filter: the mirrored signal ends, zeros follow
    want = mne.filter.filter_data(short.T, RATE, 1, 45, verbose="error").T
    assert relative(ops.filter(short, RATE, [1, 45], design="fir", phase="zero"), want) <= 1e-10
    for taps in (7, 101):
        h = signal.firwin(taps, [1, 45], pass_zero=False, fs=RATE)
        want = signal.lfilter(h, 1, eye_state, axis=0)
        assert relative(ops.filter(eye_state, RATE, [1, 45], design="fir", taps=taps), want) <= 1e-10
        zero = ops.filter(eye_state, RATE, [1, 45], design="fir", taps=taps, phase="zero", pad="none")
        full = np.stack([np.convolve(c, h)[taps // 2 : taps // 2 + len(c)] for c in eye_state.T], 1)
        assert relative(zero, full) <= 1e-10
        for pad, mode in (("even", "reflect"), ("constant", "edge")):
            wide = np.pad(eye_state, ((taps // 2,) * 2, (0, 0)), mode=mode)  # type: ignore[call-overload]
            full = np.stack([np.convolve(c, h, "valid") for c in wide.T], 1)
            got = ops.filter(eye_state, RATE, [1, 45], design="fir", taps=taps, phase="zero", pad=pad)  # type: ignore[arg-type]
            assert relative(got, full) <= 1e-10


def test_demean(eye_state: Array) -> None:
    want = eye_state - eye_state.mean(0)
    assert np.abs(ops.demean(eye_state) - want).max() <= 1e-9 * np.abs(eye_state).max()


# ---------------------------------------------------------------------------------------------------------- band power


def welch(
    x: Array, rate: float, length: int, hop: int, segment: int, overlap: int | None, **options: Any
) -> tuple[Array, Array]:
    """Frequencies, and PSD [windows, bins, channels]."""
    rows = []
    for start in range(0, len(x) - length + 1, hop):
        part = x[start : start + length]
        _, power = signal.welch(part, rate, nperseg=segment, noverlap=overlap, axis=0, **options)
        rows.append(power)
    return np.arange(segment // 2 + 1) * rate / segment, np.stack(rows)


# float32 output: half a unit in the last place is 6e-8; a sum over segments and bins in float64 adds nothing visible
POWER_BOUND = 2e-7


@pytest.mark.parametrize(
    ("rate", "window", "hop", "segment", "overlap"),
    [
        (128, 128, 64, None, None),
        (250, 250, 125, None, None),
        (250, 500, 250, 250, None),
        (1000, 1000, 500, 500, 100),
        (512, 1024, 700, 256, 0),
        (125, 125, 62, None, None),  # odd: direct transform
        (128, 254, 64, 127, 30),  # prime
    ],
)
def test_bandpower_is_welchs(
    isa: str, rate: int, window: int, hop: int, segment: int | None, overlap: int | None
) -> None:
    x = np.random.default_rng(2).standard_normal((3 * window + 50, 11)) * 20 + 4000
    bands = ((0, 8), (8, 14), (14, 31), (31, rate / 2))
    for taper, scaling in itertools.product(("hann", "hamming", "boxcar"), ("density", "spectrum")):
        f, psd = welch(
            x,
            rate,
            window,
            hop,
            segment or window,
            overlap,
            window=taper,
            scaling=scaling,
            detrend="constant",
        )
        for integrate in ("sum", "mean", "trapezoid"):
            got = ops.bandpower(
                x, rate, bands=[e for b in bands for e in b], window_length=window, hop_length=hop, segment_length=segment,
                overlap=overlap, taper=taper, scaling=scaling, integrate=integrate, output="power",
            )  # type: ignore[call-overload]  # fmt: skip
            for b, (low, high) in enumerate(bands):
                part = psd[:, (f >= low) & (f < high)]
                if integrate == "trapezoid":
                    want = np.trapezoid(psd[:, (f >= low) & (f <= high)], f[(f >= low) & (f <= high)], axis=1)
                else:
                    want = (
                        part.mean(1)
                        if integrate == "mean"
                        else part.sum(1) * (f[1] if scaling == "density" else 1)
                    )
                np.testing.assert_allclose(got[:, b], want, rtol=POWER_BOUND)


def sheet_entropy(x: Array) -> Array:
    """Fact sheet 9, EEG teacher, step 3, word by word."""
    n = 128
    w = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)
    f = np.arange(n // 2 + 1)
    rows = []
    for start in range(0, len(x) - n + 1, 64):
        part = x[start : start + n]
        power = np.abs(np.fft.rfft((part - part.mean(0)) * w[:, None], axis=0)) ** 2
        variance = np.stack([2 * power[(f >= lo) & (f < hi)].sum(0) / (n * (w**2).sum()) for lo, hi in BANDS])
        rows.append(0.5 * np.log(2 * np.pi * np.e * (variance + 1e-12)))
    return np.stack(rows)


def test_bandpower_on_real_eeg(isa: str, eye_state: Array, eeglab: tuple[Array, Array]) -> None:
    for x in (eye_state, eeglab[0] * 1e6):
        want = sheet_entropy(x)
        got = ops.bandpower(x, RATE)
        assert got.shape == want.shape
        # an entropy has no relative scale: absolute, beside float32's step at its size
        assert np.abs(got - want).max() <= 2e-7 * max(1, np.abs(want).max())
        power = np.exp(2 * want) / (2 * np.pi * np.e) - 1e-12
        np.testing.assert_allclose(ops.bandpower(x, RATE, output="power"), power, rtol=1e-6)
        logs = ops.bandpower(x, RATE, output="log")
        np.testing.assert_allclose(logs, np.log(power + 1e-12), rtol=0, atol=2e-7 * np.abs(logs).max())


def test_bandpower_without_detrending(isa: str) -> None:
    x = np.random.default_rng(3).standard_normal((600, 3)) + 5
    f, psd = welch(x, RATE, 128, 64, 128, None, window="hann", detrend=False)
    got = ops.bandpower(x, RATE, bands=(0, 3, 4, 8), output="power", detrend=False)
    for b, (low, high) in enumerate(((0, 3), (4, 8))):
        np.testing.assert_allclose(got[:, b], psd[:, (f >= low) & (f < high)].sum(1) * f[1], rtol=POWER_BOUND)


# ------------------------------------------------------------------------------------------------------------ topomaps


def test_projection_is_the_sheets() -> None:
    want = np.array([SHEET[name][3:] for name in EMOTIV[:7]])
    got = ops.project_positions(sheet_positions())
    np.testing.assert_allclose(got[:7], want, atol=6e-5)  # the sheet gives four digits
    np.testing.assert_allclose(got[7:], got[:7][::-1] * [-1, 1], atol=1e-15)
    np.testing.assert_allclose(ops.project_positions(sheet_positions() * 95.0), got, atol=1e-15)


def test_spline_is_the_sheets(isa: str) -> None:
    values = (np.arange(1, 15) / 14).astype(np.float32)
    image = ops.topomap(values, sheet_positions())
    inside = image[image != 0]
    assert inside.size == 812
    assert inside.mean(dtype=float) == pytest.approx(0.535714, abs=1e-6)
    assert inside.min() == pytest.approx(0.028224, abs=1e-6)
    assert inside.max() == pytest.approx(1.043204, abs=1e-6)
    golden = {(16, 16): 0.545209, (4, 16): 0.588834, (16, 4): 0.387575, (27, 12): 0.500973, (8, 24): 0.972033}
    for pixel, value in golden.items():
        assert image[pixel] == pytest.approx(value, abs=1e-6)


def test_spline_is_the_formula(isa: str, eeglab: tuple[Array, Array]) -> None:
    """The system of the sheet solved with NumPy, on the 32-channel montage."""
    legendre = pytest.importorskip("numpy.polynomial.legendre")
    place = eeglab[1]
    n = np.arange(51.0)
    factor = np.r_[0, (2 * n[1:] + 1) / (n[1:] * (n[1:] + 1)) ** 4] / (4 * np.pi)
    kernel = lambda c: legendre.legval(np.clip(c, -1, 1), factor)  # noqa: E731
    system = np.ones((33, 33))
    system[:32, :32] = kernel(place @ place.T) + 1e-5 * np.eye(32)
    system[32, 32] = 0
    values = (eeglab[0][::3000] * 1e6 + 4000).astype(np.float32)
    weights = np.linalg.solve(system, np.c_[values.astype(float), np.zeros(len(values))].T)
    size = 40
    centre = -1 + (2 * np.arange(size) + 1) / size
    x, y = np.meshgrid(centre, -centre)
    r, a = np.hypot(x, y), np.arctan2(y, x)
    points = np.stack(
        [np.sin(r * np.pi / 2) * np.cos(a), np.sin(r * np.pi / 2) * np.sin(a), np.cos(r * np.pi / 2)], -1
    )
    want = np.where(r[..., None] <= 1, kernel(points @ place.T) @ weights[:32] + weights[32], 0)
    got = ops.topomap(values, place, size=size)
    span = np.ptp(values, axis=1)[:, None, None]
    # the weights in float32 act on the deviations from the mean: the offset of 4000 costs its own rounding only
    assert (np.abs(got - want.transpose(2, 0, 1)) / span).max() <= 1e-5


def mne_maps(flat: Array, values: Array, size: int) -> tuple[Array, Array, float]:
    """MNE's images with the lowest row first, their inside, and the spacing that it took for its outer points."""
    from mne.viz import topomap

    outlines = topomap._make_head_outlines(np.array([0, 0, 0, 1.0]), flat, "head", (0.0, 0.0))
    _, xi, yi, interpolator = topomap._setup_interp(flat, size, "cubic", "head", outlines, "mean")
    interpolator.set_locations(xi, yi)
    images = np.stack([interpolator.set_values(v.astype(float))() for v in values])
    radius = outlines["clip_radius"][0]
    spacing = float(np.hypot(*interpolator.tri.points[-1])) - 1.1 * radius
    return images, np.hypot(xi, yi) <= radius * (1 - 1e-9), spacing


def montage(path: Path) -> dict[str, Array]:
    """Name -> position of a table or an ASA file."""
    if path.suffix == ".tsv":
        rows = [line.split("\t") for line in path.read_text().splitlines()[1:]]
        found = {r[0]: np.array([float(v) for v in r[1:4]]) for r in rows}
    else:
        text = path.read_text()
        block, names = text.split("Positions\n")[1].split("Labels\n")
        lines = [line.split() for line in block.strip().splitlines()]
        values = [np.array([float(v) for v in line[-3:]]) for line in lines]
        found = dict(zip(names.split(), values, strict=True))
    return {k: v for k, v in found.items() if k not in ("LPA", "RPA", "NAS", "Nz")}


def apart(place: Array, distance: float) -> Array:
    """Without those that lie within `distance` of an earlier one."""
    flat = ops.project_positions(place)
    keep: list[int] = []
    for i, p in enumerate(flat):
        if all(np.hypot(*(p - flat[j])) > distance for j in keep):
            keep.append(i)
    return place[keep]


def check_against_mne(place: Array, size: int) -> None:
    """Clough-Tocher maps within 1e-5 of the values' range of MNE's."""
    rng = np.random.default_rng(4)
    values = rng.standard_normal((3, len(place))).astype(np.float32)
    images, inside, spacing = mne_maps(ops.project_positions(place), values, size)
    got = ops.topomap(values, place, size=size, method="clough_tocher", spacing=spacing)[:, ::-1]
    for ours, image, v in zip(got, images, values, strict=True):
        # SciPy stops its gradients at a change of 1e-6; ours are the limit
        assert np.abs(ours - image)[inside].max() <= 1e-5 * np.ptp(v)
        assert not ours[np.hypot(*np.indices((size, size)) - (size - 1) / 2) > size / 2].any()


@pytest.mark.parametrize("file", ["fsaverage_1005.tsv", "colin27_1005.elc", "spherical_1005.tsv"])
def test_clough_tocher_is_mnes(isa: str, data_root: Path, file: str) -> None:
    path = data_root / "eeg" / "montage" / file
    if not path.is_file():
        pytest.skip(f"real data not at hand: {path}")
    places = montage(path)
    # Symmetric electrodes lie on common circles, and which way Qhull cuts those is chance: 1e-4 puts an end to that.
    shift = np.random.default_rng(5).normal(0, 1e-4, (400, 3)) * (file == "spherical_1005.tsv")
    unit = {k: v / np.linalg.norm(v) for k, v in places.items() if k != "Cz" or np.abs(v).any()}
    emotiv = np.stack([unit[name] for name in EMOTIV])
    check_against_mne(emotiv + shift[:14], 64)
    check_against_mne(emotiv + shift[:14], 33)
    every = apart(np.stack(list(unit.values())), 0.01)
    check_against_mne(every[::10] + shift[: len(every[::10])], 64)
    if isa == "baseline":
        check_against_mne(every + shift[: len(every)], 48)


def test_clough_tocher_on_the_eeglab_montage(isa: str, eeglab: tuple[Array, Array]) -> None:
    place = eeglab[1] + np.random.default_rng(6).normal(0, 1e-4, (32, 3))
    check_against_mne(place, 64)


def test_clough_tocher_is_scipys(isa: str) -> None:
    """On electrodes anywhere, also below the equator, and values with a large span."""
    rng = np.random.default_rng(7)
    place = apart(rng.normal(size=(40, 3)) * [1, 1, 0.3] + [0, 0, 0.3], 0.02)
    values = rng.uniform(-50, 50, (1, len(place))).astype(np.float32)
    images, inside, spacing = mne_maps(ops.project_positions(place), values, 50)
    got = ops.topomap(values[0], place, size=50, method="clough_tocher", spacing=spacing)
    assert np.abs(got[::-1] - images[0])[inside].max() <= 1e-5 * np.ptp(values)


# ------------------------------------------------------------------------------------------------- the sheet's chain


def test_the_chain_of_the_sheet(isa: str, eye_state: Array) -> None:
    """Demean, band-pass, entropy, baseline and z-score, maps: one pipeline, against SciPy and NumPy."""
    place = sheet_positions()
    sos = signal.butter(4, [1, 45], "bandpass", fs=RATE, output="sos")
    entropy = sheet_entropy(signal.sosfiltfilt(sos, eye_state - eye_state.mean(0), axis=0))
    baseline, mean, std = entropy[:20].mean(0), (entropy - entropy[:20].mean(0)).mean(0), entropy.std(0)
    scores = (entropy - baseline - mean) / std
    chain = [
        Demean(),
        Filter(freqs=(1.0, 45.0), phase="zero"),
        Bandpower(),
        # the baseline's mean and the subject's are subtracted as one
        Standardize(mean=tuple((baseline + mean).ravel().tolist()), std=tuple(std.ravel().tolist())),
    ]
    got = Pipeline(chain, shape=(-1, 14))(eye_state, RATE)
    assert np.abs(got - scores).max() <= 1e-5
    maps = Pipeline([*chain, Topomap(positions=tuple(place.ravel().tolist()))], shape=(-1, 14))(
        eye_state, RATE
    )
    assert maps.shape == (233, 4, 32, 32)
    np.testing.assert_array_equal(maps, ops.topomap(got, place))
