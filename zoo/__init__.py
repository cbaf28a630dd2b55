# SPDX-License-Identifier: Apache-2.0
"""affect-zoo: compiled, verified and measured models for affective computing on edge devices.

``zoo.load(name_or_path)`` opens a bundle and returns a model; ``zoo.ops`` holds the preprocessing
kernels. Importing this package imports neither NumPy nor an inference engine: they load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.errors import (
    BundleError,
    CheckFailed,
    DataError,
    InputError,
    ParityError,
    ProviderUnavailable,
    TargetError,
    ZooError,
)

if TYPE_CHECKING:
    from zoo.runtime import Model as Model
    from zoo.runtime import Prediction as Prediction
    from zoo.runtime import load as load

__all__ = [
    "BundleError",
    "CheckFailed",
    "DataError",
    "InputError",
    "Model",
    "ParityError",
    "Prediction",
    "ProviderUnavailable",
    "TargetError",
    "ZooError",
    "load",
    "ops",
]

_RUNTIME = ("load", "Model", "Prediction")


def __getattr__(name: str) -> Any:
    import importlib

    if name in _RUNTIME:
        value = getattr(importlib.import_module("zoo.runtime"), name)
        globals()[name] = value
        return value
    if name in ("ops", "pipeline"):
        return importlib.import_module(f"zoo.{name}")
    if name == "__version__":
        from importlib.metadata import version

        return version("affect-zoo")
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")
