# SPDX-License-Identifier: Apache-2.0
"""libzoo gives the numbers of the Python runtime, and says what it cannot do."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
import openvino
import pytest

import zoo
import zoo.pipeline
from libzoo_c import (
    BUNDLE_ERROR,
    ENGINE_FOLDERS,
    INPUT_ERROR,
    PROVIDER_UNAVAILABLE,
    UNSUPPORTED,
    USAGE_ERROR,
    CModel,
    LibZoo,
    ZooFailure,
    contents,
    exported,
    golden_inputs_agree,
    ready_bundles,
    same,
    twin,
)
from zoo.bundle import load_golden, open_bundle, write_bundle
from zoo.errors import InputError
from zoo.export import calibrate, placement, quantize
from zoo.specs import (
    Embedding,
    Head,
    Heads,
    Precision,
    RawInput,
    Regression,
    Sigmoid,
    Softmax,
    TensorSpec,
)


@pytest.mark.parametrize("kind", ENGINE_FOLDERS)
@pytest.mark.parametrize("path", ready_bundles(), ids=lambda path: path.name)
def test_golden_inputs_give_the_bits_of_the_python_runtime(
    libzoo: LibZoo, path: Path, kind: str, tmp_path: Path
) -> None:
    """Each bundle as it ships, and its graph on the other engine."""
    engine = open_bundle(path).manifest.engines[0].kind
    golden_inputs_agree(libzoo, path if kind == engine else twin(path, tmp_path / "twin", kind=kind))


#: Models without a bundle in the package, one of each kind of net and answer. Those with tests of their own below are left out, and
#: those with 90 million parameters and more.
EXPORTED = (
    *("deepfever", "neurogaze-distill-r18", "eeg-va-dreamer", "movie-affect-audio-2fc"),
    *("ntua-slp-joint", "ntua-slp-e-c", "ntua-slp-v-reg", "ser-cnn-transformer-ravdess-mel", "tim-net-emovo"),
)


@pytest.mark.parametrize("name", EXPORTED)
def test_models_that_are_exported_first(libzoo: LibZoo, name: str, tmp_path: Path) -> None:
    bundle = exported(name, tmp_path / "bundle")
    golden_inputs_agree(libzoo, bundle)


def test_a_small_encoder_of_voices(libzoo: LibZoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """emotion-age-country with two layers, and narrow ones, in place of twelve."""
    from zoo import registry

    card, _ = registry.find("emotion-age-country")
    folder = tmp_path / "models" / "voice_tiny"
    shutil.copytree(card.folder, folder, ignore=shutil.ignore_patterns("bundles", "__pycache__"))
    text = (folder / "card.toml").read_text(encoding="utf-8").replace("emotion-age-country", "voice-tiny")
    narrow = "width = 64, heads = 4, ffn = 96, channels = 32, position_kernel = 16, position_groups = 4"
    assert "layers = 12 }" in text
    text = text.replace("layers = 12 }", f"layers = 2, {narrow} }}")
    (folder / "card.toml").write_text(text, encoding="utf-8")
    monkeypatch.setenv("ZOO_MODELS", str(folder.parent))
    bundle = exported("voice-tiny", tmp_path / "bundle")
    assert len(open_bundle(bundle).manifest.engines[0].outputs) == 5
    golden_inputs_agree(libzoo, bundle)


@pytest.mark.parametrize("kind", ENGINE_FOLDERS)
@pytest.mark.parametrize("precision", ["int8", "int8-weights"])
def test_quantised_bundles(
    libzoo: LibZoo, ready_bundle: Path, tmp_path: Path, kind: str, precision: Precision
) -> None:
    graph = onnx.load_from_string(
        open_bundle(ready_bundle).read(open_bundle(ready_bundle).manifest.engines[0].file)
    )
    model = zoo.load(ready_bundle)
    limits = None
    if precision == "int8":
        features = [
            [model.features((case["input"], case["rate"]))] for case in load_golden(open_bundle(ready_bundle))
        ]
        names = quantize.ranged(graph, outputs=True)
        recording = calibrate.record(graph, names, features)
        limits = calibrate.thresholds(recording, "minmax", placement.positive(graph))
    bundle = twin(
        ready_bundle,
        tmp_path / "twin.zoo",
        kind=kind,
        graph=quantize.quantize(graph, limits, outputs=limits is not None),
        engine={"precision": precision},
        precision=precision,
        golden=msgspec.structs.replace(model.manifest.golden, tolerance=1.0),
    )
    golden_inputs_agree(libzoo, bundle)


def test_files_arrays_and_batches(model: CModel, openvino_bundle: Path, golden_folder: Path) -> None:
    python = zoo.load(openvino_bundle)
    clips = [path for path in sorted(golden_folder.iterdir()) if path.suffix in (".flac", ".wav")]
    for clip in clips:
        found = model(clip)
        same(found, python(clip))
        assert found.json["timing"]["decode_input"] > 0
    for got, expected in zip(model.run(*clips), python.batch(clips), strict=True):
        same(got, expected)
    stereo = np.random.default_rng(1).normal(0, 0.1, (30000, 2))
    for samples in (
        stereo,
        stereo.astype(np.float32),
        (stereo * 1e4).astype(np.int16),
        (stereo * 1e9).astype(np.int32),
    ):
        same(model((samples, 44100)), python((samples, 44100)))
    features = python.features(clips[0])
    np.testing.assert_array_equal(model(features).outputs["probs"], model(clips[0]).outputs["probs"])


@pytest.mark.parametrize(
    "decode",
    [
        Sigmoid(output="probs", thresholds=(0.1, 0.2, 0.5, 0.01, 0.9, 0.0, 1.0)),
        Regression(output="logits", range=(-0.3, 0.7)),
        Embedding(output="logits", normalize=True),
        Embedding(output="logits"),
    ],
)
def test_other_ways_to_decode(libzoo: LibZoo, ready_bundle: Path, tmp_path: Path, decode: Any) -> None:
    bundle = twin(ready_bundle, tmp_path / "twin", decode=decode)
    python, device = zoo.load(bundle), libzoo.open(bundle)
    case = load_golden(open_bundle(bundle))[0]
    same(device((case["input"], case["rate"])), python((case["input"], case["rate"])))


def test_heads(libzoo: LibZoo, ready_bundle: Path, tmp_path: Path) -> None:
    labels = open_bundle(ready_bundle).manifest.labels
    heads = (
        Head(name="emotion", decode=Softmax(output="probs"), labels=labels),
        Head(name="vector", decode=Embedding(output="logits")),
        Head(name="values", decode=Regression(output="logits", range=(0.0, 1.0)), labels=labels),
    )
    bundle = twin(
        ready_bundle, tmp_path / "twin", decode=Heads(heads=heads), labels=("emotion", "vector", "values")
    )
    python, device = zoo.load(bundle), libzoo.open(bundle)
    case = load_golden(open_bundle(bundle))[0]
    found = device((case["input"], case["rate"]))
    same(found, python((case["input"], case["rate"])))
    assert len(found.values) == 3 * len(labels)
    assert libzoo.lib.zoo_head_count(device.handle) == 3
    assert libzoo.lib.zoo_label(device.handle, 0, 0).decode() == labels[0]
    assert libzoo.lib.zoo_label(device.handle, 1, 0) is None


def test_memory_does_not_grow_with_use(libzoo: LibZoo, ready_bundle: Path) -> None:
    """Four threads for ten seconds; a session that stays behind each time would take far more than 8 MiB."""
    program = libzoo.path.parent / "tests" / "csrc" / "soak"
    done = subprocess.run(
        [program, ready_bundle, "10", "4", "8"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_a_bundle_in_memory_and_as_a_directory(
    libzoo: LibZoo, model: CModel, ready_bundle: Path, tmp_path: Path, openvino_bundle: Path
) -> None:
    case = load_golden(open_bundle(ready_bundle))[1]
    raw = (case["input"], case["rate"])
    expected = model(raw).outputs["probs"]
    for other in (
        libzoo.open(openvino_bundle.read_bytes()),
        libzoo.open(twin(ready_bundle, tmp_path / "folder")),
    ):
        np.testing.assert_array_equal(other(raw).outputs["probs"], expected)
        other.close()


def test_the_example_in_c(libzoo: LibZoo, openvino_bundle: Path, golden_folder: Path) -> None:
    program = libzoo.path.parent / "classify_wav"
    clip = golden_folder / "calm_22050.flac"
    done = subprocess.run([program, openvino_bundle, clip], capture_output=True, text=True, check=True)
    expected = zoo.load(openvino_bundle)(clip)
    assert done.stdout.startswith(f"{clip}\t{expected.label} {max(expected.scores.values()):.3f}\t")
    assert done.stderr == ""
    tested = subprocess.run([program, openvino_bundle], capture_output=True, text=True, check=True)
    assert tested.stdout.startswith("selftest passed: largest difference ")
    failed = subprocess.run([program, "/nowhere", clip], capture_output=True, text=True, check=False)
    assert (failed.returncode, failed.stdout) == (BUNDLE_ERROR, "")
    assert failed.stderr.startswith("bundle error: /nowhere: no such bundle")


def test_the_example_in_cpp(libzoo: LibZoo, openvino_bundle: Path) -> None:
    signal = (np.random.default_rng(6).normal(0, 0.1, 70_001) * 32767).astype(np.int16)
    done = subprocess.run(
        [libzoo.path.parent / "live_speech", openvino_bundle, "16000", "0.6"],
        input=signal.tobytes(),
        capture_output=True,
        check=True,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    wanted = list(zoo.load(openvino_bundle).stream([signal], rate=16000, hop=0.6))
    assert len(found) == len(wanted) > 1
    for wrong in (["16k", "0.6"], ["16000", "soon"], ["16000", "0.6", ""]):
        refused = subprocess.run(
            [libzoo.path.parent / "live_speech", openvino_bundle, *wrong],
            input=b"",
            capture_output=True,
            check=False,
        )
        assert (refused.returncode, refused.stderr[:6]) == (USAGE_ERROR, b"usage:")
    assert re.match(rf"{len(wanted)} windows of 4\.4 s; latency [0-9.]+ ms", done.stderr.decode())
    for line, expected in zip(found, wanted, strict=True):
        assert (line["start"], line["end"]) == pytest.approx((expected.start, expected.end), abs=1e-4)
        assert line["result"]["label"] == expected.label
        assert line["result"]["scores"] == pytest.approx(expected.scores, abs=1e-7)


def test_one_model_serves_many_threads(libzoo: LibZoo, openvino_bundle: Path) -> None:
    shared = libzoo.open(openvino_bundle)
    cases = [(case["input"], case["rate"]) for case in load_golden(open_bundle(openvino_bundle))]
    expected = [shared(case).outputs["probs"] for case in cases]
    wrong: list[int] = []

    def work(k: int) -> None:
        mine = CModel(libzoo, shared.handle, None)
        for i in range(8):
            if not np.array_equal(
                mine(cases[(i + k) % len(cases)]).outputs["probs"], expected[(i + k) % len(cases)]
            ):
                wrong.append(k)
        libzoo.lib.zoo_session_close(mine.session)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    shared.close()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ((np.array([], np.float32), 16000), "sample"),
        ((np.array([0, np.nan, 0], np.float32), 16000), "sample 1 is not finite"),
        ((np.zeros(100, np.float32), 0.5), "rate is 0.5 Hz"),
        ((np.zeros((2, 2, 2), np.float32), 16000), "3 dimensions"),
        ((np.zeros(100, np.uint8), 16000), "float32, float64, int16 or int32"),
        ("a text", "not text"),
        (Path("/nowhere/clip.wav"), "/nowhere/clip.wav"),
        (np.zeros((3, 39), np.float32), "features of shape"),
        (np.zeros((3, 39), np.int64), "features must be float32"),
    ],
)
def test_input_that_cannot_be_processed(model: CModel, raw: Any, message: str) -> None:
    with pytest.raises(ZooFailure, match=re.escape(message)) as failure:
        model(raw)
    assert failure.value.status == INPUT_ERROR


def test_what_is_missing_is_named(
    libzoo: LibZoo, ready_bundle: Path, openvino_bundle: Path, tmp_path: Path
) -> None:
    libzoo.open(openvino_bundle, engine_library=os.fsencode(ENGINE_FOLDERS["openvino"])).close()
    for bundle, install in (
        (openvino_bundle, "pip install openvino"),
        (ready_bundle, "pip install onnxruntime"),
    ):
        with pytest.raises(ZooFailure, match=install) as failure:
            libzoo.open(bundle, engine_library=b"/nowhere")
        assert failure.value.status == PROVIDER_UNAVAILABLE
    damaged = tmp_path / "libonnxruntime.so.1.20.0"
    damaged.write_bytes(b"\x7fELF, and no more")
    for place in (damaged, tmp_path):
        with pytest.raises(
            ZooFailure, match=rf"{re.escape(str(damaged))} is there, but does not load"
        ) as failure:
            libzoo.open(ready_bundle, engine_library=os.fsencode(place))
        assert failure.value.status == PROVIDER_UNAVAILABLE
    for name, change, message in (
        (
            "cuda",
            {"flags": {"providers": "CUDAExecutionProvider"}},
            "needs onnxruntime's CUDAExecutionProvider",
        ),
        ("half", {"engine": {"precision": "fp16"}}, "is fp16, part of which"),
    ):
        with pytest.raises(ZooFailure, match=message) as failure:
            libzoo.open(twin(ready_bundle, tmp_path / name, kind="onnxruntime", **change))
        assert failure.value.status == PROVIDER_UNAVAILABLE
    engines = {engine["kind"]: engine for engine in libzoo.text("zoo_engines", libzoo.options())}
    for kind, option, install in (
        ("tensorrt", "-DTensorRT_INCLUDE_DIR", "JetPack has it; else pip install tensorrt"),
        ("tensorrt_rtx", "-DTensorRT_RTX_INCLUDE_DIR", "pip install tensorrt-rtx-cu12"),
    ):
        built = engines[kind]["built"]
        message = install if built else f"{kind} is not built into this libzoo: configure with {option}"
        with pytest.raises(ZooFailure, match=message) as failure:
            libzoo.open(twin(ready_bundle, tmp_path / kind, kind=kind), engine_library=b"/nowhere")
        assert failure.value.status == PROVIDER_UNAVAILABLE
        assert (engines[kind]["devices"], built or option in engines[kind]["problem"]) == ([], True)
    with pytest.raises(
        ZooFailure, match=r"key.engine_version is >=3000, this machine has 20.*zoo export"
    ) as failure:
        libzoo.open(twin(ready_bundle, tmp_path / "later", version=">=3000"))
    assert failure.value.status == BUNDLE_ERROR
    with pytest.raises(ZooFailure, match="abi_version") as failure:
        libzoo.open(openvino_bundle, abi_version=99)
    assert failure.value.status == USAGE_ERROR
    with pytest.raises(ZooFailure, match="instruction set") as failure:
        libzoo.open(openvino_bundle, isa=b"mmx")
    assert failure.value.status == PROVIDER_UNAVAILABLE
    assert engines["openvino"]["version"] == openvino.__version__.split("-")[0]
    assert "CPU" in engines["openvino"]["devices"]
    assert engines["onnxruntime"]["version"] == onnxruntime.__version__


def test_a_model_of_texts(libzoo: LibZoo, text_bundle: Path) -> None:
    python, device = zoo.load(text_bundle), libzoo.open(text_bundle)
    for text in ("I love it :)", "so sad", "one", "Ünïcode \U0001f600 works"):
        expected = python(text)
        same(device(text), expected)
        assert expected.attention
    texts: Sequence[str] = ("a b", "love", "c d")
    for found, want in zip(device.run(*texts), python.batch(texts), strict=True):
        same(found, want)
    for text in ("", "a " * 65):
        with pytest.raises(InputError) as refused:
            python(text)
        with pytest.raises(ZooFailure) as failure:
            device(text)
        assert (failure.value.status, failure.value.message) == (INPUT_ERROR, str(refused.value))
    with pytest.raises(ZooFailure, match="takes text"):
        device((np.zeros(10, np.float32), 16000))


def test_a_model_of_pictures(libzoo: LibZoo, ready_bundle: Path, tmp_path: Path) -> None:
    """A mean of each colour over the picture, to three labels."""
    node = onnx.helper.make_node("ReduceMean", ["pixels", "axes"], ["probs"], keepdims=0)
    tensors = [("pixels", ("batch", 3, 8, 8)), ("probs", ("batch", 3))]
    value, make = onnx.helper.make_tensor_value_info, onnx.helper.make_model
    infos = [value(name, onnx.TensorProto.FLOAT, shape) for name, shape in tensors]
    axes = onnx.numpy_helper.from_array(np.array([2, 3], np.int64), "axes")
    graph = make(
        onnx.helper.make_graph([node], "means", infos[:1], infos[1:], [axes]),
        opset_imports=[onnx.helper.make_opsetid("", 20)],
        ir_version=9,
    )
    specs = [TensorSpec(name=name, dtype="float32", shape=shape) for name, shape in tensors]
    bundle = twin(
        ready_bundle,
        tmp_path / "picture",
        kind="onnxruntime",
        graph=graph,
        engine={"inputs": (specs[0],), "outputs": (specs[1],)},
        labels=("red", "green", "blue"),
        decode=Softmax(output="probs"),
        input=RawInput(modality="image", dtype="uint8", range=(0.0, 255.0)),
        pipeline=(zoo.pipeline.ResizeNormalize(width=8, height=8),),
        tuning=None,
    )
    python, device = zoo.load(bundle), libzoo.open(bundle)
    for shape in ((8, 8, 3), (31, 17, 3), (40, 40, 3)):
        pixels = np.random.default_rng(7).integers(0, 256, shape).astype(np.uint8)
        features = python.pipeline.run(pixels)
        expected = python.run_engine(features[None])["probs"][0]
        np.testing.assert_array_equal(device((pixels, 0)).outputs["probs"], expected)
    with pytest.raises(ZooFailure, match="image must be uint8") as failure:
        device((np.zeros((8, 8, 3), np.float32), 0))
    assert failure.value.status == INPUT_ERROR


def test_what_libzoo_does_not_run_is_refused(libzoo: LibZoo, ready_bundle: Path, tmp_path: Path) -> None:
    manifest = open_bundle(ready_bundle).manifest
    second = msgspec.structs.replace(manifest.engines[0].inputs[0], name="second")
    branch = zoo.bundle.Branch(source="sound", pipeline=manifest.pipeline)
    video = RawInput(modality="video", rate=25, dtype="uint8", range=(0.0, 255.0))
    pictures = (zoo.pipeline.ResizeNormalize(width=8, height=8),)
    cases: Mapping[str, tuple[Mapping[str, Any], str]] = {
        "branches": (
            {"branches": (branch,), "engine": {"inputs": (*manifest.engines[0].inputs, second)}},
            "several ways (branches)",
        ),
        "inputs": (
            {"engine": {"inputs": (*manifest.engines[0].inputs, second)}},
            "2 inputs, libzoo fills one",
        ),
        "video": (
            {"input": video, "pipeline": pictures},
            "its input is video, which libzoo takes for curves",
        ),
    }
    for name, (changes, message) in cases.items():
        bundle = twin(ready_bundle, tmp_path / name, **changes)
        open_bundle(bundle)
        with pytest.raises(ZooFailure, match=re.escape(message)) as failure:
            libzoo.open(bundle)
        assert failure.value.status == UNSUPPORTED
        assert "Python runtime" in failure.value.message


@pytest.fixture(scope="session")
def text_bundle(ready_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Words to two labels, with attention: a graph of a few nodes."""
    from onnx import TensorProto, helper, numpy_helper

    words = ["<unk>", "i", "love", "it", "sad", "so"]
    rng = np.random.default_rng(5)
    weights = {
        "table": rng.normal(size=(len(words) + 1, 2)).astype(np.float32),
        "score": rng.normal(size=(len(words) + 1, 1)).astype(np.float32),
        "axis": np.array([1], np.int64),
        "last": np.array([2], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["score", "ids"], ["scores"]),
        helper.make_node("Squeeze", ["scores", "last"], ["flat"]),
        helper.make_node("Softmax", ["flat"], ["weights"], axis=1),
        helper.make_node("Gather", ["table", "ids"], ["vectors"]),
        helper.make_node("Unsqueeze", ["weights", "last"], ["wide"]),
        helper.make_node("Mul", ["vectors", "wide"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "axis"], ["logits"], keepdims=0),
        helper.make_node("Softmax", ["logits"], ["probs"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "words",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "tokens"])],
        [
            helper.make_tensor_value_info("probs", TensorProto.FLOAT, ["batch", 2]),
            helper.make_tensor_value_info("weights", TensorProto.FLOAT, ["batch", "tokens"]),
        ],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    onnx_bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9
    ).SerializeToString()
    base = open_bundle(ready_bundle)
    replace = msgspec.structs.replace
    manifest = base.manifest
    tensor = type(manifest.engines[0].inputs[0])
    engine = replace(
        manifest.engines[0],
        kind="openvino",
        inputs=(tensor(name="ids", dtype="int64", shape=("batch", "tokens")),),
        outputs=(
            tensor(name="probs", dtype="float32", shape=("batch", 2)),
            tensor(name="weights", dtype="float32", shape=("batch", "tokens")),
        ),
    )
    key = replace(
        manifest.key,
        engine="openvino",
        engine_version=">=2024.0",
        flags={},
        onnx_sha256=hashlib.sha256(onnx_bytes).hexdigest(),
        profile={"batch": (1, 1, 4), "tokens": (1, 8, 64)},
    )
    changed = replace(
        manifest,
        engines=(engine,),
        key=key,
        labels=("good", "bad"),
        decode=Softmax(output="probs", attention="weights"),
        input=replace(manifest.input, modality="text", rate=None, channels=None),
        pipeline=(zoo.pipeline.SocialTokenize(), zoo.pipeline.Vocab(file="words.txt")),
        tuning=None,
    )
    files = {
        **contents(base),
        manifest.engines[0].file: onnx_bytes,
        "words.txt": "\n".join([*words, ""]).encode(),
    }
    return write_bundle(tmp_path_factory.mktemp("text") / "words.zoo", changed, files)
