# SPDX-License-Identifier: Apache-2.0
"""EEG recordings: arrays and files with their rate and channel names, brought into the order that a model takes.

CSV and ARFF rows are parsed in C++; EDF, BDF and EEGLAB files are read through MNE (extra ``eeg``).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoo import _native
from zoo.errors import InputError, ProviderUnavailable

if TYPE_CHECKING:
    from zoo.pipeline import Pipeline

#: Names of the older 10-20 nomenclature and their present ones.
_RENAMED = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}
_PREFIX = re.compile(r"^EEG[ ._-]+")
_REFERENCE = re.compile(r"[-_](REF|LE|RE|A1|A2|M1|M2|CMS|AVG?)$")
#: A comment of a CSV or ARFF file that gives its rate.
_RATE = re.compile(rb"^[#%]\s*rate\s*[:=]\s*([0-9.eE+]+)\s*(hz)?\s*$", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"^@attribute\s+('[^']*'|\"[^\"]*\"|\S+)\s+(.+)$", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Recording:
    """EEG samples with what belongs to them.

    Attributes
    ----------
    samples : float64, float32, int16 or int32, shape (n, channels)
        Microvolts, time first.
    rate : float
        Hz.
    channels : tuple of str
        Names of the electrodes, a column each.
    name : str
        What errors call it.
    """

    samples: NDArray[Any]
    rate: float
    channels: tuple[str, ...]
    name: str = "recording"

    def __post_init__(self) -> None:
        shape = np.shape(self.samples)
        if len(shape) != 2 or shape[1] != len(self.channels):
            raise InputError(
                f"{self.name}: samples of shape {shape} and {len(self.channels)} channel names; give (samples, channels) and "
                "a name for each channel"
            )
        if not (np.isfinite(self.rate) and self.rate > 0):
            raise InputError(f"{self.name}: its rate is {self.rate} Hz; give a positive number")

    def in_order(self, channels: Sequence[str], rate: float, model: str) -> NDArray[np.float64]:
        """The samples as a model takes them.

        Parameters
        ----------
        channels : sequence of str
            The model's channels. Names match whatever their case, a prefix ``EEG`` or a reference such as ``-REF``;
            T3, T4, T5 and T6 are today's T7, T8, P7 and P8.
        rate : float
            The model's rate, Hz.
        model : str
            Its name, for errors.

        Returns
        -------
        float64, shape (n, len(channels))

        Raises
        ------
        InputError
            A channel is missing or there twice, the rate is another one, a sample is NaN or Inf.
        """
        if self.rate != rate:
            raise InputError(
                f"{self.name}: recorded at {self.rate:g} Hz, {model} needs {rate:g} Hz. Resample it first, for example with "
                f"MNE: raw.resample({rate:g})"
            )
        columns = match_channels(self.channels, channels, f"{self.name}: {model}")
        picked = np.ascontiguousarray(np.asarray(self.samples)[:, columns], np.float64)
        bad = np.argwhere(~np.isfinite(picked))
        if len(bad):
            row, column = bad[0].tolist()
            raise InputError(
                f"{self.name}: sample {row} ({row / rate:.3f} s) of channel {channels[column]} is {picked[row, column]}; "
                f"{len(bad)} of {picked.size} values are not finite. Repair the recording or cut it there"
            )
        return picked

    def sha256(self) -> str:
        """SHA-256 over samples, rate and channel names."""
        digest = hashlib.sha256(
            f"{self.rate!r} {','.join(self.channels)} {np.shape(self.samples)}\n".encode()
        )
        digest.update(np.asarray(self.samples).tobytes())
        return digest.hexdigest()


def match_channels(found: Sequence[str], wanted: Sequence[str], where: str) -> list[int]:
    """Columns of ``found`` that are the channels ``wanted``, in that order; InputError where that is not possible."""
    names = [_plain(name) for name in found]
    missing = [name for name in wanted if _plain(name) not in names]
    if missing:
        raise InputError(
            f"{where} needs channel {', '.join(missing)}; there are {', '.join(found) or 'none'}. Name the columns by the "
            "10-20 system, or use a model of another montage"
        )
    twice = [name for name in wanted if names.count(_plain(name)) > 1]
    if twice:
        raise InputError(f"{where}: channel {', '.join(twice)} is there more than once")
    return [names.index(_plain(name)) for name in wanted]


def _plain(name: str) -> str:
    plain = _REFERENCE.sub("", _PREFIX.sub("", name.strip().strip(".").upper()))
    return _RENAMED.get(plain, plain)


def last_window(pipeline: Pipeline, samples: NDArray[Any], rate: float) -> NDArray[np.float32]:
    """Features of a recording's last window: what a stream gives after its last whole hop."""
    rows = pipeline.run(samples, rate)
    last: NDArray[np.float32] = rows[-1]
    return last


def read_recording(
    path: str | os.PathLike[str], *, channels: Sequence[str] | None = None, rate: float | None = None
) -> Recording:
    """Read an EEG file.

    Parameters
    ----------
    path : path
        ``.csv``, ``.tsv`` or ``.txt`` (a line of column names, then rows of numbers in microvolts, between commas, semicolons or
        tabs), ``.arff``, ``.edf``, ``.bdf``, or EEGLAB's ``.set``.
    channels : sequence of str or None
        Read only these, in this order (names match as in :meth:`Recording.in_order`); None: every column of numbers.
    rate : float or None
        Hz, for CSV and ARFF files that do not say it in a line ``# rate: 128`` (ARFF: ``% rate: 128``).

    Raises
    ------
    InputError
        No such file, another kind or a damaged one (the line is named), a missing channel, no rate, or another one than
        ``rate``.
    ProviderUnavailable
        The file needs MNE, which is not installed.
    """
    file = Path(path)
    kind = file.suffix.lower()
    if kind not in _READERS:
        raise InputError(
            f"{file}: EEG files are {', '.join(_READERS)}; this is {kind or 'without a suffix'}. Convert it, or give an array"
        )
    if not file.is_file():
        raise InputError(f"{file}: no such file")
    found = _READERS[kind](file, channels, rate)
    if rate is not None and found.rate != rate:
        raise InputError(f"{file}: the file says {found.rate:g} Hz, not {rate:g} Hz; leave the rate out")
    return found


def _read_csv(file: Path, channels: Sequence[str] | None, rate: float | None) -> Recording:
    text = _bytes(file)
    at, line, said = 0, 0, None
    while at < len(text):
        head, at, line = _line(text, at, line)
        said = _rate_in(head, file) or said
        if head and head[:1] not in b"#%":
            break
    else:
        raise InputError(f"{file}: no line of column names; the first line names the columns")
    header = _decoded(head, file)
    separator = next((mark for mark in "\t;," if mark in header), ",")
    names = [name.strip().strip("\"'") for name in header.split(separator)]
    if any(_is_number(name) for name in names):
        raise InputError(f"{file}, line {line}: the first line must name the columns; it is {header[:60]!r}")
    every = list(range(len(names)))
    return _rows(file, text[at:], names, every, separator, line + 1, channels, said or rate)


def _read_arff(file: Path, channels: Sequence[str] | None, rate: float | None) -> Recording:
    text = _bytes(file)
    at, line, said = 0, 0, None
    names: list[str] = []
    numeric: list[int] = []
    while at < len(text):
        head, at, line = _line(text, at, line)
        said = _rate_in(head, file) or said
        content = _decoded(head, file)
        if content.lower() == "@data":
            break
        found = _ATTRIBUTE.match(content)
        if found:
            if _has_numbers(found[2].strip()):
                numeric.append(len(names))
            names.append(found[1].strip("\"'"))
    else:
        raise InputError(f"{file}: no @DATA line; this is no ARFF file")
    if not numeric:
        raise InputError(f"{file}: no numeric attribute")
    return _rows(file, text[at:], names, numeric, ",", line + 1, channels, said or rate)


def _rows(
    file: Path,
    text: bytes,
    names: Sequence[str],
    numeric: Sequence[int],
    separator: str,
    first_line: int,
    channels: Sequence[str] | None,
    rate: float | None,
) -> Recording:
    if rate is None:
        raise InputError(
            f"{file}: the file does not say its rate; give it (zoo run --rate 128), or write a line '# rate: 128' at its top"
        )
    chosen = list(numeric)
    if channels is not None:
        given = [names[column] for column in numeric]
        chosen = [numeric[i] for i in match_channels(given, channels, f"{file}: the model")]
    try:
        values = _native.parse_rows(text, len(names), chosen, separator, first_line)
    except InputError as error:
        raise InputError(f"{file}, {error}") from error
    if not len(values):
        raise InputError(f"{file}: no row of numbers")
    return Recording(values, rate, tuple(names[column] for column in chosen), str(file))


def _read_mne(file: Path, channels: Sequence[str] | None, rate: float | None) -> Recording:
    try:
        import mne
    except ImportError as error:
        raise ProviderUnavailable(
            f"{file}: {file.suffix} files are read through MNE: pip install 'affect-zoo[eeg]'"
        ) from error
    readers = {".edf": "read_raw_edf", ".bdf": "read_raw_bdf", ".set": "read_raw_eeglab"}
    read: Callable[..., Any] = getattr(mne.io, readers[file.suffix.lower()])
    try:
        raw = read(file, preload=False, verbose="error")
        names = tuple(str(name) for name in raw.ch_names)
    except Exception as error:  # MNE raises whatever its parsers do on damaged files
        raise InputError(f"{file}: MNE cannot read it: {error}") from error
    chosen = list(range(len(names)))
    if channels is not None:
        chosen = match_channels(names, channels, f"{file}: the model")
    try:
        volts: NDArray[np.float64] = raw.get_data(picks=chosen, verbose="error")
    except Exception as error:
        raise InputError(f"{file}: MNE cannot read its samples: {error}") from error
    samples = np.ascontiguousarray(volts.T * 1e6)
    return Recording(samples, float(raw.info["sfreq"]), tuple(names[i] for i in chosen), str(file))


_READERS: dict[str, Callable[[Path, Sequence[str] | None, float | None], Recording]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".txt": _read_csv,
    ".arff": _read_arff,
    ".edf": _read_mne,
    ".bdf": _read_mne,
    ".set": _read_mne,
}
#: Of the files that :func:`read_recording` takes.
SUFFIXES = tuple(_READERS)


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error


def _line(text: bytes, at: int, line: int) -> tuple[bytes, int, int]:
    """The line at ``at`` without blanks at its ends, where the next one starts, and its number."""
    end = text.find(b"\n", at)
    end = len(text) if end < 0 else end
    return text[at:end].strip(), end + 1, line + 1


def _decoded(line: bytes, file: Path) -> str:
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: its head is not UTF-8 text: {error}") from error


def _rate_in(line: bytes, file: Path) -> float | None:
    found = _RATE.match(line)
    if not found:
        return None
    text = found[1].decode()
    if not _is_number(text) or not float(text) > 0:
        raise InputError(f"{file}: its rate is {text!r}; write '# rate: 128'")
    return float(text)


def _has_numbers(kind: str) -> bool:
    """Whether an attribute of this ARFF type holds numbers: a numeric one, or a choice between numbers."""
    if kind[:1] == "{":
        return all(_is_number(value.strip()) for value in kind.strip("{}").split(","))
    return kind.lower() in ("numeric", "real", "integer")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
