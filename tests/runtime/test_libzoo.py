# SPDX-License-Identifier: Apache-2.0
"""libzoo gives what the Python runtime gives: the same bundles taken and refused, the same numbers, windows and labels."""

from __future__ import annotations

import ctypes as c
import hashlib
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import zoo
import zoo.pipeline
from zoo.bundle import MANIFEST, Bundle, load_golden, open_bundle, write_bundle
from zoo.errors import BundleError, InputError
from zoo.export import calibrate, placement, quantize
from zoo.media import Film, of_frames, of_samples
from zoo.runtime import Prediction
from zoo.specs import (
    Curve,
    Embedding,
    Head,
    Heads,
    Precision,
    RawInput,
    Regression,
    Sigmoid,
    Smooth,
    Softmax,
    TensorSpec,
)

REPOSITORY = Path(__file__).resolve().parents[2]
OK, USAGE_ERROR, INPUT_ERROR, BUNDLE_ERROR, PROVIDER_UNAVAILABLE, CHECK_FAILED, NO_RESULT = (
    0,
    2,
    3,
    4,
    5,
    6,
    7,
)
BUFFER_TOO_SMALL, UNSUPPORTED = 9, 10
DTYPES = {"float32": 0, "float64": 1, "int16": 2, "int32": 3, "uint8": 4, "int64": 5}
ARRAY, TEXT, FILE, FEATURES, FILM = range(5)
#: Where the wheels have the engines' libraries.
ENGINE_FOLDERS = {
    "onnxruntime": Path(onnxruntime.__file__).parent / "capi",
    "openvino": Path(openvino.__file__).parent / "libs",
}


class Options(c.Structure):
    _fields_ = [
        ("abi_version", c.c_uint32),
        ("threads", c.c_int32),
        ("batch", c.c_int32),
        ("engine_library", c.c_char_p),
        ("isa", c.c_char_p),
    ]


class StreamOptions(c.Structure):
    _fields_ = [
        ("abi_version", c.c_uint32),
        ("dtype", c.c_int32),
        ("channels", c.c_int32),
        ("rate", c.c_double),
        ("hop", c.c_double),
        ("smoothing", c.c_double),
        ("height", c.c_int32),
        ("width", c.c_int32),
    ]


class Load(c.Structure):
    _fields_ = [
        ("windows", c.c_size_t),
        *(
            (name, c.c_double)
            for name in ("latency_last", "latency_mean", "latency_max", "signal", "busy", "cpu", "cpu_share")
        ),
    ]


class Input(c.Structure):
    _fields_ = [
        ("kind", c.c_int32),
        ("dtype", c.c_int32),
        ("rank", c.c_int32),
        ("shape", c.c_int64 * 4),
        ("rate", c.c_double),
        ("data", c.c_void_p),
    ]


class FilmParts(c.Structure):
    _fields_ = [("pictures", c.POINTER(Input)), ("sound", c.POINTER(Input))]


class Result(c.Structure):
    _fields_ = [
        ("values", c.POINTER(c.c_float)),
        ("values_capacity", c.c_size_t),
        ("values_count", c.c_size_t),
        ("given", c.POINTER(c.c_uint8)),
        ("given_capacity", c.c_size_t),
        ("best", c.POINTER(c.c_int32)),
        ("best_capacity", c.c_size_t),
        ("best_count", c.c_size_t),
        ("attention", c.POINTER(c.c_float)),
        ("attention_capacity", c.c_size_t),
        ("attention_count", c.c_size_t),
        ("start", c.c_double),
        ("end", c.c_double),
        ("timing", c.c_double * 5),
    ]


class Tensor(c.Structure):
    _fields_ = [("dtype", c.c_int32), ("rank", c.c_int32), ("shape", c.c_int64 * 8), ("bytes", c.c_size_t)]


class ZooFailure(Exception):
    """A status that is not ok."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class LibZoo:
    """The C interface, as a device program sees it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lib = c.CDLL(str(path))
        for name in ("zoo_last_error", "zoo_label", "zoo_channel", "zoo_status_name"):
            getattr(self.lib, name).restype = c.c_char_p
        self.lib.zoo_label.argtypes = [c.c_void_p, c.c_size_t, c.c_size_t]
        self.lib.zoo_channel.argtypes = [c.c_void_p, c.c_size_t]
        self.lib.zoo_head_count.restype = c.c_size_t
        self.lib.zoo_head_count.argtypes = [c.c_void_p]
        self.lib.zoo_stream_session.restype = c.c_void_p
        self.lib.zoo_stream_session.argtypes = [c.c_void_p]
        text = [c.c_char_p, c.c_size_t, c.POINTER(c.c_size_t)]
        arguments: Mapping[str, list[Any]] = {
            "zoo_open": [c.c_char_p, c.POINTER(Options), c.POINTER(c.c_void_p)],
            "zoo_open_memory": [c.c_void_p, c.c_size_t, c.POINTER(Options), c.POINTER(c.c_void_p)],
            "zoo_describe": [c.c_void_p, *text],
            "zoo_engines": [c.POINTER(Options), *text],
            "zoo_session_open": [c.c_void_p, c.POINTER(c.c_void_p)],
            "zoo_run": [c.c_void_p, c.POINTER(Input), c.c_size_t, c.POINTER(Result)],
            "zoo_result_read": [c.c_void_p, c.c_size_t, c.POINTER(Result)],
            "zoo_result_json": [c.c_void_p, c.c_size_t, *text],
            "zoo_output": [c.c_void_p, c.c_size_t, c.c_char_p, c.c_void_p, c.c_size_t, c.POINTER(Tensor)],
            "zoo_selftest": [c.c_void_p, c.POINTER(c.c_double), c.POINTER(c.c_double)],
            "zoo_stream_open": [c.c_void_p, c.POINTER(StreamOptions), c.POINTER(c.c_void_p)],
            "zoo_stream_load": [c.c_void_p, c.POINTER(Load)],
            "zoo_stream_push": [c.c_void_p, c.c_void_p, c.c_size_t, c.POINTER(c.c_size_t)],
            "zoo_stream_end": [c.c_void_p],
            "zoo_stream_pop": [c.c_void_p, c.POINTER(Result)],
        }
        for name, types in arguments.items():
            getattr(self.lib, name).argtypes = types
        for name in ("zoo_close", "zoo_session_close", "zoo_stream_close"):
            getattr(self.lib, name).argtypes, getattr(self.lib, name).restype = [c.c_void_p], None

    def call(self, name: str, *arguments: Any) -> None:
        status = getattr(self.lib, name)(*arguments)
        if status != OK:
            raise ZooFailure(status, self.lib.zoo_last_error().decode())

    def text(self, name: str, *arguments: Any) -> Any:
        size = c.c_size_t()
        assert getattr(self.lib, name)(*arguments, None, 0, c.byref(size)) == BUFFER_TOO_SMALL
        buffer = c.create_string_buffer(size.value)
        self.call(name, *arguments, buffer, size.value, c.byref(size))
        assert len(buffer.value) == size.value - 1
        return json.loads(buffer.value)

    def options(self, **fields: Any) -> Options:
        return Options(**{"abi_version": 1, **fields})

    def open(self, bundle: Path | bytes, **fields: Any) -> CModel:
        handle = c.c_void_p(1)
        options = self.options(**fields)
        try:
            if isinstance(bundle, bytes):
                self.call("zoo_open_memory", bundle, len(bundle), options, c.byref(handle))
            else:
                self.call("zoo_open", os.fsencode(bundle), options, c.byref(handle))
        except ZooFailure:
            assert handle.value is None
            raise
        return CModel(self, handle, bundle)


@dataclass
class CPrediction:
    """What :class:`zoo.runtime.Prediction` has, from C."""

    json: Any
    outputs: dict[str, np.ndarray[Any, Any]]
    values: list[float]
    start: float
    end: float


class CModel:
    """A model with one session."""

    def __init__(self, lib: LibZoo, handle: c.c_void_p, keep: Any) -> None:
        self.lib, self.handle, self.keep = lib, handle, keep
        self.alive: list[Any] = []  # data of the last inputs
        self.session = c.c_void_p()
        try:
            lib.call("zoo_session_open", handle, c.byref(self.session))
        except ZooFailure:
            lib.lib.zoo_close(handle)
            raise
        self.about = lib.text("zoo_describe", handle)

    def close(self) -> None:
        """The model first: the session keeps it."""
        self.lib.lib.zoo_close(self.handle)
        self.lib.lib.zoo_session_close(self.session)

    def run(self, *raws: Any) -> list[CPrediction]:
        self.alive.clear()
        inputs = (Input * len(raws))(*(self._input(raw) for raw in raws))
        self.lib.call("zoo_run", self.session, inputs, len(raws), None)
        return [self.read(self.session, i) for i in range(len(raws))]

    def __call__(self, raw: Any) -> CPrediction:
        return self.run(raw)[0]

    def read(self, session: Any, item: int) -> CPrediction:
        result = Result()
        self.lib.call("zoo_result_read", session, item, result)
        values = (c.c_float * result.values_count)()
        result.values, result.values_capacity = values, len(values)
        self.lib.call("zoo_result_read", session, item, result)
        outputs = {}
        for spec in self.about["outputs"]:
            tensor = Tensor()
            self.lib.call("zoo_output", session, item, spec["name"].encode(), None, 0, tensor)
            array = np.empty(tuple(tensor.shape[: tensor.rank]), np.float32)
            assert array.nbytes == tensor.bytes
            assert tensor.dtype == DTYPES["float32"]
            self.lib.call(
                "zoo_output", session, item, spec["name"].encode(), array.ctypes.data, array.nbytes, tensor
            )
            outputs[spec["name"]] = array
        return CPrediction(
            self.lib.text("zoo_result_json", session, item), outputs, list(values), result.start, result.end
        )

    def _input(self, raw: Any) -> Input:
        if isinstance(raw, str):
            data = raw.encode()
            return self._keep(Input(kind=TEXT, shape=(len(data), 0, 0, 0)), data)
        if isinstance(raw, Path):
            return self._keep(Input(kind=FILE), os.fsencode(raw) + b"\0")
        if isinstance(raw, dict):
            parts = FilmParts(**{name: c.pointer(self._input(part)) for name, part in raw.items()})
            self.alive.append(parts)
            return Input(kind=FILM, data=c.cast(c.pointer(parts), c.c_void_p))
        array, rate = raw if isinstance(raw, tuple) else (raw, None)
        array = np.ascontiguousarray(array)
        kind = FEATURES if rate is None else ARRAY
        shape = (*array.shape, 0, 0, 0, 0)[:4]
        given = Input(
            kind=kind, dtype=DTYPES[str(array.dtype)], rank=array.ndim, shape=shape, rate=rate or 0.0
        )
        return self._keep(given, array)

    def _keep(self, given: Input, data: Any) -> Input:
        given.data = data.ctypes.data if isinstance(data, np.ndarray) else c.cast(data, c.c_void_p).value
        self.alive.append(data)
        return given


@pytest.fixture(scope="session")
def libzoo() -> Iterator[LibZoo]:
    """The shared library: ``ZOO_LIBRARY``, or what ``make runtime`` built."""
    path = Path(os.environ.get("ZOO_LIBRARY") or REPOSITORY / "build" / "runtime" / "libzoo.so")
    if not path.is_file():
        pytest.skip(f"{path} is not built; make runtime, or set ZOO_LIBRARY")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_ENGINE_PATH", ":".join(["/nowhere", *map(str, ENGINE_FOLDERS.values())]))
        yield LibZoo(path)


def contents(bundle: Bundle) -> dict[str, bytes]:
    return {file.path: bundle.read(file.path) for file in bundle.manifest.files}


def twin(
    source: Path,
    out: Path,
    *,
    kind: str = "openvino",
    version: str | None = None,
    graph: onnx.ModelProto | bytes | None = None,
    engine: Mapping[str, Any] | None = None,
    flags: Mapping[str, str] | None = None,
    keyed: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """The same bundle for another engine (OpenVINO reads ONNX), and perhaps with another graph or way to decode."""
    bundle = open_bundle(source)
    manifest, files = bundle.manifest, contents(bundle)
    replace = msgspec.structs.replace
    first = replace(manifest.engines[0], kind=kind, **(engine or {}))
    key = replace(
        manifest.key,
        engine=kind,
        engine_version=version or (">=1.20" if kind == "onnxruntime" else ">=2024.0"),
        flags=dict(flags or {}),
        **(keyed or {}),
    )
    if graph is not None:
        files[first.file] = graph if isinstance(graph, bytes) else graph.SerializeToString()
        key = replace(key, onnx_sha256=hashlib.sha256(files[first.file]).hexdigest())
    return write_bundle(out, replace(manifest, engines=(first,), key=key, **changes), files)


def ready_bundles() -> list[Path]:
    return sorted(Path(zoo.__path__[0]).glob("models/*/bundles/*"))


@pytest.fixture(scope="session")
def openvino_bundle(ready_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return twin(ready_bundle, tmp_path_factory.mktemp("openvino") / "tim-net.zoo")


@pytest.fixture(scope="session")
def model(libzoo: LibZoo, openvino_bundle: Path) -> CModel:
    return libzoo.open(openvino_bundle)


def same(found: CPrediction, expected: Any) -> None:
    """Every number equal; those that are computed after the engine to float32's rounding."""
    for name, array in expected.outputs.items():
        np.testing.assert_array_equal(found.outputs[name], array)
    answers = found.json.get("heads", {"": found.json})
    for name, answer in (expected.heads or {"": expected}).items():
        given = answers[name]
        assert given["label"] == answer.label
        assert tuple(given["labels"]) == answer.labels
        if answer.series is not None:
            for key, wanted in vars(answer.series).items():
                np.testing.assert_array_equal(
                    np.asarray(given["series"][key], np.asarray(wanted).dtype), wanted
                )
        assert given["scores"] == pytest.approx(answer.scores, abs=1e-7)
        if isinstance(answer.values, dict):
            assert given["values"] == pytest.approx(answer.values, abs=1e-7)
        else:
            np.testing.assert_allclose(given["values"], answer.values, rtol=1e-6)
    assert [token for token, _ in found.json.get("attention", [])] == [
        token for token, _ in expected.attention
    ]
    assert [w for _, w in found.json.get("attention", [])] == [w for _, w in expected.attention]


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
    from zoo.export import export_model

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ZOO_DATA", raising=False)
        bundle = export_model(name, target="cpu-x86", precision="fp32", out=tmp_path / "bundle").path
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


def golden_inputs_agree(libzoo: LibZoo, bundle: Path) -> None:
    python, device = zoo.load(bundle), libzoo.open(bundle)
    text = python.manifest.input.modality == "text"
    for case in load_golden(open_bundle(bundle)):
        raw = case["input"].tobytes().decode() if text else (case["input"], case["rate"])
        if python.manifest.input.modality == "video":
            sound = (case["sound"], case["sound_rate"])
            film = Film(of_samples(*sound), of_frames(*raw))
            same(device({"pictures": raw, "sound": sound}), python(film))
        elif python.manifest.input.modality == "image":
            same(device(raw), python(case["input"]))
        else:
            same(device(raw), python(raw))
    report = python.selftest()
    worst, tolerance = c.c_double(), c.c_double()
    libzoo.call("zoo_selftest", device.session, worst, tolerance)
    assert (worst.value, tolerance.value) == (max(report.errors), report.tolerance)
    device.close()


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


@pytest.mark.parametrize("hop", [0.25, 0.7, 9.3])
@pytest.mark.parametrize("chunk", [1000, 30001, 500_000])
def test_streams_give_the_same_windows(
    libzoo: LibZoo, model: CModel, openvino_bundle: Path, hop: float, chunk: int
) -> None:
    rate, channels = 16000, 2
    signal = np.random.default_rng(2).normal(0, 0.1, (rate * 13 // 2, channels)).astype(np.float32)
    expected = zoo.load(openvino_bundle).stream(
        np.array_split(signal, range(chunk, len(signal), chunk)), rate=rate, hop=hop
    )
    found = list(c_stream(libzoo, model, signal, rate, hop, chunk))
    wanted = list(expected)
    assert len(found) == len(wanted) > 0
    for got, want in zip(found, wanted, strict=True):
        same(got, want)
        assert (got.start, got.end) == (want.start, want.end)


def c_stream(
    libzoo: LibZoo,
    model: CModel,
    signal: np.ndarray[Any, Any],
    rate: int,
    hop: float,
    chunk: int,
    *,
    smoothing: float = 0.0,
    loads: list[Load] | None = None,
) -> Iterator[CPrediction]:
    stream, taken = c.c_void_p(), c.c_size_t()
    options = StreamOptions(
        abi_version=1,
        dtype=DTYPES[str(signal.dtype)],
        channels=signal.shape[-1] if signal.ndim in (2, 4) else 1,
        rate=rate,
        hop=hop,
        smoothing=smoothing,
        height=signal.shape[1] if signal.ndim == 4 else 0,
        width=signal.shape[2] if signal.ndim == 4 else 0,
    )
    libzoo.call("zoo_stream_open", model.handle, options, c.byref(stream))

    def results() -> Iterator[CPrediction]:
        while (status := libzoo.lib.zoo_stream_pop(stream, None)) == OK:
            if loads is not None:
                loads.append(Load())
                libzoo.call("zoo_stream_load", stream, loads[-1])
            yield model.read(libzoo.lib.zoo_stream_session(stream), 0)
        assert status == NO_RESULT

    try:
        for at in range(0, len(signal), chunk):
            part = np.ascontiguousarray(signal[at : at + chunk])
            while len(part):
                libzoo.call("zoo_stream_push", stream, part.ctypes.data, len(part), taken)
                part = part[taken.value :]
                yield from results()
        libzoo.call("zoo_stream_end", stream)
        yield from results()
    finally:
        libzoo.lib.zoo_stream_close(stream)


def test_a_stream_shorter_than_a_window_gives_one_result(
    libzoo: LibZoo, model: CModel, openvino_bundle: Path
) -> None:
    signal = np.random.default_rng(3).normal(0, 0.1, 9000).astype(np.float32)
    (found,) = c_stream(libzoo, model, signal, 16000, 0.5, 700)
    (expected,) = zoo.load(openvino_bundle).stream([signal], rate=16000)
    same(found, expected)
    assert (found.start, found.end) == (0, 9000 / 16000)


@pytest.mark.parametrize(
    "decode", [Softmax(output="probs"), Sigmoid(output="probs", thresholds=(0.1,) * 7)], ids=["one", "some"]
)
def test_smoothed_streams(libzoo: LibZoo, ready_bundle: Path, tmp_path: Path, decode: Any) -> None:
    bundle = twin(ready_bundle, tmp_path / "twin", decode=decode)
    python, device = zoo.load(bundle), libzoo.open(bundle)
    rng, rate, hop, seconds = np.random.default_rng(8), 16000, 0.4, 0.9
    signal = (rng.normal(0, 0.1, rate * 8) * np.repeat(rng.random(8), rate)).astype(np.float32)
    plain = [prediction.outputs["probs"] for prediction in python.stream([signal], rate=rate, hop=hop)]
    weight, mean = 1 - np.exp(-hop / seconds), np.float64(plain[0])
    found = list(c_stream(libzoo, device, signal, rate, hop, 900, smoothing=seconds))
    assert len(found) == len(plain) > 5
    for got, now in zip(found, plain, strict=True):
        mean = mean + weight * (now - mean)
        np.testing.assert_allclose(got.values, mean, atol=1e-6)
        np.testing.assert_array_equal(got.outputs["probs"], now)  # outputs stay those of the window
        given = [label for label, p in zip(python.labels, got.values, strict=True) if p >= 0.1]
        best = python.labels[int(np.argmax(got.values))]
        assert got.json["labels"] == ([best] if isinstance(decode, Softmax) else given)
        assert got.json["label"] == (best if isinstance(decode, Softmax) else None)
    assert any(np.abs(got.values - now).max() > 0.01 for got, now in zip(found, plain, strict=True))
    with pytest.raises(ZooFailure, match="smoothing is -1"):
        next(c_stream(libzoo, device, signal, rate, hop, 900, smoothing=-1.0))


def test_a_stream_says_what_it_costs(libzoo: LibZoo, model: CModel) -> None:
    signal = np.random.default_rng(9).normal(0, 0.1, 16000 * 6).astype(np.float32)
    loads: list[Load] = []
    results = list(c_stream(libzoo, model, signal, 16000, 0.5, 160, loads=loads))
    last = loads[-1]
    assert [load.windows for load in loads] == list(range(1, len(results) + 1))
    assert last.signal == pytest.approx(results[-1].end, abs=0.02)
    totals = [result.json["timing"]["total"] for result in results]
    assert all(load.latency_last >= total for load, total in zip(loads, totals, strict=True))
    assert last.busy * 1e3 >= sum(totals)
    assert last.latency_max == max(load.latency_last for load in loads)
    assert last.latency_mean == pytest.approx(np.mean([load.latency_last for load in loads]))
    assert last.cpu > 0
    assert last.cpu_share == pytest.approx(last.cpu / last.signal)


@pytest.mark.parametrize("kind", ENGINE_FOLDERS)
def test_a_stream_allocates_nothing(
    libzoo: LibZoo, ready_bundle: Path, openvino_bundle: Path, kind: str
) -> None:
    program = libzoo.path.parent / "tests" / "csrc" / "allocations"
    bundle = ready_bundle if kind == "onnxruntime" else openvino_bundle
    done = subprocess.run([program, bundle], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1].endswith(" 0 failures")) == (0, True), done.stdout


def test_a_stream_of_pictures_allocates_nothing(libzoo: LibZoo, face_bundle: Path) -> None:
    program = libzoo.path.parent / "tests" / "csrc" / "allocations"
    done = subprocess.run([program, face_bundle, "pictures"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "80 windows, 0 failures"), done.stdout


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
    assert re.match(rf"{len(wanted)} windows of 4\.4 s; latency [0-9.]+ ms", done.stderr.decode())
    for line, expected in zip(found, wanted, strict=True):
        assert (line["start"], line["end"]) == pytest.approx((expected.start, expected.end), abs=1e-4)
        assert line["result"]["label"] == expected.label
        assert line["result"]["scores"] == pytest.approx(expected.scores, abs=1e-7)


@pytest.fixture(scope="session")
def face_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of faces, as exported."""
    from zoo.export import export_model

    out = tmp_path_factory.mktemp("faces") / "bundle"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ZOO_DATA", raising=False)
        return export_model("neurogaze-distill-small", target="cpu-x86", precision="fp32", out=out).path


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_a_stream_of_pictures_judges_one_every_hop(
    libzoo: LibZoo, face_bundle: Path, channels: int, chunk: int
) -> None:
    rng = np.random.default_rng(channels)
    frames = rng.integers(0, 256, (23, 40, 56, channels)).astype(np.uint8)
    device, python = libzoo.open(face_bundle), zoo.load(face_bundle)
    loads: list[Load] = []
    found = list(c_stream(libzoo, device, frames, 30, 0.1, chunk, loads=loads))
    wanted = [python(frame if channels == 3 else frame[..., 0]) for frame in frames[::3]]
    chunks = np.split(frames, [5, 6]) if channels == 3 else list(frames[..., 0])
    live = list(python.stream(chunks, rate=30, hop=0.1))
    assert [(p.start, p.end, p.scores) for p in live] == [
        (p.start, p.end, w.scores) for p, w in zip(found, wanted, strict=True)
    ]
    assert len(found) == len(wanted) == 8
    for i, (got, expected) in enumerate(zip(found, wanted, strict=True)):
        np.testing.assert_array_equal(got.values, list(expected.scores.values()))
        assert got.json["label"] == expected.label
        assert (got.start, got.end) == pytest.approx((i * 0.1, i * 0.1 + 1 / 30))
    assert loads[-1].windows == 8
    device.close()


def test_pictures_of_a_stream_are_smoothed(libzoo: LibZoo, face_bundle: Path) -> None:
    frames = np.random.default_rng(1).integers(0, 256, (12, 48, 48, 3)).astype(np.uint8)
    device = libzoo.open(face_bundle)
    plain = list(c_stream(libzoo, device, frames, 10, 0.1, 5))
    found = list(c_stream(libzoo, device, frames, 10, 0.1, 5, smoothing=0.5))
    mean = np.asarray(plain[0].values, np.float64)
    for got, now in zip(found, plain, strict=True):
        if now is not plain[0]:
            mean += (1 - np.exp(-0.1 / 0.5)) * (np.asarray(now.values) - mean)
        np.testing.assert_allclose(got.values, mean, atol=1e-6)
    device.close()


def test_wrong_streams_of_pictures_are_told(libzoo: LibZoo, face_bundle: Path, model: CModel) -> None:
    device = libzoo.open(face_bundle)
    frames = np.zeros((2, 48, 48, 3), np.uint8)
    for signal, rate, message in (
        (frames.astype(np.float32), 10, "pictures are uint8"),
        (frames[:, :0], 10, "height and width are 0 and 48"),
        (frames, 0, "rate is 0"),
        (np.zeros((2, 48, 48, 5), np.uint8), 10, r"channels is 5; it must be 1 \(grey\) or 3"),
    ):
        with pytest.raises(ZooFailure, match=message) as refused:
            list(c_stream(libzoo, device, signal, rate, 0.5, 1))
        assert refused.value.status == INPUT_ERROR
    with pytest.raises(ZooFailure, match="takes sound: leave them 0"):
        list(c_stream(libzoo, model, np.zeros((2, 4, 4, 1), np.float32), 16000, 0.5, 1))
    device.close()


def test_the_example_of_a_camera(libzoo: LibZoo, face_bundle: Path) -> None:
    program = libzoo.path.parent / "camera_faces"
    frames = np.random.default_rng(3).integers(0, 256, (11, 60, 80, 3)).astype(np.uint8)

    def run(*options: str, data: bytes = frames.tobytes()) -> subprocess.CompletedProcess[bytes]:
        command = [program, face_bundle, "80", "60", "10", "0.2", *options]
        return subprocess.run(command, input=data, capture_output=True, check=False)

    python = zoo.load(face_bundle)
    for options, cut in (((), np.s_[:, :, 10:70]), (("--face", "5,7,33"), np.s_[:, 7:40, 5:38])):
        done = run(*options)
        assert done.returncode == 0, done.stderr
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(lines) == 6
        for line, face in zip(lines, frames[cut][::2], strict=True):
            expected = python(np.ascontiguousarray(face))
            assert line["result"]["label"] == expected.label
            assert line["result"]["scores"] == pytest.approx(expected.scores, abs=1e-7)
        assert done.stderr.startswith(b"6 faces of 1.1 s; latency ")
    assert run("--smoothing", "1").stdout != run().stdout
    for options, data, code, message in (
        (("--face", "50,7,33"), b"", USAGE_ERROR, b"outside the frame"),
        (("--zoom", "2"), b"", USAGE_ERROR, b"unknown option"),
        ((), frames.tobytes()[:-1], INPUT_ERROR, b"the last frame has 14399 of 14400 bytes"),
        ((), b"", INPUT_ERROR, b"standard input ended before the first frame"),
    ):
        failed = run(*options, data=data)
        assert (failed.returncode, message in failed.stderr) == (code, True), failed.stderr


@pytest.fixture(scope="session")
def eeg_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of EEG, as exported."""
    from zoo.export import export_model

    out = tmp_path_factory.mktemp("eeg") / "bundle"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ZOO_DATA", raising=False)
        return export_model("eeg-state-epoc", target="cpu-x86", precision="fp32", out=out).path


@pytest.fixture(scope="session")
def recording() -> np.ndarray[Any, Any]:
    """Ten seconds of 14 channels, microvolts, with spikes."""
    rng = np.random.default_rng(11)
    signal = rng.normal(4000, 30, (1280, 14)) + 20 * np.sin(np.arange(1280) / 2)[:, None]
    signal[[200, 700], 3] += 1e5
    return signal


@pytest.mark.parametrize("kind", ENGINE_FOLDERS)
def test_golden_recordings(libzoo: LibZoo, eeg_bundle: Path, tmp_path: Path, kind: str) -> None:
    golden_inputs_agree(libzoo, twin(eeg_bundle, tmp_path / "twin", kind=kind))


def test_a_recording_gets_the_answer_of_its_last_window(
    libzoo: LibZoo, eeg_bundle: Path, recording: np.ndarray[Any, Any]
) -> None:
    device, python = libzoo.open(eeg_bundle), zoo.load(eeg_bundle)
    names = python.manifest.input.names
    assert device.about["input"]["names"] == list(names)
    assert [libzoo.lib.zoo_channel(device.handle, i) for i in range(15)] == [*map(str.encode, names), None]
    assert libzoo.lib.zoo_channel(None, 0) is None
    assert device.about["window_seconds"] == 1.0
    cuts = [recording[:n] for n in (128, 191, 192, 1280)]
    for got, cut in zip(device.run(*((cut, 128) for cut in cuts)), cuts, strict=True):
        same(got, python((cut, 128)))
    for dtype in (np.float32, np.int16, np.int32):
        given = (recording[:640].astype(dtype), 128)
        same(device(given), python(given))
    for given, message in (
        ((recording[:127], 128), "fewer than one window of 128"),
        ((recording[:, :13], 128), r"the input has shape \(1280, 13\); the pipeline takes eeg of shape \(any, 14\)"),
        ((recording, 256), r"recorded at 256\.0+ Hz, eeg-state-epoc needs 128 Hz"),
        ((np.where(np.arange(1280)[:, None] == 900, np.nan, recording), 128), "sample 900 of channel 0 is not finite"),
        ((recording.astype(np.uint8), 128), "eeg must not be uint8"),
    ):  # fmt: skip
        with pytest.raises(ZooFailure, match=message) as refused:
            device(given)
        assert refused.value.status == INPUT_ERROR
    device.close()


@pytest.mark.parametrize("chunk", [1, 7, 64, 129, 1280])
def test_a_stream_of_eeg_gives_the_same_windows(
    libzoo: LibZoo, eeg_bundle: Path, recording: np.ndarray[Any, Any], chunk: int
) -> None:
    device, python = libzoo.open(eeg_bundle), zoo.load(eeg_bundle)
    wanted = list(python.stream(np.array_split(recording, range(chunk, len(recording), chunk))))
    loads: list[Load] = []
    found = list(c_stream(libzoo, device, recording, 128, 0.5, chunk, loads=loads))
    assert len(found) == len(wanted) == 19
    for i, (got, want) in enumerate(zip(found, wanted, strict=True)):
        same(got, want)
        assert (got.start, got.end) == (want.start, want.end) == (i / 2, i / 2 + 1)
        assert got.json["timing"]["total"] >= got.json["timing"]["preprocess"] > 0
    # despike looks one sample ahead, so the last window is completed by the end alone
    assert loads[-2].signal == pytest.approx((1280 - 64 + 1) / 128, abs=chunk / 128)
    assert loads[-1].windows == 19
    # what a run on all up to a window's end gives, but for its last sample, which despike then sees without a neighbour
    same(found[-1], python((recording, 128)))
    device.close()


def test_windows_that_only_the_end_completes(
    libzoo: LibZoo, eeg_bundle: Path, recording: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    """Two ops that look one sample ahead keep two windows of a hop of one sample until the recording ends."""
    ops = open_bundle(eeg_bundle).manifest.pipeline
    pipeline = (zoo.pipeline.Despike(limit=900.0), *ops[:2], zoo.pipeline.Bandpower(hop_length=1), ops[-1])
    recording = recording[:200]
    bundle = twin(eeg_bundle, tmp_path / "twin", kind="onnxruntime", pipeline=pipeline)
    device, python = libzoo.open(bundle), zoo.load(bundle)
    wanted = list(python.stream([recording]))
    loads: list[Load] = []
    found = list(c_stream(libzoo, device, recording, 0, 0, 50, loads=loads))
    assert len(found) == len(wanted) == 200 - 128 + 1
    for got, want in zip(found, wanted, strict=True):
        same(got, want)
        assert (got.start, got.end) == (want.start, want.end)
    # the first of the last three was completed by the last sample, the others by the end
    assert [load.signal for load in loads].count(200 / 128) == 3
    device.close()


def test_eeg_that_a_stream_refuses(
    libzoo: LibZoo, eeg_bundle: Path, recording: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    device = libzoo.open(eeg_bundle)
    for signal, rate, hop, message in (
        (recording, 256, 0, "a stream at 256 Hz every 0.5 s; its pipeline is made for 128 Hz and 0.5 s"),
        (recording, 0, 0.25, "a stream at 128 Hz every 0.25 s"),
        (recording[:, :3], 0, 0, "channels is 3; eeg-state-epoc takes 14: AF3, F7"),
        (recording.astype(np.uint8), 0, 0, "EEG may be float32"),
        (np.zeros((2, 4, 4, 14)), 0, 0, "takes EEG: leave them 0"),
        (recording[:127], 0, 0, "the recording has 127 samples, less than one window of 128"),
        (recording[:0], 0, 0, "the recording has 0 samples"),
    ):
        with pytest.raises(ZooFailure, match=message) as refused:
            list(c_stream(libzoo, device, signal, rate, hop, 40))
        assert refused.value.status == INPUT_ERROR
    whole = twin(eeg_bundle, tmp_path / "whole", kind="onnxruntime", pipeline=(zoo.pipeline.Demean(), *open_bundle(eeg_bundle).manifest.pipeline[2:]))  # fmt: skip
    with pytest.raises(ZooFailure, match=r"op 0 \(demean\) needs the whole input") as refused:
        list(c_stream(libzoo, libzoo.open(whole), recording, 0, 0, 40))
    assert refused.value.status == INPUT_ERROR
    device.close()


def test_samples_that_are_not_finite_may_be_left_out(
    libzoo: LibZoo, eeg_bundle: Path, recording: np.ndarray[Any, Any]
) -> None:
    device, python = libzoo.open(eeg_bundle), zoo.load(eeg_bundle)
    stream, taken = c.c_void_p(), c.c_size_t(7)
    options = StreamOptions(abi_version=1, dtype=DTYPES["float64"], channels=14)
    libzoo.call("zoo_stream_open", device.handle, options, c.byref(stream))
    bad = np.full((1, 14), np.nan)
    found = []
    for at in range(256):
        if at == 100:
            with pytest.raises(ZooFailure, match="sample 100 of channel 0 is not finite") as refused:
                libzoo.call("zoo_stream_push", stream, bad.ctypes.data, 1, taken)
            assert (refused.value.status, taken.value) == (INPUT_ERROR, 0)
        row = np.ascontiguousarray(recording[at])
        libzoo.call("zoo_stream_push", stream, row.ctypes.data, 1, taken)
        assert taken.value == 1
        if libzoo.lib.zoo_stream_pop(stream, None) == OK:
            found.append(device.read(libzoo.lib.zoo_stream_session(stream), 0))
    libzoo.call("zoo_stream_end", stream)
    libzoo.call("zoo_stream_pop", stream, None)
    found.append(device.read(libzoo.lib.zoo_stream_session(stream), 0))
    assert libzoo.lib.zoo_stream_pop(stream, None) == NO_RESULT
    with pytest.raises(ZooFailure, match="the stream has ended"):
        libzoo.call("zoo_stream_push", stream, bad.ctypes.data, 1, taken)
    for got, want in zip(found, python.stream([recording[:256]]), strict=True):
        same(got, want)
    libzoo.lib.zoo_stream_close(stream)
    device.close()


def test_an_eeg_pipeline_that_does_not_fit_the_engine(
    libzoo: LibZoo, eeg_bundle: Path, tmp_path: Path
) -> None:
    ops = open_bundle(eeg_bundle).manifest.pipeline
    for name, pipeline, message in (
        ("flat", ops[:2], "the pipeline gives float64, the engine takes float32"),
        ("bands", ops[:3], "the engine's input does not have the pipeline's dimensions"),
    ):
        bundle = twin(eeg_bundle, tmp_path / name, kind="onnxruntime", pipeline=pipeline)
        with pytest.raises(ZooFailure, match=message) as refused:
            libzoo.open(bundle)
        assert refused.value.status == BUNDLE_ERROR


def test_both_readers_refuse_a_montage_that_does_not_fit(
    libzoo: LibZoo, eeg_bundle: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(eeg_bundle, tmp_path / "copy"))
    manifest = json.loads((copy / MANIFEST).read_text())
    manifest["input"]["names"].pop()
    (copy / MANIFEST).write_bytes(sealed(manifest))
    assert "positions has 14 electrodes, the input has 13 channels" in verdict(libzoo, copy)
    assert "positions has 14 electrodes, the input has 13 channels" in python_verdict(copy)


def test_a_stream_of_eeg_allocates_nothing(libzoo: LibZoo, eeg_bundle: Path) -> None:
    program = libzoo.path.parent / "tests" / "csrc" / "allocations"
    done = subprocess.run([program, eeg_bundle, "eeg"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "38 windows, 0 failures"), done.stdout


def test_the_example_of_a_headset(libzoo: LibZoo, eeg_bundle: Path, recording: np.ndarray[Any, Any]) -> None:
    program = libzoo.path.parent / "eeg_stream"
    names = list(open_bundle(eeg_bundle).manifest.input.names)
    rows = [
        ",".join(map(repr, row)) for row in np.column_stack([recording[:, ::-1], np.arange(1280)]).tolist()
    ]
    header = ["# rate: 128", ",".join([*(name.lower() for name in names[::-1]), "counter"])]

    def run(lines: Sequence[str], *options: str) -> subprocess.CompletedProcess[str]:
        text = "\n".join(lines) + "\n"
        return subprocess.run([program, eeg_bundle, *options], input=text, capture_output=True, text=True, check=False)  # fmt: skip

    done = run([*header, *rows])
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    wanted = list(zoo.load(eeg_bundle).stream([recording]))
    assert len(found) == len(wanted) == 19
    for line, expected in zip(found, wanted, strict=True):
        assert (line["start"], line["end"]) == (expected.start, expected.end)
        assert line["result"]["label"] == expected.label
        assert line["result"]["scores"] == pytest.approx(expected.scores, abs=1e-7)
    assert done.stderr.startswith("19 windows of 10.0 s; latency ")
    assert run([*header, *rows], "2").stdout != done.stdout
    for lines, message in (
        ([header[1].replace("af3", "x"), *rows], "line 1: the first line names no column AF3"),
        ([*header, rows[0], rows[1] + ",1"], "line 4: 16 columns, the first line has 15"),
        ([*header, rows[0].replace(",", ",?", 1)], "line 3: '?"),
        ([*header, "nan" + rows[0][rows[0].index(",") :]], "line 3: sample 0 of channel 13 is not finite"),
        (header, "the recording has 0 samples, less than one window of 128"),
        ([], "standard input has no line of column names"),
    ):
        failed = run(lines)
        assert (failed.returncode, failed.stdout) == (INPUT_ERROR, "")
        assert failed.stderr.startswith(f"input error: {message}") or message in failed.stderr, failed.stderr
    sound = subprocess.run([program, "/nowhere"], input="", capture_output=True, text=True, check=False)
    assert sound.returncode == BUNDLE_ERROR


@pytest.fixture(scope="session", params=["movie-affect-audio", "movie-affect-audio-lstm"])
def curve_bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that gives curves along sound, as exported; the second looks four steps back."""
    from zoo.export import export_model

    out = tmp_path_factory.mktemp("curve") / "bundle"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ZOO_DATA", raising=False)
        return export_model(request.param, target="cpu-x86", precision="fp32", out=out).path


@pytest.mark.parametrize("kind", ENGINE_FOLDERS)
def test_golden_sounds_give_curves(libzoo: LibZoo, curve_bundle: Path, tmp_path: Path, kind: str) -> None:
    golden_inputs_agree(libzoo, twin(curve_bundle, tmp_path / "twin", kind=kind))


@pytest.mark.parametrize("kind", ENGINE_FOLDERS)
def test_golden_films_give_curves(libzoo: LibZoo, film_bundle: Path, tmp_path: Path, kind: str) -> None:
    golden_inputs_agree(libzoo, twin(film_bundle, tmp_path / "twin", kind=kind))


def test_curves_along_many_blocks(libzoo: LibZoo, curve_bundle: Path, tmp_path: Path) -> None:
    """More steps than an engine call takes, from arrays, a stereo file and several inputs at once."""
    rng = np.random.default_rng(4)
    sound = (rng.normal(0, 0.1, (44100 * 47, 2)) * np.linspace(0, 1, 44100 * 47)[:, None]).astype(np.float32)
    soundfile.write(tmp_path / "long.wav", sound, 44100, subtype="FLOAT")
    python, device = zoo.load(curve_bundle), libzoo.open(curve_bundle)
    wanted = python((sound, 44100))
    steps = len(wanted.outputs["arousal"])
    assert steps > 1024
    for raw in ((sound, 44100), tmp_path / "long.wav"):
        found = device(raw)
        same(found, wanted)
        assert len(found.values) == 2 * steps
    assert found.json["timing"]["decode_input"] > 0
    short = (sound[: 3 * 44100], 44100)
    for got, each in zip(
        device.run(short, (sound, 44100), short), (short, (sound, 44100), short), strict=True
    ):
        same(got, python(each))
    about = [
        {k: head[k] for k in ("name", "decode", "period", "window", "range")}
        for head in device.about["heads"]
    ]
    assert about[0] == {
        "name": "arousal",
        "decode": "curve",
        "period": 0.04,
        "window": 0.4,
        "range": [-1.0, 1.0],
    }
    kind, labels = c.c_int32(), c.c_size_t(9)
    libzoo.call("zoo_head", device.handle, 1, None, c.byref(kind), c.byref(labels))
    assert (kind.value, labels.value) == (4, 0)
    device.close()


def test_curves_of_films_and_what_is_missing(libzoo: LibZoo, film_bundle: Path) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (40, 6, 8, 3), np.uint8).repeat(6, 1).repeat(6, 2)
    sound = rng.normal(0, 3000, 25600).astype(np.int16)
    pictures, heard = (frames, 25), (sound, 16000)
    python, device = zoo.load(film_bundle), libzoo.open(film_bundle)
    same(
        device({"pictures": pictures, "sound": heard}), python(Film(of_samples(*heard), of_frames(*pictures)))
    )
    for raw, message in (
        (pictures, "the model needs sound, and none were given"),
        ({"sound": heard}, "the model needs pictures, and none were given"),
        ({"pictures": pictures, "sound": pictures}, "samples has 4 dimensions"),
        ({"pictures": pictures, "sound": (sound.astype(np.uint8), 16000)}, "elements of type 'B'"),
        ({"pictures": heard, "sound": heard}, "frames must be uint8"),
        ({"pictures": Path("/x.png"), "sound": heard}, "pictures must be an array of frames"),
        ({"pictures": pictures, "sound": Path("/x.wav")}, "/x.wav"),
        ({"pictures": (frames[..., :2].copy(), 25), "sound": heard}, "the pipeline takes frames of shape"),
        ({"pictures": pictures, "sound": (sound[:1200], 16000)}, "the input has 2 rows, fewer than a window"),
        ({"pictures": (frames[:0], 25), "sound": heard}, r"the input has 0\.000 s of pictures"),
        ({"pictures": {"sound": heard}, "sound": heard}, "a film within a film"),
        ("text", "sound must be an array or a file|none were given|frames"),
        (np.zeros((1, 3, 64, 64), np.float32), "pictures must be an array of frames"),
    ):  # fmt: skip
        with pytest.raises(ZooFailure, match=message) as refused:
            device(raw)
        assert refused.value.status == INPUT_ERROR
    with pytest.raises(
        ZooFailure, match="scales its input by the extremes of all of it, so it cannot stream"
    ):
        list(c_stream(libzoo, device, frames, 25, 0, 1))
    device.close()


@pytest.fixture(scope="session")
def live_bundle(curve_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of curves along sound with bounds of its own, so that it need not hear all of it."""
    ops = open_bundle(curve_bundle).manifest.pipeline
    bounds = zoo.pipeline.MinMax(low=(-50.0,) * 1582, high=(50.0,) * 1582)
    out = tmp_path_factory.mktemp("live") / "bundle"
    return twin(curve_bundle, out, kind="onnxruntime", pipeline=(*ops[:-1], bounds))


def steps_agree(device: CModel, found: list[CPrediction], raw: Any) -> None:
    """Each step of a stream is that of the run on the whole, before smoothing."""
    whole = device(raw)
    heads = whole.json["heads"]
    steps = len(next(iter(heads.values()))["series"]["bins"])
    assert len(found) == steps > 10
    for i, got in enumerate(found):
        assert (got.start, got.end) == pytest.approx((i * 0.04, i * 0.04 + 0.4))
        for name, output in got.outputs.items():
            np.testing.assert_allclose(output, whole.outputs[name][i : i + 1], atol=2e-5)
        bins = [head["series"]["bins"][i] for head in heads.values()]
        counts = [head["series"]["count"] for head in heads.values()]
        assert got.values == pytest.approx([-1 + 2 * b / (n - 1) for b, n in zip(bins, counts, strict=True)])


def same_steps(found: list[CPrediction], wanted: list[Prediction]) -> None:
    """The Python runtime's stream gives the same bits at the same times."""
    assert len(found) == len(wanted)
    for got, expected in zip(found, wanted, strict=True):
        assert (got.start, got.end) == (expected.start, expected.end)
        for name, output in got.outputs.items():
            np.testing.assert_array_equal(output, expected.outputs[name])
        series = [head.series for head in expected.heads.values()]
        np.testing.assert_array_equal(got.values, [one.values[0] for one in series if one is not None])


@pytest.mark.parametrize("chunk", [441, 1601, 100_000])
def test_a_stream_of_sound_gives_curves_step_by_step(libzoo: LibZoo, live_bundle: Path, chunk: int) -> None:
    rng = np.random.default_rng(6)
    sound = (rng.normal(0, 0.1, (44100 * 3, 2)) * np.linspace(0, 1, 44100 * 3)[:, None]).astype(np.float32)
    device = libzoo.open(live_bundle)
    loads: list[Load] = []
    found = list(c_stream(libzoo, device, sound, 44100, 0, chunk, loads=loads))
    steps_agree(device, found, (sound, 44100))
    chunks = [sound[at : at + 2 * chunk] for at in range(0, len(sound), 2 * chunk)]
    same_steps(found, list(zoo.load(live_bundle).stream(chunks, rate=44100)))
    assert loads[-1].windows == len(found)
    assert loads[len(found) // 2].signal < 3  # steps come while sound does
    smooth = list(c_stream(libzoo, device, sound, 44100, 0.04, chunk, smoothing=0.5))
    mean = np.asarray(found[0].values, np.float64)
    for got, now in zip(smooth, found, strict=True):
        if now is not found[0]:
            mean += (1 - np.exp(-0.04 / 0.5)) * (np.asarray(now.values) - mean)
        np.testing.assert_allclose(got.values, mean, atol=1e-6)
    device.close()


@pytest.fixture(scope="session")
def motion_bundle(film_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Curves from pictures, and from flow between them over a window of ten: a graph of a few nodes."""
    from onnx import TensorProto, helper, numpy_helper

    manifest = open_bundle(film_bundle).manifest
    rng, batch = np.random.default_rng(2), ["batch", "time"]
    channels = {"pictures": 3, "flow": 20}
    constants = [numpy_helper.from_array(np.array([3, 4], np.int64), "axes")]
    nodes = []
    for name, count in channels.items():
        constants.append(
            numpy_helper.from_array(rng.normal(0, 40, (count, 5)).astype(np.float32), f"{name}_w")
        )
        nodes.append(helper.make_node("ReduceMean", [name, "axes"], [f"{name}_m"], keepdims=0))
        nodes.append(helper.make_node("MatMul", [f"{name}_m", f"{name}_w"], [f"{name}_s"]))
    nodes.append(helper.make_node("Add", ["pictures_s", "flow_s"], ["arousal"]))
    nodes.append(helper.make_node("Sub", ["pictures_s", "flow_s"], ["valence"]))

    def value(name: str, *shape: int) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [*batch, *shape])

    inputs = [value(name, count, 64, 64) for name, count in channels.items()]
    outputs = [value(name, 5) for name in ("arousal", "valence")]
    graph = helper.make_graph(nodes, "motion", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    flow, _ = manifest.branches
    out = tmp_path_factory.mktemp("motion") / "bundle"
    tensors = manifest.engines[0].inputs[:2]
    return twin(
        film_bundle, out, kind="onnxruntime", graph=model, engine={"inputs": tensors}, branches=(flow,)
    )


@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_a_stream_of_video_gives_curves_step_by_step(libzoo: LibZoo, motion_bundle: Path, chunk: int) -> None:
    """Flow goes from frame to frame, and the window of ten slides."""
    rng = np.random.default_rng(0)
    still = rng.integers(0, 256, (9, 12, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    light = 0.5 + 0.5 * np.sin(np.arange(40) / 3)
    frames = np.stack([(np.roll(still, i * i // 9, axis=1) * light[i]).astype(np.uint8) for i in range(40)])
    device = libzoo.open(motion_bundle)
    loads: list[Load] = []
    found = list(c_stream(libzoo, device, frames, 25, 0, chunk, loads=loads))
    steps_agree(device, found, (frames, 25))
    chunks = [frames[at : at + chunk + 1] for at in range(0, len(frames), chunk + 1)]
    same_steps(found, list(zoo.load(motion_bundle).stream(chunks)))
    assert len({tuple(got.values) for got in found}) > 2
    assert loads[0].signal < 0.5
    device.close()


def test_curves_that_a_stream_refuses(
    libzoo: LibZoo, live_bundle: Path, motion_bundle: Path, curve_bundle: Path
) -> None:
    sound, frames = np.zeros(16000, np.float32), np.zeros((3, 40, 40, 3), np.uint8)
    for bundle, signal, rate, hop, message in (
        (curve_bundle, sound, 16000, 0, "scales its input by the extremes"),
        (live_bundle, sound, 16000, 0.5, "a stream every 0.5 s; its steps are 0.04 s apart"),
        (live_bundle, frames, 25, 0, "sound: leave them 0"),
        (live_bundle, sound.astype(np.uint8), 16000, 0, "samples may be float32"),
        (motion_bundle, frames, 30, 0, "a stream of 30 pictures a second; it takes 25"),
        (motion_bundle, frames[..., :1], 25, 0, r"channels is 1; it must be 3 \(RGB\)"),
        (motion_bundle, frames.astype(np.float32), 25, 0, "pictures are uint8"),
        (live_bundle, np.full(16000, np.nan, np.float32), 16000, 0, "sample 0 is not finite"),
    ):
        with pytest.raises(ZooFailure, match=message) as refused:
            list(c_stream(libzoo, libzoo.open(bundle), signal, rate, hop, 1000))
        assert refused.value.status == INPUT_ERROR


def test_curves_that_a_stream_in_python_refuses(
    live_bundle: Path, motion_bundle: Path, curve_bundle: Path, film_bundle: Path
) -> None:
    sound, frames = np.zeros(16000, np.float32), np.zeros((3, 40, 40, 3), np.uint8)
    other = np.zeros((3, 40, 41, 3), np.uint8)
    for bundle, chunks, options, message in (
        (curve_bundle, [sound], {"rate": 16000}, "scales its input by the extremes"),
        (film_bundle, [frames], {}, "run it on the whole"),
        (live_bundle, [sound], {"rate": 16000, "hop": 0.5}, r"every 0\.5 s; its steps are 0\.04 s apart"),
        (live_bundle, [frames], {"rate": 16000}, "4 dimensions"),
        (live_bundle, [sound.astype(np.uint8)], {"rate": 16000}, "type 'B'"),
        (motion_bundle, [frames], {"rate": 30}, "a stream of 30 pictures a second; it takes 25"),
        (motion_bundle, [frames[..., :1]], {}, r"uint8 \(3, 40, 40, 1\); give pictures"),
        (motion_bundle, [frames.astype(np.float32)], {}, "float32"),
        (motion_bundle, [frames, other], {}, "41 values in dimension 2; the stream has 40"),
        (live_bundle, [sound, np.full(16000, np.nan, np.float32)], {"rate": 16000}, "not finite"),
    ):
        with pytest.raises(InputError, match=message):
            list(zoo.load(bundle).stream(chunks, **options))
    assert list(zoo.load(motion_bundle).stream([])) == []
    assert list(zoo.load(motion_bundle).stream([frames[:0]])) == []
    with pytest.raises(InputError, match="the signal has 100 samples"):
        list(zoo.load(live_bundle).stream([sound[:100]], rate=16000))


def test_a_stream_of_curves_allocates_nothing(libzoo: LibZoo, live_bundle: Path) -> None:
    program = libzoo.path.parent / "tests" / "csrc" / "allocations"
    done = subprocess.run([program, live_bundle, "curves"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1].endswith(" windows, 0 failures")) == (0, True), (
        done.stdout
    )


def test_films_are_for_models_of_curves(libzoo: LibZoo, model: CModel, face_bundle: Path) -> None:
    for device in (model, libzoo.open(face_bundle)):
        with pytest.raises(ZooFailure, match="takes no films") as refused:
            device({"sound": (np.zeros(16000, np.float32), 16000)})
        assert refused.value.status == INPUT_ERROR


def test_curves_whose_engine_does_not_fit(
    libzoo: LibZoo, ready_bundle: Path, curve_bundle: Path, tmp_path: Path
) -> None:
    one = Curve(output="probs", period=0.5, window=1.0, smooth=Smooth(cutoff=0.1, mean=3))
    flat = libzoo.open(twin(ready_bundle, tmp_path / "flat", decode=one, labels=(), kind="onnxruntime"))
    with pytest.raises(ZooFailure, match=r"op 1 \(fit\) needs the whole input") as refused:
        flat((np.zeros(32000, np.float32), 16000))
    assert refused.value.status == INPUT_ERROR
    ops = open_bundle(curve_bundle).manifest.pipeline
    other = twin(curve_bundle, tmp_path / "other", kind="onnxruntime", pipeline=ops[:2])
    with pytest.raises(ZooFailure, match="features: it does not have the pipeline's dimensions") as refused:
        libzoo.open(other)
    assert refused.value.status == BUNDLE_ERROR


@pytest.fixture(scope="session")
def arm64() -> Callable[..., str]:
    """Runs a program that ``make arm64`` (or who set ``ZOO_ARM64``) built, under qemu; its standard output."""
    folder = Path(os.environ.get("ZOO_ARM64") or REPOSITORY / "build" / "arm64")
    if not (folder / "classify_wav").is_file():
        pytest.skip(f"{folder} has no build for 64-bit Arm; make arm64, or set ZOO_ARM64")
    engine = folder / "system" / "wheels" / "openvino" / "libs"

    def run(program: str, *arguments: str | Path, signal: bytes = b"") -> str:
        done = subprocess.run(
            # qemu's own choice has SVE of 2048 bits, which no chip has: OpenVINO 2026.4.1 then gives wrong numbers
            [
                "qemu-aarch64",
                "-cpu",
                "cortex-a76",
                "-L",
                "/usr/aarch64-linux-gnu",
                folder / program,
                *arguments,
            ],
            env={**os.environ, "ZOO_ENGINE_PATH": str(engine)},
            input=signal,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    return run


# onnxruntime's arm64 library does not start under qemu-user: it takes the host's /sys for that of an Arm machine.
@pytest.mark.parametrize("path", ready_bundles(), ids=lambda path: path.name)
def test_golden_inputs_on_arm64(arm64: Callable[..., str], path: Path, tmp_path: Path) -> None:
    said = arm64("classify_wav", twin(path, tmp_path / "twin"))
    found = re.fullmatch(r"selftest passed: largest difference (\S+), allowed (\S+)\n", said)
    assert found is not None, said
    assert float(found[1]) <= float(found[2])


def test_windows_on_arm64(arm64: Callable[..., str], openvino_bundle: Path) -> None:
    signal = (np.random.default_rng(10).normal(0, 0.1, 60_000) * 32767).astype(np.int16)
    lines = arm64("live_speech", openvino_bundle, "16000", "0.8", signal=signal.tobytes()).splitlines()
    wanted = list(zoo.load(openvino_bundle).stream([signal], rate=16000, hop=0.8))
    assert len(lines) == len(wanted) > 1
    for line, expected in zip(map(json.loads, lines), wanted, strict=True):
        assert line["result"]["label"] == expected.label
        assert line["result"]["scores"] == pytest.approx(expected.scores, abs=1e-5)


FIND_PACKAGE = """cmake_minimum_required(VERSION 3.18)
project(app LANGUAGES C CXX)
find_package(zoo REQUIRED)
add_executable(app {source})
target_link_libraries(app PRIVATE zoo::zoo)
"""


def test_a_program_finds_the_installed_library(
    libzoo: LibZoo, openvino_bundle: Path, golden_folder: Path, tmp_path: Path
) -> None:
    """With ``find_package`` and with pkg-config, from a folder that the library was installed in."""
    cmake = _tool("cmake")
    root, clip, source = (
        tmp_path / "usr",
        golden_folder / "calm_22050.flac",
        REPOSITORY / "examples" / "classify_wav.c",
    )
    _output(cmake, "--install", libzoo.path.parent, "--prefix", root, "--strip")
    expected = zoo.load(openvino_bundle)(clip).label
    (tmp_path / "CMakeLists.txt").write_text(FIND_PACKAGE.format(source=source))
    _output(cmake, "-S", tmp_path, "-B", tmp_path / "build", f"-DCMAKE_PREFIX_PATH={root}")
    _output(cmake, "--build", tmp_path / "build")
    assert f"\t{expected} " in _output(tmp_path / "build" / "app", openvino_bundle, clip)
    (config,) = root.rglob("zoo.pc")
    environment = {**os.environ, "PKG_CONFIG_PATH": str(config.parent)}
    flags = _output(_tool("pkg-config"), "--cflags", "--libs", "zoo", env=environment).split()
    _output("cc", source, *flags, "-o", tmp_path / "app")
    environment["LD_LIBRARY_PATH"] = str(config.parent.parent)
    assert f"\t{expected} " in _output(tmp_path / "app", openvino_bundle, clip, env=environment)


def test_the_packages(libzoo: LibZoo, tmp_path: Path) -> None:
    arguments = ("--config", libzoo.path.parent / "CPackConfig.cmake", "-B", tmp_path)
    _output(_tool("cmake").with_name("cpack"), *arguments)
    (archive,), (package,) = tmp_path.glob("libzoo-*.tar.gz"), tmp_path.glob("libzoo_*.deb")
    with tarfile.open(archive) as files:
        names = {Path(*Path(name).parts[1:]) for name in files.getnames()}
    listed = _output("dpkg-deb", "-c", package)
    for name in ("zoo.h", "zoo.hpp", "libzoo.so.1", "libzoo.so", "zoo.pc", "zooConfig.cmake", "LICENSE"):
        assert any(path.name == name for path in names)
        assert f"/{name}" in listed
    assert "libstdc++6" in _output("dpkg-deb", "-f", package, "Depends")


def _tool(name: str) -> Path:
    """A build tool of the test environment or of the system; the test is skipped where there is none."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return Path(found)


def _output(*command: str | Path, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


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


#: Text that tests/csrc/fake_tensorrt.cc takes for an engine. Its outputs are not in the manifest's order.
FAKE_PLAN = "max 4\ni features 0 -1 87 39\no probs 0 -1 7\no logits 0 -1 7\n"


@dataclass
class FakeGpu:
    """A made-up GPU and TensorRT, as the vendor's libraries would be found."""

    kind: str
    folder: Path
    lib: c.CDLL
    bundle: Callable[..., Path]
    left: int = 0  # what may stay on the device

    def calls(self, name: str) -> int:
        return int(self.lib.fake_calls(name.encode()))


@pytest.fixture(params=["tensorrt", "tensorrt_rtx"])
def fake(
    libzoo: LibZoo,
    ready_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[FakeGpu]:
    kind = request.param
    library = libzoo.path.parent / "tests" / "csrc" / f"fake_{kind}.so"
    if not library.is_file():
        pytest.skip(f"{library} is not built: it needs the headers of {kind}")
    lib = c.CDLL(str(library))
    lib.fake_fail.argtypes = lib.fake_calls.argtypes = [c.c_char_p]
    major, minor = lib.getInferLibMajorVersion(), lib.getInferLibMinorVersion()
    folder = tmp_path / "libraries"
    folder.mkdir()
    stem = "libnvinfer.so" if kind == "tensorrt" else "libtensorrt_rtx.so"
    for name in ("libcuda.so.1", f"{stem}.{major}"):
        (folder / name).symlink_to(library)
    monkeypatch.setenv("ZOO_ENGINE_PATH", str(folder))

    def bundle(name: str = "bundle", plan: str = FAKE_PLAN, batch: int = 4, **keyed: Any) -> Path:
        key = {
            "compute_capability": "8.9",
            "profile": {"batch": (1, 1, batch), "time": (87, 87, 87)},
            "engine_version": f"=={major}.{minor}.0.26",
            **keyed,
        }
        version = key.pop("engine_version")
        return twin(
            ready_bundle,
            tmp_path / name,
            kind=kind,
            version=version,
            graph=plan.encode(),
            keyed=key,
            tuning=None,
        )

    lib.fake_fail(b"")
    lib.fake_gpu(1, 89)
    gpu, before = FakeGpu(kind, folder, lib, bundle), lib.fake_live()
    yield gpu
    lib.fake_fail(b"")
    assert lib.fake_live() - before == gpu.left


def fake_outputs(features: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """What the made-up engine computes of one input."""
    total = features.astype(np.float64).sum()
    return {
        name: (factor * total + np.arange(7)).astype(np.float32)
        for name, factor in (("probs", 1), ("logits", 2))
    }


def whole_numbers(seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(-9, 9, (87, 39)).astype(np.float32)


def test_tensorrt_runs_batches_in_the_manifests_order(libzoo: LibZoo, fake: FakeGpu) -> None:
    model = libzoo.open(fake.bundle())
    assert [output["name"] for output in model.about["outputs"]] == ["logits", "probs"]
    assert model.about["engine"]["version"].endswith(".0.26")
    inputs = [whole_numbers(i) for i in range(7)]
    allocated, shaped, ran = (fake.calls(name) for name in ("cuMemAlloc_v2", "setInputShape", "enqueueV3"))
    for count, batches in ((1, 1), (4, 1), (4, 1), (7, 2), (3, 1), (1, 1)):
        before = fake.calls("enqueueV3")
        for found, features in zip(model.run(*inputs[:count]), inputs, strict=False):
            expected = fake_outputs(features)
            assert list(found.outputs) == ["logits", "probs"]
            for name, array in expected.items():
                np.testing.assert_array_equal(found.outputs[name], array)
        assert fake.calls("enqueueV3") - before == batches
    assert fake.calls("enqueueV3") - ran == 7
    assert fake.calls("setInputShape") - shaped == 4  # for 1, 4, 3 and 1: only where the shape changes
    assert fake.calls("cuMemAlloc_v2") == allocated
    other = c.c_void_p()
    libzoo.call("zoo_session_open", model.handle, c.byref(other))
    assert fake.calls("cuMemAlloc_v2") == allocated + 3
    libzoo.lib.zoo_session_close(other)
    model.close()
    engines = {engine["kind"]: engine for engine in libzoo.text("zoo_engines", libzoo.options())}
    assert engines[fake.kind]["devices"] == ["Made-up GPU (compute capability 8.9)"]


def test_tensorrt_serves_threads(libzoo: LibZoo, fake: FakeGpu) -> None:
    shared = libzoo.open(fake.bundle())
    failures: list[str] = []

    def work(number: int) -> None:
        for round_ in range(10):
            session, array = c.c_void_p(), whole_numbers(100 * number + round_)
            libzoo.call("zoo_session_open", shared.handle, c.byref(session))
            given = Input(kind=FEATURES, dtype=0, rank=2, shape=(87, 39, 0, 0), data=array.ctypes.data)
            found = np.empty(7, np.float32)
            for _ in range(5):
                libzoo.call("zoo_run", session, c.byref(given), 1, None)
                libzoo.call("zoo_output", session, 0, b"logits", found.ctypes.data, found.nbytes, Tensor())
                if not np.array_equal(found, fake_outputs(array)["logits"]):
                    failures.append(f"{number}, {round_}")
            libzoo.lib.zoo_session_close(session)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    shared.close()


def test_tensorrt_allocates_nothing_in_a_stream(libzoo: LibZoo, fake: FakeGpu) -> None:
    program = libzoo.path.parent / "tests" / "csrc" / "allocations"
    done = subprocess.run([program, fake.bundle()], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1].endswith(" 0 failures")) == (0, True), done.stdout


def test_tensorrt_checks_the_key_before_anything_is_deserialised(libzoo: LibZoo, fake: FakeGpu) -> None:
    started = [fake.calls(name) for name in ("cuDevicePrimaryCtxRetain", "deserializeCudaEngine")]
    for name, keyed, message in (
        (
            "version",
            {"engine_version": "==1.0"},
            r"key.engine_version is ==1.0, this machine has [\d.]+.0.26; ",
        ),
        (
            "gpu",
            {"compute_capability": "12.0"},
            r"key.compute_capability is ==12.0, this machine has 8.9; rebuild it here: zoo export tim-net-emodb .*--compute-capability 12.0",
        ),
        ("driver", {"driver": ">=13.0"}, r"key.driver is >=13.0, this machine has 12.9; "),
    ):
        with pytest.raises(ZooFailure, match=message) as failure:
            libzoo.open(fake.bundle(name, **keyed))
        assert failure.value.status == BUNDLE_ERROR
    assert started == [fake.calls(name) for name in ("cuDevicePrimaryCtxRetain", "deserializeCudaEngine")]
    libzoo.open(fake.bundle("any", compute_capability=None, driver=">=12.4,<13")).close()


NO_GPU = "needs an NVIDIA GPU: CUDA driver: {} failed with 2: out of memory"
FAILED = "CUDA driver: {} failed with 2: out of memory"


@pytest.mark.parametrize(
    ("name", "stage", "message"),
    [
        *(
            (name, "open", NO_GPU)
            for name in ("cuInit", "cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetName")
        ),
        *((name, "open", NO_GPU) for name in ("cuDeviceGetAttribute", "cuDriverGetVersion")),
        ("cuDevicePrimaryCtxRetain", "open", NO_GPU),
        ("cuCtxPushCurrent_v2", "open", FAILED),
        ("major", "open", "this libzoo was built with the headers of"),
        ("createInferRuntime", "open", ".0.26 does not start: CUDA initialization failure"),
        ("createExecutionContext", "open", "the GPU has too little memory for this engine"),
        ("cuStreamCreate", "open", FAILED),
        ("cuMemAlloc_v2", "open", FAILED),
        *((name, "run", FAILED) for name in ("cuCtxPushCurrent_v2", "cuStreamSynchronize")),
        *((name, "run", FAILED) for name in ("cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2")),
        ("enqueueV3", "run", "the engine could not be started on the GPU: no kernel"),
    ],
)
def test_tensorrt_says_which_call_failed(
    libzoo: LibZoo, fake: FakeGpu, name: str, stage: str, message: str
) -> None:
    bundle, features = fake.bundle(), whole_numbers(0)
    model = libzoo.open(bundle) if stage == "run" else None
    fake.lib.fake_fail(name.encode())
    with pytest.raises(ZooFailure, match=re.escape(message.format(name))) as failure:
        libzoo.open(bundle) if model is None else model(features)
    assert failure.value.status == PROVIDER_UNAVAILABLE
    fake.lib.fake_fail(b"")
    model = model or libzoo.open(bundle)
    np.testing.assert_array_equal(model(features).outputs["logits"], fake_outputs(features)["logits"])
    model.close()


def test_tensorrt_versions_without_a_build_number(libzoo: LibZoo, fake: FakeGpu) -> None:
    """As the Python package of TensorRT 10.3, which is JetPack 6's, states its own."""
    release = f"{fake.lib.getInferLibMajorVersion()}.{fake.lib.getInferLibMinorVersion()}.0"
    for build in ("", ".26"):
        libzoo.open(fake.bundle(f"is{build}", engine_version=f"=={release}{build}")).close()
    for wanted in (f"=={release}.27", f">={release}.27", f"<{release}.26"):
        with pytest.raises(ZooFailure, match=f"is {wanted}, this machine has {release}.26;") as failure:
            libzoo.open(fake.bundle(f"not{wanted}", engine_version=wanted))
        assert failure.value.status == BUNDLE_ERROR


def test_tensorrt_takes_the_release_of_its_headers(libzoo: LibZoo, fake: FakeGpu) -> None:
    """Those of TensorRT hold within its first number; of TensorRT-RTX within its second."""
    bundle = fake.bundle(engine_version=">=1")
    fake.lib.fake_fail(b"minor")
    if fake.kind == "tensorrt":
        libzoo.open(bundle).close()
    else:
        with pytest.raises(ZooFailure, match=r"built with the headers of (\d+\.\d+); install \1") as failure:
            libzoo.open(bundle)
        assert failure.value.status == PROVIDER_UNAVAILABLE


def test_tensorrt_without_a_gpu(libzoo: LibZoo, fake: FakeGpu) -> None:
    bundle = fake.bundle()
    fake.lib.fake_gpu(0, 89)
    with pytest.raises(ZooFailure, match="needs an NVIDIA GPU: the NVIDIA driver finds 0 GPUs") as failure:
        libzoo.open(bundle)
    assert failure.value.status == PROVIDER_UNAVAILABLE
    (fake.folder / "libcuda.so.1").unlink()
    try:
        c.CDLL("libcuda.so.1")
    except OSError:
        with pytest.raises(
            ZooFailure, match=r"libcuda.so.1 not found: .* install NVIDIA's driver"
        ) as failure:
            libzoo.open(bundle)
        assert failure.value.status == PROVIDER_UNAVAILABLE


@pytest.mark.parametrize(
    ("plan", "batch", "message"),
    [
        ("no engine", 4, "refuses the engine file engine.onnx: magic tag does not match"),
        (FAKE_PLAN.replace("o logits", "o others"), 4, "the engine file has no tensor logits"),
        (FAKE_PLAN.replace("o logits", "i logits"), 4, "the engine file has no tensor logits"),
        (FAKE_PLAN.replace("features 0", "features 1"), 4, "tensor features is not float32"),
        (FAKE_PLAN.replace("probs 0", "probs 8"), 4, "tensor probs is not float32"),
        (FAKE_PLAN.replace("logits 0 -1 7", "logits 0 -1 -2"), 4, "output logits does not follow from"),
        (FAKE_PLAN, 5, "shape (5, 87, 39) of features is outside the engine's profile: shape not in profile"),
        (
            FAKE_PLAN.replace("87 39", "88 39"),
            4,
            "shape (4, 87, 39) of features is outside the engine's profile",
        ),
    ],
)
def test_tensorrt_engines_that_contradict_the_manifest(
    libzoo: LibZoo, fake: FakeGpu, plan: str, batch: int, message: str
) -> None:
    with pytest.raises(ZooFailure, match=re.escape(message)) as failure:
        libzoo.open(fake.bundle(plan=plan, batch=batch))
    assert failure.value.status == BUNDLE_ERROR


def test_tensorrt_gives_room_for_what_the_engine_says(libzoo: LibZoo, fake: FakeGpu) -> None:
    """An output that is greater than the manifest says is written where there is room, then refused."""
    model = libzoo.open(fake.bundle(plan=FAKE_PLAN.replace("probs 0 -1 7", "probs 0 -1 70000")))
    with pytest.raises(ZooFailure, match="probs") as failure:
        model(whole_numbers(0))
    assert failure.value.status == BUNDLE_ERROR
    model.close()


def test_tensorrt_closes_when_the_gpu_is_gone(libzoo: LibZoo, fake: FakeGpu) -> None:
    model = libzoo.open(fake.bundle())
    fake.lib.fake_fail(b"cuCtxPushCurrent_v2")
    model.close()
    fake.left = 6  # three buffers; context, engine and runtime, which went without the GPU's context


def test_the_real_tensorrt_rtx_asks_for_a_gpu(
    libzoo: LibZoo, ready_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    libraries = pytest.importorskip("tensorrt_rtx_libs", reason="tensorrt_rtx is not installed")
    engines = {engine["kind"]: engine for engine in libzoo.text("zoo_engines", libzoo.options())}
    if not engines["tensorrt_rtx"]["built"]:
        pytest.skip("this libzoo has no tensorrt_rtx")
    import tensorrt_rtx

    monkeypatch.setenv("ZOO_ENGINE_PATH", str(Path(libraries.__file__).parent))
    version = tensorrt_rtx.__version__
    here = {engine["kind"]: engine for engine in libzoo.text("zoo_engines", libzoo.options())}["tensorrt_rtx"]
    assert here["version"] == version
    if here["devices"]:
        pytest.skip("this machine has an NVIDIA GPU")
    assert "libcuda.so.1" in here["problem"]
    made = twin(ready_bundle, tmp_path / "made", kind="tensorrt_rtx", version=f"=={version}")
    with pytest.raises(ZooFailure, match=r"needs an NVIDIA GPU: libcuda.so.1 not found") as failure:
        libzoo.open(made)
    assert failure.value.status == PROVIDER_UNAVAILABLE
    other = twin(ready_bundle, tmp_path / "other", kind="tensorrt_rtx", version="==1.0.0.1")
    with pytest.raises(ZooFailure, match=f"is ==1.0.0.1, this machine has {version}") as failure:
        libzoo.open(other)
    assert failure.value.status == BUNDLE_ERROR
    # With a made-up driver it starts, reads the engine file and says why it refuses it.
    driver = libzoo.path.parent / "tests" / "csrc" / "fake_tensorrt_rtx.so"
    (tmp_path / "libcuda.so.1").symlink_to(driver)
    monkeypatch.setenv("ZOO_ENGINE_PATH", f"{tmp_path}:{os.environ['ZOO_ENGINE_PATH']}")
    with pytest.raises(
        ZooFailure, match=rf"TensorRT-RTX {version} refuses the engine file .*: .*Error"
    ) as failure:
        libzoo.open(made)
    assert failure.value.status == BUNDLE_ERROR


def verdict(libzoo: LibZoo, bundle: Path | bytes) -> str:
    """What libzoo says of a bundle for an engine that it does not have: ``whole``, or why it is refused."""
    with pytest.raises(ZooFailure) as failure:
        libzoo.open(bundle, engine_library=b"/nowhere")
    missing = re.search("not built into this libzoo|TensorRT .* cannot be loaded", failure.value.message)
    if failure.value.status == PROVIDER_UNAVAILABLE and missing:
        return "whole"
    if failure.value.status == UNSUPPORTED:
        return "whole"
    assert failure.value.status == BUNDLE_ERROR, failure.value.message
    return failure.value.message


def python_verdict(bundle: Path) -> str:
    try:
        open_bundle(bundle)
    except BundleError as error:
        return str(error)
    return "whole"


@pytest.fixture(scope="session")
def whole(ready_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that both readers take, for an engine that libzoo does not find."""
    return twin(ready_bundle, tmp_path_factory.mktemp("whole") / "bundle", kind="tensorrt")


def sealed(manifest: Any) -> bytes:
    """A manifest with a right digest, so that only what it says can be refused."""
    blank = json.dumps({**manifest, "digest": "0" * 64} if isinstance(manifest, dict) else manifest, indent=1)
    digest = hashlib.sha256(blank.encode()).hexdigest()
    return blank.replace(f'"digest": "{"0" * 64}"', f'"digest": "{digest}"', 1).encode()


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where every value of a JSON document is."""
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*at, key))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 2**40)
    | st.sampled_from([0.5, 1.0, 1e300, -1.5])
    | st.sampled_from(
        [
            "",
            "x",
            "fp32",
            "../x",
            "/etc/passwd",
            "a/../b",
            "onnxruntime",
            "softmax",
            "a" * 5000,
            "é",
            "0" * 64,
        ]
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["op", "type", "x"]), inner, max_size=3)
    ),
    max_leaves=4,
)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_both_readers_agree_on_any_edited_manifest(libzoo: LibZoo, whole: Path, data: st.DataObject) -> None:
    manifest = json.loads((whole / MANIFEST).read_text())
    at = data.draw(st.sampled_from([at for at in places(manifest) if at]))
    holder = manifest
    for key in at[:-1]:
        holder = holder[key]
    action = data.draw(st.sampled_from(["replace", "replace", "remove", "add"]))
    if action == "replace":
        holder[at[-1]] = data.draw(JSON)
    elif action == "remove":
        del holder[at[-1]]
    elif isinstance(holder, dict):
        holder[
            data.draw(st.sampled_from(["x", "recipe", "attention", "threads", "extra_files", "kept", "gate"]))
        ] = data.draw(JSON)
    else:
        holder.insert(at[-1], data.draw(st.sampled_from(holder)))
    copy = whole.parent / "edited"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(whole, copy)
    (copy / MANIFEST).write_bytes(sealed(manifest))
    expected, found = python_verdict(copy), verdict(libzoo, copy)
    assert (found == "whole") == (expected == "whole"), f"{at} {action}: Python: {expected}; C: {found}"


#: Manifests that are none: content, what both readers' messages share.
NO_MANIFESTS: list[bytes] = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff\xfe{}",
    b"[" * 100_000,
    b'{"a":' * 5000 + b"1" + b"}" * 5000,
    b'{"schema": 1e999}',
    b"{}" * 2,
    b'{"schema": 1, "schema": 1}',
]


@pytest.mark.parametrize("content", NO_MANIFESTS, ids=lambda content: repr(content[:12]))
def test_manifests_that_are_none(libzoo: LibZoo, whole: Path, tmp_path: Path, content: bytes) -> None:
    copy = Path(shutil.copytree(whole, tmp_path / "copy"))
    (copy / MANIFEST).write_bytes(content)
    assert MANIFEST in verdict(libzoo, copy)
    assert MANIFEST in python_verdict(copy)


def _links(folder: Path) -> None:
    (folder / "real").write_bytes((folder / "engine.onnx").read_bytes())
    (folder / "engine.onnx").unlink()
    (folder / "engine.onnx").symlink_to("real")


def _pipe(folder: Path) -> None:
    (folder / "golden.npz").unlink()
    os.mkfifo(folder / "golden.npz")


def _flip(folder: Path) -> None:
    content = bytearray((folder / "engine.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "engine.onnx").write_bytes(content)


def _harmless(folder: Path) -> None:
    path = folder / MANIFEST
    path.write_text(path.read_text().replace('"title": "', '"title": "x', 1))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_links, "symbolic link"),
        (_pipe, "not a regular file"),
        (_flip, "engine.onnx is damaged"),
        (_harmless, "was changed after it was written"),
        (lambda folder: (folder / "golden.npz").unlink(), "golden.npz is missing"),
        (lambda folder: (folder / "golden.npz").write_bytes(b"x"), "golden.npz has 1 bytes"),
        (lambda folder: (folder / MANIFEST).write_bytes(b" " * ((4 << 20) + 1)), str(4 << 20)),
        (lambda folder: (folder / MANIFEST).unlink(), "manifest.json is missing"),
    ],
)
def test_damaged_directories(
    libzoo: LibZoo, whole: Path, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    copy = Path(shutil.copytree(whole, tmp_path / "copy"))
    damage(copy)
    assert message in verdict(libzoo, copy)
    assert python_verdict(copy) != "whole"


def test_what_is_no_bundle(libzoo: LibZoo, tmp_path: Path) -> None:
    (tmp_path / "empty.zoo").write_bytes(b"")
    for path in (tmp_path / "nothing", tmp_path / "empty.zoo", Path("/dev/null")):
        assert str(path) in verdict(libzoo, path)
        assert python_verdict(path) != "whole"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_zips_that_are_not_plain(libzoo: LibZoo, whole: Path, tmp_path: Path) -> None:
    files = {path.name: path.read_bytes() for path in whole.iterdir()}
    cases: dict[str, Callable[[zipfile.ZipFile], None]] = {
        "compressed": lambda z: [z.writestr(n, d, zipfile.ZIP_DEFLATED) for n, d in files.items()] and None,
        "twice": lambda z: [z.writestr(n, d) for n, d in [*files.items(), ("golden.npz", b"x")]] and None,
    }
    for message, write in cases.items():
        path = tmp_path / f"{message}.zoo"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            write(archive)
        assert message in verdict(libzoo, path)
        assert python_verdict(path) != "whole"


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_damaged_zips_are_refused_or_whole(libzoo: LibZoo, whole: Path, data: st.DataObject) -> None:
    bundle = open_bundle(whole)
    path = whole.parent / "small.zoo"
    if not path.exists():
        write_bundle(path, bundle.manifest, contents(bundle))
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\x01\x02")
    for _ in range(data.draw(st.integers(1, 4))):
        # mostly where the zip's own numbers are
        at = data.draw(
            st.integers(directory, len(content) - 1) | st.integers(0, 200) | st.integers(0, len(content) - 1)
        )
        width = data.draw(st.sampled_from([1, 2, 4]))
        value = data.draw(st.sampled_from([0, 1, 2**31, 2**32 - 1]) | st.integers(0, 2**32 - 1))
        content[at : at + width] = struct.pack("<I", value)[:width]
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    verdict(libzoo, bytes(content))


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


def test_an_op_that_the_library_does_not_know(libzoo: LibZoo, whole: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(whole, tmp_path / "copy"))
    manifest = json.loads((copy / MANIFEST).read_text())
    manifest["pipeline"].insert(0, {"op": "of_next_year"})
    (copy / MANIFEST).write_bytes(sealed(manifest))
    assert 'pipeline[0].op is "of_next_year", which is none that this library knows' in verdict(libzoo, copy)
    assert python_verdict(copy) != "whole"


#: What is wrong with a curve, as decode and labels of a manifest.
BAD_CURVES: Mapping[str, tuple[Any, Sequence[str]]] = {
    "range": ({"range": [1.0, -1.0]}, []),
    "mean": ({"smooth": {"mean": 2}}, []),
    "median": ({"smooth": {"median": 4}}, []),
    "cutoff": ({"smooth": {"cutoff": 0.5}}, []),
    "beside others": ([{}, None], ["a", "b"]),
    "other steps": ([{}, {"period": 0.25}], ["a", "b"]),
}


@pytest.mark.parametrize("name", BAD_CURVES)
def test_both_readers_refuse_curves_that_do_not_hold(
    libzoo: LibZoo, whole: Path, tmp_path: Path, name: str
) -> None:
    copy = Path(shutil.copytree(whole, tmp_path / "copy"))
    manifest = json.loads((copy / MANIFEST).read_text())
    output = manifest["engines"][0]["outputs"][0]["name"]

    def decode(change: Mapping[str, Any] | None) -> Any:
        if change is None:
            return {"type": "embedding", "output": output}
        return {"type": "curve", "output": output, "period": 0.5, "window": 1.0, **change}

    def write(change: Any, labels: Sequence[str]) -> None:
        heads = [{"name": label, "decode": decode(one)} for label, one in zip(labels, change, strict=False)]
        manifest["decode"] = {"type": "heads", "heads": heads} if labels else decode(change)
        manifest["labels"] = list(labels)
        (copy / MANIFEST).write_bytes(sealed(manifest))

    change, labels = BAD_CURVES[name]
    write([{}, {}] if labels else {}, labels)
    assert (verdict(libzoo, copy), python_verdict(copy)) == ("whole", "whole")
    write(change, labels)
    assert "decode: " in verdict(libzoo, copy)
    assert "decode: " in python_verdict(copy)


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
