# SPDX-License-Identifier: Apache-2.0
"""Speech: features of recognisers (Kaldi, DeepSpeech), context windows, normalisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from zoo.ops._call import run, run_tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

KaldiWindow = Literal["povey", "hamming", "hanning", "rectangular", "blackman"]


def kaldi_fbank(
    wave: ArrayLike,
    rate: int,
    *,
    scale: float = 32768.0,
    frame_length_ms: float = 25.0,
    frame_shift_ms: float = 10.0,
    preemph_coeff: float = 0.97,
    remove_dc_offset: bool = True,
    window_type: KaldiWindow = "povey",
    blackman_coeff: float = 0.42,
    round_to_power_of_two: bool = True,
    snip_edges: bool = True,
    num_bins: int = 23,
    low_freq: float = 20.0,
    high_freq: float = 0.0,
    use_energy: bool = False,
    raw_energy: bool = True,
    energy_floor: float = 0.0,
    use_log_fbank: bool = True,
    use_power: bool = True,
) -> NDArray[np.float32]:
    """Kaldi's mel filter bank (``compute-fbank-feats``) without dither: equal samples give equal features.

    Parameters
    ----------
    wave : float32, float64, int16 or int32, shape (n,) or (n, channels)
        Channels are averaged; integers are scaled to [-1, 1).
    rate : int
        Hz.
    scale : float
        Samples are multiplied by it first. 32768 gives the range of 16-bit integers, as Kaldi's own programs and most
        of its models have it; 1 keeps [-1, 1), as sherpa-onnx's ``normalize_samples`` does.
    frame_length_ms, frame_shift_ms : float
        ms; the samples are their product with ``rate``, rounded down in float32.
    preemph_coeff : float
        0 to 1: ``x[i] - coeff * x[i - 1]`` within each frame, with ``x[-1] = x[0]``.
    remove_dc_offset : bool
        Subtract each frame's mean.
    window_type : {"povey", "hamming", "hanning", "rectangular", "blackman"}
        Symmetric window; "povey" is "hanning" to the power of 0.85.
    blackman_coeff : float
        Constant term of "blackman".
    round_to_power_of_two : bool
        Zero-pad frames for the FFT; else their length must be even, a product of 2, 3 and 5.
    snip_edges : bool
        Only frames that lie within the signal; else centred frames, the signal mirrored at its edges.
    num_bins : int
        Mel bands, 3 to 4096.
    low_freq, high_freq : float
        Edges in Hz; a ``high_freq`` of 0 or below is added to rate / 2.
    use_energy : bool
        Put the log energy before the bands.
    raw_energy : bool
        Energy before pre-emphasis and window, else after them.
    energy_floor : float
        Floor of the energy; 0 means none but 2**-23.
    use_log_fbank : bool
        Natural logarithm of the bands, floored at 2**-23.
    use_power : bool
        Bands of the power, else of the magnitude.

    Returns
    -------
    float32, shape (frames, num_bins) or (frames, 1 + num_bins)
        frames = 1 + (n - length) // shift, without ``snip_edges`` (n + shift // 2) // shift.

    Raises
    ------
    InputError
        No samples or too few for a frame, a NaN or Inf, a band that overflows float32, a parameter outside its range, a
        band without a bin of the FFT.

    Notes
    -----
    Source: Kaldi ``feat/feature-window``, ``feat/feature-fbank``, ``feat/mel-computations``. The FFT runs in float64.
    """
    return run(
        "kaldi_fbank",
        wave,
        rate,
        rate=rate,
        scale=scale,
        frame_length_ms=frame_length_ms,
        frame_shift_ms=frame_shift_ms,
        preemph_coeff=preemph_coeff,
        remove_dc_offset=remove_dc_offset,
        window_type=window_type,
        blackman_coeff=blackman_coeff,
        round_to_power_of_two=round_to_power_of_two,
        snip_edges=snip_edges,
        num_bins=num_bins,
        low_freq=low_freq,
        high_freq=high_freq,
        use_energy=use_energy,
        raw_energy=raw_energy,
        energy_floor=energy_floor,
        use_log_fbank=use_log_fbank,
        use_power=use_power,
    )


def kaldi_mfcc(
    wave: ArrayLike,
    rate: int,
    *,
    scale: float = 32768.0,
    frame_length_ms: float = 25.0,
    frame_shift_ms: float = 10.0,
    preemph_coeff: float = 0.97,
    remove_dc_offset: bool = True,
    window_type: KaldiWindow = "povey",
    blackman_coeff: float = 0.42,
    round_to_power_of_two: bool = True,
    snip_edges: bool = True,
    num_bins: int = 23,
    low_freq: float = 20.0,
    high_freq: float = 0.0,
    use_energy: bool = True,
    raw_energy: bool = True,
    energy_floor: float = 0.0,
    num_ceps: int = 13,
    cepstral_lifter: float = 22.0,
) -> NDArray[np.float32]:
    """Kaldi's mel-frequency cepstral coefficients (``compute-mfcc-feats``) without dither.

    Parameters
    ----------
    wave : float32, float64, int16 or int32, shape (n,) or (n, channels)
    rate : int
        Hz.
    scale, frame_length_ms, frame_shift_ms, preemph_coeff, remove_dc_offset, window_type, blackman_coeff
        As in :func:`kaldi_fbank`.
    round_to_power_of_two, snip_edges, num_bins, low_freq, high_freq, raw_energy, energy_floor
        As in :func:`kaldi_fbank`.
    use_energy : bool
        The log energy takes the place of c0.
    num_ceps : int
        Coefficients kept, from c0 on; 1 to ``num_bins``.
    cepstral_lifter : float
        Coefficient k is multiplied by 1 + lifter / 2 * sin(pi * k / lifter); 0 means no scaling.

    Returns
    -------
    float32, shape (frames, num_ceps)
        frames as in :func:`kaldi_fbank`.

    Raises
    ------
    InputError
        As :func:`kaldi_fbank`.

    Notes
    -----
    Source: Kaldi ``feat/feature-mfcc``.
    """
    return run(
        "kaldi_mfcc",
        wave,
        rate,
        rate=rate,
        scale=scale,
        frame_length_ms=frame_length_ms,
        frame_shift_ms=frame_shift_ms,
        preemph_coeff=preemph_coeff,
        remove_dc_offset=remove_dc_offset,
        window_type=window_type,
        blackman_coeff=blackman_coeff,
        round_to_power_of_two=round_to_power_of_two,
        snip_edges=snip_edges,
        num_bins=num_bins,
        low_freq=low_freq,
        high_freq=high_freq,
        use_energy=use_energy,
        raw_energy=raw_energy,
        energy_floor=energy_floor,
        num_ceps=num_ceps,
        cepstral_lifter=cepstral_lifter,
    )


def deepspeech_mfcc(
    wave: ArrayLike,
    rate: int,
    *,
    win_length: int = 512,
    hop_length: int = 320,
    n_mels: int = 40,
    n_mfcc: int = 26,
    fmin: float = 20.0,
    fmax: float | None = None,
) -> NDArray[np.float32]:
    """Cepstral coefficients as DeepSpeech takes them: TensorFlow's ``audio_spectrogram`` and ``mfcc``.

    Parameters
    ----------
    wave : float32, float64, int16 or int32, shape (n,) or (n, channels)
        Samples in [-1, 1]; integers are scaled to it.
    rate : int
        Hz; DeepSpeech's models take 16000.
    win_length, hop_length : int
        Samples of a frame (periodic Hann window, zero-padded to a power of two) and between frames.
    n_mels : int
        Triangular bands of the magnitude, 1 to 4096, on the scale 1127 ln(1 + f / 700); bins below fmin / bin width
        + 1/2, rounded up, are left out, as TensorFlow does.
    n_mfcc : int
        Coefficients kept, 1 to ``n_mels``; natural logarithm floored at 1e-12, DCT-II with the factor sqrt(2 / n_mels).
    fmin, fmax : float
        Edges in Hz; ``fmax`` None means rate / 2.

    Returns
    -------
    float32, shape (1 + (n - win_length) // hop_length, n_mfcc)

    Raises
    ------
    InputError
        Fewer samples than ``win_length``, a NaN or Inf, a band that overflows float32, a parameter outside its range.

    Notes
    -----
    Source: fact sheet 06, section B; TensorFlow ``core/kernels/mfcc_mel_filterbank``, ``mfcc_dct``.
    """
    return run(
        "deepspeech_mfcc",
        wave,
        rate,
        rate=rate,
        win_length=win_length,
        hop_length=hop_length,
        n_mels=n_mels,
        n_mfcc=n_mfcc,
        fmin=fmin,
        fmax=fmax,
    )


def context(rows: NDArray[np.float32], *, before: int = 9, after: int = 9) -> NDArray[np.float32]:
    """Join each row with the rows around it; beyond the ends they are zeros.

    Parameters
    ----------
    rows : float32, shape (n, columns)
    before, after : int
        Rows before and after, 0 to 10000.

    Returns
    -------
    float32, shape (n, (before + 1 + after) * columns)
        The earliest row first.

    Raises
    ------
    InputError
        Another dtype or shape, no values, a NaN or Inf, a parameter outside its range.

    Notes
    -----
    Source of the default: fact sheet 06, section B (26 coefficients give 494).
    """
    return run_tensor("context", rows, before=before, after=after)


def cmvn(
    rows: NDArray[np.float32], *, norm_means: bool = True, norm_vars: bool = False
) -> NDArray[np.float32]:
    """Normalise the mean, and the variance, of each column over all rows.

    Parameters
    ----------
    rows : float32, shape (n, columns)
    norm_means : bool
        Subtract the mean.
    norm_vars : bool
        Divide by the population standard deviation, the variance floored at 1e-20; needs ``norm_means``.

    Returns
    -------
    float32, same shape
        A constant column gives zeros.

    Raises
    ------
    InputError
        Another dtype or shape, no values, a NaN or Inf, ``norm_vars`` without ``norm_means``.

    Notes
    -----
    Source: Kaldi ``apply-cmvn`` with the statistics of the utterance itself; sums in float64.
    """
    return run_tensor("cmvn", rows, norm_means=norm_means, norm_vars=norm_vars)


def cmvn_sliding(
    rows: NDArray[np.float32],
    *,
    window: int = 600,
    min_window: int = 100,
    center: bool = False,
    norm_vars: bool = False,
) -> NDArray[np.float32]:
    """Normalise the mean, and the variance, of each column over the rows around each row.

    Parameters
    ----------
    rows : float32, shape (n, columns)
    window : int
        Centred: rows of the window. Else: rows before the row that belong to its window, which has one more. 1 to 10**6.
    min_window : int
        Not centred: the first rows share a window of so many, 1 to ``window``.
    center : bool
        The window lies around the row, moved inwards at both ends; else it ends with the row.
    norm_vars : bool
        Divide by the population standard deviation, the variance floored at 1e-10; a window of one row gives zeros.

    Returns
    -------
    float32, same shape

    Raises
    ------
    InputError
        Another dtype or shape, no values, a NaN or Inf, a parameter outside its range.

    Notes
    -----
    Source: Kaldi ``apply-cmvn-sliding``. Sums in float64 that nothing is subtracted from; a stream is late by
    ``min_window``, or by half a window when centred.
    """
    return run_tensor(
        "cmvn_sliding", rows, window=window, min_window=min_window, center=center, norm_vars=norm_vars
    )


def wave_normalize(wave: ArrayLike, *, epsilon: float = 1e-7) -> NDArray[np.float32]:
    """Bring a signal to zero mean and unit variance: (x - mean) / sqrt(variance + epsilon).

    Parameters
    ----------
    wave : float32, float64, int16 or int32, shape (n,) or (n, channels)
    epsilon : float
        Added to the population variance, 1e-30 to 1.

    Returns
    -------
    float32, shape (n,)
        A constant signal gives zeros.

    Raises
    ------
    InputError
        No samples, a NaN or Inf, a parameter outside its range.

    Notes
    -----
    Source: ``Wav2Vec2FeatureExtractor`` with ``do_normalize`` (fact sheet 07); mean and variance in float64.
    """
    return run("wave_normalize", wave, 1, epsilon=epsilon)
