# SPDX-License-Identifier: Apache-2.0
"""The whole matrix: which cells, what becomes of each, reruns that build only what differs. One worker, in this process."""

from __future__ import annotations

import io
import json
import queue
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from rich.console import Console
from safetensors.numpy import load_file, save_file

from zoo import registry, store
from zoo.bundle import open_bundle
from zoo.cli import cli
from zoo.cli.matrix import ProgressTable
from zoo.errors import CheckFailed, DataError, ParityError, ProviderUnavailable, TargetError
from zoo.export import matrix, workers
from zoo.export.matrix import CellReport, Event, Settings
from zoo.export.targets import find_target


class Here:
    """The pool's interface with the work done in this process, where the toy is traced already."""

    built: list[str] = []

    def __init__(self, settings: Settings, size: int) -> None:
        self._builder = workers.CellBuilder(settings)
        self._events: queue.Queue[tuple[int, Event]] = queue.Queue()
        self.last: dict[int, str] = {}

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *error: object) -> None: ...

    def idle(self, running: Collection[int]) -> list[int]:
        return [] if running else [0]

    def start(self, number: int, cell: CellReport) -> None:
        self.built.append(f"{cell.name} {cell.precision}")

        def progress(stage: str, done: int, total: int) -> None:
            self._events.put((0, Event(stage=stage, done=done, total=total)))

        result = self._builder.build(cell, progress)
        # As it comes through the pipe of a worker.
        self._events.put((0, msgspec.json.decode(msgspec.json.encode(Event(result=result)), type=Event)))

    def wait(self) -> tuple[int, Event]:
        return self._events.get(timeout=1)

    def stop(self) -> None: ...


@pytest.fixture
def own_models(toy_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the toy that a test may change, and work in this process."""
    root = tmp_path / "models"
    shutil.copytree(toy_root / "toy", root / "toy")
    monkeypatch.setenv("ZOO_MODELS", str(root))
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ZOO_DATA", raising=False)
    monkeypatch.setattr(workers, "Pool", Here)
    monkeypatch.setattr(Here, "built", [])
    return root / "toy"


def run(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(cli, ["export", "--all", *map(str, arguments)])
    assert "Traceback" not in done.stderr
    return done.exit_code, done.stdout, done.stderr


def states(report: dict[str, Any]) -> dict[tuple[str, str], tuple[str, str | None]]:
    return {(c["name"], c["precision"]): (c["state"], c["by"]) for c in report["cells"]}


def test_every_cell_is_built_or_says_why_not(own_models: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, stdout, stderr = run("--model", "toy-*", "--target", "cpu-x86", "--out", out, "--json")
    assert code == 1  # int8 of toy-outlier has no data here, which neither card nor target declares
    report = json.loads(stdout)
    assert json.loads((out / "report.json").read_text()) == report
    assert states(report) == {
        ("toy-outlier", "fp32"): ("built", None),
        ("toy-outlier", "int8"): ("failed", "data"),
        ("toy-outlier", "int8-weights"): ("failed", "check"),  # made to break under rounding
        ("toy-outlier", "int4-weights"): ("failed", "check"),
        ("toy-outlier", "fp16"): ("refused", "target"),
        ("toy-outlier", "bf16"): ("refused", "target"),
        ("toy-random", "fp32"): ("built", None),
        ("toy-random", "int8"): ("refused", "card"),
        ("toy-random", "int8-weights"): ("built", None),
        ("toy-random", "int4-weights"): ("built", None),
        ("toy-random", "fp16"): ("refused", "target"),
        ("toy-random", "bf16"): ("refused", "target"),
        ("toy-alone", "fp32"): ("built", None),
        ("toy-alone", "int8"): ("refused", "card"),
        ("toy-alone", "int8-weights"): ("built", None),
        ("toy-alone", "int4-weights"): ("built", None),
        ("toy-alone", "fp16"): ("refused", "target"),
        ("toy-alone", "bf16"): ("refused", "target"),
    }
    assert report["counts"] == {"built": 7, "skipped": 0, "refused": 8, "failed": 3, "pending": 0}
    assert (report["passed"], report["interrupted"], report["schema"]) == (False, False, 1)
    by_cell = {(c["name"], c["precision"]): c for c in report["cells"]}
    reasons = {key: cell["reason"] for key, cell in by_cell.items() if cell["state"] != "built"}
    assert reasons["toy-random", "int8"] == "the toy says so"
    assert "the card names no data set to calibrate on" in reasons["toy-alone", "int8"]
    assert "give --data DIR" in reasons["toy-outlier", "int8"]
    assert "has no fp16 kernels" in reasons["toy-alone", "fp16"]
    cell = by_cell["toy-outlier", "fp32"]
    bundle = open_bundle(cell["bundle"])
    assert Path(cell["bundle"]) == out / "toy-outlier" / "cpu-x86-fp32"
    assert cell["digest"] == bundle.manifest.digest
    assert cell["inputs_sha256"] == bundle.manifest.provenance.inputs_sha256
    assert cell["size"] == bundle.size + len(bundle.manifest_bytes)
    assert cell["parity"]["max_error"] == bundle.manifest.parity.max_error  # type: ignore[union-attr]
    assert cell["seconds"] > 0
    assert stderr.splitlines()[0] == "zoo: 8 of 18 cells are refused by card or target"
    assert "zoo: 9/18 toy-outlier cpu-x86 fp32: built (" in stderr
    left = [path for path in out.rglob("*") if path.name.startswith(".")]
    assert left == []


def test_a_rerun_builds_only_what_is_missing_or_differs(own_models: Path, tmp_path: Path) -> None:
    command = ("--model", "toy*", "--target", "cpu-x86", "--precision", "fp32")
    code, stdout, _ = run(*command)
    out = tmp_path / "home" / "bundles"
    assert code == 0
    assert stdout.splitlines()[-1] == str(out / "report.json")
    assert "4 built in" in stdout
    assert sorted(Here.built) == ["toy fp32", "toy-alone fp32", "toy-outlier fp32", "toy-random fp32"]
    assert store.find_bundle("toy") == out / "toy" / "cpu-x86-fp32"
    Here.built.clear()
    code, stdout, _ = run(*command)
    assert (code, Here.built) == (0, [])
    assert "4 skipped in" in stdout
    # damaged, made from other weights, made by another budget's export, missing
    (out / "toy-random" / "cpu-x86-fp32" / "golden.npz").write_bytes(b"damaged")
    weights = own_models / "weights" / "toy.safetensors"
    tensors = load_file(weights)
    tensors["dense.bias"][0] += 0.01
    save_file(tensors, weights)
    shutil.rmtree(out / "toy-alone")
    code, _, _ = run(*command)
    assert code == 0
    assert sorted(Here.built) == ["toy fp32", "toy-alone fp32", "toy-random fp32"]
    Here.built.clear()
    run(*command, "--budget", "0.7", "--model", "toy-alone")
    assert Here.built == ["toy-alone fp32"]
    Here.built.clear()
    run(*command, "--budget", "0.7", "--model", "toy-alone", "--force")
    assert Here.built == ["toy-alone fp32"]
    # a single export has the same hash
    Here.built.clear()
    shutil.rmtree(out / "toy-alone")
    assert CliRunner().invoke(cli, ["export", "toy-alone"]).exit_code == 0
    code, _, _ = run(*command)
    assert (code, Here.built) == (0, [])


def test_what_is_not_a_bundle_is_never_replaced(own_models: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    thesis = out / "toy-alone" / "cpu-x86-fp32" / "thesis.txt"
    thesis.parent.mkdir(parents=True)
    thesis.write_text("x")
    code, stdout, _ = run("--model", "toy-alone", "--target", "cpu-x86", "--precision", "fp32", "--out", out)
    assert code == 1
    assert "is a folder that is not a bundle" in stdout
    assert thesis.read_text() == "x"


def test_the_hash_covers_what_decides_the_bytes(own_models: Path) -> None:
    def digest(**settings: Any) -> str:
        cell = matrix.select(
            ["cpu-x86"], out=Path("x"), models=settings.pop("name", "toy-alone"), precisions=["fp32"]
        )
        return matrix.Inputs(Settings(budget=settings.pop("budget", 0.005), **settings)).sha256(cell[0])

    seen = [digest()]
    assert digest() == seen[0]
    for change in (
        lambda: {"budget": 0.01},
        lambda: {"calibration": "minmax"},
        lambda: {"name": "toy-random"},
        lambda: _append(own_models / "model.py", "# a change\n"),
        lambda: _append(own_models / "card.toml", "# nothing\n", same=True),
        lambda: (own_models / "golden" / "0.wav").write_bytes((own_models / "golden" / "1.wav").read_bytes()),
        lambda: _append(own_models / "card.toml", 'notes = ["another note"]\n'),
    ):
        arguments = change()
        found = digest(**(arguments if isinstance(arguments, dict) else {}))
        if arguments == "same":
            assert found == seen[-1]
            continue
        assert found not in seen
        seen.append(found)


def _append(path: Path, text: str, *, same: bool = False) -> str | None:
    path.write_text(path.read_text() + text)
    return "same" if same else None


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "--all needs --target"),
        (["--target", "cpu-x68"], 2, "no target is called 'cpu-x68'; did you mean cpu-x86"),
        (
            ["--target", "cpu-x86", "--precision", "fp32,int5"],
            2,
            "no precision is called 'int5'; there are fp32",
        ),
        (["--target", "cpu-x86", "--precision", "auto"], 2, "no precision is called 'auto'"),
        (
            ["--target", "cpu-x86", "--model", "nothing*"],
            2,
            "no model fits 'nothing*'; zoo list shows all names",
        ),
        (["--target", "cpu-x86", "toy"], 2, "--all takes neither NAME nor --weights"),
        (["--target", "cpu-x86", "--data", "/no/where"], 3, "/no/where: no such file or folder"),
        (["--target", "cpu-x86", "--compute-capability", "9.9"], 2, "cpu-x86 has no compute capability 9.9"),
    ],
)
def test_usage_is_checked_before_any_work(
    own_models: Path, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    found, stdout, stderr = run(*arguments, "--out", tmp_path / "out")
    assert (found, stdout) == (code, "")
    assert message in stderr
    assert not (tmp_path / "out").exists()


def test_options_of_all_need_all(own_models: Path) -> None:
    for arguments in (["toy", "--target", "a", "--target", "b"], ["toy", "--jobs", "2"], []):
        done = CliRunner().invoke(cli, ["export", *arguments])
        assert done.exit_code == 2
        assert "--all" in done.stderr


def test_a_report_that_cannot_be_written_is_told_before_any_work(own_models: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    command = ("--target", "cpu-x86", "--precision", "fp32", "--out", tmp_path / "file" / "out")
    code, _, stderr = run(*command)
    assert code == 1
    assert "cannot be made: Not a directory" in stderr.splitlines()[-1]
    assert Here.built == []


@pytest.mark.parametrize(
    ("error", "state", "by", "reason"),
    [
        (TargetError("refuses node x"), "refused", "engine", "refuses node x"),
        (ProviderUnavailable("not here"), "refused", "machine", "not here"),
        (DataError("no data"), "failed", "data", "no data"),
        (ParityError("differs"), "failed", "check", "differs"),
        (CheckFailed("loses"), "failed", "check", "loses"),
        (
            MemoryError(),
            "failed",
            "export",
            "out of memory (MemoryError); free memory, or use a machine with more",
        ),
        (KeyError("x"), "failed", "export", "internal error: KeyError: 'x'"),
    ],
)
def test_every_error_has_a_place_in_the_report(error: Exception, state: str, by: str, reason: str) -> None:
    cell = matrix.select(["cpu-x86"], out=Path("x"), models="tim-net-emodb", precisions=["fp32"])[0]
    error.node, error.op = "x", "Foo"  # type: ignore[attr-defined]
    found = workers.explained(cell, error)
    assert (found.state, found.by, found.reason) == (state, by, reason)
    assert not found.declared
    if by == "engine":
        assert (found.node, found.op) == ("x", "Foo")


def test_recipes_and_compute_capabilities_have_places_of_their_own(own_models: Path) -> None:
    cells = matrix.select(
        ["tensorrt-rtx"], out=Path("x"), models="toy-alone", precisions=["fp32"], compute_capability="12.0"
    )
    assert [cell.bundle for cell in cells] == ["x/toy-alone/tensorrt-rtx-12.0-fp32"]
    cells = matrix.select(["jetson-orin-nano-jp6", "jetson-orin-nano-jp6"], out=Path("x"), models="toy-alone")
    assert [cell.precision for cell in cells] == list(
        find_target("jetson-orin-nano-jp6").cells(registry.find("toy-alone")[1].refused)
    )


def test_the_table_shows_what_runs_and_what_was_last(own_models: Path) -> None:
    cells = matrix.select(["cpu-x86"], out=Path("x"))
    assert len(cells) > 12
    table = ProgressTable(cells, 5)
    table.on_change(0, cells[0], Event(stage="calibrating", done=3, total=9))
    last = next(i for i, cell in enumerate(cells) if i and cell.state == "pending")
    done = msgspec.structs.replace(cells[last], state="built", size=1500, seconds=2.0)
    table.on_change(last, done, None)
    console = Console(width=150, record=True, file=io.StringIO())
    console.print(table)
    text = console.export_text()
    refused = sum(cell.state == "refused" for cell in cells)
    assert f"{refused + 1} of {len(cells)} cells" in text
    assert "calibrating 3/9" in text
    assert "1.5 kB" in text
    assert len(text.splitlines()) <= 5 + 5
