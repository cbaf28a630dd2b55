# SPDX-License-Identifier: Apache-2.0
"""Parity: what passes, what is refused, and where a difference is said to begin."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from zoo.errors import ParityError
from zoo.export import parity
from zoo.export.inputs import Features, InputSet
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


def test_a_module_that_is_called_twice_has_no_one_tensor() -> None:
    twice = torch.nn.LeakyReLU(0.1)
    net = torch.nn.Sequential(torch.nn.Flatten(), twice, twice, torch.nn.ReLU())
    reference = parity.Reference(net, ["y"])
    found = reference.modules((np.array([-1.0, 2.0], np.float32),))
    assert sorted(found) == ["0", "3"]


def test_torch_keeps_its_threads(toy) -> None:
    import torch

    before = torch.get_num_threads()
    parity.Reference(toy.reference(), ["logits", "probs"]).run(toy.inputs.features[0])
    assert torch.get_num_threads() == before


class Turned:
    """A reference with an embedding, and an engine that turns it by an angle on its second input."""

    def __init__(self, angle: float) -> None:
        self.angle = angle

    def run(self, features: Features) -> dict[str, np.ndarray]:
        return {"embedding": np.array([[1.0, 0.0, 3.0]], np.float32), "score": np.array([[0.5]], np.float32)}

    def engine(self, features: Features) -> dict[str, np.ndarray]:
        angle = self.angle * float(features[0][0])
        turned = [np.cos(angle), np.sin(angle), 3.0]
        return {"embedding": np.array([turned], np.float32), "score": np.array([[0.5]], np.float32)}


@pytest.mark.parametrize("angle", [0.0, 0.2])
def test_the_least_cosine_of_an_embedding_is_kept(toy, angle: float) -> None:
    inputs = InputSet(tuple((np.array([float(i == 1)], np.float32),) for i in range(4)), "made up")
    net = Turned(angle)
    found, _ = parity.measure(
        net.run, net.engine, inputs, precision="int8", verified_on="here", embeddings=["embedding"]
    )
    assert found.cosine == pytest.approx((np.cos(angle) + 9) / 10, abs=1e-6)
    plain, _ = parity.measure(net.run, net.engine, inputs, precision="int8", verified_on="here")
    assert plain.cosine is None


def test_an_embedding_that_turns_is_refused_unless_a_gate_measured_it(toy) -> None:
    inputs = InputSet(tuple((np.array([float(i == 1)], np.float32),) for i in range(4)), "made up")
    for angle, refused in ((0.1, False), (0.2, True)):
        net = Turned(angle)

        def check(gated: bool, net: Turned = net) -> float | None:
            return parity.check(
                "toy", net, toy.graph, net.engine, inputs, precision="int8", verified_on="here",
                embeddings=("embedding",), gated=gated,
            ).cosine  # type: ignore[arg-type]  # fmt: skip

        if refused:
            message = (
                r"toy int8: the cosine of its embedding to fp32's is 0\.9980 on one of 4 inputs.*--quantize"
            )
            with pytest.raises(ParityError, match=message):
                check(False)
        else:
            assert check(False) > parity.COSINE
        assert check(True) is not None
