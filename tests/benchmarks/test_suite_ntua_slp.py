# SPDX-License-Identifier: Apache-2.0
"""NTUA-SLP's suite: goals follow from the figures, the tables hold everything, many inputs are counted rightly."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from zoo.errors import ZooError
from zoo.runtime.bench import Contestant, Inputs, Options, Report, bench

#: A peer whose calls take SPIN turns of a loop.
PEER = """
    from zoo.runtime.bench import Outcome

    class Peer:
        def features(self, raw):
            return raw.split()

        def engine(self, features):
            for _ in range(SPIN):
                len(features)
            return len(features)

        def decode(self, outputs):
            return Outcome("a", {"a": outputs})

        def pipeline(self, raw):
            return self.decode(self.engine(self.features(raw)))

        def many(self, raws):
            return [self.pipeline(raw) for raw in raws]

        def versions(self):
            return {"peer": "1"}

    def factory(bundle, *, threads):
        return Peer()
"""
NAMES = {"slp fp32": 4000, "ekphrasis_onnxruntime": 16000, "ekphrasis_torch": 44000, "slp int8": 1000}
INPUTS = Inputs(tuple(f"tweet {'word ' * i}" for i in range(64)), 0, "made up")


@pytest.fixture(scope="module")
def suite(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("suites/ntua_slp")


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder, found = tmp_path_factory.mktemp("peers"), {}
    for name, spin in NAMES.items():
        file = folder / f"{name.replace(' ', '_')}.py"
        file.write_text(textwrap.dedent(PEER).replace("SPIN", str(spin)))
        found[name] = f"{file}:factory"
    return found


@pytest.fixture(scope="module")
def report(specs: dict[str, str]) -> Report:
    """Fake contestants measured once, and given the names and kinds of real ones."""
    options = Options(processes=1, seconds=0.02, samples=5, warmup_seconds=0.01, threads=1)
    measured = bench([Contestant(spec, name=name) for name, spec in specs.items()], options, inputs=INPUTS)
    rows = [
        row
        if "ekphrasis" in row.name
        else msgspec.structs.replace(row, kind="bundle", target="cpu-x86", precision=row.name.split()[1])
        for row in measured.rows
    ]
    return msgspec.structs.replace(measured, rows=tuple(rows))


def test_goals_are_told_for_fp32_and_int8(suite: ModuleType, report: Report) -> None:
    found = list(suite.goals(report))
    assert [goal.goal.split(" at ")[0] for goal in found] == [
        "slp fp32: pipeline p50",
        "slp fp32: pipeline p50",
        "slp int8: pipeline p50",
        "slp int8: pipeline p50",
    ]
    # int8 spins a 16th and a 44th of the peers' turns, far beyond the goals of 4 and 10 times whatever else the machine does.
    assert [goal.met for goal in found[2:]] == [True, True]
    void = tuple(
        msgspec.structs.replace(row, void="other work") if row.name == "ekphrasis_torch" else row
        for row in report.rows
    )
    goal = list(suite.goals(msgspec.structs.replace(report, rows=void)))[3]
    assert (goal.met, goal.measured) == (False, "void: other work")


def test_all_inputs_at_once_are_counted(
    suite: ModuleType, specs: dict[str, str], report: Report, tmp_path: Path
) -> None:
    chosen = [(name, specs[name], None) for name in ("slp int8", "ekphrasis_torch")]
    fast, slow = suite.measure(chosen, INPUTS, processes=1, seconds=0.05, folder=tmp_path)
    assert fast.per_second > 4 * slow.per_second > 0
    assert fast.cpu_us * fast.per_second < 1.3e6  # one thread
    whole = suite.Suite(
        schema=1,
        model="ntua-slp-e-c",
        main=report,
        twenty=report,
        throughput=(fast, slow),
        goals=tuple(suite.goals(report)),
        int8=(),
        skipped=("slp tensorrt-rtx int8: no GPU",),
    )
    text = suite.markdown(whole)
    for name in NAMES:
        assert text.count(f"| {name} |") >= 2
    assert f"| slp int8 | {fast.per_second:.0f} |" in text
    assert "no GPU" in text
    assert "QUICK: not for publication" in text
    assert msgspec.json.decode(msgspec.json.encode(whole), type=suite.Suite) == whole
    with pytest.raises(ZooError, match="throughput of none failed"):
        suite.measure(
            [("none", f"{tmp_path}/none.py:factory", None)],
            INPUTS,
            processes=1,
            seconds=0.05,
            folder=tmp_path,
        )


def test_the_command_measures_every_tweet_those_of_a_length_and_all_at_once(
    suite: ModuleType, report: Report, ready_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, Inputs]] = []

    def fake(contestants: Sequence[Contestant], options: Options, *, inputs: Inputs, progress: Any) -> Report:
        assert (options.threads, options.is_quick) == (1, True)
        asked.append((len(contestants), inputs))
        return report

    def rates(contestants: Sequence[Any], inputs: Inputs, **_: Any) -> Any:
        assert [name for name, _, _ in contestants] == [row.name for row in report.rows]
        assert {reference for _, _, reference in contestants} == {ready_bundle.resolve()}
        asked.append((len(contestants), inputs))
        return ()

    short = Inputs(INPUTS.items[:4], 0, "made up, short")
    monkeypatch.setattr(suite, "bench", fake)
    monkeypatch.setattr(suite, "measure", rates)
    monkeypatch.setattr(suite, "tweets", lambda bundle, data: (INPUTS, short))
    told = CliRunner().invoke(
        suite.main,
        [str(ready_bundle)] * 2 + ["--data", str(tmp_path), "--quick", "--out", str(tmp_path)],
        catch_exceptions=False,
    )
    assert asked == [(4, INPUTS), (4, short), (4, INPUTS)]
    json, tables = sorted(tmp_path.iterdir())
    assert json.name.startswith("ntua-slp-")
    assert tables.read_text() + "\n" == told.stdout
    found = msgspec.json.decode(json.read_bytes(), type=suite.Suite)
    assert (found.main, found.goals) == (report, tuple(suite.goals(report)))


def test_tweets_are_the_held_out_ones(suite: ModuleType, data_root: Path) -> None:
    import zoo
    from zoo import registry
    from zoo.bundle import Bundle

    card, variant = registry.find("ntua-slp-e-c")

    class Stand:
        """What the suite asks of a bundle."""

        manifest = type("M", (), {"name": variant.name})

        @staticmethod
        def pipeline() -> zoo.pipeline.Pipeline:
            return card.pipeline(variant)

    stand: Bundle = Stand()  # type: ignore[assignment]
    every, twenty = suite.tweets(stand, data_root / "semeval2018")
    assert len(every.items) == len(set(every.items)) > 880
    assert set(twenty.items) < set(every.items)
    assert all(len(card.pipeline(variant).tokens(text)) == 20 for text in twenty.items[:5])


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_measured(
    suite: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    refused = CliRunner().invoke(suite.main, ["--out", str(tmp_path / "file" / "results")])
    assert isinstance(refused.exception, ZooError)
    assert "results cannot be written there" in str(refused.exception)
