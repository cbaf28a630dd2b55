# SPDX-License-Identifier: Apache-2.0
"""What the commands share: JSON output, tables, progress."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

if TYPE_CHECKING:
    from zoo.runtime.prediction import Prediction, Series

#: Metrics in units of the values, and one over such: no share of one.
_ERROR = re.compile(r"(^|[/ -])(MAE|MSE)")

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
force_option = click.option("--force", is_flag=True, help="Replace what --out names.")
data_option = click.option(
    "--data",
    type=click.Path(path_type=Path),
    envvar="ZOO_DATA",
    show_envvar=True,
    help="Folder of the data set.",
)

smooth_option = click.option(
    "--smooth",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Length of the moving mean of curves, in place of the model's own.",
)

#: Called with (stage, done, total); total 0 means unknown.
Progress = Callable[[str, int, int], None]


def emit_json(value: Any) -> None:
    """Print one JSON document on stdout: structs and arrays included, never NaN (null instead)."""
    click.echo(msgspec.json.format(msgspec.json.encode(value, enc_hook=_encode), indent=2).decode())


def _encode(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"cannot write {type(value).__name__} as JSON")


def emit_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None) -> None:
    """Print a table: rich on a terminal, tab-free aligned plain lines elsewhere."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        table = Table(*header, title=title, title_justify="left")
        for row in rows:
            table.add_row(*(cell.replace("[", "\\[") for cell in row))
        Console().print(table)
        return
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, *rows]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@contextmanager
def progress() -> Iterator[Progress]:
    """A progress callback: a rich bar on a terminal, one plain line for each new stage elsewhere. On stderr."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
            tasks: dict[str, Any] = {}

            def on_terminal(stage: str, done: int, total: int) -> None:
                if stage not in tasks:
                    tasks[stage] = bar.add_task(stage, total=total or None)
                bar.update(tasks[stage], completed=done, total=total or None)

            yield on_terminal
        return
    seen: set[str] = set()

    def plain(stage: str, done: int, total: int) -> None:
        if stage not in seen:
            seen.add(stage)
            click.echo(f"zoo: {stage}" + (f" (0/{total})" if total > 1 else ""), err=True)

    yield plain


def series_of(prediction: Prediction) -> dict[str, Series]:
    """The curves of a prediction by name; that of a model with one curve is called ``value``."""
    if prediction.series is not None:
        return {"value": prediction.series}
    return {name: head.series for name, head in prediction.heads.items() if head.series is not None}


def figure(metric: str, value: float) -> str:
    """A metric's value as the tables show it: percent, but errors in units of the values as they are."""
    return f"{value:.2f}" if _ERROR.search(metric) else percent(value)


def percent(value: float | None) -> str:
    """A fraction as percent with two decimals, or a dash."""
    return "-" if value is None else f"{100 * value:.2f}"


def disk_size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    return sum(item.stat().st_size for item in (path, *path.rglob("*")) if item.is_file())


def human_size(size: int) -> str:
    """Bytes for people, decimal units."""
    number = float(size)
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"
