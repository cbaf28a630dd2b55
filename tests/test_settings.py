# SPDX-License-Identifier: Apache-2.0
"""Settings of a training: what they change, what is refused, and that a recorded command says them."""

from __future__ import annotations

import hypothesis
import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from zoo import registry, settings
from zoo.card import Variant
from zoo.cli import cli
from zoo.crossval import read_recipe
from zoo.errors import ZooError


def variant(name: str = "ntua-slp-e-c") -> Variant:
    return registry.find(name)[1]


def test_keys_of_both_tables() -> None:
    usual = variant()
    changed = settings.apply(
        usual, ["start=random", "lr=2e-3", "config.hidden=250", 'source="a b"', "augment.speed=[0.9, 1.1]"]
    )
    assert changed.training == {
        **usual.training,
        "start": "random",
        "lr": 0.002,
        "source": "a b",
        "augment": {"speed": [0.9, 1.1]},
    }
    assert changed.config == {**usual.config, "hidden": 250}
    assert usual == variant()
    assert settings.settings_of(changed) == (
        "start=random", "lr=0.002", 'source="a b"', "augment.speed=[0.9, 1.1]", "config.hidden=250",
    )  # fmt: skip
    assert settings.command_of(changed, "--seed 2") == (
        "zoo train ntua-slp-e-c --data DIR --set start=random --set lr=0.002 --set 'source=\"a b\"' "
        "--set 'augment.speed=[0.9, 1.1]' --set config.hidden=250 --seed 2"
    )
    assert settings.command_of(usual) == "zoo train ntua-slp-e-c --data DIR"
    assert settings.settings_of(msgspec.structs.replace(usual, name="elsewhere")) == ()


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (["lr"], "setting 'lr' is not KEY=VALUE"),
        (["=1"], "is not KEY=VALUE"),
        (["a..b=1"], "is not KEY=VALUE"),
        (["config=1"], "is not KEY=VALUE"),
        (["lr=1", "lr=2"], "setting lr is given twice"),
        (["lr=two words"], "'two words' is neither a TOML value nor a word"),
        (["lr="], "'' is neither a TOML value nor a word"),
        (["lr=1\nseed=2"], "is more than one value"),
        (["lr.x=1"], "setting lr.x: lr of ntua-slp-e-c is 0.5, not a table"),
    ],
)
def test_what_is_no_setting(given: list[str], match: str) -> None:
    usual = msgspec.structs.replace(variant(), training={"lr": 0.5})
    with pytest.raises(ZooError, match=match.replace("(", r"\(")):
        settings.apply(usual, given)


def test_unknown_keys_and_values_are_refused_by_their_readers() -> None:
    from zoo.models.ntua_slp.train import Recipe

    with pytest.raises(ZooError, match=r"training table is not valid: .*unknown field `rate`"):
        read_recipe(settings.apply(variant(), ["rate=1"]), Recipe)
    with pytest.raises(ZooError, match="Invalid enum value 'melted'"):
        read_recipe(settings.apply(variant(), ["start=melted"]), Recipe)
    card, usual = registry.find("ntua-slp-e-c")
    with pytest.raises(ZooError, match="unknown field `width`"):
        card.build(settings.apply(usual, ["config.width=3"]).config)


def test_the_command(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Variant] = []

    def train(found: Variant, **options: object) -> None:
        seen.append(found)
        raise ZooError("enough")

    from zoo.models.ntua_slp import train as module

    monkeypatch.setattr(module, "train", train)
    done = CliRunner().invoke(
        cli,
        ["train", "ntua-slp-e-c", "--data", str(tmp_path), "--set", "start=frozen", "--set", "epochs=2"],
    )
    assert done.exit_code == 1
    assert "enough" in done.stderr
    assert (seen[0].training["start"], seen[0].training["epochs"]) == ("frozen", 2)
    half = CliRunner().invoke(cli, ["train", "ntua-slp-e-c", "--data", str(tmp_path), "--set", "start"])
    assert half.exit_code == 2
    assert "setting 'start' is not KEY=VALUE" in half.stderr
    mixed = CliRunner().invoke(cli, ["train", "ntua-slp-e-c", "--qat", "--set", "lr=1", "--data", "x"])
    assert mixed.exit_code == 2
    assert "--set does not go with --qat" in mixed.stderr


VALUES = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.from_regex(r"\A[a-z]{1,5}\Z"), inner, min_size=1, max_size=2)
    ),
    max_leaves=5,
)


@hypothesis.settings(max_examples=25)
@given(st.dictionaries(st.from_regex(r"\A[a-z][a-z_]{0,7}\Z"), VALUES, max_size=4))
def test_recorded_settings_give_the_same_tables(table: dict[str, object]) -> None:
    usual = variant("ntua-slp-sentiment")
    changed = msgspec.structs.replace(
        usual, training={**usual.training, **table}, config={**usual.config, **table}
    )
    again = settings.apply(usual, settings.settings_of(changed))
    assert again == changed
