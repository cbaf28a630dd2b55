# SPDX-License-Identifier: Apache-2.0
"""What an export reads, and one hash over all of it: two exports with the same hash give the same bundle, tuning aside."""

from __future__ import annotations

import hashlib
import importlib
import platform
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from zoo import _native
from zoo.data import Dataset, default_root, open_dataset
from zoo.errors import DataError
from zoo.runtime.engines import KINDS

if TYPE_CHECKING:
    from zoo.card import Card, Variant
    from zoo.export.targets import Target

#: Packages whose version the artifact depends on, besides the engine's.
TOOLS = ("torch", "onnx", "onnxscript", "numpy")

#: Fewest items that INT8 ranges are measured on.
MIN_ITEMS = 128

_FORMAT = 1
_CODE = ("zoo", "zoo.data", "zoo.export", "zoo.export.builders", "zoo.runtime", "zoo.runtime.engines")


def needs_data(precision: str) -> bool:
    """Whether this precision cannot be made without real inputs."""
    return precision == "int8"


def no_data_reason(variant: Variant, precision: str) -> str | None:
    """Why a card that names no data set cannot have this precision; None where it can."""
    if variant.data is not None or not needs_data(precision):
        return None
    return "the card names no data set to calibrate on; random data is never used"


def dataset_for(card: Card, variant: Variant, data: Path | None, precision: str | None) -> Dataset | None:
    """The variant's data set; None where there is none, or none is given and the precision can do without.

    Parameters
    ----------
    data : Path or None
        Its folder; None takes ``ZOO_DATA``.
    precision : str or None
        None: several are tried, and none of them must have it.

    Raises
    ------
    DataError
        The precision needs data that are not there, or the folder that was given is not what the reader expects.
    """
    needed = precision is not None and needs_data(precision)
    if variant.data is None:
        if needed:
            raise DataError(
                f"{variant.name} {precision}: {no_data_reason(variant, str(precision))}. Export fp32"
            )
        return None
    root = data if data is not None else default_root()
    if root is None:
        if needed:
            raise DataError(
                f"{variant.name} {precision} is calibrated on real inputs, random data is never used: "
                f"give --data DIR (reader {variant.data.reader}) or set ZOO_DATA"
            )
        return None
    try:
        dataset = open_dataset(card, variant.data, root)
    except DataError:
        # ZOO_DATA may hold other models' data only; a folder that was named must hold this one's.
        if needed or data is not None:
            raise
        return None
    if needed:
        check_enough(dataset, len(dataset.items))
    return dataset


def check_enough(dataset: Dataset, count: int) -> None:
    """Refuse to calibrate on fewer than 128 items with a DataError."""
    if count < MIN_ITEMS:
        raise DataError(
            f"{dataset.name} has {count} items for calibration, INT8 needs {MIN_ITEMS}; give a larger --data"
        )


def inputs_sha256(
    card: Card,
    variant: Variant,
    target: Target,
    precision: str,
    *,
    weights: Path | None,
    dataset: Dataset | None,
    options: Mapping[str, Any],
) -> str:
    """SHA-256 over everything that decides the bytes of an artifact.

    Card, model code, weights, fold weights, golden inputs, data set, target, precision, ``options``, the exporter's own
    code and kernels, the versions of its tools, and the kind of machine.

    Parameters
    ----------
    weights : Path or None
        Other weights than the card's.
    options : mapping
        Further settings of the export, JSON types.

    Raises
    ------
    DataError
        A file that the card names is missing.
    """
    files = [variant.weights.file, variant.folds.file if variant.folds else None]
    files += [variant.weights.shared, *card.pipeline_files(variant)]
    named = [card.path(name) for name in (*files, *card.file.golden) if name is not None]
    parts: dict[str, Any] = {
        "format": _FORMAT,
        "card": _builtins(msgspec.structs.replace(card.file, variants=(variant,))),
        "files": [file_sha256(path) for path in named],
        "model": _code_sha256(card.folder.glob("*.py")),
        "weights": file_sha256(weights) if weights is not None else None,
        "data": dataset.fingerprint() if dataset is not None else None,
        "target": _builtins(target),
        "precision": precision,
        "options": dict(options),
        "code": _own_code(),
        "tools": {tool: _version(tool) for tool in TOOLS},
        "engine": engine_version(target),
        "python": platform.python_version(),
        "machine": [platform.machine(), _native.isa()],
    }
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()


def engine_version(target: Target) -> str | None:
    """Version of the package that builds the target's engine here; None: not installed, or the device builds it."""
    if target.build == "device":
        return None
    module, package, _ = KINDS[target.engine]
    try:
        backend: Any = importlib.import_module(f"zoo.runtime.engines.{module}")
        return str(backend.version(package))
    except ImportError:
        return None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _builtins(value: Any) -> Any:
    return msgspec.to_builtins(value, order="deterministic")


@cache
def _own_code() -> str:
    paths: list[Path] = []
    for package in _CODE:
        for folder in importlib.import_module(package).__path__:
            paths += Path(folder).glob("*.py")
    return _code_sha256([*paths, Path(str(_native.__file__))])


def _code_sha256(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths, key=lambda path: (path.parent.name, path.name)):
        digest.update(f"{path.name}\t{file_sha256(path)}\n".encode())
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content; DataError where it cannot be read."""
    try:
        with path.open("rb") as stream:
            digest = hashlib.sha256()
            while block := stream.read(1 << 20):
                digest.update(block)
            return digest.hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
