# SPDX-License-Identifier: Apache-2.0
"""State dicts in the authors' names, in files that the test writes: the authors published none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from zoo import registry
from zoo.errors import DataError
from zoo.models.ntua_slp import convert as converting
from zoo.models.ntua_slp.model import build

ROWS, TABLE = 40, "feature_extractor.embedding.embedding.weight"


def variant():
    _, found = registry.find("ntua-slp-e-c")
    return msgspec.structs.replace(found, config={**found.config, "vocabulary": ROWS, "hidden": 6})


def theirs() -> dict[str, torch.Tensor]:
    """The names of the sheet, spelled out, and float rows."""
    torch.manual_seed(1)
    table = torch.randn(ROWS, 310)
    table[0] = 0
    state = {TABLE: table}
    for layer, inputs in ((0, 310), (1, 12)):
        for side in ("", "_reverse"):
            rnn = "feature_extractor.encoder.rnn."
            state[f"{rnn}weight_ih_l{layer}{side}"] = torch.randn(24, inputs)
            state[f"{rnn}weight_hh_l{layer}{side}"] = torch.randn(24, 6)
            state[f"{rnn}bias_ih_l{layer}{side}"] = torch.randn(24)
            state[f"{rnn}bias_hh_l{layer}{side}"] = torch.randn(24)
    for index, outputs in ((0, 12), (3, 1)):
        state[f"feature_extractor.attention.attention.{index}.weight"] = torch.randn(outputs, 12)
        state[f"feature_extractor.attention.attention.{index}.bias"] = torch.randn(outputs)
    return {**state, "linear.weight": torch.randn(11, 12), "linear.bias": torch.randn(11)}


def test_a_state_dict_gives_the_same_network(tmp_path: Path) -> None:
    state = theirs()
    torch.save(state, tmp_path / "model.pt")
    found = converting.convert(tmp_path / "model.pt", variant())
    net = build(variant().config).eval()
    net.load_state_dict({name: torch.from_numpy(value) for name, value in found.items()})
    assert found[TABLE].dtype == np.int8
    rows = net.feature_extractor.embedding.embedding(torch.arange(ROWS))
    assert (rows - state[TABLE]).abs().max() <= state[TABLE].abs().max() / 254 + 1e-6
    assert not rows[0].any()
    for name, value in net.named_parameters():
        assert torch.equal(value, state[name])


def change(name: str, value: torch.Tensor | None) -> Callable[[dict[str, torch.Tensor]], None]:
    return lambda state: state.update({name: value}) if value is not None else state.pop(name)  # type: ignore[func-returns-value,return-value]


@pytest.mark.parametrize(
    ("alter", "match"),
    [
        (change(TABLE, torch.zeros(800_000 // 100, 310)), r"8000 x 310, those of ntua-slp-e-c 40 x 310: .* another vocabulary"),
        (change(TABLE, torch.ones(ROWS, 310)), "row 0 of .*, that of padding, is not zero"),
        (change(TABLE, None), "holds no .*embedding.weight, so it is no state dict of this model"),
        (change("linear.bias", None), "does not fit ntua-slp-e-c: it has no linear.bias"),
        (change("linear.bias", torch.zeros(7)), r"linear.bias of shape \(7,\), not \(11,\)"),
        (change("linear.bias", torch.full((11,), torch.nan)), "values in linear.bias that are not finite"),
        (change("extra", torch.zeros(1)), "extra, which the model has not"),
    ],
)  # fmt: skip
def test_what_does_not_fit(tmp_path: Path, alter: Callable[..., None], match: str) -> None:
    state = theirs()
    alter(state)
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(DataError, match=match):
        converting.convert(tmp_path / "model.pt", variant())


def test_a_pickled_module_is_not_run(tmp_path: Path) -> None:
    torch.save(build(variant().config), tmp_path / "module.pt")
    with pytest.raises(DataError, match=r"perhaps a whole module.*torch\.save\(module\.state_dict\(\)"):
        converting.convert(tmp_path / "module.pt", variant())
    (tmp_path / "none.pt").write_bytes(b"no archive")
    with pytest.raises(DataError, match="not a readable PyTorch state dict"):
        converting.convert(tmp_path / "none.pt", variant())
