# SPDX-License-Identifier: Apache-2.0
"""Prototypes of NeuroGaze-Distill (sheet 9, "Prototypes"): what an EEG teacher's features look like in each of 5 x 5 bins of
valence and arousal. They are made once and frozen; the students are trained towards them.

``python -m zoo.models.neurogaze_distill.prototypes TEACHER --data DIR --weights FILE --out FILE.npz`` makes the file.
"""

from __future__ import annotations

import io
import json
import zipfile
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import ArrayLike, NDArray

from zoo import registry
from zoo.bundle import write_file
from zoo.crossval import read_recipe
from zoo.errors import DataError, ZooError
from zoo.models.eeg_state import train as teaching
from zoo.models.neurogaze_distill.losses import BINS, CENTRES, WIDTH, Prototypes

#: Width of a bin: the square [-1, 1] x [-1, 1] falls into BINS x BINS of them.
_SIDE = 2 / BINS


def bin_of(values: ArrayLike) -> NDArray[np.int64]:
    """The bin of each pair of valence and arousal.

    Parameters
    ----------
    values : float, shape (n, 2)
        In [-1, 1]; what is outside falls into the bin at the edge.

    Returns
    -------
    int64, shape (n,)
        5 * i_valence + i_arousal with i = clamp(floor((v + 1) / 0.4), 0, 4).
    """
    # 1e-9: a value on an edge is the upper bin's, also where the division falls short of the whole number
    index = np.clip(np.floor((np.asarray(values, np.float64) + 1) / _SIDE + 1e-9), 0, BINS - 1).astype(
        np.int64
    )
    bins: NDArray[np.int64] = BINS * index[:, 0] + index[:, 1]
    return bins


def average(features: ArrayLike, values: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Prototypes and the number of samples in each bin.

    Parameters
    ----------
    features : float, shape (n, 512)
        Penultimate features of validation samples; scaled to unit length here.
    values : float, shape (n, 2)
        Their valence and arousal.

    Returns
    -------
    vectors : float32, shape (25, 512)
        Mean of each bin, scaled to unit length again. An empty bin takes the mean of the nearest ones that are not (several
        where they are equally near, by the distance of the bins' centres).
    counts : int64, shape (25,)

    Raises
    ------
    DataError
        No samples, other shapes, a value or feature that is not finite, a feature vector that is all zero.
    """
    rows, pairs = np.asarray(features, np.float64), np.asarray(values, np.float64)
    if rows.ndim != 2 or rows.shape[1] != WIDTH or pairs.shape != (len(rows), 2) or not len(rows):
        raise DataError(
            f"prototypes: features of shape {rows.shape} and values of shape {pairs.shape}; give (n, {WIDTH}) and (n, 2)"
        )
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not (np.isfinite(rows).all() and np.isfinite(pairs).all() and (lengths > 0).all()):
        raise DataError("prototypes: a feature or value is not finite, or a feature vector is all zero")
    bins = bin_of(pairs)
    counts = np.bincount(bins, minlength=BINS * BINS).astype(np.int64)
    means = np.zeros((BINS * BINS, WIDTH))
    np.add.at(means, bins, rows / lengths)
    full = np.flatnonzero(counts)
    means[full] /= counts[full, None]
    middle = np.array([(valence, arousal) for valence in CENTRES for arousal in CENTRES])
    for empty in np.flatnonzero(counts == 0):
        distance = np.round(np.linalg.norm(middle[full] - middle[empty], axis=1), 6)
        means[empty] = means[full[distance == distance.min()]].mean(axis=0)
    norms = np.linalg.norm(means, axis=1, keepdims=True)
    if not (norms > 0).all():
        raise DataError("prototypes: the features of a bin cancel out; its prototype has no direction")
    return (means / norms).astype(np.float32), counts


def save(path: Path, prototypes: Prototypes) -> None:
    """Write the file that :func:`zoo.models.neurogaze_distill.losses.read_prototypes` reads, as a whole; the same prototypes
    give the same bytes.
    """
    arrays = {
        "prototypes": prototypes.vectors,
        "provenance": np.array(json.dumps(prototypes.provenance, sort_keys=True)),
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), content.getvalue())
    write_file(path, buffer.getvalue())


def make(teacher: str, data: Path, weights: Path | None = None) -> Prototypes:
    """Prototypes of a teacher.

    Parameters
    ----------
    teacher : str
        A variant of the EEG model. One that gives valence and arousal is asked about the subjects that ``zoo train`` held
        out. One of another task has no such ratings: its windows get values by a rule, and the result is ``synthetic``.
    data : Path
        The data set of that variant.
    weights : Path or None
        Weights of ``zoo train`` (protocol ``final``); None takes the card's.

    Raises
    ------
    DataError
        The data set or the weights are not as expected; the teacher's weights are random.
    """
    from safetensors.numpy import load_file

    card, variant = registry.find(teacher)
    if card.file.model != "eeg-state":
        raise DataError(f"prototypes: {teacher} is no EEG teacher; take a variant of eeg-state")
    if weights is None and variant.weights.status == "random":
        raise DataError(f"prototypes: the weights of {teacher} are random; train it, and give --weights FILE")
    path = weights if weights is not None else card.path(str(variant.weights.file))
    try:
        tensors = load_file(path)
        content = path.read_bytes()
    except Exception as error:  # safetensors raises an error of its own
        raise DataError(f"{path}: not readable weights: {error}") from error
    about: dict[str, Any] = {
        "schema": 1,
        "teacher": teacher,
        "teacher_sha256": sha256(content).hexdigest(),
        "data": variant.data.reader if variant.data else None,
        "grid": BINS,
        "code_version": metadata.version("affect-zoo"),
    }
    if variant.config.get("values"):
        recipe = read_recipe(variant, teaching.Recipe)
        windows = teaching.rated_windows(variant, data)
        held_out = teaching.validation_subjects(windows.subjects.tolist(), recipe.validation)
        rows = np.isin(windows.subjects, held_out)
        maps, values = windows.maps[rows], windows.values[rows].astype(np.float64)
        about |= {
            "data_sha256": windows.fingerprint,
            "samples": f"windows of the held-out subjects {', '.join(held_out)}",
            "labels": "the subjects' own ratings",
            "synthetic": False,
        }
    else:
        corpus = teaching.window_corpus(variant, data)
        maps, values = corpus.features[0], rule_values(teaching.window_powers(variant, data))
        about |= {
            "data_sha256": corpus.fingerprint,
            "samples": "all windows, those that the teacher was trained on included",
            "labels": "none: ranks of ln(alpha F4 / alpha F3) as valence, of ln(beta / alpha) over all channels as arousal",
            "synthetic": True,
        }
    _, embeddings = teaching.outputs_of(variant.config, tensors, maps)
    vectors, counts = average(embeddings, values)
    about |= {"n": len(maps), "counts": counts.tolist()}
    return Prototypes(vectors, about, bool(about["synthetic"]))


def rule_values(powers: NDArray[np.float32]) -> NDArray[np.float64]:
    """Stand-ins for ratings, where there are none.

    Parameters
    ----------
    powers : float32, shape (n, 4, 14)
        Differential entropy of theta, alpha, beta and gamma, channels of the EPOC.

    Returns
    -------
    float64, shape (n, 2)
        Ranks, spread evenly over [-1, 1]: frontal alpha asymmetry as valence, beta over alpha as arousal. A rule of thumb
        of the literature, and nothing that a person said.
    """
    from zoo.data.eye_state import CHANNELS

    left, right = CHANNELS.index("F3"), CHANNELS.index("F4")
    valence = powers[:, 1, right] - powers[:, 1, left]
    arousal = (powers[:, 2] - powers[:, 1]).mean(axis=1)
    ranks = [np.argsort(np.argsort(value, kind="stable"), kind="stable") for value in (valence, arousal)]
    return np.stack([2 * (rank + 0.5) / len(powers) - 1 for rank in ranks], axis=1)


@click.command()
@click.argument("teacher")
@click.option("--data", type=click.Path(path_type=Path), envvar="ZOO_DATA", show_envvar=True, required=True)
@click.option("--weights", type=click.Path(path_type=Path), help="Of zoo train; default: the card's.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File to write, .npz.")
@click.option("--force", is_flag=True, help="Replace it.")
def main(teacher: str, data: Path, weights: Path | None, out: Path, force: bool) -> None:
    """Make the 25 prototypes of TEACHER, a variant of the EEG model, and write them with their provenance.

    Example: python -m zoo.models.neurogaze_distill.prototypes eeg-va-dreamer --data DREAMER.mat
    --weights eeg-va-dreamer.safetensors --out dreamer_5x5.npz
    """
    try:
        if out.exists() and not force:
            raise ZooError(f"{out} exists; give --force to replace it")
        made = make(teacher, data, weights)
        save(out, made)
    except (ZooError, OSError) as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(getattr(error, "exit_code", 1)) from error
    counts = made.provenance["counts"]
    assert isinstance(counts, list)
    filled = sum(count > 0 for count in counts)
    kind = "SYNTHETIC: no ratings went into them" if made.synthetic else made.provenance["samples"]
    click.echo(f"{filled} of {BINS * BINS} bins have samples, n={made.provenance['n']}; {kind}")
    click.echo(str(out))


if __name__ == "__main__":
    main()
