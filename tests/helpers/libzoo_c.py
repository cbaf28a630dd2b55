# SPDX-License-Identifier: Apache-2.0
"""libzoo through ctypes: its structs, a model and its results as Python sees them, and copies of bundles to run."""

from __future__ import annotations

import ctypes as c
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
from zoo.bundle import Bundle, load_golden, open_bundle, write_bundle
from zoo.errors import BundleError
from zoo.media import Film, of_frames, of_samples

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


def contents(bundle: Bundle) -> dict[str, bytes]:
    return {file.path: bundle.read(file.path) for file in bundle.manifest.files}


def exported(name: str, out: Path) -> Path:
    """The fp32 bundle of a model for this kind of processor, made without real data."""
    from zoo.export import export_model

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ZOO_DATA", raising=False)
        return export_model(name, target="cpu-x86", precision="fp32", out=out).path


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


def sealed(manifest: Any) -> bytes:
    """A manifest with a right digest, so that only what it says can be refused."""
    blank = json.dumps({**manifest, "digest": "0" * 64} if isinstance(manifest, dict) else manifest, indent=1)
    digest = hashlib.sha256(blank.encode()).hexdigest()
    return blank.replace(f'"digest": "{"0" * 64}"', f'"digest": "{digest}"', 1).encode()
