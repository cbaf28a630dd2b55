# SPDX-License-Identifier: Apache-2.0
"""What trainings of several heads share: the loss that learns how much each task counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

#: First values of the log variances of emotion, country (or sex) and age (fact sheet 7, section 4).
LOG_VARIANCES = (-0.33, -0.33, -0.34)


def uncertainty_loss(losses: Tensor, log_variances: Tensor) -> Tensor:
    """Losses of several tasks as one, each weighted by its own learned uncertainty.

    ``sum_i exp(-s_i) / 2 * L_i + s_i / 2``: a task with a large loss gets a large variance ``exp(s_i)`` and so a small
    weight, and the second term keeps the variances from growing without end. For fixed losses the best ``s_i`` is
    ``log L_i``.

    Parameters
    ----------
    losses : float32, shape (tasks,)
        Mean losses of a batch.
    log_variances : float32, shape (tasks,)
        ``s``, a parameter of the optimiser as the weights are.

    Returns
    -------
    float32, shape ()
        May be negative.

    Notes
    -----
    Source: fact sheet 7, section 4.
    """
    return ((-log_variances).exp() * losses + log_variances).sum() / 2
