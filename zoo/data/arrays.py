# SPDX-License-Identifier: Apache-2.0
"""Data sets that come as ``.npz`` files."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import DataError


def read_arrays(reader: str, path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The named arrays of an ``.npz`` file; nothing in it is executed.

    Raises
    ------
    DataError
        The file is missing or damaged, or has no such array. ``reader`` is named in front.
    """
    try:
        # Opened here: numpy leaves the file open where it turns out to be damaged.
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DataError(f"{reader}: {path} holds one array alone; expected an .npz file")
            missing = [name for name in names if name not in archive.files]
            if missing:
                raise DataError(f"{reader}: {path} holds no array {', '.join(missing)}")
            return {name: archive[name] for name in names}
    except (OSError, ValueError, EOFError, KeyError, SyntaxError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{reader}: cannot read {path}: {error}") from error
