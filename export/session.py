# SPDX-License-Identifier: Apache-2.0
"""onnxruntime on the CPU as a measuring instrument: any graph, any intermediate tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from zoo.errors import TargetError
from zoo.export.inputs import Features


class Session:
    """Runs a model on single inputs, one thread, no fusing across the tensors that are asked for.

    Parameters
    ----------
    model : ModelProto
        Not changed.
    extra : sequence of str
        Intermediate tensors to return after the model's own outputs.
    optimize : bool
        False: every node as it stands. Otherwise onnxruntime may move Q/DQ pairs, which changes roundings.

    Raises
    ------
    TargetError
        onnxruntime refuses the graph.
    """

    def __init__(self, model: onnx.ModelProto, extra: Sequence[str] = (), *, optimize: bool = True) -> None:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        present = {output.name for output in copy.graph.output}
        copy.graph.output.extend(
            onnx.ValueInfoProto(name=name) for name in dict.fromkeys(extra) if name not in present
        )
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if not optimize:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            self._session = ort.InferenceSession(
                copy.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own exception types have no common base
            raise TargetError(f"onnxruntime {ort.__version__} refuses the graph: {error}") from error
        self.inputs = [value.name for value in model.graph.input]
        self.outputs = [value.name for value in self._session.get_outputs()]

    def run(self, features: Features) -> dict[str, NDArray[Any]]:
        """Outputs by name for one input, with the batch dimension."""
        feeds = {
            name: np.ascontiguousarray(array[None]) for name, array in zip(self.inputs, features, strict=True)
        }
        return dict(zip(self.outputs, self._session.run(None, feeds), strict=True))
