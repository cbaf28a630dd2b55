# SPDX-License-Identifier: Apache-2.0
"""Real inputs for parity, calibration and scoring: raw input -> C++ pipeline -> engine arrays."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoo.data import Dataset, Item, Source
from zoo.errors import DataError, ZooError

if TYPE_CHECKING:
    from zoo.card import Card, Variant

#: What the engine takes for one raw input: one array for each engine input, without the batch dimension.
Features = tuple[NDArray[Any], ...]
#: Called with (stage, done, total).
Progress = Callable[[str, int, int], None]

#: Bytes of features that a preprocessor remembers; what comes after is computed again when it is asked for.
_REMEMBERED = 256 << 20


@dataclass(frozen=True)
class Raw:
    """One raw input. Audio: int16 samples, shape (n,) or (n, channels), and their rate in Hz. Text: its UTF-8 bytes,
    uint8 (n,), and rate 0. Film: frames, uint8 (n, height, width, 3), a rate a second, and perhaps its sound.
    """

    samples: NDArray[Any]
    rate: int
    sound: Raw | None = None

    @property
    def text(self) -> str:
        """The text of a text input."""
        return self.samples.tobytes().decode()


@dataclass(frozen=True)
class InputSet:
    """Engine inputs and a sentence on where they come from."""

    features: tuple[Features, ...]
    source: str


class Preprocessor:
    """A variant's pipeline, for raw inputs and for data set items. Remembers the features of items, up to a limit.

    Attributes
    ----------
    description : str
        What decides the features of an input: the ops with their parameters, and the content (SHA-256) of the files that they
        name.
    """

    def __init__(self, card: Card, variant: Variant) -> None:
        self._sources = [branch.source for branch in card.branches(variant)]
        if len(card.file.engine_inputs) != len(self._sources):
            raise ZooError(
                f"{variant.name}: the card has {len(card.file.engine_inputs)} engine inputs, pipeline and branches fill "
                f"{len(self._sources)}"
            )
        self._pipelines = card.pipelines(variant)
        self._pipeline = self._pipelines[0]
        self._name = variant.name
        files = card.pipeline_files(variant).items()
        contents = [f"{name} {hashlib.sha256(content).hexdigest()}" for name, content in files]
        branches = [repr(branch) for branch in card.branches(variant)[1:]]
        self.description = "\n".join([repr(variant.pipeline), *branches, *contents])
        self._known: dict[Source, Features] = {}
        self._left = _REMEMBERED

    def raw(self, raw: Raw) -> Features:
        """Features of a raw input; of several branches as many rows as the shortest has."""
        if len(self._pipelines) > 1:
            return self._branches(raw)
        return (self._pipeline.run(raw.text) if raw.rate == 0 else self._pipeline.run(raw.samples, raw.rate),)

    def _branches(self, raw: Raw) -> Features:
        arrays = []
        for source, pipeline in zip(self._sources, self._pipelines, strict=True):
            given = raw.sound if source == "sound" and raw.samples.dtype == np.uint8 else raw
            if given is None:
                raise ZooError(f"{self._name}: an input without sound; one of the branches needs it")
            arrays.append(pipeline.run(given.samples, given.rate))
        rows = min(map(len, arrays))
        return tuple(array[:rows] for array in arrays)

    def item(self, item: Item) -> Features:
        """Features of a data set item; computed once as long as they fit into the limit."""
        if item.source in self._known:
            return self._known[item.source]
        if len(self._pipelines) > 1:
            raise ZooError(f"{self._name}: items of data sets with several branches cannot be read yet")
        source = item.source
        features: Features = (
            self._pipeline.run(source) if isinstance(source, str) else self._pipeline.run_file(source)[0],
        )
        size = sum(array.nbytes for array in features)
        if size <= self._left:
            self._left -= size
            self._known[item.source] = features
        return features

    def items(self, items: Sequence[Item], progress: Progress | None = None) -> tuple[Features, ...]:
        """Features of several items."""
        found = []
        for i, item in enumerate(items):
            found.append(self.item(item))
            if progress:
                progress("preprocessing", i + 1, len(items))
        return tuple(found)


def golden_inputs(card: Card) -> list[Raw]:
    """The card's golden inputs: audio files as int16, text files (UTF-8) without the line end, films (npz) as they are.

    The npz of a film has ``frames``, uint8 (n, height, width, 3), and ``rate``, and where it has sound ``sound``, int16, and
    ``sound_rate``.

    Raises
    ------
    DataError
        A file is missing or unreadable.
    ZooError
        The card's modality has no golden reader yet.
    """
    if card.file.input.modality == "text":
        return [_text(_read_text(card.path(name))) for name in card.file.golden]
    if card.file.input.modality == "video":
        return [_film(card.path(name)) for name in card.file.golden]
    if card.file.input.modality != "audio":
        raise ZooError(
            f"model {card.file.model}: golden inputs of modality {card.file.input.modality} cannot be read yet"
        )
    from zoo import ops

    clips = []
    for name in card.file.golden:
        samples, rate = ops.read_audio(card.path(name))
        clips.append(Raw(to_int16(samples), int(rate)))
    return clips


def to_int16(samples: NDArray[Any]) -> NDArray[np.int16]:
    """Samples in [-1, 1] or int16 as int16; exact for what was decoded from 16 bits."""
    array = np.asarray(samples)
    if array.dtype == np.int16:
        return array
    return np.clip(np.rint(array.astype(np.float64) * 32768), -32768, 32767).astype(np.int16)


def derived_inputs(raws: Sequence[Raw], count: int) -> list[Raw]:
    """At least ``count`` distinct inputs made from a few, the same in every run: clips shifted, cut and scaled, texts
    with other words in front and fewer of them.

    The inputs themselves come first; then, in turn for each, one made from it.
    """
    made = list(raws)
    seen = {_digest(raw) for raw in made}
    step = 0
    while len(made) < count:
        for raw in raws:
            if raw.samples.dtype == np.uint8 and raw.rate:
                candidate = _cut_film(raw, step)
            else:
                candidate = _cut_text(raw, step) if raw.rate == 0 else _cut_clip(raw, step)
            if _digest(candidate) not in seen:
                seen.add(_digest(candidate))
                made.append(candidate)
        step += 1
        if step > 100 * count:
            raise DataError(
                "the golden inputs are too short to derive distinct inputs from; use clips of some seconds, or longer texts"
            )
    return made[:count]


def _cut_clip(clip: Raw, step: int) -> Raw:
    n = len(clip.samples)
    start = (step * 7919) % max(1, n // 2)
    length = max(1, n - start - (step * 104729) % max(1, n // 3))
    level = 10 ** (-(step % 7) * 3 / 20)
    part = clip.samples[start : start + length].astype(np.float64) * level
    return Raw(np.rint(part).astype(np.int16), clip.rate)


def _cut_film(film: Raw, step: int) -> Raw:
    """Two thirds of its length, from another moment on, darker, and quieter."""
    n = len(film.samples)
    start, length = (step * 7919) % (n // 3 + 1), n - n // 3
    level = 1 - (step % 23) / 46
    frames = np.rint(film.samples[start : start + length] * level).astype(np.uint8)
    sound = film.sound
    if sound is not None:
        first, last = (at * sound.rate // film.rate for at in (start, start + length))
        sound = Raw(np.rint(sound.samples[first:last] * level).astype(np.int16), sound.rate)
    return Raw(frames, film.rate, sound)


def _film(path: Path) -> Raw:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            sound = None
            if "sound" in arrays:
                sound = Raw(arrays["sound"], int(arrays["sound_rate"]))
            film = Raw(arrays["frames"], int(arrays["rate"]), sound)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a readable golden film (npz): {error}") from error
    return film


def _cut_text(text: Raw, step: int) -> Raw:
    words = text.text.split()
    turn, start = divmod(step, max(1, len(words)))
    kept = max(1, len(words) - turn)
    return _text(" ".join((words[start:] + words[:start])[:kept]))


def _text(text: str) -> Raw:
    return Raw(np.frombuffer(text.encode(), np.uint8), 0)


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable UTF-8 text: {error}") from error


def parity_inputs(card: Card, preprocessor: Preprocessor, dataset: Dataset | None, count: int) -> InputSet:
    """``count`` real inputs: from the data set where there is one, else derived from the golden inputs."""
    if dataset is not None and len(dataset.items) >= count:
        chosen = stratified(dataset, dataset.items, count)
        return InputSet(preprocessor.items(chosen), f"{count} items of {dataset.name}, stratified by label")
    golden = golden_inputs(card)
    derived = derived_inputs(golden, count)
    source = f"{len(golden)} golden inputs, altered to {count} distinct inputs"
    return InputSet(tuple(preprocessor.raw(raw) for raw in derived), source)


def stratified(dataset: Dataset, items: Sequence[Item], count: int) -> list[Item]:
    """``count`` items (or all, if fewer) with the label shares of ``items``, chosen by the hash of their ids.

    An item with several labels counts for the rarest of them; values fall into fifths of their number. Every label that occurs gets at least one item where ``count`` allows. Order: as in ``items``.
    """
    if count >= len(items):
        return list(items)
    by_label: dict[int, list[Item]] = {}
    for item, stratum in zip(items, _strata(items), strict=True):
        by_label.setdefault(stratum, []).append(item)
    exact = {label: count * len(members) / len(items) for label, members in by_label.items()}
    share = {label: min(len(by_label[label]), max(1, int(value))) for label, value in exact.items()}
    # Largest remainders first; ties by label, so that the choice is the same everywhere.
    order = sorted(by_label, key=lambda label: (-(exact[label] - int(exact[label])), label))
    while sum(share.values()) != count:
        grow = sum(share.values()) < count
        for label in order if grow else sorted(by_label, key=lambda label: (-share[label], label)):
            if grow and share[label] < len(by_label[label]):
                share[label] += 1
            elif not grow and share[label] > 0:
                share[label] -= 1
            if sum(share.values()) == count:
                break
    chosen: set[str] = set()
    for label, members in by_label.items():
        ranked = sorted(members, key=lambda item: hashlib.sha256(item.id.encode()).hexdigest())
        chosen.update(item.id for item in ranked[: share[label]])
    return [item for item in items if item.id in chosen]


def _strata(items: Sequence[Item]) -> list[int]:
    """A small whole number for each item, equal where they should be spread alike."""
    if any(isinstance(item.label, Mapping) for item in items):
        return _strata_of_heads(items)
    labels = [item.label for item in items]
    if all(isinstance(label, int) for label in labels):
        return [label for label in labels if isinstance(label, int)]
    table = np.array(labels)
    if table.dtype.kind == "i":
        rarity = np.where(table > 0, table.sum(axis=0), len(table) + 1)
        return [
            int(row.argmin()) if given else -1
            for row, given in zip(rarity, table.sum(axis=1).tolist(), strict=True)
        ]
    ranks = np.argsort(np.argsort(table[:, 0], kind="stable"), kind="stable")
    return [int(rank) for rank in ranks * 5 // len(items)]


def _strata_of_heads(items: Sequence[Item]) -> list[int]:
    """Those of the first head that an item has a truth for, apart from the other heads' strata."""
    by_head: dict[str, list[tuple[int, Item]]] = {}
    for place, item in enumerate(items):
        assert isinstance(item.label, Mapping)
        first = next(iter(sorted(item.label)), "")
        own = replace(item, label=item.label[first]) if first else replace(item, label=0)
        by_head.setdefault(first, []).append((place, own))
    strata = [0] * len(items)
    base = 0
    for head in sorted(by_head):
        found = _strata([item for _, item in by_head[head]])
        least = min(found)
        for (place, _), stratum in zip(by_head[head], found, strict=True):
            strata[place] = base + stratum - least
        base += max(found) - least + 1
    return strata


def _digest(raw: Raw) -> bytes:
    return hashlib.sha256(raw.samples.tobytes()).digest()
