# SPDX-License-Identifier: Apache-2.0
"""librosa for the features, the bundle's own ONNX graph in onnxruntime: the usual way to deploy today."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import onnxruntime as ort

from zoo.bundle import open_bundle
from zoo.errors import ZooError
from zoo.runtime.bench.subject import Outcome
from zoo.specs import Softmax

sys.path.insert(0, str(Path(__file__).parent))
from _librosa import front_end


class LibrosaOnnxRuntime:
    """Session with default options but for the number of threads."""

    def __init__(self, bundle: Path, threads: int) -> None:
        opened = open_bundle(bundle)
        manifest = opened.manifest
        engine = manifest.engines[0]
        if engine.kind != "onnxruntime" or not isinstance(manifest.decode, Softmax):
            raise ZooError(
                f"{bundle}: this peer runs softmax classifiers of onnxruntime bundles; put such a one first"
            )
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = ort.InferenceSession(
            opened.read(engine.file), options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        self._output = manifest.decode.output
        self._labels = manifest.labels
        self.features = front_end(manifest.pipeline)

    def engine(self, features: Any) -> Any:
        """One run; probabilities (1, classes)."""
        return self._session.run([self._output], {self._input: features})[0]

    def decode(self, probs: Any) -> Outcome:
        """Best label and scores."""
        row = probs[0]
        return Outcome(self._labels[int(np.argmax(row))], dict(zip(self._labels, row.tolist(), strict=True)))

    def pipeline(self, raw: Any) -> Outcome:
        """Raw input to label."""
        return self.decode(self.engine(self.features(raw)))

    def versions(self) -> Mapping[str, str]:
        """Libraries."""
        return {"librosa": librosa.__version__, "onnxruntime": ort.__version__, "numpy": np.__version__}


def factory(bundle: Path | None, *, threads: int) -> LibrosaOnnxRuntime:
    """For ``zoo bench BUNDLE --peer benchmarks/peers/librosa_onnxruntime.py:factory``."""
    if bundle is None:
        raise ZooError("librosa_onnxruntime needs a bundle beside it")
    return LibrosaOnnxRuntime(bundle, threads)
