# SPDX-License-Identifier: Apache-2.0
"""Torch reference in, verified bundle out. Needs the ``export`` extra; ``targets`` alone needs nothing.

The steps, one module each: weights -> graph (ONNX) -> [calibrate -> quantize] -> builders -> parity -> gate
-> exporter (manifest and bundle). Nothing here knows any particular model.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.export.convert import ConvertResult as ConvertResult
    from zoo.export.convert import convert_model as convert_model
    from zoo.export.exporter import Exporter as Exporter
    from zoo.export.exporter import ExportResult as ExportResult
    from zoo.export.exporter import export_model as export_model
    from zoo.export.exporter import publish as publish
    from zoo.export.qat import QatReport as QatReport
    from zoo.export.qat import train_qat as train_qat

_WHERE = {
    "ConvertResult": "convert",
    "convert_model": "convert",
    "ExportResult": "exporter",
    "Exporter": "exporter",
    "export_model": "exporter",
    "publish": "exporter",
    "QatReport": "qat",
    "train_qat": "qat",
}

__all__ = [
    "ConvertResult",
    "ExportResult",
    "Exporter",
    "QatReport",
    "convert_model",
    "export_model",
    "publish",
    "train_qat",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'zoo.export' has no attribute {name!r}")
    from zoo.errors import ProviderUnavailable

    try:
        value = getattr(importlib.import_module(f"zoo.export.{_WHERE[name]}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "zoo":
            raise
        raise ProviderUnavailable(
            f"{error.name} is not installed, which exporting needs: pip install 'affect-zoo[export]'"
        ) from error
    globals()[name] = value
    return value
