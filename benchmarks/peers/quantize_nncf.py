# SPDX-License-Identifier: Apache-2.0
"""NNCF's ``quantize`` with its defaults, on OpenVINO's form of the model and on ONNX."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nncf
import onnx
import openvino as ov

sys.path.insert(0, str(Path(__file__).parent))
from _quantize import Quantizer, Source

nncf.set_log_level(logging.ERROR)


def _quantized(model: Any, source: Source) -> Any:
    return nncf.quantize(model, nncf.Dataset(source.calibration, dict))


def on_openvino(source: Source, folder: Path) -> Path:
    """The model as OpenVINO reads it, with the shapes that the zoo's own engine file has."""
    model = ov.Core().read_model(source.onnx)
    model.reshape({name: list(shape) for name, shape in source.shapes.items()})
    out = folder / "model.xml"
    ov.save_model(_quantized(model, source), out, compress_to_fp16=False)
    return out


def on_onnx(source: Source, folder: Path) -> Path:
    """The ONNX model itself."""
    out = folder / "model.onnx"
    onnx.save(_quantized(onnx.load_from_string(source.onnx), source), out)
    return out


def versions() -> Mapping[str, str]:
    """Libraries."""
    return {"nncf": nncf.__version__, "openvino": str(ov.__version__).split("-")[0]}


QUANTIZERS = (
    Quantizer("nncf on OpenVINO", "openvino", "defaults", on_openvino, versions),
    Quantizer("nncf on ONNX", "onnxruntime", "defaults", on_onnx, versions),
)
