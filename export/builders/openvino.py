# SPDX-License-Identifier: Apache-2.0
"""OpenVINO: IR (xml and bin)."""

from __future__ import annotations

import io
import re
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import openvino as ov

from zoo.errors import ProviderUnavailable, TargetError
from zoo.export.builders import Built, Request, fixed_specs

_COUNTED = re.compile(r"^[A-Za-z0-9]+_[0-9]+$")
_CAPABILITY = {"fp16": "FP16", "bf16": "BF16"}


def build(request: Request, package: str) -> Built:
    """Convert the graph to IR, with the dimensions fixed that the profile fixes.

    Raises
    ------
    TargetError
        OpenVINO refuses the graph.
    ProviderUnavailable
        The CPU here cannot compute in this precision: the plugin would silently take another.
    """
    wanted = _CAPABILITY.get(request.precision)
    device = str(request.target.flags.get("device", "CPU"))
    core = ov.Core()
    version = str(ov.__version__).split("-")[0]
    if device in core.available_devices and wanted is not None:
        has = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
        if wanted not in has:
            raise ProviderUnavailable(
                f"target {request.target.name}: this {device} has no {request.precision} arithmetic (OpenVINO reports "
                f"{', '.join(has)}) and would compute in fp32 without saying so; take fp32 or int8, or export on the device"
            )
    try:
        model = core.read_model(io.BytesIO(request.graph.data))
        spec = fixed_specs(request)
        shapes = {
            tensor.name: [dim if isinstance(dim, int) else -1 for dim in tensor.shape]
            for tensor in spec.inputs
        }
        model.reshape(shapes)
        _name_constants(model, request)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "engine.xml"
            ov.save_model(model, path, compress_to_fp16=request.precision == "fp16")
            files = {"engine.xml": path.read_bytes(), "engine.bin": path.with_suffix(".bin").read_bytes()}
    except RuntimeError as error:
        raise TargetError(f"OpenVINO {ov.__version__} refuses the graph: {error}") from error
    spec = msgspec.structs.replace(
        spec, file="engine.xml", extra_files=("engine.bin",), opset=request.graph.opset
    )
    return Built(spec, files, version)


def _name_constants(model: Any, request: Request) -> None:
    """Replace names that OpenVINO made up from a counter of the process: the same graph must give the same file."""
    own = {name for node in request.graph.model.graph.node for name in (node.name, *node.output)}
    own.update(tensor.name for tensor in request.graph.model.graph.initializer)
    for index, op in enumerate(model.get_ordered_ops()):
        name = op.get_friendly_name()
        if name not in own and _COUNTED.match(name):
            op.set_friendly_name(f"{op.get_type_name()}_{index}")


def problem(request: Request, package: str) -> str | None:
    """Whether the target's device is here."""
    device = str(request.target.flags.get("device", "CPU"))
    here = ov.Core().available_devices
    return None if device in here else f"OpenVINO finds no device {device} here, only {', '.join(here)}"
