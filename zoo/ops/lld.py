# SPDX-License-Identifier: Apache-2.0
"""Low-level descriptors of speech as openSMILE's feature set emobase2010 has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.ops._call import run

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

_GROUP_A = (
    "pcm_loudness_sma",
    *(f"pcm_fftMag_mfcc_sma[{i}]" for i in range(15)),
    *(f"logMelFreqBand_sma[{i}]" for i in range(8)),
    *(f"lspFreq_sma[{i}]" for i in range(8)),
    "F0finEnv_sma",
    "voicingFinalUnclipped_sma",
)
_GROUP_B = ("F0final_sma", "jitterLocal_sma", "jitterDDP_sma", "shimmerLocal_sma")


def _delta(name: str) -> str:
    stem, bracket, index = name.partition("[")
    return stem + "_de" + bracket + index


#: Names of the 76 columns of :func:`lld`, as openSMILE spells them: group A (34), group B (4), the deltas of A and of B.
LLD_NAMES: tuple[str, ...] = (*_GROUP_A, *_GROUP_B, *(_delta(name) for name in (*_GROUP_A, *_GROUP_B)))


def lld(wave: ArrayLike, rate: int) -> NDArray[np.float32]:
    """Low-level descriptors of openSMILE's emobase2010, smoothed over three frames, and their deltas.

    Parameters
    ----------
    wave : float32, float64, int16 or int32, shape (n,) or (n, channels)
        Samples in [-1, 1].
    rate : int
        Hz, 4000 to 384000. Frames are 25 ms (spectra) and 60 ms (pitch) every 10 ms at any rate.

    Returns
    -------
    float32, shape (frames, 76)
        frames = 1 + (n - pitch) // hop with pitch = round(0.06 * rate), hop = round(0.01 * rate); at least 2. Columns as in
        :data:`LLD_NAMES`: loudness, MFCC 0 to 14, log mel bands 0 to 7, line spectral frequencies 0 to 7 (rad), F0
        envelope (Hz), voicing probability; F0 (Hz, 0 where unvoiced), jitter local, jitter DDP, shimmer local (relative,
        at most 1); then the delta of each, a frame.

    Raises
    ------
    InputError
        Fewer samples than two pitch frames need (0.07 s), a NaN or Inf, a rate outside its range, samples so large that
        a power overflows float32.

    Notes
    -----
    Source: openSMILE 3, ``config/emobase/emobase2010.conf`` (fact sheet 5, section 2). The definition of each descriptor,
    what openSMILE does at the edges, and the differences that remain are in ``docs/lld.md``. A stream of this op gives the
    same rows, bit for bit, as a call on the whole signal.
    """
    return run("lld", wave, rate, rate=rate)
