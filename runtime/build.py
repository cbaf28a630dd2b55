# SPDX-License-Identifier: Apache-2.0
"""``zoo build``: finish a recipe bundle on the device that runs it. Needs the device's TensorRT, no torch, no onnx."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from zoo.bundle import Bundle, Manifest, check_writable, open_bundle, write_bundle
from zoo.errors import BundleError, CheckFailed, ProviderUnavailable
from zoo.runtime.engines import KINDS, check_requirement
from zoo.runtime.engines.tensorrt import gpu_problem
from zoo.runtime.engines.tensorrt_builder import TIMING_CACHE_FILE, Plan, PlanRequest, build_plan
from zoo.runtime.engines.tensorrt_layers import placement
from zoo.runtime.model import Model

#: Builds a plan; the real one, or a test's.
Builder = Callable[[PlanRequest, str], Plan]


def plan_request(bundle: Bundle, timing_cache: bytes = b"") -> PlanRequest:
    """What the recipe asks the builder for.

    Raises
    ------
    BundleError
        The bundle holds its engine already.
    """
    manifest = bundle.manifest
    recipe = manifest.recipe
    if recipe is None:
        raise BundleError(f"{bundle.path} holds its engine already; there is nothing to build")
    engine = manifest.engines[0]
    return PlanRequest(
        name=str(bundle.path),
        engine=engine.kind,
        graph=bundle.read(recipe.graph),
        inputs=engine.inputs,
        precision=engine.precision,
        profile=manifest.key.profile,
        compute_capability=manifest.key.compute_capability,
        optimization_level=recipe.optimization_level,
        workspace_mib=recipe.workspace_mib,
        timing_cache=timing_cache,
    )


def read_timing_cache(path: Path) -> bytes:
    """The timings of an earlier build: a file, or a finished bundle that holds one.

    Raises
    ------
    BundleError
        The bundle is damaged, or holds none.
    """
    if path.is_file() and path.suffix != ".zoo":
        return path.read_bytes()
    bundle = open_bundle(path)
    if TIMING_CACHE_FILE not in [file.path for file in bundle.manifest.files]:
        raise BundleError(f"{path} holds no {TIMING_CACHE_FILE}: give a bundle that zoo build finished")
    return bundle.read(TIMING_CACHE_FILE)


def finished(bundle: Bundle, plan: Plan) -> tuple[Manifest, dict[str, bytes]]:
    """Manifest and files of the finished bundle: the key now names the very builder, the recipe is gone."""
    manifest = bundle.manifest
    engine = manifest.engines[0]
    placed = Counter(f"{layer.provider} {layer.precision}" for layer in placement(plan.layers, engine.kind))
    engine = msgspec.structs.replace(engine, placement=dict(sorted(placed.items())))
    key = msgspec.structs.replace(manifest.key, engine_version=f"=={plan.version}")
    tools = manifest.provenance.tools | {engine.kind: plan.version}
    done = msgspec.structs.replace(
        manifest,
        key=key,
        engines=(engine,),
        recipe=None,
        build=plan.record,
        provenance=msgspec.structs.replace(manifest.provenance, tools=tools),
        notes=tuple(note for note in manifest.notes if not note.startswith("A recipe: ")),
    )
    assert manifest.recipe is not None
    files = {
        file.path: bundle.read(file.path) for file in manifest.files if file.path != manifest.recipe.graph
    }
    files[engine.file] = plan.data
    return done, files | plan.evidence


def build_bundle(
    path: Path,
    out: Path,
    *,
    timing_cache: bytes = b"",
    force: bool = False,
    builder: Builder | None = None,
    verify: Callable[[Bundle], None] | None = None,
) -> Path:
    """Build a recipe bundle's engine here, verify it on the golden inputs, and write the finished bundle.

    Parameters
    ----------
    path : Path
        The recipe bundle.
    out : Path
        Where the finished bundle goes; nothing is written before it has passed.
    timing_cache : bytes
        Of an earlier build on this device, to save time; empty: none.
    builder, verify : callable or None
        For tests; None builds with the engine's package and runs the selftest.

    Raises
    ------
    BundleError
        The bundle is damaged, is no recipe, or asks for another builder version or compute capability.
    ProviderUnavailable
        The builder's package or the GPU is not here.
    TargetError
        The builder refuses the graph.
    CheckFailed
        The engine does not give the golden outputs.
    ZooError
        ``out`` exists.
    """
    bundle = open_bundle(path)
    request = plan_request(bundle, timing_cache)
    check_writable(out, force=force)
    _, package, install = KINDS[request.engine]
    if builder is None:
        check_requirement(
            bundle, "engine_version", bundle.manifest.key.engine_version, _version(package, install)
        )
        problem = gpu_problem(request.compute_capability)
        if problem is not None:
            raise ProviderUnavailable(f"{path} cannot be finished here: {problem}")
        builder = build_plan
    manifest, files = finished(bundle, builder(request, package))
    (verify or selftest)(Bundle(path, manifest, b"", files))
    return write_bundle(out, manifest, files, force=force)


def selftest(bundle: Bundle) -> None:
    """Golden raw inputs through pipeline and engine.

    Raises
    ------
    CheckFailed
        An output is over the bundle's tolerance.
    """
    report = Model(bundle).selftest()
    if not report.passed:
        raise CheckFailed(
            f"{bundle.path}: the engine built here is off by {max(report.errors):.3g} on the golden inputs, "
            f"the tolerance is {report.tolerance:.3g}; nothing was written"
        )


def _version(package: str, install: str) -> str:
    try:
        module: Any = importlib.import_module(package)
    except ImportError as error:
        raise ProviderUnavailable(
            f"the engine is built with {package}, which cannot be imported here ({error}); {install}"
        ) from error
    return str(module.__version__)


__all__ = ["build_bundle", "finished", "plan_request", "read_timing_cache", "selftest"]
