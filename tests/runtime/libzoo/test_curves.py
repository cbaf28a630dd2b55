# SPDX-License-Identifier: Apache-2.0
"""Curves and films in libzoo, whole and step by step."""

from __future__ import annotations

import ctypes as c
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import zoo
import zoo.pipeline
from libzoo_c import (
    BUNDLE_ERROR,
    ENGINE_FOLDERS,
    INPUT_ERROR,
    CModel,
    CPrediction,
    LibZoo,
    Load,
    ZooFailure,
    c_stream,
    exported,
    golden_inputs_agree,
    same,
    twin,
)
from zoo.bundle import open_bundle
from zoo.errors import InputError
from zoo.media import Film, of_frames, of_samples
from zoo.runtime import Prediction
from zoo.specs import (
    Curve,
    Smooth,
)


@pytest.fixture(scope="session", params=["movie-affect-audio", "movie-affect-audio-lstm"])
def curve_bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that gives curves along sound, as exported; the second looks four steps back."""
    return exported(request.param, tmp_path_factory.mktemp("curve") / "bundle")


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
