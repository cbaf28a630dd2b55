# SPDX-License-Identifier: Apache-2.0
"""ekphrasis for the tokens, PyTorch eager with the weights that the bundle was made of: the research way."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

from zoo.bundle import open_bundle
from zoo.errors import ZooError

sys.path.insert(0, str(Path(__file__).parent))
from _ekphrasis import front_end
from _networks import Torch


def factory(bundle: Path | None, *, threads: int) -> Torch:
    """For ``zoo bench BUNDLE --peer benchmarks/peers/ekphrasis_torch.py:factory``."""
    if bundle is None:
        raise ZooError("ekphrasis_torch needs a bundle beside it")
    features = front_end(open_bundle(bundle))
    return Torch(bundle, threads, features, {"ekphrasis": version("ekphrasis")})
