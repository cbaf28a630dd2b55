# SPDX-License-Identifier: Apache-2.0
"""onnxruntime's ``quantize_static``: with its defaults, and with the settings that optimum-onnx takes for it.

optimum-onnx 0.1.0 requires transformers below 4.58, and so goes into an environment of its own. Its static recipe for this
CPU, ``AutoQuantizationConfig.avx512_vnni(is_static=True)`` with min-max calibration, is handed to the same quantiser here.
Compared once with optimum-onnx 0.1.0 itself (optimum 2.1.0, transformers 4.57.3): on TIM-Net and the same 256 items the two
graphs are equal, node for node and weight for weight.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.registry import QDQRegistry
from onnxruntime.quantization.shape_inference import quant_pre_process

sys.path.insert(0, str(Path(__file__).parent))
from _quantize import Feeds, Quantizer, Source


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, source: Source) -> None:
        self._feeds: Iterator[Feeds] = iter(source.calibration)

    def get_next(self) -> dict[str, Any] | None:
        feeds = next(self._feeds, None)
        return None if feeds is None else dict(feeds)


def default(source: Source, folder: Path) -> Path:
    """Pre-processing, as the tool itself advises, then ``quantize_static`` with nothing said but the inputs."""
    prepared, out = folder / "prepared.onnx", folder / "model.onnx"
    quant_pre_process(onnx.load_from_string(source.onnx), prepared)
    quantize_static(prepared, out, _Reader(source))
    prepared.unlink()
    return out


def optimum(source: Source, folder: Path) -> Path:
    """Unsigned asymmetric activations, signed symmetric weights with a scale for each channel, every operator that can be.

    optimum does no pre-processing.
    """
    out = folder / "model.onnx"
    quantize_static(
        onnx.load_from_string(source.onnx),
        out,
        _Reader(source),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(QDQRegistry),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        extra_options={
            "WeightSymmetric": True,
            "ActivationSymmetric": False,
            "EnableSubgraph": False,
            "ForceSymmetric": False,
            "AddQDQPairToWeight": False,
            "DedicatedQDQPair": False,
            # optimum's own: the other operators keep one scale.
            "QDQOpTypePerChannelSupportToAxis": {"MatMul": 1},
        },
    )
    return out


def versions() -> Mapping[str, str]:
    """Libraries."""
    return {"onnxruntime": ort.__version__, "onnx": onnx.__version__}


QUANTIZERS = (
    Quantizer("quantize_static", "onnxruntime", "pre-processing, then the defaults", default, versions),
    Quantizer(
        "optimum-onnx's recipe",
        "onnxruntime",
        "quantize_static as avx512_vnni(is_static=True) sets it, min-max",
        optimum,
        versions,
    ),
)
