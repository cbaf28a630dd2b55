# SPDX-License-Identifier: Apache-2.0
"""The official files do not lie in this repository: the tests write small ones in their formats."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file

from zoo.errors import DataError
from zoo.models.emotion_age_country.convert import convert, describe
from zoo.models.emotion_age_country.model import EmotionAgeCountry, MultitaskHead, build

pytest.importorskip("transformers")
sys.path.insert(0, str(Path(__file__).parent))
from official import SMALL, SMALL_CONFIG, Official, older_spelling

SIGNAL = torch.randn(1, 6000, generator=torch.Generator().manual_seed(9))


def variant(**changes: object) -> SimpleNamespace:
    return SimpleNamespace(
        name="small", config={**SMALL_CONFIG, **changes}, weights=SimpleNamespace(seed=3, status="random")
    )


@pytest.fixture(scope="module")
def official() -> Official:
    return Official(SMALL)


@pytest.fixture(scope="module")
def exported(official: Official, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What each of torch's two exporters makes of it: names, transposed weights and computed ones differ."""
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp("onnx")
    common = {"input_names": ["signal"], "output_names": ["hidden_states", "logits"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            official, (SIGNAL,), folder / "older.onnx", dynamo=False, opset_version=14,
            dynamic_axes={"signal": {1: "samples"}}, **common,
        )  # fmt: skip
        torch.onnx.export(
            official, (SIGNAL,), folder / "newer.onnx", dynamo=True, verbose=False, external_data=False,
            dynamic_shapes=({1: torch.export.Dim("samples", min=400, max=48_000)},), **common,
        )  # fmt: skip
    return {"older": folder / "older.onnx", "newer": folder / "newer.onnx"}


def check(path: Path, official: Official, tolerance: float = 0.0) -> EmotionAgeCountry:
    """The converted network computes what the official one does, and has its weights."""
    tensors = convert(path, variant())
    net = build(SMALL_CONFIG)
    assert isinstance(net, EmotionAgeCountry)
    net.load_state_dict({name: torch.from_numpy(value) for name, value in tensors.items()})
    for name, value in older_spelling(official.state_dict()).items():
        if "pos_conv_embed.conv.weight" not in name and "masked" not in name:
            assert float((net.state_dict()[name] - value).abs().max()) <= tolerance, name
    with torch.inference_mode():
        states, logits = official(SIGNAL)
        embedding, dimensions, *_ = net.eval()(SIGNAL)
    assert float((embedding - states).abs().max()) <= 1e-5
    assert float((dimensions - logits).abs().max()) <= 1e-5
    return net


def test_reads_safetensors_and_bin_in_both_spellings(official: Official, tmp_path: Path) -> None:
    state = {name: value.contiguous() for name, value in official.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    save_file(older_spelling(state), tmp_path / "older.safetensors")
    torch.save(older_spelling(state), tmp_path / "pytorch_model.bin")
    torch.save({name: value.half() for name, value in state.items()}, tmp_path / "half.bin")
    for name in ("model.safetensors", "older.safetensors", "pytorch_model.bin"):
        check(tmp_path / name, official)
    assert all(value.dtype == np.float32 for value in convert(tmp_path / "half.bin", variant()).values())


@pytest.mark.parametrize("kind", ["older", "newer"])
def test_reads_what_either_exporter_makes(kind: str, official: Official, exported: dict[str, Path]) -> None:
    check(exported[kind], official)


def test_reads_onnx_without_a_single_name(
    official: Official, exported: dict[str, Path], tmp_path: Path
) -> None:
    model = onnx.load(exported["older"])
    names = {tensor.name: f"w{i}" for i, tensor in enumerate(model.graph.initializer)}
    for tensor in model.graph.initializer:
        tensor.name = names[tensor.name]
    for node in model.graph.node:
        node.name = ""
        node.input[:] = [names.get(name, name) for name in node.input]
    onnx.save(model, tmp_path / "bare.onnx")
    check(tmp_path / "bare.onnx", official)


def test_queries_keys_and_values_are_told_apart_in_any_order(
    official: Official, exported: dict[str, Path], tmp_path: Path
) -> None:
    """The three maps of a layer's attention in another order of nodes, as another exporter may write them."""
    model = onnx.load(exported["older"])
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in model.graph.node]
    producers = {name: i for i, node in enumerate(nodes) for name in node.output}
    reads = [i for i, node in enumerate(nodes) if any("v_proj.bias" in name for name in node.input)]
    assert reads
    for added in reads:
        product = next(producers[name] for name in nodes[added].input if "bias" not in name)
        source = producers[nodes[product].input[0]]
        moved = [nodes[product], nodes[added]]
        rest = [node for i, node in enumerate(nodes) if i not in (product, added)]
        place = next(i for i, node in enumerate(rest) if node.output[0] == nodes[source].output[0]) + 1
        nodes = [*rest[:place], *moved, *rest[place:]]
        producers = {name: i for i, node in enumerate(nodes) for name in node.output}
        break  # the indices of the others have changed
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, tmp_path / "moved.onnx")
    check(tmp_path / "moved.onnx", official)


def test_the_first_layers_of_the_checkpoint(official: Official, tmp_path: Path) -> None:
    save_file({k: v.contiguous() for k, v in official.state_dict().items()}, tmp_path / "model.safetensors")
    found = convert(tmp_path / "model.safetensors", variant(layers=2))
    assert not any("encoder.layers.2." in name for name in found)
    assert np.array_equal(
        found["wav2vec2.encoder.layers.1.attention.k_proj.weight"],
        official.state_dict()["wav2vec2.encoder.layers.1.attention.k_proj.weight"].numpy(),
    )
    assert set(found) == set(build({**SMALL_CONFIG, "layers": 2}).state_dict())
    with pytest.raises(DataError, match="3 Transformer layers; small takes the first 4"):
        convert(tmp_path / "model.safetensors", variant(layers=4))


def test_heads_are_random_unless_trained_ones_lie_beside(official: Official, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({k: v.contiguous() for k, v in official.state_dict().items()}, path)
    first, second = convert(path, variant()), convert(path, variant())
    assert all(np.array_equal(first[name], second[name]) for name in first)
    told = describe(path, variant())
    assert (told["status"], told["encoder"]) == ("random", "official")
    assert "emotion, country and age are random, seed 3" in told["source"]
    trained = {name: value + 1 for name, value in MultitaskHead(64).named_parameters()}
    save_file({**trained, "logsigma": torch.zeros(3)}, tmp_path / "heads.safetensors")
    assert describe(path, variant())["status"] == "official"
    found = convert(path, variant())
    for name, value in trained.items():
        assert np.array_equal(found[f"heads.{name}"], value.detach().numpy())
    assert (found["heads.feature_std"] == 1).all()
    save_file({"age_layer.0.bias": torch.zeros(32)}, tmp_path / "heads.safetensors")
    with pytest.raises(
        DataError, match=r"heads.safetensors: does not fit small: it has no heads.share_layer"
    ):
        convert(path, variant())


def test_refusals(official: Official, exported: dict[str, Path], tmp_path: Path) -> None:
    state = {name: value.contiguous() for name, value in official.state_dict().items()}
    cases = {
        "missing": {k: v for k, v in state.items() if k != "classifier.dense.bias"},
        "unknown": state | {"lm_head.bias": torch.zeros(3)},
        "wrong": state | {"classifier.dense.bias": torch.zeros(3)},
        "nan": state | {"classifier.dense.bias": torch.full((64,), torch.nan)},
    }
    expected = {
        "missing": "no classifier.dense.bias",
        "unknown": "lm_head.bias, which the model has not",
        "wrong": r"classifier.dense.bias of shape \(3,\), not \(64,\)",
        "nan": "values in classifier.dense.bias that are not finite",
    }
    for name, tensors in cases.items():
        save_file(tensors, tmp_path / f"{name}.safetensors")
        with pytest.raises(
            DataError, match=f"{name}.safetensors: does not fit small: it has {expected[name]}"
        ):
            convert(tmp_path / f"{name}.safetensors", variant())
    for name, message in (
        ("broken.safetensors", "not a readable safetensors file"),
        ("broken.bin", "not a readable PyTorch state dict"),
        ("broken.onnx", "not a readable ONNX file"),
        ("broken.h5", "give a checkpoint in .safetensors, .bin or .onnx"),
    ):
        (tmp_path / name).write_bytes(b"nonsense")
        with pytest.raises(DataError, match=message):
            convert(tmp_path / name, variant())
    torch.save([1, 2], tmp_path / "list.bin")
    with pytest.raises(DataError, match="expected a state dict, names to tensors; found a list"):
        convert(tmp_path / "list.bin", variant())
    model = onnx.load(exported["older"])
    for node in model.graph.node:  # the last map gets no bias
        if node.op_type == "Gemm" and "classifier.out_proj.bias" in node.input:
            del node.input[2]
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(
        DataError, match=r"other.onnx: 20 linear maps with a bias in its graph; the encoder has 6 a"
    ):
        convert(tmp_path / "other.onnx", variant())
    for node in model.graph.node:  # a norm in place of an activation
        if node.op_type == "Tanh":
            node.op_type = "LayerNormalization"
            node.input.extend(["wav2vec2.encoder.layer_norm.weight", "wav2vec2.encoder.layer_norm.bias"])
    for node in model.graph.node:
        if node.op_type == "Gemm" and len(node.input) == 2:
            node.input.append("classifier.out_proj.bias")
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(
        DataError, match=r"are of a norm; the encoder has a linear there, classifier.out_proj"
    ):
        convert(tmp_path / "other.onnx", variant())
