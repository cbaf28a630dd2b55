# SPDX-License-Identifier: Apache-2.0
"""EEG: filters, power of frequency bands, and maps of the scalp."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from zoo import _native
from zoo.errors import InputError
from zoo.ops._call import run, run_tensor

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

FilterKind = Literal["lowpass", "highpass", "bandpass", "bandstop", "notch"]
FilterDesign = Literal["butterworth", "fir"]
FirWindow = Literal["hamming", "hann", "blackman"]

_KINDS = ("lowpass", "highpass", "bandpass", "bandstop", "notch")
_DESIGNS = ("butterworth", "fir")
_WINDOWS = ("hamming", "hann", "blackman")


def filter(
    eeg: ArrayLike,
    rate: float,
    freqs: Sequence[float],
    *,
    kind: FilterKind = "bandpass",
    design: FilterDesign = "butterworth",
    order: int = 4,
    q: float = 30.0,
    taps: int | None = None,
    window: FirWindow = "hamming",
    phase: Literal["causal", "zero"] = "causal",
    initial: Literal["zero", "steady"] = "zero",
    pad: Literal["odd", "even", "constant", "none"] = "odd",
) -> NDArray[np.float64]:
    """Filter every channel of a recording.

    Parameters
    ----------
    eeg : float64, float32, int16 or int32, shape (n, channels) or (n,)
        Samples in any unit; not scaled.
    rate : float
        Hz, 1 to 768000.
    freqs : sequence of float
        Hz, between 0 and rate / 2: the edge (low-pass, high-pass), the frequency (notch) or both edges of a band.
        Butterworth: -3 dB there. FIR with ``taps``: -6 dB. FIR without: the ends of the pass band.
    kind : {"lowpass", "highpass", "bandpass", "bandstop", "notch"}
    design : {"butterworth", "fir"}
        Recursive second-order sections, or a windowed sinc. A notch is recursive.
    order : int
        Butterworth: 1 to 32. Bands have twice as many poles.
    q : float
        Notch: frequency over width at -3 dB.
    taps : int or None
        FIR: length, odd where the filter passes rate / 2 or has no delay. None: each edge has a transition of max(2 Hz,
        a quarter of its frequency), and the filter is as long as that takes.
    window : {"hamming", "hann", "blackman"}
        FIR.
    phase : {"causal", "zero"}
        Zero: the recursive filter runs forward, then backward over the result; the FIR's delay is undone.
    initial : {"zero", "steady"}
        Causal: what came before the first sample: nothing, or that sample for ever (no step at the start).
    pad : {"odd", "even", "constant", "none"}
        Zero phase: the signal beyond its ends is turned about its end point, mirrored, held, or zero. Where a mirrored
        signal ends, zeros follow.

    Returns
    -------
    float64, shape (n, channels); (n, 1) for (n,)

    Raises
    ------
    InputError
        No samples, a NaN or Inf, a parameter outside its range, a filter that double precision cannot hold, or too few
        samples for filtering forward and backward.

    Notes
    -----
    Source: SciPy 1.17 ``butter(output="sos")``, ``iirnotch``, ``sosfilt``, ``sosfiltfilt``, ``firwin``; MNE 1.13
    ``filter_data`` for FIR without ``taps``. The EEG teacher of fact sheet 9 takes order 4, 1 to 45 Hz. Causal filters and
    FIR filters work on streams, with the same bits.
    """
    return run(
        "filter",
        eeg,
        rate,
        kind=kind,
        freqs=tuple(freqs),
        design=design,
        order=order,
        q=q,
        taps=taps,
        window=window,
        phase=phase,
        initial=initial,
        pad=pad,
    )


def filter_coefficients(
    rate: float,
    freqs: Sequence[float],
    *,
    kind: FilterKind = "bandpass",
    design: FilterDesign = "butterworth",
    order: int = 4,
    q: float = 30.0,
    taps: int | None = None,
    window: FirWindow = "hamming",
) -> NDArray[np.float64]:
    """What :func:`filter` with these parameters is made of.

    Parameters
    ----------
    rate, freqs, kind, design, order, q, taps, window
        As in :func:`filter`.

    Returns
    -------
    float64, shape (sections, 6) or (taps,)
        b0, b1, b2, 1, a1, a2 of each second-order section; or the taps of an FIR filter.

    Raises
    ------
    InputError
        A parameter outside its range.
    """
    for name, value, known in (
        ("kind", kind, _KINDS),
        ("design", design, _DESIGNS),
        ("window", window, _WINDOWS),
    ):
        if value not in known:
            raise InputError(f"filter: {name} is {value!r}; it must be one of {', '.join(known)}")
    found = _native.filter_coefficients(
        rate,
        _KINDS.index(kind),
        _DESIGNS.index(design),
        [float(f) for f in freqs],
        order,
        q,
        taps or 0,
        _WINDOWS.index(window),
    )
    return found if found.shape[1] == 6 else found[:, 0]


def demean(eeg: ArrayLike) -> NDArray[np.float64]:
    """Subtract each channel's mean over the recording.

    Parameters
    ----------
    eeg : float64, float32, int16 or int32, shape (n, channels) or (n,)

    Returns
    -------
    float64, shape (n, channels); (n, 1) for (n,)

    Raises
    ------
    InputError
        No samples, a NaN or Inf.

    Notes
    -----
    Source: fact sheet 9, EEG teacher, step 1. It needs the whole recording: on streams a high-pass filter with
    ``initial="steady"`` takes its place.
    """
    return run("demean", eeg, 1.0)


def despike(eeg: ArrayLike, *, limit: float = 200.0) -> NDArray[np.float64]:
    """Replace single samples far from both neighbours, as transmission errors are.

    Parameters
    ----------
    eeg : float64, float32, int16 or int32, shape (n, channels) or (n,)
    limit : float
        A sample further than this from the median of itself and its two neighbours takes that median; in the unit of
        `eeg`, 1e-9 to 1e12. All else stays as it is. At either end the median is that of the first
        or last three.

    Returns
    -------
    float64, shape (n, channels); (n, 1) for (n,)

    Raises
    ------
    InputError
        No samples, a NaN or Inf, a limit outside its range.

    Notes
    -----
    Our choice: a recursive filter would ring for seconds after a spike of thousands of microvolts. On streams it is one
    sample late, with the same bits.
    """
    return run("despike", eeg, 1.0, limit=limit)


def bandpower(
    eeg: ArrayLike,
    rate: float,
    *,
    bands: Sequence[float] = (4.0, 8.0, 8.0, 14.0, 14.0, 31.0, 31.0, 45.0),
    window_length: int = 128,
    hop_length: int = 64,
    segment_length: int | None = None,
    overlap: int | None = None,
    taper: Literal["hann", "hamming", "boxcar"] = "hann",
    detrend: bool = True,
    scaling: Literal["density", "spectrum"] = "density",
    integrate: Literal["sum", "mean", "trapezoid"] = "sum",
    output: Literal["power", "log", "entropy"] = "entropy",
    epsilon: float = 1e-12,
) -> NDArray[np.float32]:
    """Power of frequency bands in windows of a recording.

    Parameters
    ----------
    eeg : float64, float32, int16 or int32, shape (n, channels) or (n,)
    rate : float
        Hz.
    bands : sequence of float
        Hz: the low and the high edge of each band, within 0 to rate / 2. A frequency f belongs to a band when
        low <= f < high.
    window_length, hop_length : int
        Samples of a window (a row of the output), and between windows. The default is 1 s and 0.5 s at 128 Hz.
    segment_length, overlap : int or None
        Welch's method: samples of one transform and how many neighbours share. None: one transform a window, half.
    taper : {"hann", "hamming", "boxcar"}
        Periodic window of a segment.
    detrend : bool
        Subtract each segment's mean.
    scaling : {"density", "spectrum"}
        As in ``scipy.signal.welch``: per Hz, or of a sine at each frequency.
    integrate : {"sum", "mean", "trapezoid"}
        Sum over the band's frequencies, times their distance in Hz for the density: the variance of the signal in the
        band; their mean; or the trapezoid rule over low <= f <= high.
    output : {"power", "log", "entropy"}
        Power p; ln(p + epsilon); differential entropy of a normal signal, ln(2 pi e (p + epsilon)) / 2.
    epsilon : float
        In the unit of p: choose it by the unit of `eeg`.

    Returns
    -------
    float32, shape (windows, bands, channels)
        windows = 1 + (n - window_length) // hop_length.

    Raises
    ------
    InputError
        A NaN or Inf, a recording shorter than a window, a band without frequencies, a parameter outside its range.

    Notes
    -----
    Source: ``scipy.signal.welch``; the default is fact sheet 9, EEG teacher, steps 2 and 3. Computed in float64. Even
    segments of 16 to 65536 samples without a prime factor above 5 take a fast transform, others a direct one.
    """
    return run(
        "bandpower",
        eeg,
        rate,
        bands=tuple(bands),
        window_length=window_length,
        hop_length=hop_length,
        segment_length=segment_length,
        overlap=overlap,
        taper=taper,
        detrend=detrend,
        scaling=scaling,
        integrate=integrate,
        output=output,
        epsilon=epsilon,
    )


def _flat(positions: ArrayLike) -> tuple[float, ...]:
    p = np.asarray(positions, np.float64)
    if p.ndim == 2 and p.shape[1] != 3:
        raise InputError(f"positions has shape {p.shape}; it must be (electrodes, 3)")
    return tuple(p.ravel().tolist())


def topomap(
    values: ArrayLike,
    positions: ArrayLike,
    *,
    size: int = 32,
    method: Literal["spline", "clough_tocher"] = "spline",
    smoothing: float = 1e-5,
    spacing: float | None = None,
) -> NDArray[np.float32]:
    """Images of the head, seen from above, from values at electrodes.

    Parameters
    ----------
    values : float32, shape (channels,), (rows, channels) or (rows, bands, channels)
    positions : float, shape (channels, 3)
        x (right), y (nose), z (up) from the centre of the head, in any unit: only directions count.
    size : int
        Pixels a side, 1 to 1024.
    method : {"spline", "clough_tocher"}
        Spherical spline; or piecewise cubic on a triangulation, as MNE draws it with ``extrapolate="head"`` and
        ``border="mean"``.
    smoothing : float
        Spline: added to the diagonal of the system.
    spacing : float or None
        Clough-Tocher: typical distance between electrodes in head radii, which places the points around the head; None: the
        median edge of the electrodes' triangulation.

    Returns
    -------
    float32, the shape of `values` with (size, size) in place of channels
        Row 0 is at the nose, column 0 on the left. 0 outside the head. Spline: pixel centres cover the square around the
        head, X = -1 + (2 j + 1) / size. Clough-Tocher: pixels lie on a grid from edge to edge of the circle that holds the
        head and all electrodes, as MNE's; its image begins with the lowest row.

    Raises
    ------
    InputError
        An electrode without position (NaN, all zero), two at one place, fewer than 3 (spline) or 4, all on a line, another
        number of channels, a NaN or Inf value.

    Notes
    -----
    Source: fact sheet 9, EEG teacher, step 4. Where four electrodes lie on a circle their triangulation is a matter of
    choice: MNE's depends on rounding, ours cuts through the first of them. MNE takes the median over two of each
    triangle's edges for `spacing`, ours over all edges.
    """
    v = np.asarray(values)
    if v.dtype != np.float32:
        raise InputError(f"topomap: values is {v.dtype}; it must be float32")
    flat = _flat(positions)
    rows = v[None] if v.ndim == 1 else v
    out = run_tensor(
        "topomap", rows, positions=flat, size=size, method=method, smoothing=smoothing, spacing=spacing
    )
    return out[0] if v.ndim == 1 else out


def project_positions(positions: ArrayLike) -> NDArray[np.float64]:
    """Azimuthal equidistant projection of electrodes: the head seen from above.

    Parameters
    ----------
    positions : float, shape (electrodes, 3)
        x (right), y (nose), z (up) from the centre of the head, in any unit: only directions count.

    Returns
    -------
    float64, shape (electrodes, 2)
        x (right), y (nose); the angle from the vertex is the radius, and the equator the unit circle.

    Raises
    ------
    InputError
        Another shape, an electrode without position (NaN, Inf, all zero).

    Notes
    -----
    Source: fact sheet 9, EEG teacher, "Projection".
    """
    return _native.project_positions(list(_flat(positions)))
