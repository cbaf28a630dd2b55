# SPDX-License-Identifier: Apache-2.0
# Generated: python -m nanobind.stubgen -m zoo._native (tests/test_ops.py checks that it is current)
"""
Kernels and pipeline executor of affect-zoo (private; use zoo.ops and zoo.pipeline)
"""

from collections.abc import Sequence
import os
from typing import Any

import numpy
import numpy.typing


def isa() -> str:
    """
    Name of the instruction set that new objects use: ZOO_ISA when set, else the fastest that this CPU has.
    """

def isas() -> list[str]:
    """
    Names of the instruction sets that this build has and this CPU can run, slowest first.
    """

def set_isa(name: str) -> None:
    """
    Sets the instruction set of objects created from now on (tests, benchmarks). '' goes back to the default.
    """

class PowerToDb:
    """Decibels of a power. Source: librosa 0.11 power_to_db."""

    def __init__(self, *, ref: float = 1.0, amin: float = 1e-10, top_db: float | None = 80.0) -> None: ...

    def __call__(self, power: object) -> numpy.typing.NDArray[numpy.float32]: ...

class Dct:
    """Orthonormal DCT-II of rows of n_in values, n_out kept."""

    def __init__(self, *, n_in: int, n_out: int) -> None: ...

    def __call__(self, rows: object) -> numpy.typing.NDArray[numpy.float32]: ...

class Standardize:
    """(x - mean) / std of each column; both empty: of the clip itself."""

    def __init__(self, *, mean: Sequence[float] = [], std: Sequence[float] = [], epsilon: float = 1e-08) -> None: ...

    def __call__(self, rows: object) -> numpy.typing.NDArray[numpy.float32]: ...

def audio_info(path: str | os.PathLike[str]) -> dict[str, object]:
    """Rate (Hz), channels, frames, bits and format of a WAV or FLAC file."""

def read_audio(path: str | os.PathLike[str], start: int = 0, frames: int = -1) -> tuple[numpy.typing.NDArray[numpy.float32], int]:
    """Mono float32 samples of a WAV or FLAC file, and the rate in Hz."""

def op_specs() -> list[dict[str, Any]]:
    """The table of ops that pipelines are validated with."""

class Pipeline:
    """Executor of a list of ops, each a dict with 'op' and its parameters."""

    def __init__(self, ops: Sequence[dict[str, Any]], isa: str = '') -> None: ...

    @property
    def isa(self) -> str:
        """Instruction set of the kernels."""

    def run(self, samples: object, rate: int, *, start: int = 0, total: int | None = None) -> numpy.typing.NDArray[numpy.float32]:
        """
        Runs the pipeline on a signal, or on the part of it from sample `start` on.
        """

    def run_file(self, path: str | os.PathLike[str]) -> tuple[numpy.typing.NDArray[numpy.float32], dict[str, float]]:
        """
        Decodes the part of a file that the pipeline needs and runs it; times in ms.
        """

    def output_shape(self, total: int | None = None, rate: int | None = None) -> tuple[int, ...] | None:
        """
        Shape of the output for a signal, or for every signal (None when it depends on the signal).
        """

    def input_range(self, total: int, rate: int) -> tuple[int, int]:
        """Samples [start, stop) of a signal that the output depends on."""
