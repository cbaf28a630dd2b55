# SPDX-License-Identifier: Apache-2.0
"""The zoo command as a user types it: installed script, real files, exit codes."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import time
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoo.cli.common import figure

ZOO = shutil.which("zoo", path=str(Path(sys.executable).parent)) or "zoo"


def zoo(*arguments: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ZOO, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **(env or {})},
        timeout=600,
    )


def zoo_json(*arguments: object) -> Any:
    done = zoo(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(code: int, *arguments: object) -> str:
    """Run, check exit code and that stderr holds one or two lines and no traceback; return them."""
    done = zoo(*arguments)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    assert 1 <= len(done.stderr.strip().splitlines()) <= 2 or code == 2, done.stderr
    return done.stderr


def write_wav(path: Path, samples: np.ndarray[Any, Any], rate: int) -> Path:
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        out.setsampwidth(samples.dtype.itemsize)
        out.setframerate(rate)
        out.writeframes(samples.tobytes())
    return path


def test_help_of_every_command_has_an_example() -> None:
    listed = zoo("--help").stdout
    for name in (
        "list",
        "info",
        "targets",
        "doctor",
        "export",
        "run",
        "selftest",
        "inspect",
        "tune",
        "eval",
        "bench",
        "train",
        "convert",
        "cache",
    ):
        assert name in listed
        done = zoo(name, "--help")
        assert done.returncode == 0
        assert "Example: zoo " + name in done.stdout
        assert "--json" in done.stdout


def test_list() -> None:
    rows = zoo_json("list")
    assert {"name", "paper", "task", "weights", "license"} <= set(rows[0])
    by_name = {row["name"]: row for row in rows}
    assert by_name["tim-net-emodb"]["weights"] == "trained"
    assert by_name["tim-net-casia"]["weights"] == "random"
    free = {row["name"] for row in zoo_json("list", "--license", "commercial-ok")}
    assert "tim-net-emodb" in free
    assert "tim-net-ravdess" not in free
    assert "tim-net-emodb" in zoo("list").stdout


def test_matrix_names_every_cell_and_the_reason_of_each_refusal() -> None:
    cells = zoo_json("list", "--matrix")
    assert {"built", "available", "refused"} >= {cell["state"] for cell in cells}
    assert all(cell["reason"] for cell in cells if cell["state"] == "refused")
    assert any(
        c["name"] == "tim-net-emodb" and c["target"] == "cpu-x86" and c["state"] == "built" for c in cells
    )


def test_cache_is_shown_and_cleared(tmp_path: Path) -> None:
    env = {"ZOO_HOME": str(tmp_path)}
    folder = tmp_path / "cache" / "calibration"
    empty = json.loads(zoo("cache", "--json", env=env).stdout)
    assert empty == {"folder": str(folder), "files": 0, "size": 0, "cleared": False}
    folder.mkdir(parents=True)
    for name, days in (("new.hist", 0), ("old.hist", 40), ("left.tmp", 50), ("other.txt", 60)):
        (folder / name).write_bytes(b"12345")
        os.utime(folder / name, (time.time() - days * 86400,) * 2)
    shown = zoo("cache", env=env)
    assert shown.stdout == f"3 recordings, 15 B\n{folder}\n"
    assert zoo("cache", "--clear", "--older-than", "30", env=env).stdout.startswith(
        "deleted 2 recordings, 10 B"
    )
    assert sorted(path.name for path in folder.iterdir()) == ["new.hist", "other.txt"]
    assert json.loads(zoo("cache", "--clear", "--json", env=env).stdout)["files"] == 1
    assert [path.name for path in folder.iterdir()] == ["other.txt"]


def test_train_qat_takes_no_protocol() -> None:
    for option, value in (("protocol", "loso"), ("folds", "1"), ("threads", "2")):
        assert f"--{option} does not go with --qat" in refused(
            2, "train", "tim-net-emodb", "--qat", f"--{option}", value
        )
    assert "--weights does not go without --qat" in refused(2, "train", "tim-net-emodb", "--weights", "x")


def test_info_targets_doctor_inspect() -> None:
    info = zoo_json("info", "tim-net-emodb")
    assert {row["source"] for row in info["quality"]} >= {"claimed", "corrected", "reproduced"}
    assert {"cpu-x86", "openvino-cpu", "tensorrt-rtx"} <= {target["name"] for target in zoo_json("targets")}
    doctor = zoo_json("doctor")
    assert "onnxruntime" in doctor["can_run"]
    assert doctor["isa"] in doctor["isas"]
    manifest = zoo_json("inspect", "tim-net-emodb")
    assert manifest["name"] == "tim-net-emodb"
    assert manifest["key"]["engine"] == "onnxruntime"
    assert {node["provider"] for node in zoo_json("inspect", "tim-net-emodb", "--placement")} == {
        "CPUExecutionProvider"
    }


def test_run_prints_the_promised_json(golden_folder: Path) -> None:
    clips = sorted(path for path in golden_folder.iterdir() if path.suffix in (".flac", ".wav"))
    results = zoo_json("run", "tim-net-emodb", *clips)
    assert [result["input"] for result in results] == [str(clip) for clip in clips]
    for result in results:
        assert {"input", "label", "scores", "timing_ms"} <= set(result)
        assert set(result["timing_ms"]) == {"decode", "preprocess", "engine", "total"}
        assert result["label"] == max(result["scores"], key=result["scores"].get)
    assert "label" in zoo("run", "tim-net-emodb", clips[0]).stdout


def test_run_slides_windows_over_a_long_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clip = write_wav(tmp_path / "long.wav", (rng.standard_normal(16000 * 25) * 3000).astype(np.int16), 16000)
    results = zoo_json("run", "tim-net-emodb", clip, "--hop", "1")
    assert [result["start_s"] for result in results] == list(range(24))


def test_selftest_and_its_exit_codes(bundle_copy: Path) -> None:
    assert zoo_json("selftest", bundle_copy)["passed"] is True
    (bundle_copy / "golden.npz").write_bytes(b"damaged")
    assert "golden.npz" in refused(4, "selftest", bundle_copy)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.wav", b""),
        ("text.wav", b"This is no audio at all.\n" * 50),
        ("half.wav", b"RIFF\x24\x08\x00\x00WAVEfmt "),
        ("zeros.flac", bytes(1000)),
    ],
)
def test_files_that_are_no_audio(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert name in refused(3, "run", "tim-net-emodb", path)


def test_audio_that_is_bad(tmp_path: Path) -> None:
    assert "0 samples" in refused(
        3, "run", "tim-net-emodb", write_wav(tmp_path / "none.wav", np.zeros(0, np.int16), 16000)
    )
    good = write_wav(tmp_path / "good.wav", np.full(16000, 100, np.int16), 16000).read_bytes()
    (tmp_path / "cut.wav").write_bytes(good[: len(good) // 2])
    assert "cut.wav" in refused(3, "run", "tim-net-emodb", tmp_path / "cut.wav")
    nan = np.zeros(1000, np.float32)
    nan[123] = np.nan
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        36 + 4000,
        b"WAVE",
        b"fmt ",
        16,
        3,
        1,
        16000,
        64000,
        4,
        32,
        b"data",
        4000,
    )
    (tmp_path / "nan.wav").write_bytes(header + nan.tobytes())
    assert "123" in refused(3, "run", "tim-net-emodb", tmp_path / "nan.wav")
    refused(3, "run", "tim-net-emodb", tmp_path / "missing.wav")
    good = write_wav(tmp_path / "good.wav", np.ones(8000, np.int16), 16000)
    given = (good, tmp_path / "missing.wav", good, tmp_path / "nan.wav")
    some = zoo("run", "tim-net-emodb", *given, "--json")
    assert some.returncode == 3
    assert ["error" in row for row in json.loads(some.stdout)] == [False, True, False, True]
    assert [line.partition(": ")[2].partition(": ")[0] for line in some.stderr.splitlines()] == [
        "input 2",
        "input 4",
    ]
    shown = zoo("run", "tim-net-emodb", *given)
    assert shown.returncode == 3
    assert shown.stdout.count("good.wav") == 2
    assert "123" in shown.stderr
    refused(3, "run", "tim-net-emodb", tmp_path)


def test_unusual_but_valid_audio_is_answered(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clips = [
        write_wav(tmp_path / "u8_4k.wav", rng.integers(0, 255, 8000).astype(np.uint8), 4000),
        write_wav(tmp_path / "192k.wav", rng.integers(-9999, 9999, 400000).astype(np.int16), 192000),
        write_wav(tmp_path / "8ch.wav", rng.integers(-9999, 9999, (32000, 8)).astype(np.int16), 16000),
        write_wav(tmp_path / "one.wav", np.array([5], np.int16), 16000),
        write_wav(tmp_path / "i32.wav", rng.integers(-(2**30), 2**30, 32000).astype(np.int32), 16000),
    ]
    for result in zoo_json("run", "tim-net-emodb", *clips):
        assert sum(result["scores"].values()) == pytest.approx(1, abs=1e-4)


def test_two_hours_need_no_more_memory_than_two_seconds(tmp_path: Path, golden_folder: Path) -> None:
    long = tmp_path / "two_hours.wav"
    frames = 2 * 3600 * 16000
    with long.open("wb") as out:
        out.write(
            struct.pack(
                "<4sI4s4sIHHIIHH4sI",
                b"RIFF",
                36 + 2 * frames,
                b"WAVE",
                b"fmt ",
                16,
                1,
                1,
                16000,
                32000,
                2,
                16,
                b"data",
                2 * frames,
            )
        )
        rng = np.random.default_rng(0)
        out.write((rng.standard_normal(64000) * 3000).astype(np.int16).tobytes())
        out.truncate(44 + 2 * frames)
    code = (
        "import resource, sys, zoo; m = zoo.load('tim-net-emodb'); m(sys.argv[1]);"
        "a = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; m(sys.argv[2]);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - a)"
    )
    clip = golden_folder / "excited_16000.flac"
    done = subprocess.run(
        [sys.executable, "-c", code, clip, long], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 20_000, "more than 20 MB for a two-hour file of which 2 s are used"


def test_usage_errors_are_exit_2() -> None:
    assert "did you mean" in refused(2, "run", "tim-net-emod", "x.wav")
    refused(2, "run")
    refused(2, "no-such-command")
    refused(2, "export", "tim-net-emodb", "--target", "toaster")
    assert "Traceback" in zoo("--debug", "run", "tim-net-emod", "x.wav").stderr


def test_missing_data_is_exit_3(tmp_path: Path) -> None:
    done = zoo("eval", "tim-net-emodb", env={"ZOO_DATA": ""})
    assert done.returncode == 3
    assert "--data" in done.stderr
    refused(3, "eval", "tim-net-emodb", "--data", tmp_path)


def test_eval_on_real_speech(data_root: Path) -> None:
    result = zoo_json("eval", "tim-net-emodb", "--data", data_root)
    assert result["n"] == 535
    assert set(result["metrics"]) >= {"UAR", "WAR"}
    low, high = result["interval"]
    assert low <= result["metrics"]["UAR"] <= high
    assert result["is_training_data"] is True


def test_errors_are_not_percent() -> None:
    assert figure("UAR", 0.5) == "50.00"
    assert figure("Pearson", 0.812) == "81.20"
    assert figure("age/inverse-MAE", 0.25) == "0.25"
    assert figure("age MAE", 3.6) == "3.60"
    assert figure("MSE", 2.0) == "2.00"
