# SPDX-License-Identifier: Apache-2.0
"""A toy system in a folder of its own: two convolutions with batch normalisation on log-mel-like features.

Labels are tones of another pitch. The last layer is solved by least squares on the random features of the
layers before it, so the net classifies without any training. ``toy-outlier`` is the same function with one
channel blown up in one layer and scaled down in the next: INT8 loses the other channels there, and the gate has
to return that layer to fp32.
"""

from __future__ import annotations

import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from zoo import registry
from zoo.card import Card, Variant
from zoo.export import exporter
from zoo.export.graph import Graph, Trace
from zoo.export.inputs import InputSet, Preprocessor, parity_inputs
from zoo.export.weights import build_reference, load_weights
from zoo.pipeline import Pipeline

RATE = 8000
LABELS = ("high", "low", "middle")
PITCH = {"high": 1800.0, "low": 300.0, "middle": 800.0}
GROUPS = ("a", "b", "c", "d")
PIPELINE = [
    {"op": "resample", "rate": RATE},
    {"op": "fit", "length": 2000, "pad": "end", "crop": "start"},
    {"op": "mfcc", "n_mfcc": 12, "n_fft": 256, "hop_length": 128, "n_mels": 24},
]

MODEL = """
import torch
from torch import nn


class Toy(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv1 = nn.Conv1d(12, 8, 3, padding=1)
        self.bn1 = nn.BatchNorm1d(8)
        self.conv2 = nn.Conv1d(8, 8, 3, padding=2, dilation=2)
        self.bn2 = nn.BatchNorm1d(8)
        self.scale = nn.Parameter(torch.ones(8, 1))
        self.dense = nn.Linear(8, classes)

    def forward(self, features):
        x = features.transpose(1, 2)
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x))) * self.scale
        logits = self.dense(x.mean(dim=2))
        return logits, torch.softmax(logits, dim=1)


def build(config):
    return Toy(int(config["classes"]))
"""

DATA = """
from zoo.data import Dataset, Item
from zoo.errors import DataError


def read(root):
    files = sorted((root / "clips").glob("*.wav"))
    if not files:
        raise DataError(f"toy: no clips in {root}")
    labels = ("high", "low", "middle")
    items = []
    for path in files:
        group, label, _ = path.stem.split("-")
        items.append(Item(path.stem, path, labels.index(label), group))
    return Dataset("toy-tones", labels, tuple(items), "CC0-1.0")
"""

CONVERT = """
import numpy as np
from zoo.errors import DataError


def convert(path, variant):
    try:
        with np.load(path) as arrays:
            return {name: arrays[name].astype(np.float32) for name in arrays.files}
    except ValueError as error:
        raise DataError(f"{path}: not an npz: {error}") from error
"""

CARD = """
schema = 1
model = "toy"
title = "Toy"
task = "tone"
golden = ["golden/0.wav", "golden/1.wav", "golden/2.wav"]
paper = { title = "none", venue = "none", id = "none", sheet = "none" }
input = { modality = "audio", rate = 8000, channels = 1, shape = ["samples"] }
engine_inputs = [{ name = "features", dtype = "float32", shape = ["batch", "time", 12] }]
engine_outputs = [
  { name = "logits", dtype = "float32", shape = ["batch", 3] },
  { name = "probs", dtype = "float32", shape = ["batch", 3] },
]
decode = { type = "softmax", output = "probs" }
"""

VARIANT = """
[[variants]]
name = "%(name)s"
summary = "toy"
labels = ["low", "middle", "high"]
config = { classes = 3 }
profile = { batch = [1, 1, 4], time = [16, 16, 16] }
license = { code = "Apache-2.0", weights = "Apache-2.0", data = "CC0-1.0" }
pipeline = [
  { op = "resample", rate = 8000 },
  { op = "fit", length = 2000, pad = "end", crop = "start" },
  { op = "mfcc", n_mfcc = 12, n_fft = 256, hop_length = 128, n_mels = 24 },
]
%(extra)s
"""


@dataclass(frozen=True)
class Toy:
    """Where the toy lies, and its parts made ready for the lower-level tests."""

    root: Path
    data: Path
    card: Card
    variant: Variant
    trace: Trace
    graph: Graph
    preprocessor: Preprocessor
    inputs: InputSet

    @property
    def folder(self) -> Path:
        return self.root / "toy"

    def reference(self) -> object:
        return build_reference(self.card, self.variant, load_weights(self.card, self.variant).tensors)


def write_wav(path: Path, samples: np.ndarray, rate: int = RATE) -> None:
    with wave.open(str(path), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(rate)
        stream.writeframes(np.rint(samples * 32000).astype("<i2").tobytes())


def tone(label: str, seed: int, seconds: float = 0.25) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = np.arange(int(RATE * seconds)) / RATE
    pitch = PITCH[label] * rng.uniform(0.9, 1.1)
    wave_form = sum(np.sin(2 * np.pi * pitch * k * t + rng.uniform(0, 6)) / k for k in (1, 2, 3))
    return np.clip(rng.uniform(0.1, 0.5) * wave_form / 2 + 0.02 * rng.standard_normal(t.size), -1, 1)


def _solve(features: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Random convolutions, then the last layer by least squares; label order of the card."""
    import importlib.util

    spec = importlib.util.spec_from_loader("toy_model_for_solving", loader=None)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    exec(compile(MODEL, "toy", "exec"), module.__dict__)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        net = module.build({"classes": 3}).eval()
        x = torch.from_numpy(features)
        net.conv1.weight *= 0.05
        raw = net.conv1(x.transpose(1, 2))
        net.bn1.running_mean.copy_(raw.mean((0, 2)))
        net.bn1.running_var.copy_(raw.var((0, 2)))
        net.bn1.bias.uniform_(-0.3, 0.3)
        raw = net.conv2(torch.relu(net.bn1(raw)))
        net.bn2.running_mean.copy_(raw.mean((0, 2)))
        net.bn2.running_var.copy_(raw.var((0, 2)))
        net.scale.uniform_(0.5, 1.5)
        pooled = (torch.relu(net.bn2(raw)) * net.scale).mean(2).numpy()
        design = np.concatenate([pooled, np.ones((len(pooled), 1), np.float32)], 1)
        wanted = 8 * (np.eye(3, dtype=np.float32)[labels] - 0.5)
        solution = np.linalg.lstsq(design.T @ design + 1e-3 * np.eye(9), design.T @ wanted, rcond=None)[0]
        net.dense.weight.copy_(torch.from_numpy(solution[:8].T.astype(np.float32)))
        net.dense.bias.copy_(torch.from_numpy(solution[8].astype(np.float32)))
    state = {
        k: v.numpy().copy() for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")
    }
    return dict(sorted(state.items()))


def _with_outlier(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same function, one channel between the convolutions a thousand times larger."""
    changed = {name: value.copy() for name, value in state.items()}
    changed["bn1.weight"][0] *= 1000
    changed["bn1.bias"][0] *= 1000
    changed["conv2.weight"][:, 0] /= 1000
    return changed


@pytest.fixture(scope="session")
def toy_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for ``ZOO_MODELS`` with the toy in it, and ``data`` beside it."""
    root = tmp_path_factory.mktemp("models")
    folder, clips = root / "toy", root / "data" / "clips"
    (folder / "golden").mkdir(parents=True)
    (folder / "weights").mkdir()
    clips.mkdir(parents=True)
    for i, label in enumerate(LABELS):
        write_wav(folder / "golden" / f"{i}.wav", tone(label, 1000 + i, 0.6))
    names, features, labels, groups = [], [], [], []
    pipeline = Pipeline(PIPELINE)
    order = ("low", "middle", "high")
    for group in GROUPS:
        for label in LABELS:
            for i in range(16):
                name = f"{group}-{label}-{i:02d}"
                write_wav(clips / f"{name}.wav", tone(label, len(names)))
                features.append(pipeline.run_file(clips / f"{name}.wav")[0])
                names.append(name)
                labels.append(order.index(label))
                groups.append(group)
    x, y, g = np.stack(features), np.array(labels), np.array(groups)
    whole = _solve(x, y, 0)
    folds = {group: _solve(x[g != group], y[g != group], 1 + i) for i, group in enumerate(GROUPS)}
    for name, change in (("toy", lambda state: state), ("toy-outlier", _with_outlier)):
        save_file(change(whole), folder / "weights" / f"{name}.safetensors")
        save_file(
            {
                f"fold/{group}/{key}": value
                for group, state in folds.items()
                for key, value in change(state).items()
            },
            folder / "weights" / f"{name}.folds.safetensors",
        )
    trained = (
        'weights = {{ status = "trained", file = "weights/{0}.safetensors", source = "solved in a test" }}\n'
        'data = {{ reader = "local" }}\n'
        'folds = {{ file = "weights/{0}.folds.safetensors", protocol = "leave one group out" }}\n'
        'quality = [{{ metric = "UAR", value = 0.9, source = "reproduced", protocol = "leave one group out" }}]\n'
    )
    refused = 'refused = [{ target = "*", precision = "int8", reason = "the toy says so" }]\n'
    variants = {
        "toy": trained.format("toy") + "ready = true\n",
        "toy-outlier": trained.format("toy-outlier"),
        "toy-random": 'weights = { status = "random", seed = 3 }\n' + refused,
        "toy-alone": 'weights = { status = "random", seed = 4 }\nconverts_to = "toy-random"\n',
    }
    card = CARD + "".join(VARIANT % {"name": name, "extra": extra} for name, extra in variants.items())
    for file, text in (("card.toml", card), ("model.py", MODEL), ("data.py", DATA), ("convert.py", CONVERT)):
        (folder / file).write_text(text)
    return root


@pytest.fixture(scope="session", autouse=True)
def _trace_once() -> Iterator[None]:
    """Tracing takes seconds, and test_graph.py tests it: exports trace each variant of the toy once."""
    known: dict[tuple[bytes, str], Trace] = {}

    def trace(card: Card, variant: Variant) -> Trace:
        what = (
            (card.folder / "model.py").read_bytes(),
            f"{card.file.engine_inputs} {variant.config} {variant.profile}",
        )
        if what not in known:
            known[what] = Trace(card, variant)
        return known[what]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporter, "Trace", trace)
        yield


@pytest.fixture
def toy_models(toy_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The toy is in the registry, the store is empty, no data set is set."""
    monkeypatch.setenv("ZOO_MODELS", str(toy_root))
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ZOO_DATA", raising=False)
    return toy_root


@pytest.fixture(scope="session")
def toy(toy_root: Path) -> Toy:
    """The toy's parts, traced once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_MODELS", str(toy_root))
        card, variant = registry.find("toy")
    trace = exporter.Trace(card, variant)
    preprocessor = Preprocessor(card, variant)
    return Toy(
        root=toy_root,
        data=toy_root / "data",
        card=card,
        variant=variant,
        trace=trace,
        graph=trace.finish(load_weights(card, variant).tensors),
        preprocessor=preprocessor,
        inputs=parity_inputs(card, preprocessor, None, 64),
    )
