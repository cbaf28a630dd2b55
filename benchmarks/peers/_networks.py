# SPDX-License-Identifier: Apache-2.0
"""The second half of every peer: a bundle's network in PyTorch or onnxruntime, and its answer, as a user would write them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.bundle import Manifest, open_bundle
from zoo.errors import ZooError
from zoo.runtime.bench.subject import Outcome
from zoo.specs import Embedding, Heads, Regression, Softmax

#: Items of a batch, where a peer takes many inputs.
BATCH = 64


class Network(ABC):
    """Features with a batch dimension to an answer.

    Parameters
    ----------
    manifest : Manifest
        Of the bundle whose work is redone.
    features : callable
        A raw input to features with a batch dimension of one.
    versions : mapping
        Libraries that ``features`` is made of.
    """

    def __init__(
        self, manifest: Manifest, features: Callable[[Any], Any], versions: Mapping[str, str]
    ) -> None:
        if isinstance(manifest.decode, (Embedding, Heads)):
            raise ZooError(
                f"{manifest.name}: the peers run models with one set of labels; this one gives something else"
            )
        self._decode, self._labels, self._versions = manifest.decode, manifest.labels, dict(versions)
        self.features = features

    @abstractmethod
    def engine(self, features: Any) -> Any:
        """One forward pass; scores (batch, labels)."""

    def decode(self, scores: Any) -> Outcome:
        """Best label (of classes), and each label's number."""
        return self._outcome(scores[0].tolist())

    def pipeline(self, raw: Any) -> Outcome:
        """Raw input to label."""
        return self.decode(self.engine(self.features(raw)))

    def many(self, raws: Sequence[Any]) -> list[Outcome]:
        """Texts to answers, in padded batches of texts of like length."""
        ids = [self.features(raw)[0] for raw in raws]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        found: list[Outcome | None] = [None] * len(ids)
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            padded = np.zeros((len(chosen), len(ids[chosen[-1]])), np.int64)
            for row, index in enumerate(chosen):
                padded[row, : len(ids[index])] = ids[index]
            for index, row in zip(chosen, self.engine(padded).tolist(), strict=True):
                found[index] = self._outcome(row)
        return [outcome for outcome in found if outcome is not None]

    def versions(self) -> Mapping[str, str]:
        """Libraries."""
        return {**self._versions, "numpy": np.__version__}

    def _outcome(self, row: list[float]) -> Outcome:
        if isinstance(self._decode, Regression):
            low, high = self._decode.range
            row = [min(max(value, low), high) for value in row]
        best = self._labels[int(np.argmax(row))] if isinstance(self._decode, Softmax) else None
        return Outcome(best, dict(zip(self._labels, row, strict=True)))


class Torch(Network):
    """The reference network as it was trained: eval mode, inference mode, nothing folded or compiled."""

    def __init__(
        self, bundle: Path, threads: int, features: Callable[[Any], Any], versions: Mapping[str, str]
    ) -> None:
        import torch

        from zoo import registry
        from zoo.export.weights import load_weights

        manifest = open_bundle(bundle).manifest
        super().__init__(manifest, features, {**versions, "torch": str(torch.__version__)})
        torch.set_num_threads(threads)
        card, variant = registry.find(manifest.name)
        weights = load_weights(card, variant)
        if weights.sha256 != manifest.provenance.weights_sha256:
            raise ZooError(f"{bundle} was made of other weights than {variant.name} has now; export it again")
        self._network = card.build(variant.config)
        state = {name: torch.from_numpy(np.array(array)) for name, array in weights.tensors.items()}
        self._network.load_state_dict(state, strict=False)
        self._network.eval()
        self._index = [tensor.name for tensor in card.engine_outputs(variant)].index(self._decode.output)
        self._tensor, self._inference = torch.from_numpy, torch.inference_mode

    def engine(self, features: Any) -> Any:
        """One forward pass."""
        with self._inference():
            return self._network(self._tensor(features))[self._index]


class OnnxRuntime(Network):
    """The bundle's own ONNX graph; default options but for the number of threads."""

    def __init__(
        self, bundle: Path, threads: int, features: Callable[[Any], Any], versions: Mapping[str, str]
    ) -> None:
        import onnxruntime as ort

        opened = open_bundle(bundle)
        manifest = opened.manifest
        engine = manifest.engines[0]
        if engine.kind != "onnxruntime":
            raise ZooError(f"{bundle}: this peer runs onnxruntime bundles; put such a one first")
        super().__init__(manifest, features, {**versions, "onnxruntime": ort.__version__})
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = ort.InferenceSession(
            opened.read(engine.file), options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name

    def engine(self, features: Any) -> Any:
        """One run."""
        return self._session.run([self._decode.output], {self._input: features})[0]
