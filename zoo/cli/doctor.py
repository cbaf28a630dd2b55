# SPDX-License-Identifier: Apache-2.0
"""``zoo doctor``."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib import metadata
from typing import Any

import click

from zoo.cli.common import emit_json, json_option
from zoo.store import home

_PACKAGES = (
    "numpy",
    "onnxruntime",
    "torch",
    "onnx",
    "onnxscript",
    "safetensors",
    "h5py",
    "openvino",
    "tensorrt-rtx-cu12",
)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@click.command("doctor")
@json_option
def doctor_command(as_json: bool) -> None:
    """Tell what this machine can run and build, and why not.

    Example: zoo doctor
    """
    from zoo import _native
    from zoo.runtime.engines import KINDS, engine_status

    engines = [engine_status(kind) for kind in KINDS]
    packages = {name: _version(name) for name in _PACKAGES}
    report: dict[str, Any] = {
        "version": metadata.version("affect-zoo"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "isa": _native.isa(),
        "isas": list(_native.isas()),
        "engines": engines,
        "packages": packages,
        "store": str(home()),
        "free_disk_bytes": shutil.disk_usage(next(p for p in (home(), *home().parents) if p.exists())).free,
        "can_run": [engine.kind for engine in engines if engine.devices and engine.problem is None],
        "can_export": all(packages[name] for name in ("torch", "onnx", "onnxscript", "safetensors")),
    }
    if as_json:
        emit_json(report)
        return
    click.echo(
        f"affect-zoo {report['version']}, Python {report['python']}, {report['system']}, {report['cpus']} CPUs"
    )
    click.echo(
        f"kernels    {report['isa']} in use; this CPU can run {', '.join(report['isas'])} (ZOO_ISA forces one)"
    )
    for engine in engines:
        state = (
            f"{engine.version or '-'}; runs on {', '.join(engine.devices)}"
            if engine.devices
            else engine.version or ""
        )
        problem = f"{'; ' if state else ''}{engine.problem}" if engine.problem else ""
        click.echo(f"engine     {engine.kind:<12} {state}{problem}")
    missing = [name for name in ("torch", "onnx", "onnxscript", "safetensors") if not packages[name]]
    if missing:
        click.echo(f"export     no: {', '.join(missing)} not installed; pip install 'affect-zoo[export]'")
    else:
        click.echo(
            "export     yes: " + ", ".join(f"{n} {packages[n]}" for n in ("torch", "onnx", "onnxscript"))
        )
    click.echo(f"store      {report['store']} ({report['free_disk_bytes'] / 1e9:.1f} GB free)")
    if sys.maxsize <= 2**32:
        click.echo("problem    32-bit Python: engines need a 64-bit one")
