# SPDX-License-Identifier: Apache-2.0
"""What is known of the machine: description, clock, temperature, energy, memory. Reads files only."""

from __future__ import annotations

import os
import platform
import re
import resource
import sys
import time
from pathlib import Path

from msgspec import Struct

_FLAGS = (
    *(
        "sse4_2",
        "avx",
        "avx2",
        "fma",
        "f16c",
        "avx512f",
        "avx512vl",
        "avx512_vnni",
        "avx_vnni",
        "avx512_bf16",
    ),
    *(
        "avx512_fp16",
        "amx_tile",
        "amx_int8",
        "amx_bf16",
        "asimd",
        "asimddp",
        "asimdhp",
        "i8mm",
        "bf16",
        "sve",
    ),
)


class Machine(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Hardware and system of a run. Holds no host or user name."""

    cpu: str
    architecture: str
    cores: int
    isa_flags: tuple[str, ...]
    zoo_isa: str | None
    virtual: bool
    memory_bytes: int
    governor: str | None
    os: str
    kernel: str
    python: str


class State(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One look at the machine. ``None`` where there is no such sensor."""

    mhz: float | None
    celsius: float | None
    throttle_count: int | None
    load: float


def describe() -> Machine:
    """Describe this machine."""
    info = _text(Path("/proc/cpuinfo"))
    model = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", info, re.M)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", info, re.M)
    present = set(flags[1].split()) if flags else set()
    release = ".".join(platform.release().split(".")[:2])
    return Machine(
        cpu=" ".join((model[1] if model else platform.processor() or "unknown").split()),
        architecture=platform.machine(),
        cores=usable_cores(),
        isa_flags=tuple(flag for flag in _FLAGS if flag in present),
        zoo_isa=_zoo_isa(),
        virtual="hypervisor" in present,
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        governor=_text(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")).strip() or None,
        os=_os_name(),
        kernel=f"{platform.system()} {release}",
        python=platform.python_version(),
    )


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def state() -> State:
    """Clock, temperature, throttling events, load average over one minute."""
    clocks = [
        float(mhz) for mhz in re.findall(r"^cpu MHz\s*:\s*([0-9.]+)$", _text(Path("/proc/cpuinfo")), re.M)
    ]
    if not clocks:
        paths = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq")
        clocks = [float(text) / 1e3 for path in paths if (text := _text(path).strip()).isdigit()]
    zones = Path("/sys/class/thermal").glob("thermal_zone*/temp")
    degrees = [float(text) / 1e3 for path in zones if (text := _text(path).strip()).lstrip("-").isdigit()]
    counts = [
        int(text)
        for path in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/*_throttle_count")
        if (text := _text(path).strip()).isdigit()
    ]
    return State(
        mhz=round(sum(clocks) / len(clocks), 1) if clocks else None,
        celsius=max(degrees) if degrees else None,
        throttle_count=sum(counts) if counts else None,
        load=round(os.getloadavg()[0], 2),
    )


def throttled(states: list[State]) -> bool | None:
    """Whether a throttling event was counted or the clock fell by a tenth between the first and a later look.

    None where the machine shows neither.
    """
    counts = [s.throttle_count for s in states if s.throttle_count is not None]
    clocks = [s.mhz for s in states if s.mhz is not None]
    if not counts and not clocks:
        return None
    return bool(counts and counts[-1] > counts[0]) or bool(clocks and min(clocks) < 0.9 * clocks[0])


def peak_rss() -> int:
    """Peak resident bytes of this process.

    ``VmHWM`` where there is one: on Linux ``ru_maxrss`` is never below that of the process that started this one.
    """
    found = re.search(r"^VmHWM:\s*(\d+) kB$", _text(Path("/proc/self/status")), re.M)
    if found:
        return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class Energy:
    """Package energy by RAPL. ``reason`` says why there is none; it counts everything the package does."""

    def __init__(self, root: Path = Path("/sys/class/powercap")) -> None:
        self.reason: str | None = None
        self._domains: list[tuple[Path, int]] = []
        packages = sorted(root.glob("intel-rapl:[0-9]")) if root.is_dir() else []
        if not packages:
            self.reason = "no RAPL sensor on this machine"
            return
        for package in packages:
            try:
                int((package / "energy_uj").read_text())
                limit = int((package / "max_energy_range_uj").read_text())
            except (OSError, ValueError) as error:
                self.reason = f"RAPL cannot be read: {getattr(error, 'strerror', None) or error}"
                self._domains = []
                return
            self._domains.append((package / "energy_uj", limit))

    def read(self) -> list[int] | None:
        """Microjoules of each package so far, or None."""
        try:
            return [int(path.read_text()) for path, _ in self._domains] or None
        except (OSError, ValueError) as error:
            self.reason = f"RAPL cannot be read: {error}"
            return None

    def between(self, start: list[int] | None, end: list[int] | None) -> float | None:
        """Millijoules between two reads; a counter that ran over is put right."""
        if start is None or end is None:
            return None
        limits = [limit for _, limit in self._domains]
        return sum((b - a) % (limit + 1) for a, b, limit in zip(start, end, limits, strict=True)) / 1e3


def monotonic_ns() -> int:
    """A clock that all processes of the machine share."""
    return time.monotonic_ns()


def _zoo_isa() -> str | None:
    try:
        from zoo import _native
    except ImportError:
        return None
    return str(_native.isa())


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
