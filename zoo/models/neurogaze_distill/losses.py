# SPDX-License-Identifier: Apache-2.0
"""The four parts of the loss and their schedule (fact sheet 09, "Losses and weights").

What the sheet calls "our choice" is ours here too; it is said where it is made.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from zoo.errors import DataError

#: Prototypes: 5 x 5 bins of valence and arousal, of as many values each.
BINS, WIDTH = 5, 512
#: Bin centres along valence and along arousal.
CENTRES = (-0.8, -0.4, 0.0, 0.4, 0.8)
#: Valence and arousal of each class, in FERPlus's order (our choice).
ANCHORS = (
    (0.0, 0.0), (0.8, 0.4), (0.4, 0.8), (-0.8, -0.4), (-0.8, 0.8), (-0.8, 0.4), (-0.4, 0.8), (-0.4, 0.0),
)  # fmt: skip
#: Standard deviation of the bump that an anchor spreads over the bins (our choice).
SPREAD = 0.4


@dataclass(frozen=True)
class Prototypes:
    """25 unit vectors and what they were made of. ``synthetic``: not from EEG that was rated for valence and arousal."""

    vectors: NDArray[np.float32]
    provenance: dict[str, object]
    synthetic: bool


def read_prototypes(path: Path) -> Prototypes:
    """Read a prototype file: npz with ``prototypes`` float32 (25, 512) and ``provenance``, a JSON object as text.

    Vector ``k`` is that of valence bin ``k // 5`` and arousal bin ``k % 5``. The key ``synthetic`` of the provenance must
    be true or false.

    Raises
    ------
    DataError
        Missing, not such a file, or vectors that are not of length 1.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            vectors, about = archive["prototypes"], json.loads(str(archive["provenance"]))
        synthetic = about["synthetic"]
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a readable prototype file: {error}") from error
    if vectors.dtype != np.float32 or vectors.shape != (BINS * BINS, WIDTH):
        raise DataError(
            f"{path}: prototypes are {vectors.dtype} {vectors.shape}; expected float32 {(BINS * BINS, WIDTH)}"
        )
    if not isinstance(synthetic, bool):
        raise DataError(f"{path}: provenance.synthetic is {synthetic!r}; expected true or false")
    if not np.allclose(np.linalg.norm(vectors.astype(np.float64), axis=1), 1.0, atol=1e-4):
        raise DataError(f"{path}: prototypes must have length 1")
    return Prototypes(vectors, about, synthetic)


def classification(
    logits: Tensor, targets: Tensor, *, smoothing: float = 0.0, weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy with soft targets.

    Parameters
    ----------
    logits, targets : float32, shape (B, classes)
        Each row of the targets adds up to one: votes, or one class.
    smoothing : float
        Share of each target that is spread evenly.
    weights : float32, shape (classes,) or None
        Weight of each class; the loss is divided by the weight of the batch, as PyTorch's.
    """
    spread = targets * (1 - smoothing) + smoothing / targets.shape[1]
    losses = -(spread * F.log_softmax(logits, dim=1))
    if weights is None:
        return losses.sum(dim=1).mean()
    return (losses * weights).sum() / (targets * weights).sum()


def class_weights(targets: NDArray[np.float32], power: float) -> NDArray[np.float32]:
    """Frequency to the minus ``power``, scaled to a mean of 1 (our choice: 0.5), of targets (n, classes)."""
    weights = targets.sum(axis=0).astype(np.float64) ** -power
    return (weights / weights.mean()).astype(np.float32)


def distillation(student: Tensor, teacher: Tensor, *, temperature: float = 5.0, mode: str = "mse") -> Tensor:
    """How far the logits (B, classes) are from the teacher's.

    ``mse``: mean squared difference of the logits over the temperature. ``kl``: divergence of the student's softmax from
    the teacher's at that temperature, times its square.
    """
    if mode == "mse":
        return F.mse_loss(student / temperature, teacher / temperature)
    divergence = F.kl_div(
        F.log_softmax(student / temperature, dim=1),
        F.log_softmax(teacher / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    return divergence * temperature**2


def prototype_targets() -> NDArray[np.float32]:
    """q_pro of each class, float32 (8, 25): a Gaussian bump around its anchor, each row adding up to one (our choice)."""
    centres = np.array([(v, a) for v in CENTRES for a in CENTRES])
    squared = ((centres[None] - np.array(ANCHORS)[:, None]) ** 2).sum(axis=2)
    bumps = np.exp(-squared / (2 * SPREAD**2))
    return np.asarray(bumps / bumps.sum(axis=1, keepdims=True), np.float32)


def prototype_distillation(
    projected: Tensor, prototypes: Tensor, wanted: Tensor, *, tau: float = 0.9
) -> Tensor:
    """KL(q_pro || q_stu), averaged over the batch, with q_stu = softmax(cosine to each prototype / tau).

    Parameters
    ----------
    projected : float32, shape (B, 512)
        Features in the prototypes' space, of any length.
    prototypes : float32, shape (25, 512)
        Of length 1; never trained.
    wanted : float32, shape (B, 25)
        q_pro; rows add up to one.
    """
    cosines = F.normalize(projected, dim=1) @ prototypes.T
    return F.kl_div(F.log_softmax(cosines / tau, dim=1), wanted, reduction="batchmean")


def geometry(
    features: Tensor,
    labels: Tensor,
    positive: tuple[int, ...],
    *,
    cap: float = 0.2,
    margin: float = 0.3,
) -> Tensor:
    """D-Geo: a cap on the spread of the ``positive`` classes, and a margin between the means of all classes.

    On unit features: relu(mean squared distance to the class mean - ``cap``), summed over the positive classes; plus the
    mean over pairs of classes of relu(``margin`` - (1 - cosine of their means)). Classes that the batch does not have take
    no part. The formula is our choice, and ``cap`` our reading of the source's ``hard_gate``.

    Parameters
    ----------
    features : float32, shape (B, width)
    labels : int64, shape (B,)
        Classes; negative ones are left out.
    """
    unit = F.normalize(features, dim=1)
    present = [int(label) for label in labels.unique() if label >= 0]
    means, loss = [], features.new_zeros(())
    for label in present:
        own = unit[labels == label]
        mean = own.mean(dim=0)
        means.append(mean)
        if label in positive:
            loss = loss + F.relu((own - mean).square().sum(dim=1).mean() - cap)
    if len(means) > 1:
        directions = F.normalize(torch.stack(means), dim=1)
        first, second = torch.triu_indices(len(means), len(means), 1)
        cosines = (directions[first] * directions[second]).sum(dim=1)
        loss = loss + F.relu(margin - (1 - cosines)).mean()
    return loss


def late_cosine(epoch: float, start: float, end: float) -> float:
    """Share of D-Geo's weight: 0 before ``start``, 1 from ``end`` on, half a cosine between."""
    if epoch < start:
        return 0.0
    if epoch >= end:
        return 1.0
    return 0.5 * (1 - math.cos(math.pi * (epoch - start) / (end - start)))
