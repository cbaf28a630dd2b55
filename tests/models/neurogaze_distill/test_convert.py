# SPDX-License-Identifier: Apache-2.0
"""State dicts in torchvision's layout, written here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoo import registry
from zoo.errors import DataError

torch = pytest.importorskip("torch", reason="torch is not installed")

from zoo.models.neurogaze_distill.convert import convert  # noqa: E402
from zoo.models.neurogaze_distill.model import build  # noqa: E402

R18, R50 = (registry.find(f"neurogaze-distill-{arch}-224")[1] for arch in ("r18", "r50"))


@pytest.fixture(scope="module")
def state() -> dict[str, Any]:
    torch.manual_seed(3)
    return dict(build(R18.config).state_dict())


def written(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize("wrapped", ["plain", "checkpoint", "parallel"])
def test_torchvisions_layout_is_read_exactly(wrapped: str, state: dict[str, Any], tmp_path: Path) -> None:
    content: object = {
        "plain": state,
        "checkpoint": {"epoch": 3, "state_dict": state},
        "parallel": {f"module.model.{name}": value for name, value in state.items()},
    }[wrapped]
    found = convert(written(tmp_path / "net.pt", content), R18)
    assert set(found) == {name for name in state if not name.endswith("num_batches_tracked")}
    assert all(np.array_equal(value, state[name].numpy()) for name, value in found.items())


def test_another_network_is_told(state: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"does not fit neurogaze-distill-r50-224: it has no layer1\.0\.bn3\.bias"
    ):
        convert(written(tmp_path / "net.pt", state), R50)
    imagenet = {**state, "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    with pytest.raises(DataError, match=r"last layer has 1000 classes, .* has 8; .* fine-tuned first"):
        convert(written(tmp_path / "net.pt", imagenet), R18)
    broken = {**state, "bn1.running_var": -torch.ones(64)}
    with pytest.raises(DataError, match=r"negative variances in bn1\.running_var"):
        convert(written(tmp_path / "net.pt", broken), R18)
    (tmp_path / "net.pt").write_bytes(b"no")
    with pytest.raises(DataError, match="not a readable PyTorch state dict"):
        convert(tmp_path / "net.pt", R18)
