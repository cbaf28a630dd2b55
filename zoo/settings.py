# SPDX-License-Identifier: Apache-2.0
"""Settings of a training other than the card's: ``zoo train NAME --set KEY=VALUE``."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from zoo import registry
from zoo.card import Variant
from zoo.errors import ZooError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_CONFIG = "config"
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z_][A-Za-z0-9_-]*)*")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


def apply(variant: Variant, settings: Sequence[str]) -> Variant:
    """A variant with some keys of its tables changed.

    Parameters
    ----------
    settings : sequence of str
        ``KEY=VALUE``. A key names one of the table ``training``, dots lead into its tables; with ``config.`` before it, one
        of the table ``config``. A value is written as in TOML; a bare word is a string.

    Raises
    ------
    ZooError
        A setting is not of this form, or its key stands twice. Whether a key exists and its value fits is for who reads
        the tables: the recipe's reader (``zoo.crossval.read_recipe``) and the model's ``build``.
    """
    training, config = _copy(variant.training), _copy(variant.config)
    seen: set[str] = set()
    for setting in settings:
        key, sign, text = setting.partition("=")
        key = key.strip()
        if not sign or not _KEY.fullmatch(key) or key == _CONFIG:
            raise ZooError(f"setting {setting!r} is not KEY=VALUE, for example lr=0.001 or config.hidden=250")
        if key in seen:
            raise ZooError(f"setting {key} is given twice")
        seen.add(key)
        *path, last = key.split(".")
        table = training
        if path and path[0] == _CONFIG:
            table, path = config, path[1:]
        for name in path:
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                raise ZooError(f"setting {key}: {name} of {variant.name} is {table!r}, not a table")
        table[last] = _value(key, text.strip())
    return msgspec.structs.replace(variant, training=training, config=config)


def settings_of(variant: Variant) -> tuple[str, ...]:
    """Where a variant's tables differ from its card's, as :func:`apply` takes them; what is not of the zoo has none.

    A key that the card has and the variant has not is not told: :func:`apply` takes none away.
    """
    try:
        _, usual = registry.find(variant.name)
    except registry.UnknownModel:
        return ()
    changed = []
    for prefix, own, card in (
        ("", variant.training, usual.training),
        (f"{_CONFIG}.", variant.config, usual.config),
    ):
        known = dict(_leaves(card))
        changed += [f"{prefix}{key}={_text(value)}" for key, value in _leaves(own) if known.get(key) != value]
    return tuple(changed)


def command_of(variant: Variant, *options: str) -> str:
    """The ``zoo train`` command of a training with these options, its settings included."""
    settings = [f"--set {shlex.quote(setting)}" for setting in settings_of(variant)]
    return " ".join(("zoo train", variant.name, "--data DIR", *settings, *options))


def _copy(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, dict) else value for key, value in table.items()}


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _value(key: str, text: str) -> Any:
    try:
        found = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        if _WORD.fullmatch(text):
            return text
        raise ZooError(
            f"setting {key}: {text!r} is neither a TOML value nor a word; quote other strings"
        ) from None
    if set(found) != {"value"}:
        raise ZooError(f"setting {key}: {text!r} is more than one value")
    return found["value"]


def _text(value: Any) -> str:
    """A TOML value; a string as a bare word where that is read as the same string."""
    bare = isinstance(value, str) and _WORD.fullmatch(value) and _value("", value) == value
    return value if bare else _toml(value)


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key} = {_toml(each)}' for key, each in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(each) for each in value)}]"
    if isinstance(value, float):
        return repr(value)
    # A JSON string is a TOML string but for DEL, which TOML wants escaped.
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")
