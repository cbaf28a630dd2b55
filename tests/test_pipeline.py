# SPDX-License-Identifier: Apache-2.0
"""The pipeline description, its C++ table, and the executor's promises."""

from __future__ import annotations

import itertools
import resource
import struct
import threading
import time
import types
import typing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zoo import _native, ops
from zoo.errors import InputError, ProviderUnavailable
from zoo.pipeline import Dct, Fit, Mel, Mfcc, Op, Pipeline, PowerToDb, Resample, Standardize, Stft

TIM_NET: tuple[Op, ...] = (Resample(rate=22050), Fit(length=44100, pad="end", crop="start"), Mfcc(n_mfcc=39))
STRUCTS = typing.get_args(Op)


def noise(n: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, n).astype(np.float32)


# ----------------------------------------------------------------------------------------------- the description


def field_spec(field: msgspec.structs.FieldInfo) -> dict[str, Any]:
    """What the type of a struct's field says, in the words of the C++ table."""
    hint, nullable = field.type, False
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        rest = [t for t in typing.get_args(hint) if t is not type(None)]
        nullable = len(rest) < len(typing.get_args(hint))
        (hint,) = rest
    spec: dict[str, Any] = {"name": field.name, "nullable": nullable, "required": field.required}
    spec["default"] = None if field.required else msgspec.to_builtins(field.default)
    if typing.get_origin(hint) is typing.Annotated:
        hint, meta = typing.get_args(hint)
        spec["min"], spec["max"] = float(meta.ge), float(meta.le)
    names = {int: "int", float: "float", bool: "bool", str: "string"}
    spec["type"] = names.get(hint, "floats")
    if typing.get_origin(hint) is typing.Literal:
        spec["choices"] = list(typing.get_args(hint))
        spec["type"] = "choice"
    return spec


def test_structs_equal_the_cpp_table() -> None:
    table = {spec["op"]: spec for spec in _native.op_specs()}
    assert set(table) == {s.__struct_config__.tag for s in STRUCTS}
    for struct_type in STRUCTS:
        spec = table[struct_type.__struct_config__.tag]
        fields = [field_spec(f) for f in msgspec.structs.fields(struct_type)]
        params = [{k: v for k, v in p.items() if k != "doc"} for p in spec["params"]]
        for param in params:
            if isinstance(param["default"], list):
                param["default"] = list(param["default"])
            if param["type"] == "file":  # Python names one with a string
                param["type"] = "string"
        for field in fields:
            if isinstance(field["default"], (list, tuple)):
                field["default"] = list(field["default"])
        assert sorted(fields, key=lambda p: p["name"]) == sorted(params, key=lambda p: p["name"])
        assert all(p["doc"] for p in spec["params"])


def test_functions_have_the_parameters_of_the_ops() -> None:
    import inspect

    own = {
        "wave",
        "rows",
        "power",
        "values",
        "eeg",
        "rate_in",
        "rate_out",
        "rate",
        "frames",
        "image",
        "tensor",
        "flow",
        "text",
        "tokens",
    }
    for spec in _native.op_specs():
        function = inspect.signature(getattr(ops, spec["op"])).parameters
        params = {p["name"]: p for p in spec["params"]}
        assert set(function) - own == set(params) - own
        for name, parameter in function.items():
            if name in params and name not in own and parameter.default is not parameter.empty:
                default = params[name]["default"]
                expected = "complex" if (spec["op"], name) == ("stft", "output") else default
                assert parameter.default == (tuple(expected) if isinstance(expected, list) else expected)


def test_json_round_trip() -> None:
    data = msgspec.json.encode(TIM_NET)
    again = msgspec.json.decode(data, type=tuple[Op, ...])
    assert again == TIM_NET
    wave = noise(30000)
    np.testing.assert_array_equal(Pipeline(again).run(wave, 16000), Pipeline(TIM_NET).run(wave, 16000))
    np.testing.assert_array_equal(
        Pipeline(Pipeline(TIM_NET).describe()).run(wave, 16000), Pipeline(TIM_NET).run(wave, 16000)
    )
    with pytest.raises(msgspec.ValidationError, match="unknown field `hopp`"):
        msgspec.json.decode(b'[{"op": "mfcc", "hopp": 3}]', type=tuple[Op, ...])
    with pytest.raises(msgspec.ValidationError, match="Invalid value 'mffc'"):
        msgspec.json.decode(b'[{"op": "mffc"}]', type=tuple[Op, ...])


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ([], "a pipeline needs at least one op"),
        ([{"op": "fit", "length": 9}] * 65, "at most 64 ops, not 65"),
        ([{"op": "mffc"}], "op 0: unknown op 'mffc'; known: resample, fit, "),
        ([{"length": 3}], "op 0: 'op' is missing"),
        ([{"op": 3}], "op 0: 'op' must be a string"),
        (["mfcc"], "op 0 is a str; it must be a dict"),
        ([{"op": "fit"}], r"op 0 \(fit\): parameter 'length' is missing"),
        (
            [{"op": "fit", "length": 9, "lenght": 8}],
            r"op 0 \(fit\): unknown parameter 'lenght'; known: length, pad",
        ),
        ([{"op": "fit", "length": "9"}], r"op 0 \(fit\): length is '9'; it must be an integer"),
        ([{"op": "fit", "length": True}], r"length is true; it must be an integer"),
        ([{"op": "fit", "length": 2**70}], "length is an integer beyond 64 bits"),
        ([{"op": "fit", "length": {}}], "length is a dict; it must be a number"),
        ([{"op": "fit", "length": None}], "length is null; it must be an integer"),
        ([{"op": "fit", "length": 9, "pad": "left"}], "pad is 'left'; it must be one of center, start, end"),
        (
            [{"op": "resample", "rate": 22050}, {"op": "mfcc", "center": 1}],
            r"op 1 \(mfcc\): center is 1; .* a boolean",
        ),
        ([{"op": "mfcc", "rate": 22050, "top_db": -1}], "top_db is -1; it must lie between 0 and 1000000"),
        ([{"op": "mfcc", "rate": 22050, "top_db": float("nan")}], "top_db is -?nan; it must be finite"),
        (
            [{"op": "mfcc", "rate": 22050, "n_fft": 2 * 7 * 64}],
            r"op 0 \(mfcc\): n_fft is 896; it must be even",
        ),
        (
            [{"op": "mfcc"}],
            r"op 0 \(mfcc\): the rate of the signal is not known; put a resample op before it",
        ),
        (
            [{"op": "resample", "rate": 8000}, {"op": "mel", "rate": 16000}],
            r"op 1 \(mel\): rate is 16000 Hz, the signal has 8000",
        ),
        ([{"op": "mfcc", "rate": 22050}] * 2, r"op 1 \(mfcc\) takes audio, but op 0 \(mfcc\) gives tensor"),
        ([{"op": "dct", "n_out": 3}], "op 0 takes a tensor: a pipeline starts from audio"),
        (
            [{"op": "mel", "rate": 8000}, {"op": "dct", "n_out": 129}],
            r"op 1 \(dct\): n_out is 129; .* n_in = 128",
        ),
        (
            [{"op": "mfcc", "rate": 8000}, {"op": "standardize", "mean": [1], "std": [1]}],
            "have 1 values, the input has 39 columns",
        ),
        ([{"op": "mfcc", "rate": 8000}, {"op": "standardize", "mean": [1, "x"]}], "op 1: mean holds a str"),
        ([{"op": "mfcc", "rate": 8000}, {"op": "standardize", "mean": [1]}], "mean has 1 values and std 0"),
    ],
)
def test_bad_descriptions_name_the_op_and_the_parameter(description: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Pipeline(description)
    with pytest.raises(InputError):
        _native.Pipeline(description)


def test_unknown_isa() -> None:
    with pytest.raises(ProviderUnavailable, match="isa=mmx: unknown instruction set"):
        Pipeline(TIM_NET, isa="mmx")


# --------------------------------------------------------------------------------------------------- the executor


def test_chain_equals_the_ops_one_by_one() -> None:
    wave = noise(50000)
    fitted = ops.fit(ops.resample(wave, 16000, 22050), 44100, pad="end", crop="start")
    np.testing.assert_array_equal(Pipeline(TIM_NET).run(wave, 16000), ops.mfcc(fitted, 22050))
    split = Pipeline([*TIM_NET[:2], Mel(), PowerToDb(), Dct(n_out=39)]).run(wave, 16000)
    assert np.abs(split - ops.mfcc(fitted, 22050)).max() <= 1e-3
    mean, std = tuple(np.linspace(-100, 10, 39).tolist()), tuple(np.linspace(90, 4, 39).tolist())
    scaled = Pipeline([*TIM_NET, Standardize(mean=mean, std=std)]).run(wave, 16000)
    np.testing.assert_array_equal(scaled, ops.standardize(ops.mfcc(fitted, 22050), mean=mean, std=std))
    complex_stft = Pipeline([Stft(n_fft=512, output="complex")]).run(wave, 16000)
    assert complex_stft.shape == (98, 257, 2)


def test_output_shape_and_window() -> None:
    pipeline = Pipeline(TIM_NET)
    assert pipeline.output_shape() == (87, 39)
    assert pipeline.output_shape(5, 8000) == (87, 39)
    assert pipeline.window_seconds() == 2.0
    loose = Pipeline([Resample(rate=22050), Mfcc()])
    assert loose.output_shape() is None
    assert loose.output_shape(16000, 16000) == (44, 39)
    assert loose.run(noise(16000), 16000).shape == (44, 39)
    assert loose.window_seconds() is None
    assert "resample -> fit -> mfcc" in repr(pipeline)
    with pytest.raises(
        InputError, match="mfcc: the signal has 8000 Hz, the op needs 22050; resample it first"
    ):
        Pipeline([Mfcc(rate=22050)]).run(noise(9), 8000)


@settings(max_examples=120, suppress_health_check=list(HealthCheck))
@given(
    total=st.integers(1, 60000),
    rate=st.sampled_from([4000, 8000, 11025, 16000, 22050, 44100, 48000, 192000]),
    length=st.integers(1, 9000),
    pad=st.sampled_from(["center", "start", "end"]),
    crop=st.sampled_from(["center", "start", "end"]),
    slack=st.tuples(st.integers(0, 50), st.integers(0, 50)),
    isa=st.sampled_from(_native.isas()),
    resample=st.booleans(),
)
def test_a_part_of_the_signal_gives_the_same_bits(
    total: int, rate: int, length: int, pad: Any, crop: Any, slack: tuple[int, int], isa: str, resample: bool
) -> None:
    chain: list[Op] = [Resample(rate=22050)] if resample else []
    wave = noise(total, total)
    for tail in ([], [Mel(rate=22050, n_fft=256, n_mels=20)] if resample else [Stft(n_fft=256)]):
        pipeline = Pipeline([*chain, Fit(length=length, pad=pad, crop=crop), *tail], isa=isa)
        start, stop = pipeline.input_range(total, rate)
        assert 0 <= start <= stop <= total
        whole = pipeline.run(wave, rate)
        lo, hi = max(0, start - slack[0]), min(total, stop + slack[1])
        np.testing.assert_array_equal(pipeline.run(wave[lo:hi], rate, start=lo, total=total), whole)
        if stop - start > 1:
            with pytest.raises(InputError, match=f"samples {start} to {stop} of {total} are needed"):
                pipeline.run(wave[start : stop - 1], rate, start=start, total=total)


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    total=st.integers(1, 20000), rates=st.sampled_from([(16000, 22050), (48000, 22050), (22050, 16001), (8, 2000), (3, 2), (1, 2), (2, 1), (3, 1)]),
    cuts=st.lists(st.integers(0, 10**9), max_size=5), isa=st.sampled_from(_native.isas()),
)  # fmt: skip
def test_resample_in_pieces_gives_the_same_bits(
    total: int, rates: tuple[int, int], cuts: list[int], isa: str
) -> None:
    """The base of a streaming form: any division of the output into ranges."""
    rate_in, rate_out = rates
    total = min(total, 20000 * rate_in // rate_out + 1)
    wave = noise(total)
    whole = Pipeline([Resample(rate=rate_out)], isa=isa).run(wave, rate_in)
    edges = sorted({0, len(whole), *(c % (len(whole) + 1) for c in cuts)})
    for lo, hi in itertools.pairwise(edges):
        # fit cuts out [lo, hi): crop to the first hi samples, then to the last hi - lo of them
        piece = Pipeline(
            [Resample(rate=rate_out), Fit(length=hi, crop="start"), Fit(length=hi - lo, crop="end")], isa=isa
        )
        np.testing.assert_array_equal(piece.run(wave, rate_in), whole[lo:hi])


def test_threads_share_a_pipeline() -> None:
    pipeline = Pipeline(TIM_NET)
    inputs = [(noise(20000 + 997 * i, i), [8000, 16000, 44100][i % 3]) for i in range(12)]
    want = [Pipeline(TIM_NET).run(*pair) for pair in inputs]
    wrong: list[int] = []

    def work(offset: int) -> None:
        for i in range(60):
            k = (i + offset) % len(inputs)
            if not np.array_equal(pipeline.run(*inputs[k]), want[k]):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_state_does_not_leak_between_runs() -> None:
    pipeline = Pipeline([Resample(rate=22050), Mfcc()])
    short, long = noise(5000, 1), noise(60000, 2)
    first = pipeline.run(short, 16000)
    pipeline.run(long, 48000)
    np.testing.assert_array_equal(pipeline.run(short, 16000), first)


def write_wav(path: Path, samples: np.ndarray[Any, Any], rate: int) -> None:
    data = (samples * 32767).astype("<i2").tobytes()
    fmt = struct.pack("<HHIIHH", 1, 1, rate, 2 * rate, 2, 16)
    path.write_bytes(
        b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + struct.pack("<I", 16) + fmt
        + b"data" + struct.pack("<I", len(data)) + data
    )  # fmt: skip


def test_run_file_equals_run(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write_wav(path, noise(50000), 16000)
    samples, rate = ops.read_audio(path)
    for chain in (TIM_NET, (Resample(rate=22050), Fit(length=3001), Mfcc()), (Resample(rate=8000), Mfcc())):
        features, timing = Pipeline(chain).run_file(path)
        np.testing.assert_array_equal(features, Pipeline(chain).run(samples, rate))
        assert timing["decode"] > 0
        assert timing["preprocess"] > 0


def test_two_hours_cost_little(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    n, rate = 2 * 3600 * 16000, 16000
    head = (
        b"RIFF"
        + struct.pack("<I", 36 + 2 * n)
        + b"WAVEfmt "
        + struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16)
    )
    with path.open("wb") as file:
        file.write(head + b"data" + struct.pack("<I", 2 * n))
        file.truncate(44 + 2 * n)  # sparse: two hours of silence
        file.seek(44 + n)
        file.write((noise(20000) * 32767).astype("<i2").tobytes())
    for pad, crop in (("center", "center"), ("end", "start"), ("start", "end")):
        pipeline = Pipeline([Resample(rate=22050), Fit(length=44100, pad=pad, crop=crop), Mfcc()])  # type: ignore[arg-type]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        features, _ = pipeline.run_file(path)
        assert time.perf_counter() - start < 0.5
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 * 1024
        assert features.shape == (87, 39)
        if crop == "center":
            assert features[:, 0].max() > -200  # the noise in the middle was found


def test_nonfinite_sample_outside_the_needed_part_is_not_looked_at() -> None:
    wave = noise(60000)
    wave[[0, 59999]] = np.nan
    Pipeline([Fit(length=1000)]).run(wave, 16000)
    wave[30001] = np.inf
    with pytest.raises(InputError, match="sample 30001 is not finite"):
        Pipeline([Fit(length=1000)]).run(wave, 16000)


def test_arrays_are_no_parameters() -> None:
    from zoo.pipeline import Topomap

    positions = np.eye(3)
    with pytest.raises(
        InputError, match=r"op topomap: .*ndarray.*; give plain numbers, strings, and flat tuples"
    ):
        Pipeline([Topomap(positions=positions)], shape=(-1, 3))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"op standardize: .*float32"):
        Pipeline([Standardize(mean=(np.float32(1),), std=(1.0,))], shape=(-1, 1))  # type: ignore[arg-type]
