# SPDX-License-Identifier: Apache-2.0
"""``zoo list``, ``zoo info``, ``zoo targets``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zoo import registry
from zoo.card import Card, Variant
from zoo.cli.common import disk_size, emit_json, emit_table, human_size, json_option, percent
from zoo.store import home, ready_path


def _license_text(variant: Variant) -> str:
    chain = variant.license
    return f"code {chain.code}; weights {chain.weights}; data {chain.data}"


def _bundles(card: Card, variant: Variant) -> dict[str, str]:
    """Built bundles of a variant: ``target-precision`` to path."""
    built = {}
    ready = ready_path(card.folder, variant.name)
    if ready.is_dir():
        built["cpu-x86-fp32"] = str(ready)
    for path in sorted((home() / "bundles" / variant.name).glob("*")):
        built[path.stem if path.suffix == ".zoo" else path.name] = str(path)
    return built


def _headline(variant: Variant, source: str, protocol: str = "") -> float | None:
    """First figure of the variant's headline metric with that source, and ``protocol`` in its protocol."""
    rows = [
        row
        for row in variant.quality
        if row.source == source and row.metric == variant.metric and protocol in row.protocol
    ]
    return rows[0].value if rows else None


def _row(card: Card, variant: Variant) -> dict[str, Any]:
    return {
        "name": variant.name,
        "model": card.file.model,
        "paper": f"{card.file.paper.title} ({card.file.paper.venue}, {card.file.paper.id})",
        "task": card.file.task,
        "summary": variant.summary,
        "weights": variant.weights.status,
        "license": _license_text(variant),
        "commercial_ok": variant.license.commercial_ok,
        "labels": list(variant.labels),
        "metric": variant.metric,
        "claimed": _headline(variant, "claimed"),
        "corrected": _headline(variant, "corrected"),
        "reproduced": _headline(variant, "reproduced", "" if variant.held_out else "random"),
        "unseen_group": _headline(variant, "reproduced", "leave one"),
        "bundles": _bundles(card, variant),
    }


@click.command("list")
@click.option(
    "--license",
    "license_filter",
    type=click.Choice(["commercial-ok"]),
    help="Only models with such a licence chain.",
)
@click.option(
    "--matrix", is_flag=True, help="Show model x target x precision, with the reason of each refused cell."
)
@json_option
def list_command(license_filter: str | None, matrix: bool, as_json: bool) -> None:
    """List the models. Figures are fractions of one (JSON) or percent (table).

    "reproduced" is measured here under the paper's own protocol, or on items held out of training; "unseen speakers"
    leaves whole speakers out.

    Example: zoo list --license commercial-ok
    """
    pairs = [(c, v) for c, v in registry.variants() if license_filter is None or v.license.commercial_ok]
    if matrix:
        _list_matrix(pairs, as_json)
        return
    rows = [_row(card, variant) for card, variant in pairs]
    if as_json:
        emit_json(rows)
        return
    emit_table(
        (
            "name",
            "task",
            "weights",
            "metric",
            "claimed",
            "corrected",
            "reproduced",
            "unseen speakers",
            "built bundles",
        ),
        [
            (
                row["name"],
                row["task"],
                row["weights"],
                row["metric"],
                percent(row["claimed"]),
                percent(row["corrected"]),
                percent(row["reproduced"]),
                percent(row["unseen_group"]),
                ", ".join(row["bundles"]) or "-",
            )
            for row in rows
        ],
    )


def _list_matrix(pairs: list[tuple[Card, Variant]], as_json: bool) -> None:
    from zoo.export.targets import load_targets

    cells = []
    for card, variant in pairs:
        built = _bundles(card, variant)
        for target in load_targets().values():
            for precision, refusal in target.cells(variant.refused).items():
                state = (
                    "refused"
                    if refusal
                    else "built"
                    if f"{target.name}-{precision}" in built
                    else "available"
                )
                cells.append(
                    {
                        "name": variant.name,
                        "target": target.name,
                        "precision": precision,
                        "state": state,
                        "reason": refusal or "",
                        "weights": variant.weights.status,
                    }
                )
    if as_json:
        emit_json(cells)
        return
    header = ("name", "target", "precision", "state", "weights", "reason")
    emit_table(header, [tuple(cell[key] for key in header) for cell in cells])


@click.command("info")
@click.argument("name")
@json_option
def info_command(name: str, as_json: bool) -> None:
    """Show a model's card: pipeline, weights, licence, figures, notes.

    Example: zoo info tim-net-emodb
    """
    card, variant = registry.find(name)
    built = _bundles(card, variant)
    if as_json:
        emit_json(
            {
                **_row(card, variant),
                "title": card.file.title,
                "sheet": card.file.paper.sheet,
                "input": card.file.input,
                "pipeline": variant.pipeline,
                "decode": card.decode(variant),
                "config": variant.config,
                "training": variant.training,
                "quality": variant.quality,
                "notes": variant.notes,
                "refused": variant.refused,
                "weights_file": variant.weights.file,
                "weights_source": variant.weights.source,
            }
        )
        return
    lines = [
        f"{variant.name}: {variant.summary}",
        f"  system    {card.file.title}",
        f"  paper     {card.file.paper.title}, {card.file.paper.venue}, {card.file.paper.id} (sheet {card.file.paper.sheet})",
        f"  task      {card.file.task}; labels: {', '.join(variant.labels)}",
        f"  weights   {variant.weights.status}: {variant.weights.source}",
        f"  licence   {_license_text(variant)}",
        "  pipeline  " + " -> ".join(type(op).__struct_config__.tag for op in variant.pipeline),  # type: ignore[misc]
    ]
    if variant.weights.status == "random":
        lines.append("  The weights are random: latency figures are valid, labels mean nothing.")
    for row in variant.quality:
        interval = "" if row.low is None else f" [{percent(row.low)}, {percent(row.high)}]"
        count = "" if row.n is None else f", n={row.n}"
        lines.append(f"  {row.metric:<9} {percent(row.value)}{interval}  {row.source}, {row.protocol}{count}")
    lines += [f"  note      {note}" for note in variant.notes]
    for cell, path in built.items():
        lines.append(f"  bundle    {cell}: {path} ({human_size(disk_size(Path(path)))})")
    click.echo("\n".join(lines))


@click.command("targets")
@json_option
def targets_command(as_json: bool) -> None:
    """List the export targets, their engines and precisions.

    Example: zoo targets
    """
    from zoo.export.targets import load_targets

    targets = list(load_targets().values())
    if as_json:
        emit_json(targets)
        return
    emit_table(
        ("target", "engine", "precisions", "title"),
        [(t.name, t.engine, ", ".join(t.precisions), t.title) for t in targets],
    )
