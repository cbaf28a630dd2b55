# SPDX-License-Identifier: Apache-2.0
"""``zoo selftest`` and ``zoo inspect``."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click
import msgspec

from zoo.cli.common import emit_json, emit_table, human_size, json_option, percent
from zoo.cli.pareto import emit_pareto
from zoo.cli.tune import show_tuning
from zoo.errors import CheckFailed

if TYPE_CHECKING:
    from zoo.bundle import Bundle


@click.command("selftest")
@click.argument("bundle")
@json_option
def selftest_command(bundle: str, as_json: bool) -> None:
    """Run BUNDLE's golden raw inputs through pipeline and engine and compare with the reference's outputs.

    Exit 0 if every output is within the bundle's tolerance, else 6.

    Example: zoo selftest tim.zoo
    """
    import zoo

    report = zoo.load(bundle).selftest()
    if as_json:
        emit_json(
            {
                "bundle": bundle,
                "passed": report.passed,
                "tolerance": report.tolerance,
                "errors": report.errors,
            }
        )
    else:
        for i, error in enumerate(report.errors):
            click.echo(
                f"golden {i}: largest error {error:.2e} ({'ok' if error <= report.tolerance else 'too large'})"
            )
    if not report.passed:
        worst = max(report.errors)
        raise CheckFailed(
            f"{bundle}: selftest failed: largest error {worst:.3g}, tolerance {report.tolerance:.3g}"
        )
    if not as_json:
        click.echo(f"passed: {len(report.errors)} golden inputs within {report.tolerance:.0e}")


@click.command("inspect")
@click.argument("bundle")
@click.option(
    "--placement",
    is_flag=True,
    help="List node, operator, provider and precision, as the engine or its builder reports them.",
)
@json_option
def inspect_command(bundle: str, placement: bool, as_json: bool) -> None:
    """Show a verified BUNDLE's manifest.

    With --placement a partial fallback is listed and marked, while zoo run and zoo.load refuse it.

    Example: zoo inspect tim.zoo --placement
    """
    from zoo.bundle import open_bundle
    from zoo.store import find_bundle

    opened = open_bundle(find_bundle(bundle))
    manifest = opened.manifest
    if placement:
        _show_placement(opened, as_json)
        return
    if as_json:
        emit_json(msgspec.json.decode(opened.manifest_bytes))
        return
    engine = manifest.engines[0]
    tensors = [f"{t.name} {t.dtype}{list(t.shape)}" for t in (*engine.inputs, *engine.outputs)]
    lines = [
        f"{manifest.name} {manifest.version}: {manifest.title}",
        f"  built for {manifest.target}, {manifest.precision}; engine {engine.kind} {manifest.key.engine_version}, {engine.file}",
        f"  size      {human_size(opened.size)} in {len(manifest.files) + 1} files",
        f"  tensors   {', '.join(tensors)}",
        f"  labels    {', '.join(manifest.labels)}",
        f"  weights   {manifest.provenance.weights}: {manifest.provenance.weights_source}",
        f"  licence   code {manifest.license.code}; weights {manifest.license.weights}; data {manifest.license.data}",
    ]
    lines += [f"  pipeline  {msgspec.json.encode(op).decode()}" for op in manifest.pipeline]
    for tensor, branch in zip(engine.inputs[1:], manifest.branches, strict=False):
        lines += [
            f"  {tensor.name}: {branch.source}  {msgspec.json.encode(op).decode()}" for op in branch.pipeline
        ]
    if manifest.parity:
        parity = manifest.parity
        lines.append(
            f"  parity    {parity.max_error:.1e} of the output range over {parity.inputs} inputs "
            f"(tolerance {parity.tolerance:.0e}; {parity.input_source}; {parity.verified_on})"
        )
    if manifest.gate:
        gate = manifest.gate
        lines.append(
            f"  gate      {gate.metric} {percent(gate.reference)} -> {percent(gate.artifact)}, loss {100 * gate.difference:+.2f} "
            f"points [{100 * gate.low:+.2f}, {100 * gate.high:+.2f}], n={gate.n}, budget {100 * gate.budget:.2f}: "
            f"{'passed' if gate.passed else 'failed'}"
        )
    if engine.kept:
        lines.append(f"  kept      in higher precision: {', '.join(engine.kept)}")
    for row in manifest.quality:
        interval = "" if row.low is None else f" [{percent(row.low)}, {percent(row.high)}]"
        lines.append(f"  {row.metric:<9} {percent(row.value)}{interval}  {row.source}, {row.protocol}")
    lines += [f"  note      {note}" for note in manifest.notes]
    click.echo("\n".join(lines))
    emit_pareto(manifest.pareto)
    show_tuning(manifest)


def _show_placement(bundle: Bundle, as_json: bool) -> None:
    """What the engine itself, or its builder, reports of each node; a partial fallback is shown, not refused."""
    import zoo
    from zoo.runtime.engines import fallback_problem
    from zoo.runtime.engines.tensorrt_layers import recorded_placement

    nodes = recorded_placement(bundle)
    requested: str = bundle.manifest.engines[0].kind
    if nodes is None:
        model = zoo.load(bundle.path, strict=False)
        nodes, requested = model.placement(), model.engine.requested
    if as_json:
        emit_json(nodes)
        return
    emit_table(
        ("node", "op", "provider", "precision", "kernel", ""),
        [
            (n.node, n.op, n.provider, n.precision, n.kernel or "-", "FALLBACK" if n.fallback else "")
            for n in nodes
        ],
    )
    counts = Counter(f"{node.provider} {node.precision}" for node in nodes)
    click.echo(f"{len(nodes)} nodes: " + ", ".join(f"{n} {where}" for where, n in counts.most_common()))
    problem = fallback_problem(nodes, requested)
    if problem is not None:
        click.echo(f"zoo: {problem}. zoo run refuses this bundle here", err=True)
