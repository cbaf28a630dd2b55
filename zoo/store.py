# SPDX-License-Identifier: Apache-2.0
"""Where bundles lie: those that ship with the package, and the user's own store (``ZOO_HOME``)."""

from __future__ import annotations

import os
from pathlib import Path

from zoo.errors import BundleError, ZooError

#: What ``zoo.load(name)`` takes when neither target nor precision is given: it runs wherever the base install does.
DEFAULT_TARGET, DEFAULT_PRECISION = "cpu-x86", "fp32"


def home() -> Path:
    """The user's store: ``ZOO_HOME``, else ``~/.local/share/affect-zoo``."""
    chosen = os.environ.get("ZOO_HOME")
    return Path(chosen) if chosen else Path.home() / ".local" / "share" / "affect-zoo"


def recordings() -> Path:
    """Where recorded histograms are kept: ``ZOO_HOME/cache/calibration``, else ``affect-zoo/calibration`` in the
    user's cache folder. Deleting it is always safe.
    """
    chosen = os.environ.get("ZOO_HOME")
    if chosen:
        return Path(chosen) / "cache" / "calibration"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "affect-zoo" / "calibration"


def store_path(name: str, target: str, precision: str) -> Path:
    """Where ``zoo export`` puts a bundle when no ``--out`` is given."""
    return home() / "bundles" / name / f"{target}-{precision}"


def ready_path(folder: Path, name: str) -> Path:
    """Where a model's folder keeps the ready fp32 bundle of a variant."""
    return folder / "bundles" / name


def find_bundle(
    name_or_path: str | os.PathLike[str], *, target: str | None = None, precision: str | None = None
) -> Path:
    """Resolve a bundle's path or a model's name.

    Raises
    ------
    BundleError
        A path that is not there, or a known model without a built bundle (the message has the command).
    UnknownModel
        A name that no card has.
    """
    from zoo import registry

    text = os.fspath(name_or_path)
    path = Path(text)
    if os.sep in text or text.endswith(".zoo") or path.exists():
        if target or precision:
            raise ZooError(f"{text} is a path: target and precision are the bundle's own; leave them out")
        if not path.exists():
            raise BundleError(f"{text}: no such bundle")
        return path
    card, variant = registry.find(text)
    wanted_target, wanted_precision = target or DEFAULT_TARGET, precision or DEFAULT_PRECISION
    stored = store_path(variant.name, wanted_target, wanted_precision)
    if stored.exists():
        return stored
    ready = ready_path(card.folder, variant.name)
    if (wanted_target, wanted_precision) == (DEFAULT_TARGET, DEFAULT_PRECISION) and ready.exists():
        return ready
    raise BundleError(
        f"{variant.name} has no bundle for {wanted_target} {wanted_precision} yet; build it: "
        f"zoo export {variant.name} --target {wanted_target} --precision {wanted_precision}"
    )
