# SPDX-License-Identifier: Apache-2.0
"""Many inputs at a time, one fresh process a measurement: how many a second a contestant answers.

``python _throughput.py JSON`` is the worker; :func:`measure` starts it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from zoo.errors import ZooError
from zoo.runtime.bench import Inputs
from zoo.runtime.bench.driver import environment, rotated, run_process, tail
from zoo.runtime.bench.stats import rounded
from zoo.runtime.bench.subject import open_subject, split_peer


class Work(Struct, frozen=True, kw_only=True):
    """What a worker is to do."""

    spec: str
    bundle: str | None
    inputs: str
    seconds: float


class Rate(Struct, frozen=True, kw_only=True):
    """What a worker found: inputs a second by the clock, and microseconds of CPU time an input."""

    per_second: float
    cpu_us: float


class Throughput(Struct, frozen=True, kw_only=True):
    """Medians over processes, with the least and greatest rate."""

    name: str
    per_second: float
    spread: tuple[float, float]
    cpu_us: float
    n: int


def measure(
    contestants: Sequence[tuple[str, str, Path | None]],
    inputs: Inputs,
    *,
    processes: int,
    seconds: float,
    folder: Path,
) -> tuple[Throughput, ...]:
    """Rates of contestants (name, spec, reference bundle), one thread each, in turns.

    Raises
    ------
    ZooError
        One of them fails.
    """
    inputs.save(folder / "inputs.npz")
    found: dict[str, list[Rate]] = {name: [] for name, _, _ in contestants}
    by_name = {name: (spec, bundle) for name, spec, bundle in contestants}
    for turn in range(processes):
        for name in rotated(list(by_name), turn):
            spec, bundle = by_name[name]
            work = Work(
                spec=spec,
                bundle=str(bundle) if bundle else None,
                inputs=str(folder / "inputs.npz"),
                seconds=seconds,
            )
            command = [sys.executable, os.path.abspath(__file__), msgspec.json.encode(work).decode()]
            code, out, err = run_process(command, environment(1), folder)
            if code != 0:
                raise ZooError(f"throughput of {name} failed: {tail(err)}")
            found[name].append(msgspec.json.decode(out, type=Rate))
    return tuple(
        Throughput(
            name=name,
            per_second=rounded(float(np.median([rate.per_second for rate in rates]))),
            spread=(min(rate.per_second for rate in rates), max(rate.per_second for rate in rates)),
            cpu_us=rounded(float(np.median([rate.cpu_us for rate in rates]))),
            n=len(rates),
        )
        for name, rates in found.items()
    )


def main(argument: str) -> Rate:
    """All inputs again and again for some seconds, after one pass to warm up."""
    work = msgspec.json.decode(argument, type=Work)
    subject: Any = open_subject(work.spec, Path(work.bundle) if work.bundle else None, 1)
    many: Callable[[Sequence[Any]], Any] = (
        subject.many if split_peer(work.spec) is not None else subject.model.batch
    )
    raws = Inputs.open(Path(work.inputs)).raws()
    many(raws)
    done, spent, cpu = 0, 0.0, 0.0
    while spent < work.seconds:
        begun, used = time.perf_counter(), time.process_time()
        many(raws)
        spent += time.perf_counter() - begun
        cpu += time.process_time() - used
        done += len(raws)
    return Rate(per_second=rounded(done / spent), cpu_us=rounded(cpu / done * 1e6))


if __name__ == "__main__":
    report = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints must not mix with the report
    answer = main(sys.argv[1])
    with os.fdopen(report, "wb") as stream:
        stream.write(msgspec.json.encode(answer))
