# SPDX-License-Identifier: Apache-2.0
"""The measuring itself: statistics, order, workers, verdicts, reports. No test asserts milliseconds."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from zoo.bundle import open_bundle
from zoo.errors import DataError, InputError, ZooError
from zoo.runtime.bench import (
    Contestant,
    Inputs,
    Options,
    Report,
    bench,
    compare,
    read_report,
    summary,
    write_report,
)
from zoo.runtime.bench import machine as machine_module
from zoo.runtime.bench.driver import environment, rotated
from zoo.runtime.bench.inputs import make_inputs, vary
from zoo.runtime.bench.stats import (
    GRID,
    Ratio,
    Sample,
    interval,
    paired_draws,
    sample_of,
    small_sample_factor,
    typical,
    unpaired_draws,
)
from zoo.runtime.bench.subject import (
    BatchSubject,
    agreement,
    difference,
    open_subject,
    result_of,
    split_peer,
)
from zoo.runtime.bench.worker import warm_up

#: Tiny: what is tested is the protocol, not the speed.
FAST = Options(processes=2, seconds=0.02, samples=5, warmup_seconds=0.01, threads=1)

PEER = """
    import numpy as np
    from zoo.runtime.bench import Outcome

    class Peer:
        calls = 0

        def features(self, raw):
            return np.abs(raw[0]).reshape(-1, 10).sum(axis=1)

        def engine(self, features):
            return float(features.mean()), float(features.max())

        def decode(self, outputs):
            return Outcome("loud" if outputs[1] > 2.5 * outputs[0] else "calm", {"mean": outputs[0], "max": outputs[1]})

        def pipeline(self, raw):
            return self.decode(self.engine(self.features(raw)))

        def versions(self):
            return {"numpy": np.__version__}

    def factory(bundle, *, threads):
        return Peer()
"""


@pytest.fixture
def inputs() -> Inputs:
    noise = np.random.default_rng(0).uniform(-1, 1, 1000).astype(np.float32)
    return Inputs(tuple(vary([noise], 200, 64)), 100, "noise")


@pytest.fixture
def peer(tmp_path: Path) -> Any:
    """Write a peer whose methods are the plain one's, with extra code after it."""

    def write(name: str = "plain", extra: str = "") -> Contestant:
        file = tmp_path / f"{name}.py"
        file.write_text(textwrap.dedent(PEER) + textwrap.dedent(extra))
        return Contestant(f"{file}:factory")

    return write


# ---- statistics


def test_quantiles_are_those_of_the_samples() -> None:
    rng = np.random.default_rng(0)
    data = rng.integers(1_000_000, 9_000_000, 1001)
    sample = sample_of(data)
    assert sample.n == 1001
    for p in GRID:
        assert sample.quantile(p) == pytest.approx(np.quantile(data, p) / 1e6, rel=1e-4)
    assert sample.mean_ms == pytest.approx(data.mean() / 1e6, rel=1e-4)
    assert list(sample.quantiles_ms) == sorted(sample.quantiles_ms)
    with pytest.raises(ValueError, match="no samples"):
        sample_of([])


def test_the_grid_holds_what_is_reported_and_rises() -> None:
    assert {0.0, 0.5, 0.95, 0.99, 1.0} <= set(GRID)
    assert list(GRID) == sorted(set(GRID))


def _process(rng: np.random.Generator, scale: float, n: int = 500) -> Sample:
    """One process: gamma latencies around ``scale`` ms, and a level of its own (3 %)."""
    level = scale * np.exp(rng.normal(0, 0.03))
    return sample_of((1e6 * level * (0.9 + 0.1 * rng.gamma(2.0, 1.0, n))).astype(np.int64))


@pytest.mark.parametrize("draws", [paired_draws, unpaired_draws])
def test_intervals_cover_an_equal_pair_and_find_a_slower_one(draws: Any) -> None:
    rng = np.random.default_rng(1)
    covered = found = 0
    trials = 40
    for seed in range(trials):
        a = [_process(rng, 1.0) for _ in range(5)]
        b = [_process(rng, 1.0) for _ in range(5)]
        c = [_process(rng, 1.5) for _ in range(5)]
        same = interval(*draws(a, b, 0.5, seed), 5)
        slow = interval(*draws(c, b, 0.5, seed), 5)
        covered += same.low <= 1 <= same.high
        found += slow.low > 1.05
    # 95 % of 40 is 38; fewer than 33 has a probability below 1 %.
    assert covered >= 33
    assert found >= 38


def test_paired_ratios_ignore_a_load_that_hits_both_sides_of_a_round() -> None:
    rng = np.random.default_rng(2)
    loads = [1.0, 1.0, 3.0, 1.0, 2.0]
    base = [_process(rng, load) for load in loads]
    other = [_process(rng, 2 * load) for load in loads]
    ratio = interval(*paired_draws(other, base, 0.5), 5)
    assert 1.8 < ratio.low <= ratio.value <= ratio.high < 2.2


def test_an_identical_side_has_ratio_one_within_its_interval() -> None:
    rng = np.random.default_rng(3)
    samples = [_process(rng, 1.0) for _ in range(5)]
    ratio = interval(*paired_draws(samples, samples, 0.99), 5)
    assert ratio.value == 1
    assert ratio.low < 1 < ratio.high


def test_typical_is_the_median_over_processes() -> None:
    samples = [sample_of([int(level * 1e6)] * 10) for level in (1, 2, 30)]
    assert typical(samples, 0.5) == 2
    assert typical(samples, 0.99) == 2


def test_few_processes_widen_the_interval() -> None:
    factors = [small_sample_factor(n) for n in (2, 3, 5, 10, 11, 12, 1000)]
    assert factors == sorted(factors, reverse=True)
    assert factors[-1] == pytest.approx(1, abs=0.01)
    assert small_sample_factor(1) == 1


def test_every_contestant_comes_first_equally_often() -> None:
    names = ["a", "b", "c"]
    orders = [rotated(names, turn) for turn in range(6)]
    assert all(sorted(order) == names for order in orders)
    assert [order[0] for order in orders] == ["a", "b", "c"] * 2


def test_warm_up_ends_when_blocks_agree_and_gives_up_when_they_never_do() -> None:
    assert warm_up(lambda item: time.sleep(0.0005), [0], 0.05)
    state = {"pause": 1e-4}

    def slower(item: object) -> None:
        state["pause"] *= 1.01
        time.sleep(state["pause"])

    assert not warm_up(slower, [0], 0.01)


# ---- inputs


def test_inputs_are_distinct_alike_in_length_and_the_same_each_time() -> None:
    rng = np.random.default_rng(0)
    signals = [rng.standard_normal(n).astype(np.float32) for n in (300, 70, 1000)]
    pieces = vary(signals, 400, 64)
    assert {piece.shape for piece in pieces} == {(400,)}
    assert {piece.dtype for piece in pieces} == {np.dtype(np.float32)}
    assert len({piece.tobytes() for piece in pieces}) == 64
    assert all(np.array_equal(a, b) for a, b in zip(pieces, vary(signals, 400, 64), strict=True))
    assert np.array_equal(pieces[0][:300], signals[0])


def test_inputs_survive_the_way_to_the_workers(tmp_path: Path, inputs: Inputs) -> None:
    inputs.save(tmp_path / "inputs.npz")
    back = Inputs.open(tmp_path / "inputs.npz")
    assert back.rate == inputs.rate
    assert all(np.array_equal(a, b) for a, b in zip(back.items, inputs.items, strict=True))


# ---- subjects


def test_specs_are_told_apart() -> None:
    assert split_peer("a/b.py:factory") == (Path("a/b.py"), "factory")
    assert split_peer("bundles/tim.zoo") is None
    assert split_peer("b.py:not a name") is None


def test_a_missing_peer_or_factory_is_named(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match=r"there is no file .*none\.py"):
        open_subject(f"{tmp_path}/none.py:factory", None, 1)
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(ZooError, match=r"empty\.py has no factory"):
        open_subject(f"{tmp_path}/empty.py:factory", None, 1)


def test_results_differ_by_label_names_and_numbers() -> None:
    expected = ("a", {"a": 0.75, "b": 0.25})
    assert difference(("a", {"a": 0.5, "b": 0.5}), expected) == 0.25
    assert difference(("b", expected[1]), expected) == float("inf")
    assert difference(("a", {"a": 0.75}), expected) == float("inf")
    assert difference(("a", {"a": float("nan"), "b": 0.25}), expected) == float("inf")
    assert agreement([("b", {"a": 0.5, "b": 0.25}), expected], [expected, expected]) == (1, 0.25)
    assert agreement([("b", {"a": 0.5, "b": 0.5})], [expected], tie=0.49) == (0, 0.25)
    assert agreement([("b", {"a": 0.5, "b": 0.5})], [expected], tie=0.5) == (1, 0.25)


# ---- runs with fake peers


def test_two_peers_are_measured_and_the_report_holds_everything(
    peer: Any, inputs: Inputs, tmp_path: Path
) -> None:
    stages: list[tuple[str, int, int]] = []
    options = replace(FAST, duty=False)
    report = bench(
        [peer("one"), peer("two")], options, inputs=inputs, progress=lambda *stage: stages.append(stage)
    )
    assert [row.name for row in report.rows] == ["one", "two"]
    assert report.quick
    assert (report.inputs.count, report.inputs.rate, report.inputs.seconds) == (64, 100, 2)
    for row in report.rows:
        assert row.void is None
        assert set(row.scopes) == {"engine", "model", "pipeline"}
        assert row.labels_equal == row.checked == 64
        assert row.versions == {"numpy": np.__version__}
        assert row.cold is not None
        assert row.cold.n == 2
        assert row.peak_rss_bytes is not None
        assert row.peak_rss_bytes > 1 << 20
        assert row.energy is not None
        assert (row.energy.millijoules is None) == (row.energy.reason is not None)
        assert row.overhead is not None
        assert row.breakdown is None  # a peer gives no timing
        for scope in row.scopes.values():
            assert len(scope.processes) == 2
            assert scope.n >= 10
            assert scope.min_ms <= scope.p50_ms <= scope.p95_ms <= scope.p99_ms
            assert scope.spread_ms[0] <= scope.p50_ms <= scope.spread_ms[1]
    assert report.rows[0].scopes["pipeline"].vs_first is None
    assert report.rows[1].scopes["pipeline"].vs_first is not None
    assert stages[2] == ("checking", 2, 2)
    assert stages[-1] == ("measuring", 4, 4)
    # Reports are published: they say nothing of where they were made.
    path = tmp_path / "report.json"
    write_report(path, report)
    assert read_report(path) == report
    text = path.read_text()
    assert str(tmp_path) not in text
    assert os.uname().nodename not in text
    with pytest.raises(ZooError, match="--force"):
        write_report(path, report)
    write_report(path, report, force=True)
    assert list(tmp_path.glob(".report*")) == []
    header, rows = summary(report)
    assert all(len(row) == len(header) for row in rows)


def test_only_the_scopes_asked_for_are_timed(peer: Any, inputs: Inputs) -> None:
    report = bench([peer()], replace(FAST, scopes=("engine",), processes=1), inputs=inputs)
    assert set(report.rows[0].scopes) == {"engine"}
    assert report.rows[0].overhead is None
    assert "scope engine" in summary(report)[1][0][-1]


def test_a_duty_cycle_is_measured_when_asked_for(peer: Any, inputs: Inputs) -> None:
    report = bench([peer()], replace(FAST, duty=True, processes=1), inputs=inputs)
    assert [duty.period_ms for duty in report.rows[0].duty] == [100, 2000]


def test_a_peer_that_gives_wrong_results_once_it_is_warm_is_void(peer: Any, inputs: Inputs) -> None:
    wrong = peer(
        "wrong",
        """
        class Wrong(Peer):
            def pipeline(self, raw):
                self.calls += 1
                right = super().pipeline(raw)
                return right if self.calls <= 64 else Outcome(right.label, {name: 0.5 for name in right.scores})

        def factory(bundle, *, threads):
            return Wrong()
        """,
    )
    report = bench([peer("plain"), wrong], replace(FAST, samples=80, processes=1), inputs=inputs)
    assert report.row("plain").void is None
    assert "wrong result while timing pipeline" in str(report.row("wrong").void)
    assert "VOID" in summary(report)[1][1][-1]


def test_a_peer_that_does_other_work_is_void_and_not_timed(peer: Any, inputs: Inputs) -> None:
    other = peer(
        "other",
        """
        class Other(Peer):
            def features(self, raw):
                return 1.01 * super().features(raw)

        def factory(bundle, *, threads):
            return Other()
        """,
    )
    report = bench([peer("plain"), other], replace(FAST, processes=1), inputs=inputs)
    assert "does other work than plain" in str(report.row("other").void)
    assert report.row("other").scopes == {}
    assert report.row("plain").scopes


def test_a_partial_fallback_is_void(peer: Any, inputs: Inputs) -> None:
    fallen = peer(
        "fallen",
        """
        from zoo.runtime.engines import NodePlacement

        class Fallen(Peer):
            requested = "CUDAExecutionProvider"

            def placement(self):
                return [
                    NodePlacement("conv", "Conv", "CUDAExecutionProvider", "float"),
                    NodePlacement("sum", "Einsum", "CPUExecutionProvider", "float"),
                ]

        def factory(bundle, *, threads):
            return Fallen()
        """,
    )
    row = bench([fallen], replace(FAST, processes=1), inputs=inputs).rows[0]
    assert (
        row.void
        == "1 of 2 nodes do not run on CUDAExecutionProvider: sum (Einsum) on CPUExecutionProvider in float"
    )
    assert row.placement == {"CUDAExecutionProvider": 1, "CPUExecutionProvider": 1}


def test_a_peer_that_remembers_its_answers_is_suspect(peer: Any, inputs: Inputs) -> None:
    lazy = peer(
        "lazy",
        """
        import time

        class Lazy(Peer):
            last = None

            def pipeline(self, raw):
                if self.last is None or self.last[0] is not raw:
                    time.sleep(0.001)
                    self.last = raw, super().pipeline(raw)
                return self.last[1]

        def factory(bundle, *, threads):
            return Lazy()
        """,
    )
    row = bench([lazy], replace(FAST, processes=1), inputs=inputs).rows[0]
    assert any(flag.startswith("cache_suspect") for flag in row.flags)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("def factory(bundle, *, threads):\n    raise RuntimeError('no such thing')", "no such thing"),
        ("def factory(bundle, *, threads):\n    import os\n    os.abort()", "SIGABRT"),
        ("def factory(bundle, *, threads):\n    import sys\n    sys.exit(3)", "exit status 3"),
        (
            "def factory(bundle, *, threads):\n    from zoo.errors import ProviderUnavailable\n"
            "    raise ProviderUnavailable('needs a GPU')",
            "needs a GPU",
        ),
    ],
)
def test_a_failing_contestant_is_named_with_the_reason(
    peer: Any, inputs: Inputs, extra: str, message: str
) -> None:
    with pytest.raises(ZooError, match=rf"bench: broken[\s\S]*{message}") as caught:
        bench([peer("broken", extra)], FAST, inputs=inputs)
    assert caught.value.exit_code == (5 if "GPU" in message else 1)


def test_what_a_peer_prints_does_not_mix_with_the_report(peer: Any, inputs: Inputs) -> None:
    chatty = peer("chatty", "import os\nprint('hello')\nos.write(1, b'hello again')\n")
    assert bench([chatty], replace(FAST, processes=1), inputs=inputs).rows[0].void is None


def test_workers_get_the_same_thread_limits_and_a_folder_of_their_own(
    peer: Any, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    look = peer(
        "look", "import os\nassert os.environ['OMP_NUM_THREADS'] == '1', os.environ['OMP_NUM_THREADS']\n"
    )
    (tmp_path / "numpy.py").write_text("raise RuntimeError('imported from the current folder')")
    monkeypatch.chdir(tmp_path)
    assert bench([look], replace(FAST, processes=1), inputs=inputs).rows[0].threads == 1
    monkeypatch.setenv("PYTHONPATH", "some/where")
    assert environment(1)["PYTHONPATH"] == str(tmp_path / "some/where")


def test_the_same_contestant_twice_gets_two_names(peer: Any, inputs: Inputs) -> None:
    report = bench([peer("a"), peer("a")], replace(FAST, processes=1), inputs=inputs)
    assert [row.name for row in report.rows] == ["a", "a #2"]


def test_options_out_of_range_and_empty_runs_are_refused(peer: Any, inputs: Inputs) -> None:
    with pytest.raises(InputError, match="processes is 0"):
        bench([peer()], replace(FAST, processes=0), inputs=inputs)
    with pytest.raises(InputError, match="scopes are"):
        bench([peer()], replace(FAST, scopes=()), inputs=inputs)
    with pytest.raises(InputError, match="nothing to measure"):
        bench([], FAST, inputs=inputs)
    with pytest.raises(InputError, match="give a bundle"):
        bench([peer()], FAST)


def test_an_interruption_kills_the_worker_and_leaves_nothing(
    peer: Any, inputs: Inputs, tmp_path: Path
) -> None:
    stuck = peer(
        "stuck",
        f"import os, time\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)\n",
    )
    inputs.save(tmp_path / "inputs.npz")
    code = textwrap.dedent(f"""
        from pathlib import Path
        from zoo.runtime.bench import Contestant, Inputs, Options, bench
        inputs = Inputs.open(Path({str(tmp_path / "inputs.npz")!r}))
        bench([Contestant({stuck.spec!r})], Options.quick(), inputs=inputs)
    """)
    variables = {**os.environ, "TMPDIR": str(tmp_path / "temp")}
    (tmp_path / "temp").mkdir()
    # A suite started in the background inherits an ignored SIGINT, which Python would then ignore as well.
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=variables,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    )
    pid = tmp_path / "pid"
    limit = time.monotonic() + 30
    while not (pid.is_file() and pid.read_text()) and time.monotonic() < limit:
        time.sleep(0.05)
    worker = int(pid.read_text())
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert b"KeyboardInterrupt" in stderr
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)
    assert list((tmp_path / "temp").iterdir()) == []


# ---- verdicts between reports


def _scaled(report: Report, name: str, factor: float) -> Report:
    """The same report with one row's latencies multiplied."""

    def scale(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: (
                    [factor * ms for ms in inner]
                    if key == "quantiles_ms"
                    else factor * inner
                    if isinstance(inner, float) and key.endswith("_ms")
                    else scale(inner)
                )
                for key, inner in value.items()
            }
        return [scale(inner) for inner in value] if isinstance(value, list) else value

    plain = json.loads(msgspec.json.encode(report))
    plain["rows"] = [scale(row) if row["name"] == name else row for row in plain["rows"]]
    return msgspec.convert(plain, Report)


@pytest.fixture
def pair() -> Report:
    """A report of a bundle and a peer, made of random latencies."""
    rng = np.random.default_rng(4)

    def row(name: str, kind: str, level: float) -> dict[str, Any]:
        processes = [msgspec.to_builtins(_process(rng, level)) for _ in range(5)]
        scope = {
            **{f"{key}_ms": level for key in ("p50", "p95", "p99", "mean", "min", "cpu")},
            "spread_ms": [level, level],
            "n": 2500,
            "settled": True,
            "vs_first": None,
            "vs_first_p99": None,
            "processes": processes,
        }
        nothing = (
            "model",
            "target",
            "precision",
            "engine",
            "weights",
            "digest",
            "size_bytes",
            "void",
            "breakdown",
        )
        nothing += ("overhead", "repeat_ratio", "cold", "peak_rss_bytes", "energy", "conditions")
        return {
            **dict.fromkeys(nothing),
            "name": name,
            "kind": kind,
            "source": name,
            "threads": 1,
            "versions": {},
            "placement": {},
            "flags": [],
            "labels_equal": 64,
            "checked": 64,
            "max_difference": 0.0,
            "duty": [],
            "scopes": {"pipeline": scope},
        }

    machine = msgspec.structs.replace(machine_module.describe(), cpu="Test CPU", zoo_isa="avx2")
    return msgspec.convert(
        {
            "schema": 1,
            "created": "2026-01-01T00:00:00+00:00",
            "zoo_version": "0",
            "quick": False,
            "notes": [],
            "machine": msgspec.to_builtins(machine),
            "inputs": {"source": "test", "count": 64, "rate": 16000, "seconds": 2.0},
            "protocol": {"processes": 5, "seconds": 10.0, "samples": 459, "warmup_seconds": 2.0}
            | {"duty": False, "peer_tolerance": 1e-3},
            "rows": [row("zoo", "bundle", 0.5), row("librosa", "peer", 3.0)],
        },
        Report,
    )


def test_a_clear_slowdown_is_a_regression_and_a_speedup_is_not(pair: Report) -> None:
    slow = {change.metric: change for change in compare(pair, _scaled(pair, "zoo", 1.5))}
    assert slow["p50"].regression
    assert slow["p99"].regression
    assert slow["p50"].ratio.value == pytest.approx(1.5, rel=1e-3)
    assert slow["p50"].basis == "ratio to librosa"
    assert not any(change.regression for change in compare(pair, _scaled(pair, "zoo", 0.5)))
    assert not any(change.regression for change in compare(pair, pair))


def test_a_slowdown_below_the_limit_is_not_claimed(pair: Report) -> None:
    changes = {change.metric: change for change in compare(pair, _scaled(pair, "zoo", 1.03))}
    assert changes["p50"].ratio.value > 1
    assert not changes["p50"].regression
    assert (changes["p50"].limit, changes["p99"].limit) == (1.05, 1.10)


def test_a_faster_machine_hides_no_regression_where_a_peer_ran_too(pair: Report) -> None:
    everything = _scaled(_scaled(pair, "zoo", 0.75), "librosa", 0.5)
    other = msgspec.structs.replace(
        everything, machine=msgspec.structs.replace(pair.machine, cpu="Other CPU")
    )
    changes = compare(pair, other)
    assert all(change.regression for change in changes)
    assert changes[0].ratio.value == pytest.approx(1.5, rel=1e-3)


def test_milliseconds_of_other_machines_are_not_compared(pair: Report) -> None:
    alone = msgspec.structs.replace(pair, rows=pair.rows[:1])
    assert compare(alone, alone)[0].basis == "milliseconds"
    other = msgspec.structs.replace(alone, machine=msgspec.structs.replace(pair.machine, zoo_isa="avx512"))
    with pytest.raises(DataError, match=r"zoo_isa avx2, this run with avx512.*--peer"):
        compare(alone, other)


def test_reports_that_do_not_belong_together_are_refused(pair: Report) -> None:
    with pytest.raises(DataError, match="one report is quick"):
        compare(pair, msgspec.structs.replace(pair, quick=True))
    with pytest.raises(DataError, match="no valid bundle"):
        compare(pair, msgspec.structs.replace(pair, rows=pair.rows[1:]))
    shorter = msgspec.structs.replace(pair, inputs=msgspec.structs.replace(pair.inputs, seconds=1.0))
    with pytest.raises(DataError, match="differ in seconds"):
        compare(pair, shorter)


def test_files_that_are_no_reports_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_report(tmp_path / "none.json")
    (tmp_path / "other.json").write_text('{"schema": 2}')
    with pytest.raises(DataError, match="not a report"):
        read_report(tmp_path / "other.json")


# ---- sensors


def test_energy_adds_packages_and_minds_a_counter_that_ran_over(tmp_path: Path) -> None:
    for i, (value, limit) in enumerate([(900, 1000), (5, 1000)]):
        package = tmp_path / f"intel-rapl:{i}"
        package.mkdir()
        (package / "energy_uj").write_text(str(value))
        (package / "max_energy_range_uj").write_text(str(limit))
    energy = machine_module.Energy(tmp_path)
    start = energy.read()
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("99")
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("1005")
    assert energy.between(start, [99, 5]) == pytest.approx(0.2)
    assert energy.reason is None
    assert machine_module.Energy(tmp_path / "none").reason == "no RAPL sensor on this machine"


@pytest.mark.parametrize(
    ("clocks", "counts", "expected"),
    [
        ([2800.0, 2790.0], [0, 0], False),
        ([2800.0, 2000.0], [0, 0], True),
        ([2800.0, 2800.0], [3, 4], True),
        ([None, None], [None, None], None),
    ],
)
def test_throttling_is_told_from_counters_or_the_clock(
    clocks: Any, counts: Any, expected: bool | None
) -> None:
    states = [
        machine_module.State(mhz=mhz, celsius=None, throttle_count=count, load=0.0)
        for mhz, count in zip(clocks, counts, strict=True)
    ]
    assert machine_module.throttled(states) is expected


# ---- with a real bundle, and the command


def test_inputs_come_from_golden_clips_or_a_folder(
    ready_bundle: Path, golden_folder: Path, tmp_path: Path
) -> None:
    from zoo.bundle import open_bundle

    bundle = open_bundle(ready_bundle)
    made = make_inputs(bundle)
    assert len(made.items) == 64
    assert made.rate == bundle.manifest.input.rate
    assert "golden" in made.source
    assert len({item.tobytes() for item in made.items}) == 64
    read = make_inputs(bundle, data=golden_folder, rate=16000)
    assert read.rate == 16000
    assert len(read.items[0]) * made.rate == pytest.approx(len(made.items[0]) * 16000, rel=1e-3)
    assert "audio files of the folder golden" in read.source
    with pytest.raises(DataError, match="no WAV or FLAC"):
        make_inputs(bundle, data=tmp_path)
    with pytest.raises(DataError, match="not a folder"):
        make_inputs(bundle, data=tmp_path / "none")


def test_the_command_measures_a_bundle_and_prints_one_document(ready_bundle: Path, tmp_path: Path) -> None:
    from zoo.cli.bench import bench_command

    out = tmp_path / "report.json"
    arguments = [
        str(ready_bundle),
        "--quick",
        "--processes",
        "1",
        "--seconds",
        "0.1",
        "--json",
        "--out",
        str(out),
    ]
    result = CliRunner().invoke(bench_command, arguments)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document.pop("changes") == []
    assert msgspec.convert(document, Report) == read_report(out)
    row = document["rows"][0]
    assert (row["model"], row["target"], row["precision"]) == ("tim-net-emodb", "cpu-x86", "fp32")
    assert row["weights"] == "trained"
    assert row["placement"].keys() == {"CPUExecutionProvider"}
    assert row["breakdown"]["preprocess_ms"] > 0
    assert row["void"] is None
    again = CliRunner().invoke(bench_command, [str(ready_bundle), "--out", str(out)])
    assert isinstance(again.exception, ZooError)
    assert "--force" in str(again.exception)


def test_the_stages_of_a_film_are_told(film_bundle: Path) -> None:
    from zoo.cli.bench import bench_command

    arguments = [str(film_bundle), "--quick", "--processes", "1", "--seconds", "0.1", "--json"]
    result = CliRunner().invoke(bench_command, arguments)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    (row,) = document["rows"]
    stages = row["breakdown"]["stages_ms"]
    inputs = ("pictures", "flow", "sound")
    assert list(stages) == [f"{what} {name}" for what in ("decode", "preprocess") for name in inputs] + [
        "engine"
    ]
    assert row["breakdown"]["engine_ms"] == pytest.approx(stages["engine"], rel=0.5)
    assert all(stages[f"preprocess {name}"] > 0 for name in inputs)
    assert document["inputs"]["seconds"] > 0
    factor = stages["preprocess flow"] / 1e3 / document["inputs"]["seconds"]
    (note,) = (note for note in document["notes"] if note.startswith("real-time factors of "))
    assert f"preprocess flow {factor:.3g}" in note


def test_a_void_row_and_bad_usage_have_their_exit_codes(ready_bundle: Path, peer: Any) -> None:
    from zoo.cli.bench import bench_command
    from zoo.errors import CheckFailed

    quick = ["--quick", "--processes", "1", "--seconds", "0.05", "--scope", "engine"]
    result = CliRunner().invoke(bench_command, [str(ready_bundle), "--peer", peer("other").spec, *quick])
    assert isinstance(result.exception, CheckFailed)
    assert "other is void: does other work than" in str(result.exception)
    assert "VOID" in result.stdout
    for arguments, message in (
        ([], "Missing argument"),
        ([str(ready_bundle), "--peer", "no-colon.py"], "FILE.py:FACTORY"),
        ([str(ready_bundle), "--fail-on-regression"], "needs --baseline"),
    ):
        result = CliRunner().invoke(bench_command, arguments)
        assert result.exit_code == 2
        assert message in result.stderr


def test_ratio_type_is_what_a_report_holds() -> None:
    assert msgspec.json.decode(msgspec.json.encode(Ratio(value=1, low=0.9, high=1.1)), type=Ratio).high == 1.1


# ---- batches and own threads


def test_a_batch_is_timed_as_one_call_and_checked_input_by_input(ready_bundle: Path) -> None:
    one = Contestant(str(ready_bundle), "one", threads=1)
    four = Contestant(str(ready_bundle), "four", threads=2, batch=4)
    report = bench([one, four], replace(FAST, processes=1, scopes=("pipeline", "engine"), threads=None))
    single, batch = report.rows
    assert [(row.void, row.threads, row.batch) for row in report.rows] == [(None, 1, 1), (None, 2, 4)]
    assert (batch.labels_equal, batch.max_difference) == (64, 0)
    # four inputs' CPU time in one call, whatever the load of the machine
    assert batch.scopes["pipeline"].cpu_ms > single.scopes["pipeline"].cpu_ms
    assert set(batch.scopes) == {"pipeline", "engine"}
    assert batch.breakdown is None


def test_a_wrong_answer_in_a_batch_is_found(ready_bundle: Path) -> None:
    from zoo.runtime.bench.worker import _Keeper, _rescore

    raws = make_inputs(open_bundle(ready_bundle)).raws()
    batched = BatchSubject(ready_bundle, 1, 4)
    group = raws[:4]
    keeper = _Keeper(result_of, random.Random(0))
    keeper(0, batched.pipeline(group))
    fresh = open_subject(str(ready_bundle), None, 1)
    assert _rescore(fresh, [group], [("pipeline", keeper)]) is None
    shuffled = _Keeper(result_of, random.Random(0))
    shuffled(0, list(reversed(batched.pipeline(group))))
    assert "wrong result while timing pipeline, input 0" in str(
        _rescore(fresh, [group], [("pipeline", shuffled)])
    )
    by_hand = result_of(batched.decode(batched.engine(batched.features(group))))
    assert difference(by_hand, result_of(batched.pipeline(group))) == 0


def test_a_batch_that_the_bundle_or_a_peer_does_not_take_is_refused(ready_bundle: Path, peer: Any) -> None:
    with pytest.raises(InputError, match="batch is 33; give 1 to 32"):
        bench([Contestant(str(ready_bundle), batch=33)], FAST)
    with pytest.raises(InputError, match="peers take one input a call"):
        bench([Contestant(str(ready_bundle)), replace(peer(), batch=2)], FAST)


def test_who_fails_while_timed_ends_the_run_or_is_void(peer: Any, inputs: Inputs) -> None:
    dying = peer(
        "dying",
        """
        import os

        class Dying(Peer):
            def pipeline(self, raw):
                self.calls += 1
                if self.calls > 66:  # more than checking takes
                    os._exit(9)
                return super().pipeline(raw)

        def factory(bundle, *, threads):
            return Dying()
        """,
    )
    with pytest.raises(ZooError, match=r"bench: dying failed \(exit status 9\) while in time"):
        bench([dying], replace(FAST, processes=1), inputs=inputs)
    report = bench([peer(), dying], replace(FAST, processes=1, keep_going=True), inputs=inputs)
    assert report.row("plain").void is None
    assert "dying failed (exit status 9) while in time" in str(report.row("dying").void)
    assert report.row("dying").scopes == {}
