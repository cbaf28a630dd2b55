# SPDX-License-Identifier: Apache-2.0
"""onnxruntime: the engine file is the ONNX graph itself."""

from __future__ import annotations

import msgspec
import onnxruntime as ort

from zoo.errors import TargetError
from zoo.export.builders import Built, Request, fixed_specs


def build(request: Request, package: str) -> Built:
    """Check that onnxruntime takes the graph; the file is the graph.

    Raises
    ------
    TargetError
        It does not.
    """
    data = request.graph.data
    options = ort.SessionOptions()
    options.log_severity_level = 3
    try:
        ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exception types have no common base
        raise TargetError(f"onnxruntime {ort.__version__} refuses the graph: {error}") from error
    spec = msgspec.structs.replace(fixed_specs(request), file="engine.onnx", opset=request.graph.opset)
    return Built(spec, {"engine.onnx": data}, str(ort.__version__))


def problem(request: Request, package: str) -> str | None:
    """None: the providers that the target names, or why they are not here."""
    wanted = str(request.target.flags.get("providers", "CPUExecutionProvider")).split(",")
    missing = [name for name in wanted if name not in ort.get_available_providers()]
    return f"onnxruntime here has no {', '.join(missing)}" if missing else None
