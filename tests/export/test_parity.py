# SPDX-License-Identifier: Apache-2.0
"""Parity: what passes, what is refused, and where a difference is said to begin."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from zoo.errors import ParityError
from zoo.export import parity
from zoo.export.inputs import Features
from zoo.export.session import Session


def tampered(model: onnx.ModelProto, node: str, amount: float) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    name = next(n.input[1] for n in copy.graph.node if n.name == node)
    tensor = next(t for t in copy.graph.initializer if t.name == name)
    value = np.array(numpy_helper.to_array(tensor))
    value.flat[0] += amount
    tensor.CopyFrom(numpy_helper.from_array(value, name))
    return copy


def test_a_right_graph_passes(toy) -> None:
    reference = parity.Reference(toy.reference(), ["logits", "probs"])
    found = parity.check(
        "toy",
        reference,
        toy.graph,
        Session(toy.graph.model).run,
        toy.inputs,
        precision="fp32",
        verified_on="here",
    )
    assert found.inputs == 64
    assert found.max_error < 1e-5
    assert found.tolerance == 1e-5


@pytest.mark.parametrize("node", ["conv1", "conv2", "dense"])
def test_one_changed_weight_is_found_and_named(toy, node: str) -> None:
    reference = parity.Reference(toy.reference(), ["logits", "probs"])
    graph = toy.graph.with_model(tampered(toy.graph.model, node, 0.01))
    with pytest.raises(ParityError, match=rf"First diverging node: {node} \((Conv|Gemm)\)"):
        parity.check(
            "toy",
            reference,
            graph,
            Session(graph.model).run,
            toy.inputs,
            precision="fp32",
            verified_on="here",
        )


def test_a_wrong_engine_on_a_right_graph(toy) -> None:
    reference = parity.Reference(toy.reference(), ["logits", "probs"])

    def engine(features: Features) -> dict[str, np.ndarray]:
        return {name: value * 1.01 for name, value in Session(toy.graph.model).run(features).items()}

    with pytest.raises(ParityError, match="the fault is in the engine, not in the ONNX"):
        parity.check("toy", reference, toy.graph, engine, toy.inputs, precision="fp32", verified_on="here")


@pytest.mark.parametrize("wrong", ["nan", "shape"])
def test_nan_and_shapes_are_never_equal(toy, wrong: str) -> None:
    reference = parity.Reference(toy.reference(), ["logits", "probs"])

    def engine(features: Features) -> dict[str, np.ndarray]:
        found = Session(toy.graph.model).run(features)
        return {name: value * np.nan if wrong == "nan" else value[:, :2] for name, value in found.items()}

    measured, _ = parity.measure(reference.run, engine, toy.inputs, precision="int8", verified_on="here")
    assert measured.max_error > measured.tolerance


def test_torch_keeps_its_threads(toy) -> None:
    import torch

    before = torch.get_num_threads()
    parity.Reference(toy.reference(), ["logits", "probs"]).run(toy.inputs.features[0])
    assert torch.get_num_threads() == before
