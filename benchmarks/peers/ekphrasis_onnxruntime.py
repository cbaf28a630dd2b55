# SPDX-License-Identifier: Apache-2.0
"""ekphrasis for the tokens, the bundle's own ONNX graph in onnxruntime: the usual way to deploy today."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

from zoo.bundle import open_bundle
from zoo.errors import ZooError

sys.path.insert(0, str(Path(__file__).parent))
from _ekphrasis import front_end
from _networks import OnnxRuntime


def factory(bundle: Path | None, *, threads: int) -> OnnxRuntime:
    """For ``zoo bench BUNDLE --peer benchmarks/peers/ekphrasis_onnxruntime.py:factory``."""
    if bundle is None:
        raise ZooError("ekphrasis_onnxruntime needs a bundle beside it")
    features = front_end(open_bundle(bundle))
    return OnnxRuntime(bundle, threads, features, {"ekphrasis": version("ekphrasis")})
