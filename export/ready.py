# SPDX-License-Identifier: Apache-2.0
"""The bundles that ship with the package: ``python -m zoo.export.ready [--check]``.

Every variant whose card says ``ready = true`` gets its fp32 bundle for any CPU into
``<model folder>/bundles/<variant>``. With ``--check`` they are rebuilt in a temporary folder and compared with
what is there: graph, weights, golden inputs and every manifest field that does not follow from the machine.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import onnx
from onnx import numpy_helper

from zoo import registry, store
from zoo.bundle import Bundle, Manifest, load_golden, open_bundle, write_bundle
from zoo.errors import CheckFailed, ZooError
from zoo.export.exporter import DEFAULT_BUDGET, DEFAULT_CALIBRATION, Exporter
from zoo.export.targets import find_target

if TYPE_CHECKING:
    from zoo.card import Card, Variant

#: Weights are folded in float64 and rounded once; another numpy may round another way.
WEIGHT_TOLERANCE = 1e-6
#: Largest size of a bundle that ships.
MAX_BYTES = 3_000_000

#: Manifest fields that differ between machines or versions of the tools, dotted.
_IGNORED = (
    "digest",
    "files",
    "version",
    "key.onnx_sha256",
    "provenance.code_version",
    "provenance.tools",
    "provenance.inputs_sha256",
    "parity.max_error",
    "parity.verified_on",
    "golden.tolerance",
    "engines.0.placement",
)


def ready_variants() -> Iterator[tuple[Card, Variant]]:
    """Variants whose bundle ships."""
    return ((card, variant) for card, variant in registry.variants() if variant.ready)


def build(card: Card, variant: Variant, out: Path) -> Path:
    """Write the ready bundle of a variant, from the package alone: no data set, whatever ``ZOO_DATA`` says.

    Raises
    ------
    ZooError
        It cannot be built, or is too large to ship.
    """
    exporter = Exporter(
        card,
        variant,
        find_target(store.DEFAULT_TARGET),
        None,
        None,
        DEFAULT_CALIBRATION,
        DEFAULT_BUDGET,
        None,
    )
    manifest, contents = exporter.bundle(exporter.cell("fp32"))
    size = sum(len(content) for content in contents.values())
    if size > MAX_BYTES:
        raise ZooError(
            f"{variant.name}: its bundle has {size} bytes, more than the {MAX_BYTES} that may ship"
        )
    return write_bundle(out, manifest, contents, force=True)


def compare(committed: Bundle, fresh: Bundle) -> list[str]:
    """Differences that matter, as sentences; empty where there are none."""
    problems = list(_manifest_differences(committed.manifest, fresh.manifest))
    problems += _graph_differences(_graph(committed), _graph(fresh))
    tolerance = max(committed.manifest.golden.tolerance, fresh.manifest.golden.tolerance)
    for i, (old, new) in enumerate(zip(load_golden(committed), load_golden(fresh), strict=False)):
        if old["rate"] != new["rate"] or not np.array_equal(old["input"], new["input"]):
            problems.append(f"golden input {i} differs")
        for name, value in old["outputs"].items():
            error = float(np.abs(value - new["outputs"][name]).max())
            if not error <= tolerance:
                problems.append(f"golden output {i}/{name} differs by {error:.2e}")
    return problems


def check(card: Card, variant: Variant) -> None:
    """Rebuild and compare.

    Raises
    ------
    CheckFailed
        The committed bundle is missing or not what the sources give.
    """
    path = store.ready_path(card.folder, variant.name)
    command = "python -m zoo.export.ready"
    if not path.exists():
        raise CheckFailed(f"{variant.name}: there is no ready bundle; build it: {command}")
    with tempfile.TemporaryDirectory() as folder:
        fresh = open_bundle(build(card, variant, Path(folder) / "bundle"))
        problems = compare(open_bundle(path), fresh)
    if problems:
        raise CheckFailed(
            f"{variant.name}: the ready bundle is out of date: {'; '.join(problems[:5])}; run {command}"
        )


def main(arguments: list[str] | None = None) -> int:
    """Entry point of ``python -m zoo.export.ready``."""
    parser = argparse.ArgumentParser(
        prog="python -m zoo.export.ready", description="Build the bundles that ship."
    )
    parser.add_argument("--check", action="store_true", help="compare with what is there, write nothing")
    options = parser.parse_args(arguments)
    try:
        for card, variant in ready_variants():
            if options.check:
                check(card, variant)
                sys.stdout.write(f"{variant.name}: current\n")
            else:
                sys.stdout.write(f"{build(card, variant, store.ready_path(card.folder, variant.name))}\n")
    except ZooError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def _manifest_differences(old: Manifest, new: Manifest) -> Iterator[str]:
    yield from _differences(msgspec.to_builtins(old), msgspec.to_builtins(new), "")


def _differences(old: Any, new: Any, where: str) -> Iterator[str]:
    if where in _IGNORED:
        return
    prefix = f"{where}." if where else ""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from _differences(old.get(key), new.get(key), f"{prefix}{key}")
    elif isinstance(old, (list, tuple)) and isinstance(new, (list, tuple)) and len(old) == len(new):
        for i, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from _differences(a, b, f"{prefix}{i}")
    elif old != new:
        yield f"manifest field {where} is {old!r}, the sources give {new!r}"


def _graph(bundle: Bundle) -> onnx.ModelProto:
    return onnx.load_model_from_string(bundle.read(bundle.manifest.engines[0].file))


def _graph_differences(old: onnx.ModelProto, new: onnx.ModelProto) -> list[str]:
    weights = []
    for model in (old, new):
        weights.append({tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer})
    skeletons = []
    for model in (old, new):
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        del copy.graph.initializer[:]
        skeletons.append(copy.SerializeToString(deterministic=True))
    problems = [] if skeletons[0] == skeletons[1] else ["the graph's structure differs"]
    if set(weights[0]) != set(weights[1]):
        return [*problems, f"weights differ in name: {sorted(set(weights[0]) ^ set(weights[1]))[:5]}"]
    for name, value in weights[0].items():
        other = weights[1][name]
        if value.shape != other.shape or value.dtype != other.dtype:
            problems.append(f"weight {name} differs in shape or type")
        elif not np.allclose(value, other, rtol=WEIGHT_TOLERANCE, atol=WEIGHT_TOLERANCE):
            problems.append(f"weight {name} differs by {np.abs(value - other).max():.2e}")
    return problems


if __name__ == "__main__":
    sys.exit(main())
