# SPDX-License-Identifier: Apache-2.0
"""What all suites share: tables, file names, the two files of a published run, and how a script ends."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import click
import msgspec

from zoo.bundle import check_output, write_output
from zoo.errors import ZooError
from zoo.runtime.bench.machine import Machine


class Dated(Protocol):
    """A report that knows when and where it was made."""

    @property
    def created(self) -> str: ...

    @property
    def machine(self) -> Machine: ...


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in (header, *rows)]
    lines = ["| " + " | ".join(row) + " |" for row in escaped]
    return [lines[0], "|" + "---|" * len(header), *lines[1:]]


def file_stem(report: Dated) -> str:
    """``<date>-<isa>-<cpu>``; nothing in it names the machine itself."""
    cpu = re.sub(r"\((?:r|tm|c)\)|\bcpu\b|\bprocessor\b|@", " ", report.machine.cpu.lower())
    slug = re.sub(r"[^a-z0-9.]+", "-", cpu).strip("-") or report.machine.architecture
    return f"{report.created[:10]}-{report.machine.zoo_isa or 'unknown'}-{slug}"


def check_folder(out: Path | None) -> None:
    """Make the folder of the results, before anything is measured for it; None: nothing will be written.

    Raises
    ------
    ZooError
        It cannot be made or written to.
    """
    if out is None:
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise ZooError(f"{out}: results cannot be written there: {error.strerror}") from error


def write_results(out: Path, stem: str, suite: Any, text: str, *, force: bool) -> Path:
    """Write ``<stem>.json`` and ``<stem>.md`` into the folder ``out``; returns the path without suffix.

    Raises
    ------
    ZooError
        One of them exists and ``force`` is not given, or they cannot be written.
    """
    path = out / stem
    for suffix in (".json", ".md"):
        check_output(Path(f"{path}{suffix}"), force=force)
    body = msgspec.json.format(msgspec.json.encode(suite), indent=1).decode()
    # Lists of numbers on one line each: a report stays readable, and its diffs short.
    body = re.sub(r"\[[-+0-9.eE,\s]+\]", lambda found: " ".join(found[0].split()), body)
    write_output(Path(f"{path}.json"), body + "\n")
    write_output(Path(f"{path}.md"), text)
    return path


def progress(stage: str, done: int, total: int) -> None:
    """One line on stderr."""
    click.echo(f"{stage} {done}/{total}", err=True)


def start(command: click.Command, script: str) -> None:
    """Run the command of a script; an error of the zoo's is one line on stderr and the exit code."""
    try:
        command()
    except ZooError as error:
        click.echo(f"{Path(script).stem}: {error}", err=True)
        sys.exit(error.exit_code)
