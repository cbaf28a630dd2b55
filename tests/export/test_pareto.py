# SPDX-License-Identifier: Apache-2.0
"""The table of accuracy, latency and size."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from zoo.bundle import Candidate, Manifest, Pareto, open_bundle
from zoo.cli.check import inspect_command
from zoo.cli.export import export_command
from zoo.cli.pareto import write_report
from zoo.errors import ZooError
from zoo.export import pareto
from zoo.export.exporter import export_model


def row(loss: float | None, latency: float | None, size: int | None, **more: object) -> Candidate:
    return Candidate(precision="int8", loss=loss, latency=latency, size=size, **more)  # type: ignore[arg-type]


def test_what_is_optimal() -> None:
    rows = [
        row(0.0, 2.0, 100),
        row(0.01, 1.0, 50),
        row(0.01, 1.5, 50),  # slower than the one before
        row(0.02, 1.0, 25),
        row(0.02, 1.0, 25),  # equals hide nothing
        row(0.02, 0.97, 26),  # larger, and not faster by more than two sessions of one file differ
        row(-0.01, None, 100),  # does not run here: better than the first in what both have
        row(None, 0.1, 1),  # accuracy not measured: neither best nor better than others
        row(None, None, None, refused="no kernels"),
    ]
    found = [made.optimal for made in pareto.mark(rows)]
    assert found == [False, True, False, True, True, False, True, False, False]
    assert pareto.dominates(rows[1], rows[2])
    assert not pareto.dominates(rows[2], rows[1])
    assert not pareto.dominates(rows[7], rows[0])
    assert not pareto.dominates(rows[3], rows[3])


@pytest.fixture(scope="module")
def made(toy, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The outlier toy on cpu-x86, with a rescaling option: every row that there can be, but for random weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_MODELS", str(toy.root))
        patch.setenv("ZOO_HOME", str(tmp_path_factory.mktemp("home")))
        result = export_model(
            "toy-outlier",
            target="cpu-x86",
            precision="int8",
            out=tmp_path_factory.mktemp("out") / "bundle",
            data=toy.data,
            calibration="minmax",
            budget=0.02,
            quantize=["equalize"],
            pareto=True,
        )
        return open_bundle(result.path).manifest


def test_every_precision_has_its_rows(made: Manifest) -> None:
    table = made.pareto
    assert table is not None
    assert (table.n, table.metric, table.inputs) == (192, "UAR", 64)
    assert table.protocol.startswith("leave one group out")
    found = {(r.precision, r.quantize, len(r.kept)) for r in table.rows}
    assert {(p, q, 0) for p, q, _ in found} <= found
    assert {p for p, _, _ in found} == {"fp32", "int8", "int8-weights", "int4-weights"}
    # Three layers: 0, a quarter and a half of them stay in fp32 (0.25 * 3 rounds to 1, 0.5 * 3 to 2).
    assert {(q, k) for p, q, k in found if p == "int8"} == {
        (q, k) for q in ((), ("equalize",)) for k in (0, 1, 2)
    }
    for r in table.rows:
        assert r.refused is None
        assert r.low <= r.loss <= r.high  # type: ignore[operator]
        assert r.latency is not None
        assert r.latency > 0
        assert r.size is not None
        assert r.within_budget == (r.loss <= table.budget)  # type: ignore[operator]
    base = next(r for r in table.rows if r.precision == "fp32")
    assert (base.loss, base.low, base.high, base.kept) == (0, 0, 0, ())
    assert any(r.optimal for r in table.rows)
    assert table.rows == pareto.mark([msgspec.structs.replace(r, optimal=False) for r in table.rows])


def test_the_table_shows_what_breaks_and_what_repairs_it(made: Manifest) -> None:
    """One channel a thousand times larger: int8 loses, with that layer kept or the channels evened out it does not."""
    assert made.pareto is not None
    rows = {(r.precision, r.quantize, len(r.kept)): r for r in made.pareto.rows}
    assert rows["int8", (), 0].loss > 0.05  # type: ignore[operator]
    assert not rows["int8", (), 0].within_budget
    assert rows["int8", (), 1].kept == ("conv2",)
    assert rows["int8", (), 1].within_budget
    assert rows["int8", ("equalize",), 0].loss < rows["int8", (), 0].loss - 0.03  # type: ignore[operator]
    assert not rows[
        "int8-weights", (), 0
    ].within_budget  # the weights that read that channel are a thousandth of the rest
    assert rows["int8-weights", (), 1].kept == ("conv2",)
    assert rows["int8-weights", (), 1].within_budget
    assert rows["int4-weights", (), 0].size < rows["fp32", (), 0].size  # type: ignore[operator]


def test_the_bundle_says_what_its_options_did(made: Manifest) -> None:
    assert made.provenance.quantize == ("equalize",)
    note = next(note for note in made.notes if note.startswith("int8+equalize: signal to quantisation noise"))
    ratio, without = (float(part.split()[-1]) for part in note.split(" dB")[:2])
    assert ratio > without + 10
    assert made.engines[0].kept == ()


def test_without_data_there_is_latency_and_size(toy_models: Path, tmp_path: Path) -> None:
    """Also through the command: table, JSON and both files."""
    args = ["toy-random", "--target", "cpu-x86", "--pareto", "--out", str(tmp_path / "b")]
    done = CliRunner().invoke(export_command, [*args, "--report", str(tmp_path / "t.md"), "--json"])
    assert done.exit_code == 0, done.output
    table = json.loads(done.stdout)["pareto"]
    assert table["n"] == 0
    rows = {r["precision"]: r for r in table["rows"]}
    assert rows["int8"]["refused"] == "the toy says so"
    assert "latency" not in rows["int8"]
    assert rows["fp32"]["latency"] > 0
    assert not any("loss" in r or "optimal" in r for r in rows.values())
    text = (tmp_path / "t.md").read_text()
    assert text.startswith("# toy-random on cpu-x86: accuracy, latency and size\n\n| precision | kept |")
    assert "| the toy says so |" in text
    assert "Accuracy was not measured" in text
    shown = CliRunner().invoke(inspect_command, [str(tmp_path / "b")])
    assert shown.exit_code == 0, shown.output
    assert "the toy says so" in shown.output


def test_a_report_lists_kept_layers(made: Manifest, tmp_path: Path) -> None:
    write_report(tmp_path / "t.md", made)
    text = (tmp_path / "t.md").read_text()
    assert "- int8, 1 kept in fp32: conv2\n" in text
    assert " | optimal |" in text
    write_report(tmp_path / "t.json", made)
    content = json.loads((tmp_path / "t.json").read_text())
    assert (content["schema"], content["name"], content["target"]) == (1, "toy-outlier", "cpu-x86")
    assert msgspec.convert(content["pareto"], Pareto) == made.pareto


def test_a_report_is_checked_before_anything_is_measured(toy_models: Path, tmp_path: Path) -> None:
    there = tmp_path / "t.md"
    there.write_text("mine")
    args = ["toy", "--out", str(tmp_path / "b"), "--report", str(there)]
    alone = CliRunner().invoke(export_command, args)
    assert alone.exit_code == 2
    assert "--report goes with --all or --pareto" in alone.output
    done = CliRunner().invoke(export_command, [*args, "--pareto"])
    assert isinstance(done.exception, ZooError)
    assert "t.md exists; give --force to replace it" in str(done.exception)
    assert there.read_text() == "mine"
    assert not (tmp_path / "b").exists()
