# SPDX-License-Identifier: Apache-2.0
"""librosa for the features, PyTorch eager with the weights that the bundle was made of: the research way."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import torch

from zoo import registry
from zoo.bundle import open_bundle
from zoo.errors import ZooError
from zoo.export.weights import load_weights
from zoo.runtime.bench.subject import Outcome
from zoo.specs import Softmax

sys.path.insert(0, str(Path(__file__).parent))
from _librosa import front_end


class LibrosaTorch:
    """The reference network as it was trained: eval mode, inference mode, nothing folded or compiled."""

    def __init__(self, bundle: Path, threads: int) -> None:
        manifest = open_bundle(bundle).manifest
        if not isinstance(manifest.decode, Softmax):
            raise ZooError(f"{bundle}: this peer runs softmax classifiers")
        torch.set_num_threads(threads)
        card, variant = registry.find(manifest.name)
        weights = load_weights(card, variant)
        if weights.sha256 != manifest.provenance.weights_sha256:
            raise ZooError(f"{bundle} was made of other weights than {variant.name} has now; export it again")
        self._network = card.build(variant.config)
        state = {name: torch.from_numpy(np.array(array)) for name, array in weights.tensors.items()}
        self._network.load_state_dict(state, strict=False)
        self._network.eval()
        outputs = [tensor.name for tensor in card.engine_outputs(variant)]
        self._index = outputs.index(manifest.decode.output)
        self._labels = manifest.labels
        self.features = front_end(manifest.pipeline)

    def engine(self, features: Any) -> Any:
        """One forward pass; probabilities (1, classes)."""
        with torch.inference_mode():
            return self._network(torch.from_numpy(features))[self._index]

    def decode(self, probs: Any) -> Outcome:
        """Best label and scores."""
        row = probs[0].tolist()
        return Outcome(self._labels[int(np.argmax(row))], dict(zip(self._labels, row, strict=True)))

    def pipeline(self, raw: Any) -> Outcome:
        """Raw input to label."""
        return self.decode(self.engine(self.features(raw)))

    def versions(self) -> Mapping[str, str]:
        """Libraries."""
        return {"librosa": librosa.__version__, "torch": str(torch.__version__), "numpy": np.__version__}


def factory(bundle: Path | None, *, threads: int) -> LibrosaTorch:
    """For ``zoo bench BUNDLE --peer benchmarks/peers/librosa_torch.py:factory``."""
    if bundle is None:
        raise ZooError("librosa_torch needs a bundle beside it")
    return LibrosaTorch(bundle, threads)
