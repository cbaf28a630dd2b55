# SPDX-License-Identifier: Apache-2.0
"""Official state dicts: written here in the official layout, and the two real files where they are at hand."""

from __future__ import annotations

import functools
import io
import pickle
import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo import registry
from zoo.errors import DataError
from zoo.export import convert_model
from zoo.models.ser_cnn_transformer.convert import convert
from zoo.models.ser_cnn_transformer.model import build

MEL, CNN = (registry.find(f"ser-cnn-transformer-ravdess-{kind}")[1] for kind in ("mel", "cnn"))
OFFICIAL = {
    "mel": ("parallel_all_you_want-119.pkl", 384136),
    "cnn": ("parallel_all_you_wantFINAL-429.pkl", 55688),
}


def state(variant: Any) -> OrderedDict[str, torch.Tensor]:
    torch.manual_seed(3)
    return OrderedDict(build(variant.config).state_dict())


def written(path: Path, content: object, *, legacy: bool = False) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("variant", [MEL, CNN], ids=lambda variant: variant.name)
def test_the_official_layout_is_read_exactly(variant: Any, legacy: bool, tmp_path: Path) -> None:
    original = state(variant)
    found = convert(written(tmp_path / "net.pkl", original, legacy=legacy), variant)
    assert set(found) == {key for key in original if not key.endswith("num_batches_tracked")}
    for key, value in found.items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, original[key].numpy())
    build(variant.config).load_state_dict(
        {key: torch.from_numpy(value) for key, value in found.items()}, strict=True
    )


@pytest.mark.parametrize("kind", OFFICIAL)
def test_the_real_files_load_as_their_own_variants(kind: str, data_root: Path, tmp_path: Path) -> None:
    file, parameters = OFFICIAL[kind]
    path = data_root / "ser-cnn-transformer" / file
    if not path.is_file():
        pytest.skip(f"official weights not at hand: {path}")
    result = convert_model(f"ser-cnn-transformer-ravdess-{kind}", path, tmp_path / "w.safetensors")
    assert (result.variant, result.parameters) == (f"ser-cnn-transformer-ravdess-{kind}", parameters)
    other = "cnn" if kind == "mel" else "mel"
    with pytest.raises(DataError, match=r"no Transformer and a last layer of shape \(8, 1024\)"):
        convert_model(f"ser-cnn-transformer-ravdess-{other}", path, tmp_path / "other.safetensors")
    with pytest.raises(
        DataError, match=r"has 4 Transformer layers of width 40 and a last layer of shape \(7, 680\)"
    ):
        convert_model("ser-cnn-transformer-emodb", path, tmp_path / "other.safetensors")


class Payload:
    """What a hostile pickle would run."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (print, ("executed",))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_what_is_no_state_dict_of_the_network_is_refused(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "net.pkl"
    path.write_bytes(b"not a file of PyTorch")
    with pytest.raises(DataError, match="not a readable PyTorch state dict"):
        convert(path, CNN)
    path.write_bytes(pickle.dumps(Payload()))
    with pytest.raises(DataError, match="not a readable PyTorch state dict"):
        convert(path, CNN)
    assert "executed" not in capsys.readouterr().out
    with pytest.raises(DataError, match="expected a state dict, names to tensors; found a list"):
        convert(written(path, [torch.zeros(3)]), CNN)
    with pytest.raises(DataError, match="holds no conv2Dblock1"):
        convert(written(path, {"weight": torch.zeros(3)}), CNN)
    with pytest.raises(DataError, match=r"expected floating point numbers"):
        convert(written(path, {**state(CNN), "fc1_linear.bias": torch.zeros(8, dtype=torch.int64)}), CNN)
    whole = state(CNN)
    few = OrderedDict((key, value) for key, value in whole.items() if key != "conv2Dblock2.5.bias")
    with pytest.raises(DataError, match=r"it has no conv2Dblock2.5.bias"):
        convert(written(path, few), CNN)
    with pytest.raises(DataError, match=r"extra, which the model has not"):
        convert(written(path, {**whole, "extra": torch.zeros(1)}), CNN)
    with pytest.raises(DataError, match=r"conv2Dblock1.0.bias of shape \(4,\), not \(16,\)"):
        convert(written(path, {**whole, "conv2Dblock1.0.bias": torch.zeros(4)}), CNN)
    with pytest.raises(DataError, match=r"fc1_linear.bias that are not finite"):
        convert(written(path, {**whole, "fc1_linear.bias": torch.full((8,), torch.nan)}), CNN)
    with pytest.raises(DataError, match=r"negative variances in conv2Dblock1.1.running_var"):
        convert(written(path, {**whole, "conv2Dblock1.1.running_var": -torch.ones(16)}), CNN)


@pytest.mark.parametrize("legacy", [False, True])
def test_cut_files_are_refused(legacy: bool, tmp_path: Path) -> None:
    path = written(tmp_path / "net.pkl", state(CNN), legacy=legacy)
    whole = path.read_bytes()
    for size in range(0, len(whole), len(whole) // 12):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match="not a readable PyTorch state dict"):
            convert(path, CNN)


@functools.cache
def official_bytes(legacy: bool) -> tuple[dict[str, tuple[int, ...]], bytes]:
    """Shapes that the network needs, and a whole file."""
    content, buffer = state(CNN), io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    shapes = {key: tuple(value.shape) for key, value in content.items() if "num_batches" not in key}
    return shapes, buffer.getvalue()


@pytest.mark.filterwarnings("ignore::UserWarning")
@given(at=st.integers(0, 239_000), byte=st.integers(0, 255), legacy=st.booleans())
@settings(max_examples=40)
def test_a_changed_byte_gives_weights_of_the_right_shapes_or_a_clear_error(
    at: int, byte: int, legacy: bool
) -> None:
    wanted, whole = official_bytes(legacy)
    content = bytearray(whole)
    content[at % len(content)] = byte
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.pkl"
        path.write_bytes(content)
        try:
            found = convert(path, CNN)
        except DataError:
            return
    assert {key: value.shape for key, value in found.items()} == wanted
