# SPDX-License-Identifier: Apache-2.0
"""The reference's graph: shapes, folding, determinism, errors."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest

from zoo.errors import ZooError
from zoo.export.graph import OPSET, Trace, shape_profile
from zoo.export.parity import Reference
from zoo.export.session import Session
from zoo.export.weights import load_weights


def test_batch_norm_is_folded_and_dims_are_named(toy) -> None:
    operators = [node.op_type for node in toy.graph.model.graph.node]
    assert operators.count("Conv") == 2
    assert "BatchNormalization" not in operators
    assert toy.graph.model.opset_import[0].version == OPSET
    assert toy.graph.inputs[0].shape == ("batch", 16, 12)  # time is fixed by the variant's pipeline
    assert [spec.shape for spec in toy.graph.outputs] == [("batch", 3), ("batch", 3)]
    assert [node.name for node in toy.graph.model.graph.node if node.op_type in ("Conv", "Gemm")] == [
        "conv1",
        "conv2",
        "dense",
    ]


def test_it_computes_what_torch_computes(toy) -> None:
    reference = Reference(toy.reference(), ["logits", "probs"])
    session = Session(toy.graph.model)
    for features in toy.inputs.features[:8]:
        expected, found = reference.run(features), session.run(features)
        for name in expected:
            np.testing.assert_allclose(found[name], expected[name], atol=2e-5, rtol=1e-5)


def test_another_trace_gives_the_same_bytes(toy) -> None:
    """In another process, with another hash seed, after another model."""
    code = (
        "from zoo import registry\n"
        "from zoo.export.graph import Trace\n"
        "from zoo.export.weights import load_weights\n"
        "card, variant = registry.find('toy')\n"
        "print(Trace(card, variant).finish(load_weights(card, variant).tensors).sha256)\n"
    )
    import os

    environment = {**os.environ, "ZOO_MODELS": str(toy.root), "PYTHONHASHSEED": "7"}
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == toy.graph.sha256
    assert found.stderr == ""


def test_no_path_and_no_tool_in_the_file(toy) -> None:
    for text in (b"/", b"torch", b"python"):
        names = [node.name.encode() for node in toy.graph.model.graph.node]
        rest = toy.graph.data
        for name in sorted(names, key=len, reverse=True):
            rest = rest.replace(name, b"")
        # Only weights are left beside names; a chance match of one byte says nothing.
        assert len(text) == 1 or text not in rest
    assert str(toy.root).encode() not in toy.graph.data
    assert toy.graph.model.producer_version == ""


def test_other_weights_need_no_other_trace(toy) -> None:
    tensors = dict(load_weights(toy.card, toy.variant).tensors)
    tensors["dense.bias"] = tensors["dense.bias"] + 1
    changed = toy.trace.finish(tensors)
    features = toy.inputs.features[0]
    difference = (
        Session(changed.model).run(features)["logits"] - Session(toy.graph.model).run(features)["logits"]
    )
    np.testing.assert_allclose(difference, 1, atol=1e-5)
    assert toy.trace.finish(load_weights(toy.card, toy.variant).tensors).sha256 == toy.graph.sha256


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ({"batch": (1, 1, 4)}, "gives no size for dimension 'time'"),
        ({"time": (16, 16, 16), "frames": (1, 1, 1)}, "names dimension 'frames', which no engine input has"),
        ({"time": (16, 8, 16)}, "of 'time' is 16, 8, 16, not in order"),
    ],
)
def test_a_profile_that_does_not_fit(toy, profile: dict[str, Any], message: str) -> None:
    variant = msgspec.structs.replace(toy.variant, profile=profile)
    with pytest.raises(ZooError, match=message):
        shape_profile(toy.card, variant)


def test_a_dynamic_time_axis_stays_dynamic(toy) -> None:
    variant = msgspec.structs.replace(toy.variant, profile={"batch": (1, 1, 4), "time": (4, 16, 64)})
    graph = Trace(toy.card, variant).finish(load_weights(toy.card, toy.variant).tensors)
    assert graph.inputs[0].shape == ("batch", "time", 12)
    reference = Reference(toy.reference(), ["logits", "probs"])
    for frames in (4, 17, 64):
        features = (np.random.default_rng(frames).standard_normal((frames, 12)).astype(np.float32),)
        np.testing.assert_allclose(
            Session(graph.model).run(features)["logits"], reference.run(features)["logits"], atol=1e-4
        )
    onnx.checker.check_model(graph.model, full_check=True)
