# SPDX-License-Identifier: Apache-2.0
"""librosa for the features, the bundle's own ONNX graph in onnxruntime: the usual way to deploy today."""

from __future__ import annotations

import sys
from pathlib import Path

import librosa

from zoo.bundle import open_bundle
from zoo.errors import ZooError

sys.path.insert(0, str(Path(__file__).parent))
from _librosa import front_end
from _networks import OnnxRuntime


def factory(bundle: Path | None, *, threads: int) -> OnnxRuntime:
    """For ``zoo bench BUNDLE --peer benchmarks/peers/librosa_onnxruntime.py:factory``."""
    if bundle is None:
        raise ZooError("librosa_onnxruntime needs a bundle beside it")
    features = front_end(open_bundle(bundle).manifest.pipeline)
    return OnnxRuntime(bundle, threads, features, {"librosa": librosa.__version__})
