# SPDX-License-Identifier: Apache-2.0
"""``zoo diff``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from zoo.cli.common import emit_json, emit_table, json_option
from zoo.errors import CheckFailed

if TYPE_CHECKING:
    from zoo.export.diff import TensorDiff


@click.command("diff")
@click.argument("a")
@click.argument("b", required=False)
@click.option(
    "--input", "given", required=True, help="A raw input: a file of sound, pictures or EEG, or a text."
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0),
    help="Largest difference, as a share of the tensor's range. Default: that of the lower precision (fp32 1e-5).",
)
@click.option(
    "--all", "show_all", is_flag=True, help="Every tensor; default: the first one over, and the worst ones."
)
@json_option
def diff_command(
    a: str, b: str | None, given: str, tolerance: float | None, show_all: bool, as_json: bool
) -> None:
    """Walk the tensors of bundles A and B on one raw input, and name the first node over the tolerance.

    Without B, bundle A is compared with its PyTorch reference. Exit 6 if any tensor is over.

    Example: zoo diff tim-fp32 tim-int8 --input clip.wav
    """
    from zoo.export.diff import diff, open_reference, open_side
    from zoo.store import find_bundle

    found = [find_bundle(name) for name in (a, b) if name is not None]
    expected = open_side(found[0]) if b is not None else open_reference(found[0])
    report = diff(expected, open_side(found[-1]), given, tolerance=tolerance)
    if as_json:
        emit_json(report)
    else:
        click.echo(f"A  {report.a}\nB  {report.b}")
        kept = report.tensors
        if not show_all:
            worst = sorted(report.tensors, key=lambda t: -_size(t))[:10]
            kept = tuple(
                t for i, t in enumerate(report.tensors) if i == 0 or t in worst or t is report.first_over
            )
        emit_table(("tensor", "node", "op", "max error", "rms error", "SQNR dB", ""), [_row(t) for t in kept])
        click.echo(
            f"{len(report.tensors)} tensors in both, {sum(t.over for t in report.tensors)} over {report.tolerance:.0e} of their "
            f"range; {report.only_a} only in A, {report.only_b} only in B"
        )
    if report.first_over is not None:
        first = report.first_over
        how = (
            "its shape or its NaNs differ"
            if first.max_error is None
            else f"{first.max_error:.2e} of its range"
        )
        raise CheckFailed(
            f"first over the tolerance: {first.tensor} of node {first.node} ({first.op}), {how}"
        )


def _size(t: TensorDiff) -> float:
    return float("inf") if t.max_error is None else t.max_error


def _row(t: TensorDiff) -> tuple[str, ...]:
    def number(value: float | None, style: str) -> str:
        return "-" if value is None else format(value, style)

    mark = "over" if t.over else ""
    return (
        t.tensor,
        t.node,
        t.op,
        number(t.max_error, ".2e"),
        number(t.rms_error, ".2e"),
        number(t.sqnr_db, ".1f"),
        mark,
    )
