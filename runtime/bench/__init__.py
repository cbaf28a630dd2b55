# SPDX-License-Identifier: Apache-2.0
"""Measuring bundles, and peers beside them, under one protocol. Never prints.

``bench`` starts fresh worker processes (``python -m zoo.runtime.bench``) for each contestant, in turns, and
returns a :class:`Report`; ``compare`` tells regressions between two reports. The protocol and its reasons are
in ``benchmarks/README.md``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.runtime.bench.driver import Contestant as Contestant
    from zoo.runtime.bench.driver import Options as Options
    from zoo.runtime.bench.driver import bench as bench
    from zoo.runtime.bench.inputs import Inputs as Inputs
    from zoo.runtime.bench.inputs import make_inputs as make_inputs
    from zoo.runtime.bench.report import Report as Report
    from zoo.runtime.bench.report import Row as Row
    from zoo.runtime.bench.report import read_report as read_report
    from zoo.runtime.bench.report import summary as summary
    from zoo.runtime.bench.report import write_report as write_report
    from zoo.runtime.bench.subject import Outcome as Outcome
    from zoo.runtime.bench.subject import Subject as Subject
    from zoo.runtime.bench.verdict import Change as Change
    from zoo.runtime.bench.verdict import compare as compare

#: Lazy, so that a worker's cold start pays for what it uses only.
_HOMES = {
    "Change": "verdict",
    "Contestant": "driver",
    "Inputs": "inputs",
    "Options": "driver",
    "Outcome": "subject",
    "Report": "report",
    "Row": "report",
    "Subject": "subject",
    "bench": "driver",
    "compare": "verdict",
    "make_inputs": "inputs",
    "read_report": "report",
    "summary": "report",
    "write_report": "report",
}

__all__ = [
    "Change",
    "Contestant",
    "Inputs",
    "Options",
    "Outcome",
    "Report",
    "Row",
    "Subject",
    "bench",
    "compare",
    "make_inputs",
    "read_report",
    "summary",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"zoo.runtime.bench.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'zoo.runtime.bench' has no attribute {name!r}")
