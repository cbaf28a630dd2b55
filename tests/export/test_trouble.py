# SPDX-License-Identifier: Apache-2.0
"""Every way an export can fail, as the user meets it: one clear message, the right exit code, nothing half-written."""

from __future__ import annotations

import errno
import os
import re
import resource
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from zoo import bundle
from zoo.bundle import open_bundle, write_bundle
from zoo.cli import cli
from zoo.errors import TargetError, ZooError
from zoo.export.trouble import cause, told_plainly


def refused(code: int, out: Path, *arguments: object) -> str:
    """Run ``zoo export`` in this process; its one error line. Nothing may be beside or at ``out``."""
    done = CliRunner().invoke(cli, ["export", *map(str, arguments), "--out", str(out)])
    assert done.exit_code == code, (done.exit_code, done.output)
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if line]
    assert "Traceback" not in done.stderr
    assert all(line.startswith("zoo: ") for line in lines), lines
    assert list(out.parent.iterdir()) == []
    return lines[-1]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "place").mkdir()
    return tmp_path / "place" / "out.zoo"


def test_wrong_names(toy_models: Path, out: Path) -> None:
    said = refused(2, out, "toy", "--target", "openvino")
    assert said == "zoo: no target is called 'openvino'; did you mean openvino-npu, openvino-cpu?"
    said = refused(2, out, "toi")
    assert "no model is called 'toi'; did you mean toy" in said
    said = refused(2, out, "toy", "--precision", "fp16")
    assert "target cpu-x86 does not take fp16: onnxruntime's CPU provider has no fp16 kernels" in said
    assert "It takes fp32, int8" in said


def test_a_missing_builder(toy_models: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    said = refused(5, out, "toy", "--target", "tensorrt-rtx")
    assert "is built with tensorrt_rtx, which cannot be imported here" in said
    assert "pip install 'affect-zoo[tensorrt-rtx]'" in said


def test_calibration_data_missing_or_too_few(toy_models: Path, out: Path, tmp_path: Path) -> None:
    said = refused(3, out, "toy", "--precision", "int8")
    assert "calibrated on real inputs, random data is never used: give --data DIR" in said
    few = tmp_path / "few" / "clips"
    few.mkdir(parents=True)
    for clip in sorted((toy_models / "data" / "clips").iterdir())[::2]:
        shutil.copy(clip, few)
    said = refused(3, out, "toy-outlier", "--precision", "int8", "--data", few.parent)
    assert said.endswith("has 96 items for calibration, INT8 needs 128; give a larger --data")


def odd_models(root: Path, toy_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy with other insides: ``KIND`` of its configuration says which."""
    shutil.copytree(toy_root / "toy", root / "toy")
    model = (root / "toy" / "model.py").read_text()
    model = model.replace("        self.conv1 =", "        self.kind = classes_kind\n        self.conv1 =")
    model = model.replace("def __init__(self, classes)", "def __init__(self, classes, classes_kind)")
    model = model.replace("Toy(int(config", 'Toy(kind=config["kind"], classes=int(config').replace(
        "classes_kind", "kind"
    )
    model = model.replace(
        "        x = features.transpose(1, 2)\n",
        "        x = features.transpose(1, 2)\n"
        "        if self.kind == 'double':\n"
        "            x = nn.functional.conv1d(x.double(), self.conv1.weight.double()[:, :, :1]).float()[:, :1] + x\n"
        "        if self.kind == 'huge':\n"
        "            x = x + (x.mean() * torch.arange(1 << 30)).mean()\n",
    )
    (root / "toy" / "model.py").write_text(model)
    card = (root / "toy" / "card.toml").read_text()
    head, *variants = card.split("[[variants]]")
    alone = next(text for text in variants if "toy-alone" in text)
    made = [
        alone.replace("toy-alone", f"toy-{kind}")
        .replace("classes = 3", f'classes = 3, kind = "{kind}"')
        .replace('converts_to = "toy-random"\n', "")
        for kind in ("double", "huge")
    ]
    (root / "toy" / "card.toml").write_text("[[variants]]".join([head, *made]))
    monkeypatch.setenv("ZOO_MODELS", str(root))


def test_an_op_that_the_engine_lacks(
    toy_root: Path, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd_models(tmp_path / "odd", toy_root, monkeypatch)
    said = refused(2, out, "toy-double")
    assert re.search(
        r"onnxruntime \S+ refuses the graph: .*implementation for Conv\(\d+\) node with name '\w+'", said
    )


CHILD = """
import resource, sys
import numpy as np, onnx, torch
from onnx import TensorProto, helper
import zoo.export.exporter
from zoo.cli import main
from zoo.export.session import Session
from zoo.export.trouble import told_plainly

nodes = [helper.make_node("Expand", ["x", "shape"], ["y"], name="grow"), helper.make_node("ReduceSum", ["y"], ["z"])]
shape = helper.make_tensor("shape", TensorProto.INT64, [1], [1 << 30])
value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xz"]
graph = helper.make_graph(nodes, "g", [value[0]], [value[1]], [shape])
session = Session(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (1500 << 20),) * 2)
for act in (lambda: torch.ones(1 << 30), lambda: np.ones(1 << 30), lambda: session.run((np.ones(1, np.float32),))):
    try:
        with told_plainly("toy"):
            act()
    except Exception as error:
        print(type(error).__name__, str(error).splitlines()[0])
main()
"""


def test_out_of_memory(toy_root: Path, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd_models(tmp_path / "odd", toy_root, monkeypatch)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, "export", "toy-huge", "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    by_torch, by_numpy, by_onnxruntime = done.stdout.splitlines()
    assert by_torch.startswith("ZooError toy: preparing: out of memory (")
    assert "you tried to allocate 4294967296 bytes" in by_torch
    assert by_numpy.startswith("ZooError toy: preparing: out of memory (Unable to allocate 8.00 GiB")
    assert by_onnxruntime.startswith("ZooError toy: preparing: out of memory (")
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("zoo: toy-huge cpu-x86 fp32: "), done.stderr
    assert "out of memory (" in last
    assert last.endswith("free memory, or use a machine with more. Nothing was written")
    assert "Traceback" not in done.stderr
    assert done.returncode == 1
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize("name", ["out", "out.zoo"])
def test_a_disk_that_fills_up(toy_models: Path, tmp_path: Path, name: str) -> None:
    """The kernel itself cuts the files off: none may become larger than 20 kB, the engine has some 25."""
    out = tmp_path / "place" / name
    out.parent.mkdir()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        said = refused(1, out, "toy")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert said == (
        f"zoo: {out} cannot be written: no space left ([Errno 27] File too large); "
        "free space on the disk, or write to another one"
    )


@pytest.mark.parametrize("name", ["out", "out.zoo"])
@pytest.mark.parametrize("old", [False, True])
def test_no_space_at_each_write_in_turn(
    ready_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, old: bool
) -> None:
    source = open_bundle(ready_bundle)
    contents = {file.path: source.read(file.path) for file in source.manifest.files}
    out = tmp_path / name
    if old:
        write_bundle(out, source.manifest, contents)
    before = _everything(tmp_path)
    calls, fail_at = 0, 0

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == fail_at:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return original(*arguments, **options)

        return call

    for owner, function in (
        (Path, "write_bytes"),
        (Path, "mkdir"),
        (zipfile.ZipFile, "writestr"),
        (bundle.tempfile, "mkdtemp"),
        (bundle, "_publish"),
    ):
        monkeypatch.setattr(owner, function, counted(getattr(owner, function)))
    steps = 0
    error: OSError | None = OSError()
    while error is not None:
        steps += 1
        calls, fail_at = 0, steps
        error = _write(out, source, contents)
        if error is not None:
            assert str(cause(error)).startswith("no space left ([Errno 28] No space left on device)")
            assert _everything(tmp_path) == before, f"write {steps}"
    assert steps > len(contents) + 2
    assert open_bundle(out).manifest.name == source.manifest.name
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["out", "out.zoo"])
def test_the_slower_of_two_machines_on_one_disk_is_told(
    ready_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    source = open_bundle(ready_bundle)
    contents = {file.path: source.read(file.path) for file in source.manifest.files}
    out = write_bundle(tmp_path / name, source.manifest, contents)
    before = _everything(tmp_path)
    monkeypatch.setattr(bundle, "check_writable", lambda out, force: None)  # it was not there when both began
    with pytest.raises(ZooError, match="was written by another process meanwhile; give --force"):
        write_bundle(out, source.manifest, contents)
    assert _everything(tmp_path) == before
    monkeypatch.setattr(bundle, "_exchange", lambda one, other: False)  # a system that cannot swap paths
    write_bundle(out, source.manifest, contents, force=True)
    assert _everything(tmp_path) == before


def _write(out: Path, source: bundle.Bundle, contents: dict[str, bytes]) -> OSError | None:
    try:
        write_bundle(out, source.manifest, contents, force=True)
    except OSError as error:
        return error
    return None


def _everything(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in folder.rglob("*")
    }


def test_only_what_ran_out_is_told_so() -> None:
    assert cause(ValueError("wrong")) is None
    assert cause(OSError(errno.EACCES, "Permission denied")) is None
    assert "out of memory" in str(cause(OSError(errno.ENOMEM, "Cannot allocate memory")))
    refusal = TargetError("OpenVINO refuses the graph")
    refusal.__cause__ = RuntimeError("std::bad_alloc")
    assert str(cause(refusal)).startswith("out of memory (std::bad_alloc)")
    with pytest.raises(TargetError, match="another reason"), told_plainly("toy"):
        raise TargetError("another reason")

    def trace() -> None:
        with told_plainly("toy") as progress:
            progress("tracing", 0, 1)
            raise MemoryError

    with pytest.raises(
        ZooError, match=r"^toy: tracing: out of memory \(MemoryError\); .*Nothing was written$"
    ):
        trace()
