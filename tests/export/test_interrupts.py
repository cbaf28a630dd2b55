# SPDX-License-Identifier: Apache-2.0
"""Real processes: killed, interrupted and parallel exports. Nothing half-written is left, and each is told what it did."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from zoo.bundle import open_bundle
from zoo.errors import ZooError
from zoo.export import export_model
from zoo.export.reserve import reserved

ZOO = shutil.which("zoo", path=str(Path(sys.executable).parent)) or "zoo"

#: The toy waits while a file is there, and leaves its process id beside it.
HOLD = """
import os, pathlib, time

def _hold():
    gate = pathlib.Path(os.environ["TOY_GATE"])
    while gate.exists():
        gate.with_suffix(".pid").write_text(str(os.getpid()))
        time.sleep(0.02)
"""
#: The command, but its second file is written only when the gate is gone.
SLOW_WRITER = f"""
from pathlib import Path
{HOLD}
original = Path.write_bytes
def write_bytes(self, data):
    if self.name != "manifest.json":
        _hold()
    return original(self, data)
Path.write_bytes = write_bytes
from zoo.cli import main
main()
"""


@dataclass
class Gate:
    """Holds processes in the middle of an export."""

    path: Path

    def close(self) -> None:
        self.path.with_suffix(".pid").unlink(missing_ok=True)
        self.path.touch()

    def wait(self, but: int = 0) -> int:
        """Id of a process that has come to the gate, another one than ``but``."""
        until = time.monotonic() + 200
        while time.monotonic() < until:
            try:
                pid = int(self.path.with_suffix(".pid").read_text())
                if pid != but:
                    return pid
            except (FileNotFoundError, ValueError):
                pass
            time.sleep(0.02)
        raise AssertionError("nobody came to the gate")

    def open(self) -> None:
        self.path.unlink(missing_ok=True)


@pytest.fixture
def gate(toy_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """A copy of the toy of which every variant but toy-random stops at the gate when its net is built."""
    root = tmp_path / "models"
    shutil.copytree(toy_root / "toy", root / "toy")
    model = (root / "toy" / "model.py").read_text()
    model += HOLD
    model = model.replace(
        "def build(config):\n", "def build(config):\n    if config.get('hold'):\n        _hold()\n"
    )
    (root / "toy" / "model.py").write_text(model)
    head, *variants = (root / "toy" / "card.toml").read_text().split("[[variants]]")
    chosen = [text for name in ("toy-random", "toy-alone", "toy-outlier") for text in variants if f'"{name}"\n' in text.split("summary")[0]]  # fmt: skip
    assert len(chosen) == 3
    held = [text.replace("classes = 3", "classes = 3, hold = 1") for text in chosen[1:]]
    (root / "toy" / "card.toml").write_text("[[variants]]".join([head, chosen[0], *held]))
    monkeypatch.setenv("ZOO_MODELS", str(root))
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TOY_GATE", str(tmp_path / "gate.closed"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("ZOO_DATA", raising=False)
    made = Gate(tmp_path / "gate.closed")
    yield made
    made.open()


def _heed_interrupts() -> None:
    """A suite started in the background inherits an ignored SIGINT, which Python would then ignore as well."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(*command: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_heed_interrupts,
    )


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_the_second_export_of_a_cell_is_told_and_others_go_on(gate: Gate, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    gate.close()
    first = start(ZOO, "export", "toy-alone", "--out", place / "a")
    assert gate.wait() == first.pid
    with pytest.raises(
        ZooError, match=rf"another export \(process {first.pid}\) is making .*place/a; wait for it"
    ):
        export_model("toy-random", target="cpu-x86", precision="fp32", out=place / "a")
    export_model("toy-random", target="cpu-x86", precision="fp32", out=place / "b")
    assert names(place) == ["b", "b/engine.onnx", "b/golden.npz", "b/manifest.json"]
    gate.open()
    _, stderr = first.communicate(timeout=200)
    assert first.returncode == 0, stderr
    assert open_bundle(place / "a").manifest.name == "toy-alone"
    assert [path.name for path in sorted(place.iterdir())] == ["a", "b"]


@pytest.mark.parametrize("where", ["build", "write"])
def test_ctrl_c_leaves_nothing(gate: Gate, tmp_path: Path, where: str) -> None:
    place = tmp_path / "place"
    place.mkdir()
    gate.close()
    if where == "build":
        process = start(ZOO, "export", "toy-alone", "--out", place / "a.zoo")
    else:
        process = start(sys.executable, "-c", SLOW_WRITER, "export", "toy-random", "--out", place / "a")
    assert gate.wait() == process.pid
    if where == "write":
        assert any("manifest.json" in name for name in names(place)), "it is in the middle of writing"
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert stdout == ""
    assert stderr.strip().endswith("Aborted!")
    assert "Traceback" not in stderr
    assert names(place) == []


def test_what_a_killed_writer_left_is_swept_by_the_next(gate: Gate, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    gate.close()
    process = start(sys.executable, "-c", SLOW_WRITER, "export", "toy-random", "--out", place / "a")
    assert gate.wait() == process.pid
    process.kill()
    process.communicate(timeout=60)
    (left,) = place.iterdir()
    assert left.name.startswith(".a.zoo-tmp-")
    (place / ".a.other").mkdir()  # the user's
    export_model("toy-random", target="cpu-x86", precision="fp32", out=place / "b")
    assert left.exists(), "another bundle's is not touched"
    gate.open()
    export_model("toy-random", target="cpu-x86", precision="fp32", out=place / "a")
    assert sorted(path.name for path in place.iterdir()) == [".a.other", "a", "b"]


def test_a_place_is_free_again_when_its_holder_is_gone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with reserved(out):
        with pytest.raises(ZooError, match=rf"another export \(process {os.getpid()}\)"), reserved(out):
            pass
        (tmp_path / "link").symlink_to(tmp_path)
        with pytest.raises(ZooError, match="wait for it"), reserved(tmp_path / "link" / "out"):
            pass
        with reserved(tmp_path / "other"):
            pass
    with reserved(out):
        pass
    assert names(tmp_path) == ["link"]


def test_a_matrix_that_loses_a_worker_and_is_interrupted_goes_on(gate: Gate, tmp_path: Path) -> None:
    """On a terminal: the first cell is built, the second's worker is killed, Ctrl-C comes in the third."""
    out = tmp_path / "out"
    command = [ZOO, "export", "--all", "--target", "cpu-x86", "--precision", "fp32", "--model", "toy-*"]
    command += ["--out", str(out)]
    gate.close()
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: _take_terminal(theirs),
        env={**os.environ, "COLUMNS": "160", "LINES": "40", "TERM": "xterm"},
    )
    os.close(theirs)
    shown: list[bytes] = []
    reader = threading.Thread(target=_drain, args=(ours, shown))
    reader.start()
    second = gate.wait()
    assert second != process.pid
    os.kill(second, signal.SIGKILL)
    third = gate.wait(but=second)
    assert third not in (second, process.pid)
    os.write(ours, b"\x03")
    assert process.wait(60) == 1
    reader.join(10)
    os.close(ours)
    text = b"".join(shown).decode(errors="replace")
    assert "Traceback" not in text
    assert "of 3 cells" in text
    assert "interrupted, 1 built, 1 failed, 1 pending. The same command goes on" in text.replace("\r\n", "")
    with pytest.raises(ProcessLookupError):
        os.kill(third, 0)
    report = json.loads((out / "report.json").read_text())
    assert report["interrupted"] is True
    assert [(cell["name"], cell["state"]) for cell in report["cells"]] == [
        ("toy-random", "built"),
        ("toy-alone", "failed"),
        ("toy-outlier", "pending"),
    ]
    assert report["cells"][1]["reason"].startswith("the exporting process died of SIGKILL (the system kills so when memory runs out)")  # fmt: skip
    open_bundle(out / "toy-random" / "cpu-x86-fp32")
    bundle = [
        "toy-random/cpu-x86-fp32" + name for name in ("", "/engine.onnx", "/golden.npz", "/manifest.json")
    ]
    assert names(out) == ["report.json", "toy-random", *bundle]
    gate.open()
    again = subprocess.run([*command, "--jobs", "2"], capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr
    report = json.loads((out / "report.json").read_text())
    assert [cell["state"] for cell in report["cells"]] == ["skipped", "built", "built"]
    assert (report["passed"], report["interrupted"]) == (True, False)
    assert [name for name in names(out) if "/." in name or name.startswith(".")] == []


def _take_terminal(descriptor: int) -> None:
    _heed_interrupts()
    import fcntl
    import termios

    fcntl.ioctl(descriptor, termios.TIOCSCTTY, 0)


def _drain(descriptor: int, into: list[bytes]) -> None:
    while True:
        try:
            part = os.read(descriptor, 65536)
        except OSError:  # the other side is closed
            return
        if not part:
            return
        into.append(part)
