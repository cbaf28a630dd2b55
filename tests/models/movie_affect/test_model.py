# SPDX-License-Identifier: Apache-2.0
"""The fusion nets: sizes of the sheet, the LSTM's windows, what a config may say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from zoo.errors import ZooError
from zoo.models.movie_affect.model import HEADS, STEPS, build

ALL = ["rgb", "OF", "audio"]


def parameters(config: dict[str, Any]) -> int:
    """Of one head."""
    return sum(p.numel() for p in build(config).get_submodule(HEADS[0]).parameters())


def test_sizes_are_those_of_the_sheet() -> None:
    assert parameters({"net": "2fc", "modalities": ALL}) == 755904
    assert parameters({"net": "2fc", "modalities": ["audio"]}) == 215232
    assert parameters({"net": "folded", "modalities": ALL}) == 39746


def test_the_lstm_judges_each_step_from_five() -> None:
    torch.manual_seed(0)
    net = build({"net": "lstm", "modalities": ["audio"]}).eval()
    x = torch.rand(2, 9, 1582)
    with torch.no_grad():
        found = net(x)
        for head, logits in zip(HEADS, found, strict=True):
            one = net.get_submodule(head)
            for t in range(9):
                rows = [max(t - STEPS + 1 + k, 0) for k in range(STEPS)]
                hidden, _ = one.lstm(one.reduced_audio(x[:, rows]))
                expected = one.class_dim(hidden[:, -1])
                np.testing.assert_allclose(logits[:, t], expected, atol=1e-6)
        # a block with the four steps before it gives what the whole gives
        later = net(x[:, 3:])[0][:, STEPS - 1 :]
        np.testing.assert_allclose(later, found[0][:, 3 + STEPS - 1 :], atol=1e-6)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"net": "2fc"},
        {"net": "4fc", "modalities": ["audio"]},
        {"net": "2fc", "modalities": ["audio"], "bias": True},
        {"net": "2fc", "modalities": []},
        {"net": "2fc", "modalities": ["audio", "rgb"]},
        {"net": "2fc", "modalities": "audio"},
    ],
)
def test_other_configs_are_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ZooError, match="movie_affect: config"):
        build(config)
