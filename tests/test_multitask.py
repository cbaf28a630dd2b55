# SPDX-License-Identifier: Apache-2.0
"""The weighted loss against its formula and its stationary point."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zoo.multitask import uncertainty_loss

TASKS = st.lists(st.tuples(st.floats(1e-3, 1e3), st.floats(-3, 3)), min_size=1, max_size=5)


@given(TASKS)
def test_is_the_formula(tasks: list[tuple[float, float]]) -> None:
    losses, logs = (torch.tensor(column, dtype=torch.float64) for column in zip(*tasks, strict=True))
    expected = sum(math.exp(-s) / 2 * loss + s / 2 for loss, s in tasks)
    assert float(uncertainty_loss(losses, logs)) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=5))
def test_is_lowest_where_each_variance_is_its_loss(values: list[float]) -> None:
    losses = torch.tensor(values, dtype=torch.float64)
    logs = losses.log().requires_grad_()
    uncertainty_loss(losses, logs).backward()
    assert logs.grad is not None
    torch.testing.assert_close(logs.grad, torch.zeros_like(logs), rtol=0, atol=1e-9)


def test_a_large_loss_weighs_less_once_its_variance_is_learned() -> None:
    losses = torch.tensor([1.0, 400.0], requires_grad=True)
    uncertainty_loss(losses, losses.detach().log()).backward()
    torch.testing.assert_close(losses.grad, torch.tensor([0.5, 0.5 / 400]))
