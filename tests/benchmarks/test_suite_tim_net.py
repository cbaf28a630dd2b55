# SPDX-License-Identifier: Apache-2.0
"""The TIM-Net suite: goals, tables and file names, from a run of fake contestants."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from zoo.errors import CheckFailed, ZooError
from zoo.runtime.bench import Contestant, Inputs, Options, Report, bench
from zoo.runtime.bench.inputs import vary

PEER = """
    from zoo.runtime.bench import Outcome

    class Peer:
        def features(self, raw):
            return abs(raw[0])

        def engine(self, features):
            return float(features.mean())

        def decode(self, outputs):
            return Outcome("a", {"a": outputs})

        def pipeline(self, raw):
            return self.decode(self.engine(self.features(raw)))

        def versions(self):
            return {"peer": "1"}

    def factory(bundle, *, threads):
        return Peer()
"""


@pytest.fixture(scope="module")
def suite(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("suites/tim_net")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Fake contestants measured once, and given the names and kinds of real ones."""
    file = tmp_path_factory.mktemp("peers") / "peer.py"
    file.write_text(textwrap.dedent(PEER))
    noise = np.random.default_rng(0).uniform(-1, 1, 1000).astype(np.float32)
    options = Options(processes=1, seconds=0.02, samples=5, warmup_seconds=0.01, threads=1)
    names = ("tim fp32", "tim int8", "librosa_onnxruntime", "librosa_torch")
    measured = bench(
        [Contestant(f"{file}:factory", name=name) for name in names],
        options,
        inputs=Inputs(tuple(vary([noise], 200, 64)), 100, "noise"),
    )
    rows = [
        msgspec.structs.replace(
            row,
            kind="peer" if "librosa" in row.name else "bundle",
            target=None if "librosa" in row.name else "cpu-x86",
            precision=None if "librosa" in row.name else row.name.split()[1],
        )
        for row in measured.rows
    ]
    return msgspec.structs.replace(measured, rows=tuple(rows))


def _startup(suite: ModuleType, **changes: Any) -> Any:
    plain = {"import_zoo_ms": 20.0, "help_ms": 60.0, "run_ms": 300.0, "interpreter_ms": 15.0, "n": 3}
    return suite.Startup(**{**plain, "heavy_after_import": (), "heavy_after_run": (), **changes})


def _with_ratio(report: Report, name: str, value: float) -> Report:
    rows = []
    for row in report.rows:
        if row.name == name:
            scope = row.scopes["pipeline"]
            assert scope.vs_first is not None
            ratio = msgspec.structs.replace(scope.vs_first, value=value)
            cpu_ms = value * report.rows[0].scopes["pipeline"].cpu_ms
            scopes = {
                **row.scopes,
                "pipeline": msgspec.structs.replace(scope, vs_first=ratio, cpu_ms=cpu_ms),
            }
            row = msgspec.structs.replace(row, scopes=scopes)
        rows.append(row)
    return msgspec.structs.replace(report, rows=tuple(rows))


def test_goals_are_met_by_the_figures_alone(suite: ModuleType, report: Report) -> None:
    fast = _with_ratio(_with_ratio(report, "librosa_onnxruntime", 6.0), "librosa_torch", 7.0)
    met = {goal.goal.split(" at ")[0]: goal.met for goal in suite.goals(fast, _startup(suite))}
    found = [goal.met for goal in suite.goals(fast, _startup(suite))]
    assert len(met) >= 4
    assert found[:2] == [True, False]
    assert found[3:5] == [True, True]
    # An interrupted peer is no slower for that: its CPU time must say so too.
    scope = fast.row("librosa_onnxruntime").scopes["pipeline"]
    idle = msgspec.structs.replace(scope, cpu_ms=scope.cpu_ms / 2)
    rows = tuple(
        msgspec.structs.replace(row, scopes={**row.scopes, "pipeline": idle})
        if row.name == "librosa_onnxruntime"
        else row
        for row in fast.rows
    )
    busy = next(suite.goals(msgspec.structs.replace(fast, rows=rows), _startup(suite)))
    assert (busy.met, busy.measured.endswith("by CPU time 3.00")) == (False, True)
    slow = [
        goal.met
        for goal in suite.goals(fast, _startup(suite, import_zoo_ms=151.0, heavy_after_run=("torch",)))
    ]
    assert slow[3:5] == [False, False]


def test_a_void_peer_meets_no_goal_and_says_why(suite: ModuleType, report: Report) -> None:
    rows = tuple(
        msgspec.structs.replace(row, void="other work") if row.name == "librosa_torch" else row
        for row in report.rows
    )
    goal = list(suite.goals(msgspec.structs.replace(report, rows=rows), _startup(suite)))[1]
    assert (goal.met, goal.measured) == (False, "void: other work")


def test_the_tables_hold_every_row_and_no_machine_names(
    suite: ModuleType, report: Report, tmp_path: Path
) -> None:
    whole = suite.Suite(
        schema=1,
        model="tim-net-emodb",
        main=report,
        resampled=report,
        startup=_startup(suite),
        goals=tuple(suite.goals(report, _startup(suite))),
        int8=tuple(suite.quantised(report)),
        skipped=("tim tensorrt-rtx int8: no GPU",),
    )
    text = suite.markdown(whole)
    for row in report.rows:
        assert text.count(f"| {row.name} |") == 2
    assert [(q.target, q.scope) for q in whole.int8] == [("cpu-x86", "engine"), ("cpu-x86", "pipeline")]
    assert "no GPU" in text
    assert "QUICK: not for publication" in text
    assert "/" + "tmp" not in text
    assert msgspec.json.decode(msgspec.json.encode(whole), type=suite.Suite) == whole


def test_result_files_are_named_by_date_instruction_set_and_cpu(
    script: Callable[[str], ModuleType], report: Report
) -> None:
    file_stem = script("suites/_results").file_stem

    def stem(cpu: str) -> str:
        machine = msgspec.structs.replace(report.machine, cpu=cpu, zoo_isa="avx512")
        changed = msgspec.structs.replace(report, machine=machine, created="2026-02-03T04:05:06+00:00")
        return str(file_stem(changed))

    assert stem("Intel(R) Xeon(R) CPU @ 2.80GHz") == "2026-02-03-avx512-intel-xeon-2.80ghz"
    assert stem("AMD EPYC 7B13") == "2026-02-03-avx512-amd-epyc-7b13"


def test_the_command_measures_tells_and_writes(
    suite: ModuleType, report: Report, ready_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[list[str], Options]] = []

    def fake(contestants: Sequence[Contestant], options: Options, *, progress: Any) -> Report:
        asked.append(([contestant.spec for contestant in contestants], options))
        return report

    monkeypatch.setattr(suite, "bench", fake)
    monkeypatch.setattr(suite, "measure_startup", lambda bundle, clip, count: _startup(suite))
    given, out = [str(ready_bundle), str(ready_bundle), "--quick", "--duty"], tmp_path / "out"
    look = CliRunner().invoke(suite.main, given, catch_exceptions=False)
    own, peers = str(ready_bundle), [spec for spec in asked[0][0] if spec.endswith(".py:factory")]
    assert [Path(spec).name.split(".")[0] for spec in peers] == list(suite.PEERS)
    # The second run leaves the other bundles out.
    assert [specs for specs, _ in asked] == [[own, *peers, own], [own, *peers]]
    assert [(o.threads, o.duty, o.rate, o.is_quick) for _, o in asked] == [
        (1, True, None, True),
        (1, False, 16000, True),
    ]
    assert "## Goals" in look.stdout
    assert not look.stderr  # a look writes nothing unless told where
    told = CliRunner().invoke(
        suite.main, [*given, "--other-rate", "0", "--out", str(out)], catch_exceptions=False
    )
    json, tables = sorted(out.iterdir())
    assert (json.stem, json.suffix, tables.suffix) == (tables.stem, ".json", ".md")
    assert tables.read_text() + "\n" == told.stdout
    found = msgspec.json.decode(json.read_bytes(), type=suite.Suite)
    assert (found.main, found.resampled, found.startup) == (report, None, _startup(suite))
    assert (found.goals, found.int8) == (
        tuple(suite.goals(report, _startup(suite))),
        tuple(suite.quantised(report)),
    )
    with pytest.raises(ZooError, match="exists"):
        CliRunner().invoke(suite.main, [*given, "--out", str(out)], catch_exceptions=False)
    rows = (*report.rows[:-1], msgspec.structs.replace(report.rows[-1], void="other work"))
    report = msgspec.structs.replace(report, rows=rows)
    with pytest.raises(CheckFailed, match=r"void: .*: other work"):
        CliRunner().invoke(suite.main, [*given, "--out", str(out), "--force"], catch_exceptions=False)
    assert msgspec.json.decode(json.read_bytes(), type=suite.Suite).main == report


def test_start_is_measured_in_fresh_processes(
    suite: ModuleType, ready_bundle: Path, golden_folder: Path
) -> None:
    startup = suite.measure_startup(ready_bundle, golden_folder / "english_48000.wav", 1)
    assert startup.heavy_after_import == ()
    assert startup.heavy_after_run == ()
    assert 0 < startup.import_zoo_ms < startup.run_ms


def test_only_bundles_whose_engine_is_here_are_measured(
    suite: ModuleType,
    script: Callable[[str], ModuleType],
    ready_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    contest = script("suites/_contest")
    assert contest.built_bundles("tim-net-emodb")[0] == ready_bundle
    assert contest.runnable([ready_bundle]) == ([ready_bundle], [])
    nowhere = contest.engine_status("onnxruntime")
    nowhere = replace(nowhere, devices=(), problem="no GPU")
    monkeypatch.setattr(contest, "engine_status", lambda kind: nowhere)
    with pytest.raises(ZooError, match="no bundle can run here: tim-net-emodb cpu-x86 fp32: no GPU"):
        CliRunner().invoke(suite.main, ["--quick"], catch_exceptions=False)
