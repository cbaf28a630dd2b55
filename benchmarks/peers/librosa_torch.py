# SPDX-License-Identifier: Apache-2.0
"""librosa for the features, PyTorch eager with the weights that the bundle was made of: the research way."""

from __future__ import annotations

import sys
from pathlib import Path

import librosa

from zoo.bundle import open_bundle
from zoo.errors import ZooError

sys.path.insert(0, str(Path(__file__).parent))
from _librosa import front_end
from _networks import Torch


def factory(bundle: Path | None, *, threads: int) -> Torch:
    """For ``zoo bench BUNDLE --peer benchmarks/peers/librosa_torch.py:factory``."""
    if bundle is None:
        raise ZooError("librosa_torch needs a bundle beside it")
    features = front_end(open_bundle(bundle).manifest.pipeline)
    return Torch(bundle, threads, features, {"librosa": librosa.__version__})
