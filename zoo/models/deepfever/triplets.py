# SPDX-License-Identifier: Apache-2.0
"""Triplets of faces, two alike and one odd, and the objective on them: fact sheet 08.

Google's FEC triplets, which people have judged, cannot be had. **Pseudo-triplets** stand in: made of how the votes on
FERPlus's faces are spread. Figures on them are called pseudo-triplet accuracy, and are none of FEC.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

#: How much nearer the closest pair must be than the second closest, in bits of Jensen-Shannon divergence (our choice).
GAP = 0.2
#: The closest pair of three, and the odd one out that it leaves.
_PAIRS = ((0, 1), (0, 2), (1, 2))
_ODD = (2, 1, 0)


def divergence(p: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
    """Jensen-Shannon divergence, in bits (0 to 1), of distributions (n, k) and (n, k), row by row."""
    middle = (p + q) / 2

    def relative(a: NDArray[np.float64]) -> NDArray[np.float64]:
        safe = np.where(a > 0, a, 1)
        logs = np.log2(safe / np.where(a > 0, middle, 1))
        return np.asarray((a * logs).sum(axis=1))

    found: NDArray[np.float64] = (relative(p) + relative(q)) / 2
    return found


def choose(
    votes: NDArray[np.float32], drawn: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Keep the drawn triplets that the votes are clear about.

    Parameters
    ----------
    votes : float32, shape (n, classes)
        Shares; each row adds up to one.
    drawn : int64, shape (m, 3)
        Rows of ``votes``, three different ones each.

    Returns
    -------
    triplets : int64, shape (k, 3)
        Rows of ``votes``: two alike, then the odd one out.
    types : int64, shape (k,)
        How many different classes are the three's most voted: 1, 2 or 3.
    """
    p = votes[drawn].astype(np.float64)
    apart = np.stack([divergence(p[:, i], p[:, j]) for i, j in _PAIRS], axis=1)
    ranked = np.sort(apart, axis=1)
    kept = ranked[:, 1] - ranked[:, 0] >= GAP
    closest = apart.argmin(axis=1)
    order = np.array([(*pair, odd) for pair, odd in zip(_PAIRS, _ODD, strict=True)])[closest]
    top = np.sort(p.argmax(axis=2), axis=1)
    types = 1 + (top[:, 1:] != top[:, :-1]).sum(axis=1)
    return np.take_along_axis(drawn, order, axis=1)[kept], types[kept].astype(np.int64)


def draw(n: int, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Up to ``count`` triplets of three different rows of ``n``, int64 (count, 3); none if there are fewer than three."""
    if n < 3:
        return np.empty((0, 3), np.int64)
    drawn = rng.integers(0, n, (count, 3))
    different = (drawn[:, 0] != drawn[:, 1]) & (drawn[:, 0] != drawn[:, 2]) & (drawn[:, 1] != drawn[:, 2])
    return np.asarray(drawn[different], np.int64)


def margins(types: NDArray[np.int64]) -> NDArray[np.float32]:
    """Margin of each triplet: 0.1 where all three are of one class, else 0.2 (our choice)."""
    return np.where(types == 1, 0.1, 0.2).astype(np.float32)


def distances(fec: Tensor, triplets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Squared distances (k,) of the alike pair, and of each of it to the odd one, of vectors (n, width)."""
    a, b, odd = (fec[triplets[:, i]] for i in range(3))
    return (a - b).square().sum(dim=1), (a - odd).square().sum(dim=1), (b - odd).square().sum(dim=1)


def loss(fec: Tensor, triplets: Tensor, margin: Tensor) -> Tensor:
    """The alike pair nearer to each other than each to the odd one, by the margin; mean over triplets, 0 if none.

    Parameters
    ----------
    fec : float32, shape (n, width)
        Of length 1.
    triplets : int64, shape (k, 3)
        Two alike, then the odd one out.
    margin : float32, shape (k,)
    """
    if not len(triplets):
        return fec.new_zeros(())
    alike, first, second = distances(fec, triplets)
    return (F.relu(alike - first + margin) + F.relu(alike - second + margin)).mean()


def correct(vectors: NDArray[np.float32], triplets: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the alike pair is nearer than both others, for each triplet; chance is a third. ``vectors``: (n, width)."""
    alike, first, second = distances(torch.from_numpy(vectors), torch.from_numpy(triplets))
    return np.asarray(((alike < first) & (alike < second)).numpy())
