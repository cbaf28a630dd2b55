# SPDX-License-Identifier: Apache-2.0
# Generated: python -m nanobind.stubgen -m zoo._native (tests/test_ops.py checks that it is current)
"""
Kernels and pipeline executor of affect-zoo (private; use zoo.ops and zoo.pipeline)
"""

from collections.abc import Iterable, Sequence
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

def audio_info(path: str | os.PathLike[str]) -> dict[str, object]:
    """Rate (Hz), channels, frames, bits and format of a WAV or FLAC file."""

def read_audio(path: str | os.PathLike[str], start: int = 0, frames: int = -1) -> tuple[numpy.typing.NDArray[numpy.float32], int]:
    """Mono float32 samples of a WAV or FLAC file, and the rate in Hz."""

def moving_mean(values: numpy.typing.NDArray[numpy.float64], window: int) -> numpy.typing.NDArray[numpy.float64]:
    """Mean over `window` values about each."""

def moving_median(values: numpy.typing.NDArray[numpy.float64], window: int) -> numpy.typing.NDArray[numpy.float64]:
    """Median over `window` values about each."""

def curve(bins: numpy.typing.NDArray[numpy.int32], count: int, low: float, high: float, cutoff: float = 0.0, rate: float = 1.0, order: int = 6, mean: int = 1, median: int = 1) -> numpy.typing.NDArray[numpy.float32]:
    """Values of a curve from the bin of each step; cutoff 0: no low-pass."""

def decode_curve(output: numpy.typing.NDArray[numpy.float32], low: float, high: float, cutoff: float = 0.0, rate: float = 1.0, order: int = 6, mean: int = 1, median: int = 1) -> tuple[numpy.typing.NDArray[numpy.int64], numpy.typing.NDArray[numpy.float32]]:
    """Bins and values of a curve, from its output [steps, bins]."""

def decode(output: numpy.typing.NDArray[numpy.float32], kind: int, labels: int, thresholds: Sequence[float], low: float, high: float, normalize: bool) -> tuple[numpy.typing.NDArray[numpy.float32], numpy.typing.NDArray[numpy.uint8], int]:
    """
    Values of one head, which of them are given, and the best (-1: none); kind: 0 softmax, 1 sigmoid, 2 regression, 3 embedding.
    """

def project_positions(positions: Sequence[float]) -> numpy.typing.NDArray[numpy.float64]:
    """Azimuthal equidistant projection of x, y, z of each electrode."""

def filter_coefficients(rate: float, kind: int, design: int, freqs: Sequence[float], order: int, q: float, taps: int, window: int) -> numpy.typing.NDArray[numpy.float64]:
    """
    Sections [n, 6] or taps [n, 1] of a filter; kind, design and window are indices into the op's choices.
    """

def parse_rows(text: bytes, columns: int, wanted: Sequence[int], separator: str = ',', first_line: int = 1) -> numpy.typing.NDArray[numpy.float64]:
    """The wanted columns, float64 [rows, len(wanted)], of lines of numbers."""

def op_specs() -> list[dict[str, Any]]:
    """The table of ops that pipelines are validated with."""

class Pipeline:
    """Executor of a list of ops, each a dict with 'op' and its parameters."""

    def __init__(self, ops: Sequence[dict[str, Any]], isa: str = '', shape: Sequence[int] | None = None, files: dict[str, bytes] | None = None) -> None: ...

    @property
    def isa(self) -> str:
        """Instruction set of the kernels."""

    @property
    def input_kind(self) -> str:
        """audio, image, frames, eeg, tensor, text or tokens."""

    def run(self, samples: object, rate: float = 0.0, *, start: int = 0, total: int | None = None, threads: int = 1) -> numpy.typing.NDArray[Any]:
        """
        Runs the pipeline on an input, or on the part of it from row `start` on.
        """

    def tokens(self, text: str | bytes) -> list[str]:
        """Tokens of a text, before they become numbers."""

    def batch(self, inputs: Iterable[object], rate: float = 0.0, *, threads: int = 0) -> list[numpy.typing.NDArray[Any]]:
        """Runs the pipeline on each input, on `threads` threads (0: one a CPU)."""

    def run_file(self, path: str | os.PathLike[str]) -> tuple[numpy.typing.NDArray[numpy.float32], dict[str, float]]:
        """
        Decodes the part of a file that the pipeline needs and runs it; times in ms.
        """

    def output_shape(self, total: int | Sequence[int] | None = None, rate: float | None = None) -> tuple[int, ...] | None:
        """
        Shape of the output for an input of so many rows, or of a shape, or for every input (None when it depends on the input).
        """

    def input_range(self, total: int | Sequence[int], rate: float | None = None) -> tuple[int, int]:
        """Rows [start, stop) of an input that the output depends on."""

class PipelineStream:
    """A pipeline over an input that arrives in chunks."""

    def __init__(self, pipeline: Pipeline, rate: float = 0.0, shape: Sequence[int] | None = None) -> None: ...

    def push(self, chunk: object) -> numpy.typing.NDArray[Any]:
        """Takes the next rows; returns the output rows that they complete."""

    def finish(self) -> numpy.typing.NDArray[Any]:
        """Ends the input; returns the last output rows."""

def sample_times(times: numpy.typing.NDArray[numpy.float64], fps: float) -> list[int]:
    """
    Indices of the first frame and of each that lies at least 1 / fps s after the last one taken.
    """
