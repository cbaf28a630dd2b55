# SPDX-License-Identifier: Apache-2.0
"""Tuning: what is tried, what is chosen and why, what the bundle keeps, and what the runtime makes of it.

Which setting is faster on the machine of a test is not asserted: decisions are tested on rows made here, the measuring on
real engines in real processes, for its record only.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import zoo
from zoo.bundle import Manifest, Trial, Tuning, open_bundle, write_bundle
from zoo.cli import cli
from zoo.errors import CheckFailed, TargetError, ZooError
from zoo.export import export_model, exporter, tune
from zoo.runtime.bench import Options, Row
from zoo.runtime.bench.machine import usable_cores
from zoo.runtime.bench.report import Scope
from zoo.runtime.bench.stats import sample_of

#: Tiny: what is tested is the choosing, not the speed.
TINY = Options(processes=1, seconds=0.02, samples=5, warmup_seconds=0.01)


def row(
    name: str, ms: float, *, batch: int = 1, tail: float = 1.0, spread: float = 0.01, void: str | None = None
) -> Row:
    """Five processes whose calls take ``ms``, and ``tail`` times as long in the slowest two of a hundred."""
    rng = np.random.default_rng(abs(hash((ms, batch))) % 2**32)
    processes = []
    for _ in range(5):
        calls = 1e6 * ms * (1 + spread * rng.standard_normal(500))
        calls[:10] *= tail
        processes.append(sample_of(calls.astype(np.int64)))
    scope = Scope(
        p50_ms=ms,
        p95_ms=ms,
        p99_ms=ms * tail,
        mean_ms=ms,
        min_ms=ms,
        cpu_ms=ms,
        spread_ms=(ms, ms),
        n=2500,
        settled=True,
        vs_first=None,
        vs_first_p99=None,
        processes=tuple(processes),
    )
    return Row(
        name=name,
        kind="bundle",
        source=name,
        model=None,
        target=None,
        precision=None,
        engine=None,
        weights=None,
        digest=None,
        size_bytes=1000,
        threads=1,
        batch=batch,
        versions={},
        placement={},
        labels_equal=64,
        checked=64,
        max_difference=0.0,
        void=void,
        flags=(),
        scopes={} if void else {"pipeline": scope},
        breakdown=None,
        overhead=None,
        repeat_ratio=None,
        cold=None,
        duty=(),
        peak_rss_bytes=None,
        energy=None,
        conditions=None,
    )


def test_threads_and_batches_that_are_tried(ready_bundle: Path) -> None:
    manifest = open_bundle(ready_bundle).manifest
    assert [tune.thread_counts(manifest, cores) for cores in (1, 2, 3, 6, 8)] == [
        (1,),
        (1, 2),
        (1, 2, 3),
        (1, 2, 4, 6),
        (1, 2, 4, 8),
    ]
    engine = msgspec.structs.replace(manifest.engines[0], kind="tensorrt_rtx")
    assert tune.thread_counts(msgspec.structs.replace(manifest, engines=(engine,)), 8) == (1,)
    assert tune.batch_sizes(manifest) == (1, 2, 4, 8, 16, 32)
    fixed = msgspec.structs.replace(manifest.key, profile={"batch": (1, 1, 1)})
    assert tune.batch_sizes(msgspec.structs.replace(manifest, key=fixed)) == (1,)


def test_a_surely_faster_setting_is_taken() -> None:
    best, why = tune.decide(
        [row("fp32, 1 thread", 1.0), row("fp32, 2 threads", 0.6), row("int8, 1 thread", 0.5)]
    )
    assert best == 2
    assert why[0].startswith("slower than int8, 1 thread: 2.0")
    assert why[1].startswith("slower than int8, 1 thread: 1.2")
    assert why[2].startswith("chosen: 0.5")
    assert why[2].endswith("of the time of fp32, 1 thread")


def test_a_slower_or_hardly_faster_setting_is_not() -> None:
    best, why = tune.decide([row("fp32", 1.0), row("int8", 1.31), row("fp16", 0.97), row("bf16", 1.0)])
    assert best == 0
    assert why[0] == "chosen: nothing tried is surely 5% faster"
    assert why[1].startswith("slower than fp32: 1.3")
    assert why[2].startswith("not surely 5% faster than fp32: 0.9")
    assert why[3].startswith(("not surely 5% faster than fp32: ", "slower than fp32: 1.00"))


def test_a_worse_tail_is_not_bought_with_a_better_median() -> None:
    best, why = tune.decide([row("fp32, 1 thread", 1.0), row("fp32, 2 threads", 0.8, tail=3.0)])
    assert best == 0
    assert why[1].startswith("faster than fp32, 1 thread, but its p99 is 2.")


def test_a_void_setting_is_never_taken() -> None:
    best, why = tune.decide([row("fp32", 1.0), row("int8", 0.1, void="wrong result while timing")])
    assert best == 0
    assert why[1] == "void: wrong result while timing"
    with pytest.raises(CheckFailed, match="tuning: fp32 is void: wrong"):
        tune.decide([row("fp32", 1.0, void="wrong"), row("int8", 0.1)])


def test_batches_are_compared_by_time_for_each_input() -> None:
    rows = [row("one", 1.0), row("two", 1.95, batch=2), row("four", 2.0, batch=4)]
    assert tune.ratio(rows[2], rows[0], 0.5).value == pytest.approx(0.5, rel=0.01)
    assert tune.decide(rows)[0] == 2
    assert tune.decide(rows[:2])[0] == 0  # 0.975 is not 5 % faster


@settings(max_examples=25)
@given(times=st.lists(st.floats(0.2, 5.0), min_size=1, max_size=6))
def test_what_is_chosen_is_surely_faster_than_the_first_and_beaten_by_none(times: list[float]) -> None:
    rows = [row(str(i), ms) for i, ms in enumerate(times)]
    best, why = tune.decide(rows)
    assert [text.startswith("chosen") for text in why] == [i == best for i in range(len(rows))]
    if best:
        assert times[best] < times[0] / 1.04
    assert not any(times[i] * 1.1 < times[best] for i in range(len(rows)))


def test_finalists_are_the_first_and_the_fastest() -> None:
    rows = [
        row("0", 9.0),
        row("1", 5.0),
        row("2", 1.0, void="x"),
        row("3", 2.0),
        row("4", 4.0),
        row("5", 6.0, batch=4),
    ]
    assert tune.finalists(rows) == [0, 3, 4, 5]


def test_many_settings_have_a_quick_look_first(
    toy_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = export_model("toy", target="cpu-x86", precision="fp32", out=tmp_path / "toy").path
    asked = []

    def measured(self: object, tried: list[tune.Setting], options: Options) -> list[Row]:
        asked.append(([(s.threads, s.batch) for s in tried], options.is_quick, options.scopes))
        return [row(f"{s.threads} threads", 2.0 / s.threads, batch=s.batch) for s in tried]

    monkeypatch.setattr(tune._Race, "_bench", measured)
    manifest = tune.tune_bundle(path, tmp_path / "out.zoo", threads=[1, 2, 4, 6, 8, 16])
    assert asked == [
        ([(1, 1), (2, 1), (4, 1), (6, 1), (8, 1), (16, 1)], True, ("pipeline",)),
        ([(1, 1), (6, 1), (8, 1), (16, 1)], False, ("pipeline",)),
        ([(16, 1), (16, 2), (16, 4)], False, ("pipeline",)),
    ]
    assert manifest.tuning is not None
    assert (manifest.threads, manifest.tuning.batch) == (16, 4)
    assert "had a quick look first" in manifest.tuning.protocol
    assert [trial.threads for trial in manifest.tuning.trials if trial.quick] == [2, 4]
    assert manifest.tuning.trials[1].why.startswith("out after a quick look: 0.5")
    assert [(t.threads, t.batch) for t in manifest.tuning.trials if t.chosen] == [(16, 1), (16, 4)]
    assert zoo.load(tmp_path / "out.zoo")._max_batch == 4


def test_a_bundle_is_tuned_by_measuring_it(toy_models: Path, tmp_path: Path) -> None:
    path = export_model("toy", target="cpu-x86", precision="fp32", out=tmp_path / "toy").path
    before = open_bundle(path)
    stages: list[str] = []
    tuned = tune.tune_bundle(
        path,
        tmp_path / "tuned.zoo",
        threads=[1],
        options=TINY,
        progress=lambda stage, done, total: stages.append(stage),
    )
    after = open_bundle(tmp_path / "tuned.zoo")
    assert after.manifest.files == before.manifest.files
    assert {"checking", "measuring"} <= set(stages)
    tuning = after.manifest.tuning
    assert tuning is not None
    assert tuning == tuned.tuning
    assert tuning.quick
    assert f"{usable_cores()} cores" in tuning.machine
    assert tuning.inputs == "64 inputs from 3 golden clips of the bundle, shifted and scaled"
    assert [(trial.threads, trial.batch) for trial in tuning.trials] == [(1, 1), (1, 2), (1, 4)]
    for trial in tuning.trials:
        assert trial.p50_ms is not None
        assert trial.p99_ms is not None
        assert 0 < trial.p50_ms <= trial.p99_ms
        assert trial.size == before.size
        assert (trial.ratio is None) == (trial.batch == 1)
    assert tuning.trials[0].chosen
    assert tuning.batch == max(trial.batch for trial in tuning.trials if trial.chosen)
    assert zoo.load(tmp_path / "tuned.zoo").selftest().passed
    with pytest.raises(ZooError, match=r"tuned.zoo exists; give --force"):
        tune.tune_bundle(path, tmp_path / "tuned.zoo", options=TINY)


def test_the_runtime_takes_the_choice_unless_told_otherwise(toy_models: Path, tmp_path: Path) -> None:
    opened = open_bundle(export_model("toy", target="cpu-x86", precision="fp32", out=tmp_path / "toy").path)
    busy = "busy machine: had a core 21% of the time"
    trial = Trial(precision="fp32", profile={}, threads=2, batch=1, why="chosen", flags=(busy,), chosen=True)
    tuning = Tuning(
        batch=2, machine="a machine", protocol="", quick=True, inputs="", metric=None, trials=(trial,)
    )
    chosen = msgspec.structs.replace(opened.manifest, threads=2, tuning=tuning)
    contents = {file.path: opened.read(file.path) for file in opened.manifest.files}
    path = write_bundle(tmp_path / "tuned", chosen, contents)
    shown = CliRunner().invoke(cli, ["inspect", str(path)]).stdout
    assert "tuned: fp32, threads 2, batch 2" in shown
    assert "tune again when it is idle" in shown
    assert f"chosen; {busy}" in shown

    def threads(model: zoo.Model) -> int:
        return int(model.engine._session.get_session_options().intra_op_num_threads)  # type: ignore[attr-defined]

    sizes: list[int] = []
    model = zoo.load(path)
    original = model.engine.run

    def run(arrays: list[np.ndarray]) -> list[np.ndarray]:
        sizes.append(len(arrays[0]))
        return original(arrays)

    model.engine.run = run  # type: ignore[method-assign]
    model.batch(sorted((toy_models / "data" / "clips").glob("*.wav"))[:5])
    assert sizes == [2, 2, 1]
    assert threads(model) == 2
    assert threads(zoo.load(path, threads=1)) == 1
    assert zoo.load(path, batch=3)._max_batch == 3
    assert zoo.load(tmp_path / "toy")._max_batch == 4
    with pytest.raises(ZooError, match="batch is 5; toy cpu-x86 takes 1 to 4"):
        zoo.load(path, batch=5)


def test_auto_keeps_the_table_and_says_what_is_slower(
    toy_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speed = {"int8": 1.31}
    monkeypatch.setattr(exporter, "load_folds", lambda card, variant: {})  # the gate has tests of its own

    def measured(self: tune._Race, tried: list[tune.Setting], options: Options) -> list[Row]:
        names = [self.entrants[s.index].manifest.precision for s in tried]
        return [row(name, speed.get(name, 1.0)) for name in names]

    monkeypatch.setattr(tune._Race, "_bench", measured)
    data = toy_models / "data"
    kept = export_model("toy", target="cpu-x86", precision="auto", data=data).manifest
    assert (kept.precision, kept.threads) == ("fp32", 1)
    assert kept.notes[0].startswith("auto chose fp32, measured on the exporting machine")
    assert "int8 is slower than fp32 here: 1.3" in kept.notes[0]
    assert kept.tuning is not None
    assert [(trial.precision, trial.chosen) for trial in kept.tuning.trials] == [
        ("fp32", True),
        ("int8", False),
        ("int8-weights", False),
        ("int4-weights", False),
    ]
    assert kept.tuning.trials[1].why.startswith("slower than fp32: 1.3")
    assert kept.tuning.trials[1].size != kept.tuning.trials[0].size
    speed["int8"] = 0.5
    result = export_model("toy", target="cpu-x86", precision="auto", data=data)
    assert result.manifest.precision == "int8"
    assert result.path.name == "cpu-x86-int8"
    assert "slower" not in result.manifest.notes[0]
    assert zoo.load(result.path).selftest().passed


def test_auto_tells_what_it_could_not_try(toy_models: Path, tmp_path: Path) -> None:
    manifest = export_model(
        "toy", target="cpu-x86", precision="auto", out=tmp_path / "auto", protocol=TINY
    ).manifest
    assert manifest.tuning is not None
    trials = {trial.precision: trial for trial in manifest.tuning.trials}
    assert set(trials) == {"fp32", "int8", "int8-weights", "int4-weights"}
    assert trials[manifest.precision].chosen
    int8 = trials["int8"]
    assert (int8.p50_ms, int8.why) == (None, "not tried: no calibration data (--data DIR)")


def test_a_precision_over_the_budget_is_in_the_table(toy_models: Path, tmp_path: Path) -> None:
    manifest = export_model(
        "toy",
        target="cpu-x86",
        precision="auto",
        out=tmp_path / "auto",
        data=toy_models / "data",
        budget=-1.0,
    ).manifest
    assert manifest.precision == "fp32"
    assert manifest.tuning is not None
    assert "not taken: toy int8: loses " in manifest.tuning.trials[1].why


def test_export_measures_precisions_threads_and_metric(toy_models: Path, tmp_path: Path) -> None:
    manifest = export_model(
        "toy",
        target="cpu-x86",
        precision="auto",
        out=tmp_path / "auto",
        data=toy_models / "data",
        protocol=TINY,
    ).manifest
    assert manifest.tuning is not None
    trials = {trial.precision: trial for trial in manifest.tuning.trials}
    fp32, int8 = trials["fp32"], trials["int8"]
    assert manifest.tuning.metric == "UAR"
    assert fp32.loss == 0
    assert fp32.value is not None
    assert int8.value == pytest.approx(fp32.value - (int8.loss or 0), abs=1e-9)
    assert int8.ratio is not None
    assert [trial.chosen for trial in (fp32, int8)] == [
        manifest.precision == "fp32",
        manifest.precision == "int8",
    ]


def test_a_fixed_batch_competes_with_a_free_one(
    toy_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    monkeypatch.setattr(tune, "usable_cores", lambda: 1)

    def export(out: str) -> Manifest:
        return export_model(
            "toy", target="openvino-cpu", precision="fp32", out=tmp_path / out, tune=True, protocol=TINY
        ).manifest

    measured = export("real")
    assert measured.tuning is not None
    profiles = [trial.profile["batch"] for trial in measured.tuning.trials[:2]]
    assert profiles == [(1, 1, 1), (1, 1, 4)]
    assert all(trial.p50_ms for trial in measured.tuning.trials)

    def free_wins(self: tune._Race, tried: list[tune.Setting], options: Options) -> list[Row]:
        free = [self.entrants[s.index].manifest.key.profile["batch"] != (1, 1, 1) for s in tried]
        return [
            row(f"{s.index}", 0.5 if won else 1.0, batch=s.batch) for s, won in zip(tried, free, strict=True)
        ]

    monkeypatch.setattr(tune._Race, "_bench", free_wins)
    manifest = export("free")
    assert manifest.key.profile["batch"] == (1, 1, 4)
    assert manifest.engines[0].inputs[0].shape[0] == "batch"
    assert manifest.tuning is not None
    assert manifest.tuning.batch == 4
    assert zoo.load(tmp_path / "free").selftest().passed


def test_a_target_that_does_not_run_here_is_not_tuned(toy_models: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    import openvino

    if "NPU" in openvino.Core().available_devices:
        pytest.skip("this machine has an NPU")
    with pytest.raises(TargetError, match=r"measures on this machine, which cannot run target openvino-npu"):
        export_model("toy", target="openvino-npu", precision="fp16", out=tmp_path / "out", tune=True)
    assert list(tmp_path.iterdir()) == []


def test_zoo_tune_leaves_what_ships_alone(
    ready_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tune, "batch_sizes", lambda manifest: (1, 2))
    before = (ready_bundle / "manifest.json").read_bytes()
    call = [
        "tune",
        "tim-net-emodb",
        "--threads",
        "1",
        "--processes",
        "1",
        "--seconds",
        "0.02",
        "--quick",
        "--json",
    ]
    done = CliRunner().invoke(cli, call)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["bundle"] == str(tmp_path / "home" / "bundles" / "tim-net-emodb" / "cpu-x86-fp32")
    assert (ready_bundle / "manifest.json").read_bytes() == before
    assert zoo.load("tim-net-emodb").manifest.tuning is not None  # the store comes first
    again = CliRunner().invoke(cli, ["inspect", "tim-net-emodb"])
    assert "tuned: fp32, threads 1, batch " in again.stdout
    assert "QUICK: not for publication" in again.stdout
    assert "chosen: there is nothing else to try" in again.stdout
    shown = json.loads(CliRunner().invoke(cli, ["inspect", "tim-net-emodb", "--json"]).stdout)
    assert shown["tuning"] == found["tuning"]
    assert len(shown["tuning"]["trials"]) == 2


def test_quick_without_anything_to_measure_is_a_usage_error(toy_models: Path) -> None:
    done = CliRunner().invoke(cli, ["export", "toy", "--quick"])
    assert done.exit_code == 2
    assert "--quick needs --tune or --precision auto" in done.output
