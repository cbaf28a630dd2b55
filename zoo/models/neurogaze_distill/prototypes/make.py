# SPDX-License-Identifier: Apache-2.0
"""Writes ``synthetic_5x5.npz``: prototypes of no EEG at all, for a training without V/A-labelled EEG. ``python make.py``.

Neighbouring bins are alike, as a teacher's would be: each vector is a fixed random direction for every Gaussian bump of
valence and arousal, weighted by the bump at the bin's centre.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from zoo.models.neurogaze_distill.losses import CENTRES, WIDTH

SEED = 9
_SPREAD = 0.6


def main() -> None:
    """Write the file beside this one."""
    centres = np.array([(v, a) for v in CENTRES for a in CENTRES])
    squared = ((centres[:, None] - centres[None]) ** 2).sum(axis=2)
    directions = np.random.default_rng(SEED).normal(size=(len(centres), WIDTH))
    vectors = np.exp(-squared / (2 * _SPREAD**2)) @ directions
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    about = {
        "synthetic": True,
        "source": "seeded random directions, smoothed over valence and arousal; no EEG",
        "seed": SEED,
    }
    np.savez_compressed(
        Path(__file__).parent / "synthetic_5x5.npz",
        prototypes=vectors.astype(np.float32),
        provenance=np.array(json.dumps(about)),
    )


if __name__ == "__main__":
    main()
