# SPDX-License-Identifier: Apache-2.0
"""Recorded histograms on disk: an interrupted recording goes on, a finished one is not made again.

A file is the SHA-256 of its payload, then the payload (safetensors). It is a cache: what is damaged, of another key or
not writable is made anew, never trusted, and never an error.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import onnxruntime as ort
from safetensors import SafetensorError
from safetensors.numpy import load, save

from zoo import _native, store
from zoo.export.histogram import BINS, Histogram

_FORMAT = 1
_DIGEST = hashlib.sha256().digest_size


@dataclass(frozen=True)
class RecordingFile:
    """Where the recording of one graph over one list of items is kept, whole or in part."""

    path: Path
    key: str

    def load(self, tensors: Sequence[str], total: int) -> tuple[int, dict[str, Histogram]]:
        """Inputs done and their histograms; (0, empty ones) where nothing usable is there."""
        fresh = {name: Histogram() for name in tensors}
        try:
            content = self.path.read_bytes()
            payload = content[_DIGEST:]
            if hashlib.sha256(payload).digest() != content[:_DIGEST]:
                return 0, fresh
            arrays = load(payload)
            about = json.loads(arrays["about"].tobytes())
            done = about["done"]
            if about["key"] != self.key or about["tensors"] != list(tensors) or not 0 <= done <= total:
                return 0, fresh
            counts, numbers = arrays["counts"], arrays["numbers"]
            if counts.shape != (len(tensors), BINS) or numbers.shape != (len(tensors), 2):
                return 0, fresh
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            return 0, fresh
        for i, histogram in enumerate(fresh.values()):
            histogram.counts = counts[i].copy()
            histogram.width, histogram.largest = float(numbers[i, 0]), float(numbers[i, 1])
        with contextlib.suppress(OSError):
            os.utime(self.path)  # zoo cache --older-than goes by the last use
        return done, fresh

    def save(self, histograms: Mapping[str, Histogram], done: int) -> None:
        """Write atomically; equal histograms give equal bytes. Nothing happens where the folder is not writable."""
        about = json.dumps({"key": self.key, "tensors": list(histograms), "done": done})
        payload = save(
            {
                "about": np.frombuffer(about.encode(), np.uint8),
                "counts": np.stack([h.counts for h in histograms.values()]),
                "numbers": np.array([(h.width, h.largest) for h in histograms.values()], np.float64),
            }
        )
        temporary = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self.path.parent, suffix=".tmp")
            with os.fdopen(handle, "wb") as stream:
                stream.write(hashlib.sha256(payload).digest() + payload)
            Path(temporary).replace(self.path)
            temporary = None
        except OSError:
            pass
        finally:
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)


def recording_file(
    graph_sha256: str, items_sha256: str, order: Sequence[str], pipeline: str
) -> RecordingFile:
    """The file for a graph and items. The key also holds what can change a value: versions, kernels, machine.

    Parameters
    ----------
    items_sha256 : str
        Over the items' content.
    order : sequence of str
        Their ids in the order of the recording: a histogram's bins depend on it.
    pipeline : str
        The pipeline's description, with the content of its files.
    """
    kernels = hashlib.sha256(Path(str(_native.__file__)).read_bytes()).hexdigest()
    parts = (
        _FORMAT,
        BINS,
        graph_sha256,
        items_sha256,
        list(order),
        pipeline,
        metadata.version("affect-zoo"),
        kernels,
        _native.isa(),
        platform.machine(),
        platform.processor(),
        ort.__version__,
        np.__version__,
    )
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    return RecordingFile(store.recordings() / f"{key}.hist", key)
