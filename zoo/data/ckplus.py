# SPDX-License-Identifier: Apache-2.0
"""CK+ (Lucey et al. 2010), faces cut to 48 x 48 grey pixels: posed expressions, to test on a domain that is not FERPlus's.

Layout read here, one ``.npz``::

    images       uint8 (n, 48, 48)
    labels       int (n,), index into label_names
    label_names  text: anger, contempt, disgust, fear, happy, sadness, surprise
    subject, session, frame   int (n,)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from zoo.data import Dataset, Item
from zoo.data.arrays import read_arrays
from zoo.data.ferplus import LABELS, SIDE
from zoo.errors import DataError

FILE = "ckplus48_subjects_a.npz"
#: Names that are not FERPlus's own.
_RENAMED = {"happy": "happiness"}
_COLUMNS = ("subject", "session", "frame")


def read(root: Path) -> Dataset:
    """Read the faces.

    Parameters
    ----------
    root : Path
        The file, the folder that holds it, or one that holds that folder as ``faces``.

    Returns
    -------
    Dataset
        With FERPlus's eight labels, so that its models can be scored: neutral does not occur. ``group`` is the subject.

    Raises
    ------
    DataError
        The file is missing or not laid out so.
    """
    candidates = (root, root / FILE, root / "faces" / FILE)
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        raise DataError(f"ckplus: no {FILE} in {root} or {root / 'faces'}; give the file, or its folder")
    arrays = read_arrays("ckplus", path, ("images", "labels", "label_names", *_COLUMNS))
    images, labels = arrays["images"], arrays["labels"]
    names = [_RENAMED.get(str(name), str(name)) for name in arrays["label_names"].tolist()]
    unknown = sorted(set(names) - set(LABELS))
    if unknown:
        raise DataError(f"ckplus: {path}: label {unknown[0]!r} is none of {', '.join(LABELS)}")
    if images.dtype != np.uint8 or images.shape != (len(labels), SIDE, SIDE) or not len(labels):
        raise DataError(
            f"ckplus: {path}: images are {images.dtype} {images.shape}; expected uint8 {(len(labels), SIDE, SIDE)}"
        )
    for column in ("labels", *_COLUMNS):
        if arrays[column].shape != (len(images),) or arrays[column].dtype.kind not in "iu":
            raise DataError(f"ckplus: {path}: {column} must hold one whole number for each image")
    if labels.min() < 0 or labels.max() >= len(names):
        raise DataError(f"ckplus: {path}: labels must lie in 0..{len(names) - 1}")
    where = [[int(arrays[column][i]) for column in _COLUMNS] for i in range(len(images))]
    items = tuple(
        Item(
            id="/".join(map(str, where[i])),
            source=images[i],
            label=LABELS.index(names[labels[i]]),
            group=str(where[i][0]),
        )
        for i in range(len(images))
    )
    if len({item.id for item in items}) != len(items):
        raise DataError(f"ckplus: {path}: two images have the same subject, session and frame")
    return Dataset(
        name="ckplus",
        labels=LABELS,
        items=items,
        license="restricted: research, no redistribution",
        notes="posed expressions; group: subject",
    )
