# SPDX-License-Identifier: Apache-2.0
"""Audio: reading, resampling, spectra and what is built on them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from zoo import _native
from zoo.ops._call import run, run_tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

Align = Literal["center", "start", "end"]


class AudioInfo(NamedTuple):
    """What an audio file's header says."""

    rate: int
    """Hz."""
    channels: int
    frames: int
    """Samples a channel."""
    bits: int
    format: str
    """``wav-pcm``, ``wav-float`` or ``flac``."""


def audio_info(path: str | os.PathLike[str]) -> AudioInfo:
    """Read the header of a WAV or FLAC file.

    Raises
    ------
    InputError
        As :func:`read_audio`, but only for what the header shows.
    """
    return AudioInfo(**_native.audio_info(path))  # type: ignore[arg-type]


def read_audio(
    path: str | os.PathLike[str], start: int = 0, frames: int = -1
) -> tuple[NDArray[np.float32], int]:
    """Samples of a WAV or FLAC file as mono float32.

    WAV: PCM of 8 (unsigned), 16, 24 and 32 bit, float of 32 and 64 bit, also as WAVE_FORMAT_EXTENSIBLE, RF64 and W64.
    FLAC: up to 32 bit. The file is decoded in blocks: memory grows only with the range that is asked for.

    Parameters
    ----------
    path : str or path
    start : int
        First frame.
    frames : int
        Number of frames; -1 means up to the end.

    Returns
    -------
    samples : float32, shape (frames,)
        Mean of the channels; integers are scaled to [-1, 1).
    rate : int
        Hz.

    Raises
    ------
    InputError
        A missing, empty, truncated or damaged file, another format, 0 samples, a rate outside 1 to 768000 Hz (WAV:
        384000), more than 64 channels, a range outside the file, a NaN or Inf sample (its index is named).
    """
    return _native.read_audio(path, start, frames)


def resample(wave: ArrayLike, rate_in: int, rate_out: int) -> NDArray[np.float32]:
    """Convert the rate of a mono signal.

    Parameters
    ----------
    wave : float32, float64, int16 or int32, shape (n,) or (n, channels)
        Channels are averaged; integers are scaled to [-1, 1).
    rate_in, rate_out : int
        Hz, 1 to 768000, at most a factor of 256 apart.

    Returns
    -------
    float32, shape (ceil(n * rate_out / rate_in),)
        Sample i lies at time i / rate_out: the filter has no delay. Beyond its ends the signal counts as zero.

    Raises
    ------
    InputError
        No samples, a NaN or Inf, or a rate outside the range.

    Notes
    -----
    Kaiser-windowed sinc of 72 zero crossings a side, polyphase, in two stages where the rates are more than a factor of 2.1
    apart: flat to 0.9 of the lower rate's Nyquist frequency, images and aliases at least 100 dB down. Our choice of filter; librosa's default is python-soxr HQ.
    """
    return run("resample", wave, rate_in, rate=rate_out)


def fit(wave: ArrayLike, length: int, pad: Align = "center", crop: Align = "center") -> NDArray[np.float32]:
    """Pad with zeros or crop a signal to a fixed length.

    Parameters
    ----------
    wave : float32, float64, int16 or int32, shape (n,) or (n, channels)
    length : int
        Samples, 1 to 2**31.
    pad : {"center", "start", "end"}
        Where the d missing samples go: floor(d / 2) before the signal and the rest after it, all before, all after.
    crop : {"center", "start", "end"}
        What is kept: ``length`` samples from floor((n - length) / 2) on, the first, the last ones.

    Returns
    -------
    float32, shape (length,)

    Raises
    ------
    InputError
        No samples, a NaN or Inf in the part that is kept, a length outside the range.

    Notes
    -----
    Source of the default: fact sheet 10, section 1, step 2.
    """
    return run("fit", wave, 1, length=length, pad=pad, crop=crop)


def stft(
    wave: ArrayLike,
    *,
    n_fft: int = 2048,
    hop_length: int = 512,
    win_length: int | None = None,
    window: Literal["hann", "hamming"] = "hann",
    center: bool = True,
    pad_mode: Literal["constant", "reflect"] = "constant",
    output: Literal["complex", "power", "magnitude"] = "complex",
) -> NDArray[np.float32] | NDArray[np.complex64]:
    """Short-time Fourier transform.

    Parameters
    ----------
    wave : float32, float64, int16 or int32, shape (n,) or (n, channels)
    n_fft : int
        Samples a frame: even, a product of 2, 3 and 5, 16 to 65536.
    hop_length : int
        Samples between frames.
    win_length : int or None
        Samples of the window, centred in the frame; None means ``n_fft``.
    window : {"hann", "hamming"}
        Periodic window.
    center : bool
        Frame t is centred at sample t * hop_length and edges are padded; else it starts there.
    pad_mode : {"constant", "reflect"}
        Zeros, or the signal mirrored without its edge sample.
    output : {"complex", "power", "magnitude"}

    Returns
    -------
    complex64 or float32, shape (frames, n_fft / 2 + 1)
        frames = 1 + n // hop_length when centred, else 1 + (n - n_fft) // hop_length. librosa's is the transpose.

    Raises
    ------
    InputError
        No samples, a NaN or Inf, a parameter outside its range, not centred and shorter than a frame.

    Notes
    -----
    Source: librosa 0.11 ``stft``, whose transform runs in float64; so does this one.
    """
    out = run(
        "stft",
        wave,
        1,
        n_fft=n_fft,
        hop_length=hop_length,
        win_length=win_length,
        window=window,
        center=center,
        pad_mode=pad_mode,
        output=output,
    )
    return out.view("complex64")[:, :, 0] if output == "complex" else out


def mel(
    wave: ArrayLike,
    rate: int,
    *,
    n_fft: int = 2048,
    hop_length: int = 512,
    win_length: int | None = None,
    window: Literal["hann", "hamming"] = "hann",
    center: bool = True,
    pad_mode: Literal["constant", "reflect"] = "constant",
    power: float = 2.0,
    n_mels: int = 128,
    fmin: float = 0.0,
    fmax: float | None = None,
    htk: bool = False,
    norm: Literal["slaney", "none"] = "slaney",
) -> NDArray[np.float32]:
    """Mel spectrogram.

    Parameters
    ----------
    wave : float32, float64, int16 or int32, shape (n,) or (n, channels)
    rate : int
        Hz.
    n_fft, hop_length, win_length, window, center, pad_mode
        As in :func:`stft`.
    power : {1.0, 2.0}
        Exponent of the magnitude.
    n_mels : int
        Bands, 1 to 4096.
    fmin, fmax : float
        Edges in Hz; ``fmax`` None means rate / 2.
    htk : bool
        HTK's mel scale instead of Slaney's.
    norm : {"slaney", "none"}
        Divide each band by half its width in Hz, or not.

    Returns
    -------
    float32, shape (frames, n_mels)
        librosa's is the transpose.

    Raises
    ------
    InputError
        As :func:`stft`.

    Notes
    -----
    Source: librosa 0.11 ``feature.melspectrogram``.
    """
    return run(
        "mel",
        wave,
        rate,
        rate=rate,
        n_fft=n_fft,
        hop_length=hop_length,
        win_length=win_length,
        window=window,
        center=center,
        pad_mode=pad_mode,
        power=power,
        n_mels=n_mels,
        fmin=fmin,
        fmax=fmax,
        htk=htk,
        norm=norm,
    )


def mfcc(
    wave: ArrayLike,
    rate: int,
    *,
    n_mfcc: int = 39,
    n_fft: int = 2048,
    hop_length: int = 512,
    win_length: int | None = None,
    window: Literal["hann", "hamming"] = "hann",
    center: bool = True,
    pad_mode: Literal["constant", "reflect"] = "constant",
    power: float = 2.0,
    n_mels: int = 128,
    fmin: float = 0.0,
    fmax: float | None = None,
    htk: bool = False,
    norm: Literal["slaney", "none"] = "slaney",
    ref: float = 1.0,
    amin: float = 1e-10,
    top_db: float | None = 80.0,
) -> NDArray[np.float32]:
    """Mel-frequency cepstral coefficients: mel spectrogram, decibels, orthonormal DCT-II.

    Parameters
    ----------
    wave : float32, float64, int16 or int32, shape (n,) or (n, channels)
    rate : int
        Hz.
    n_mfcc : int
        Coefficients kept, from c0 on; 1 to ``n_mels``.
    n_fft, hop_length, win_length, window, center, pad_mode, power, n_mels, fmin, fmax, htk, norm
        As in :func:`mel`.
    ref, amin, top_db
        As in :func:`power_to_db`; the largest value is that of the whole signal.

    Returns
    -------
    float32, shape (frames, n_mfcc)
        frames = 1 + n // hop_length when centred. ``librosa.feature.mfcc(...)`` gives the transpose.

    Raises
    ------
    InputError
        As :func:`stft`, and a power that overflows float32.

    Notes
    -----
    Source: librosa 0.11 ``feature.mfcc`` (fact sheet 10, section 1, step 3). Worst difference to it 5e-3 dB.
    """
    return run(
        "mfcc",
        wave,
        rate,
        n_mfcc=n_mfcc,
        rate=rate,
        n_fft=n_fft,
        hop_length=hop_length,
        win_length=win_length,
        window=window,
        center=center,
        pad_mode=pad_mode,
        power=power,
        n_mels=n_mels,
        fmin=fmin,
        fmax=fmax,
        htk=htk,
        norm=norm,
        ref=ref,
        amin=amin,
        top_db=top_db,
    )


def power_to_db(
    power: NDArray[np.float32], *, ref: float = 1.0, amin: float = 1e-10, top_db: float | None = 80.0
) -> NDArray[np.float32]:
    """Decibels: 10 log10(max(amin, power) / max(amin, ref)).

    Parameters
    ----------
    power : float32, shape (n,) or (rows, columns)
    ref : float
        Power of 0 dB.
    amin : float
        Floor of the power.
    top_db : float or None
        Results are clipped to this far below the largest; None: no clip.

    Returns
    -------
    float32, same shape

    Raises
    ------
    InputError
        No values, a NaN or Inf, another dtype, a parameter outside its range.

    Notes
    -----
    Source: librosa 0.11 ``power_to_db``.
    """
    return run_tensor("power_to_db", power, ref=ref, amin=amin, top_db=top_db)


def log(
    values: NDArray[np.float32], *, base: Literal["e", "10", "2"] = "e", amin: float = 1e-10
) -> NDArray[np.float32]:
    """Logarithm of max(amin, values).

    Parameters
    ----------
    values : float32, any shape of 1 to 4 dimensions
    base : {"e", "10", "2"}
    amin : float
        Floor of the values, 1e-37 to 1e37; negative values count as this, too.

    Returns
    -------
    float32, same shape
        Computed in float64: within 0.51 units in the last place.

    Raises
    ------
    InputError
        No values, a NaN or Inf, another dtype, a parameter outside its range.

    Notes
    -----
    Source: fact sheet 6, sections D and E: ``mel(..., power=1.0)`` and then ``log(..., amin=1e-5)``.
    """
    return run_tensor("log", values, base=base, amin=amin)


def dct(rows: NDArray[np.float32], n_out: int) -> NDArray[np.float32]:
    """Orthonormal DCT-II of each row.

    Parameters
    ----------
    rows : float32, shape (n, columns)
    n_out : int
        Coefficients kept, 1 to ``columns``.

    Returns
    -------
    float32, shape (n, n_out)

    Raises
    ------
    InputError
        Another dtype or shape, ``n_out`` outside its range.

    Notes
    -----
    Source: ``scipy.fft.dct(type=2, norm="ortho")``.
    """
    return run_tensor("dct", rows, n_out=n_out)


def standardize(
    rows: NDArray[np.float32],
    *,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    epsilon: float = 1e-8,
) -> NDArray[np.float32]:
    """Subtract a mean from each column and divide it by a standard deviation.

    Parameters
    ----------
    rows : float32, shape (n, columns) or (n, bands, channels)
        Every value of a row is a column, band after band.
    mean, std : sequence of float
        A value each column. Both empty: the statistics of ``rows`` itself (population standard deviation).
    epsilon : float
        Added to the standard deviation of ``rows``; unused when ``std`` is given.

    Returns
    -------
    float32, same shape
        A constant column gives zeros.

    Raises
    ------
    InputError
        Another dtype or shape, a wrong number of values, a standard deviation that is not positive.
    """
    return run_tensor("standardize", rows, mean=tuple(mean), std=tuple(std), epsilon=epsilon)


def min_max(
    rows: NDArray[np.float32], *, low: Sequence[float] = (), high: Sequence[float] = ()
) -> NDArray[np.float32]:
    """Map each column to [0, 1]: (x - low) / (high - low), clipped.

    Parameters
    ----------
    rows : float32, shape (n, columns) or (n, bands, channels)
        Every value of a row is a column, band after band.
    low, high : sequence of float
        A value each column. Both empty: the smallest and the largest of ``rows`` itself.

    Returns
    -------
    float32, same shape
        A constant column (high = low) gives zeros.

    Raises
    ------
    InputError
        Another dtype or shape, a wrong number of values, bounds that are not finite or the wrong way round.

    Notes
    -----
    Source: fact sheet 5, "Scaling". Computed in float64; given the bounds of ``rows`` itself the result has the same bits as
    without bounds.
    """
    return run_tensor("min_max", rows, low=tuple(low), high=tuple(high))
