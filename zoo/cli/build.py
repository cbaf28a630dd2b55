# SPDX-License-Identifier: Apache-2.0
"""``zoo build``."""

from __future__ import annotations

from pathlib import Path

import click

from zoo.cli.common import disk_size, emit_json, force_option, human_size, json_option


@click.command("build")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="The finished bundle: a folder, or a file ending in .zoo.",
)
@click.option(
    "--timing-cache",
    type=click.Path(exists=True, path_type=Path),
    help="TensorRT's timings from an earlier build on this device: its finished bundle, or timing.cache out of it.",
)
@force_option
@json_option
def build_command(bundle: Path, out: Path, timing_cache: Path | None, force: bool, as_json: bool) -> None:
    """Finish the recipe BUNDLE on this device: build its engine, verify it on the golden inputs, write the result.

    Recipes are made by zoo export for targets whose engine only the device can build (zoo targets).

    Example: zoo build tim-orin.zoo --out tim-orin-built.zoo
    """
    from zoo.runtime.build import build_bundle, read_timing_cache

    cache = read_timing_cache(timing_cache) if timing_cache is not None else b""
    path = build_bundle(bundle, out, timing_cache=cache, force=force)
    if as_json:
        emit_json({"bundle": str(path), "size": disk_size(path)})
    else:
        click.echo(f"built and verified: {human_size(disk_size(path))}\n{path}")
