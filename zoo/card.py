# SPDX-License-Identifier: Apache-2.0
"""Model cards: everything the zoo knows of one system, as data (``card.toml`` in the model's folder)."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from zoo.bundle import Branch
from zoo.errors import DataError, ZooError
from zoo.pipeline import Op, Pipeline, Source, op_files, pipeline_of
from zoo.specs import (
    Decode,
    License,
    Metric,
    Name,
    Quality,
    Range3,
    RawInput,
    Sha256,
    Spec,
    TensorSpec,
    WeightsStatus,
    decode_problem,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class Paper(Spec, frozen=True):
    """The published system. ``sheet`` names the fact sheet that the reference was written from."""

    title: str
    venue: str
    id: str
    sheet: str


class WeightsSpec(Spec, frozen=True):
    """Where a variant's weights come from. ``file`` lies in the model's folder; ``random`` needs a ``seed``.

    ``shared``: a second file, with tensors that several variants have in common.
    """

    status: WeightsStatus
    file: str | None = None
    shared: str | None = None
    seed: int | None = None
    source: str = ""


class DataSpec(Spec, frozen=True):
    """A data set reader: module ``zoo.data.<reader>``, or ``data.py`` of the model's folder for ``local``.

    ``sha256`` is the fingerprint (``Dataset.fingerprint``) of the items that the weights were trained on.
    """

    reader: str
    options: dict[str, Any] = {}
    sha256: Sha256 | None = None


class FoldModels(Spec, frozen=True):
    """Weights of the models of one cross-validation, in one file, keys ``fold/<group>/<parameter>``.

    The accuracy gate scores each group's items with the model that has not seen that group.
    """

    file: str
    protocol: str


class Refused(Spec, frozen=True):
    """A cell of the export matrix that cannot work, and why. ``*`` stands for every target or precision."""

    target: str
    precision: str
    reason: str


class Variant(Spec, frozen=True):
    """One exportable model: a name, its labels, pipeline, weights and figures.

    ``held_out`` names the groups of the data set that the weights have not seen: what is scored. A variant whose
    weights saw every group has ``folds`` instead. ``decode`` and ``engine_outputs`` take the place of the card's.
    ``pipeline`` fills the first engine input, ``branches`` the others.
    """

    name: Name
    summary: str
    labels: tuple[str, ...]
    pipeline: tuple[Op, ...]
    weights: WeightsSpec
    license: License
    config: dict[str, Any] = {}
    decode: Decode | None = None
    engine_outputs: tuple[TensorSpec, ...] = ()
    profile: dict[str, Range3] = {}
    data: DataSpec | None = None
    folds: FoldModels | None = None
    held_out: tuple[str, ...] = ()
    metric: Metric = "UAR"
    training: dict[str, Any] = {}
    quality: tuple[Quality, ...] = ()
    notes: tuple[str, ...] = ()
    converts_to: Name | None = None
    refused: tuple[Refused, ...] = ()
    ready: bool = False
    branches: tuple[Branch, ...] = ()

    @property
    def protocol(self) -> str:
        """What the weights have not seen, and so are scored on; empty where they have seen everything."""
        if self.folds is not None:
            return self.folds.protocol
        return f"held out: {', '.join(self.held_out)}" if self.held_out else ""


class CardFile(Spec, frozen=True):
    """The content of a ``card.toml``."""

    schema: Literal[1]
    model: Name
    title: str
    task: str
    paper: Paper
    input: RawInput
    engine_inputs: tuple[TensorSpec, ...]
    engine_outputs: tuple[TensorSpec, ...]
    decode: Decode
    golden: Annotated[tuple[str, ...], Meta(min_length=3)]
    variants: Annotated[tuple[Variant, ...], Meta(min_length=1)]


class Card:
    """A model's folder: its card, and its Python modules loaded on demand.

    Parameters
    ----------
    folder : Path
        Holds ``card.toml``, ``model.py`` and, where they exist, ``train.py``, ``convert.py``, ``data.py``.
    package : str or None
        Import name of the folder (``zoo.models.tim_net``), or None for a folder outside the package.
    """

    def __init__(self, folder: Path, package: str | None) -> None:
        self.folder = folder
        self.package = package
        path = folder / "card.toml"
        try:
            self.file = msgspec.convert(tomllib.loads(path.read_text("utf-8")), CardFile)
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
            raise ZooError(f"{path}: not a valid model card: {error}") from error
        for variant in self.file.variants:
            problem = decode_problem(self.decode(variant), variant.labels)
            if problem:
                raise ZooError(f"{path}: not a valid model card: {variant.name}: {problem}")

    def variant(self, name: str) -> Variant:
        """The variant called ``name``; KeyError if there is none."""
        for variant in self.file.variants:
            if variant.name == name:
                return variant
        raise KeyError(name)

    def decode(self, variant: Variant) -> Decode:
        """How a variant's output is read: its own way, or the card's."""
        return variant.decode or self.file.decode

    def engine_outputs(self, variant: Variant) -> tuple[TensorSpec, ...]:
        """What the engine of a variant gives: its own outputs, or the card's."""
        return variant.engine_outputs or self.file.engine_outputs

    def has(self, module: str) -> bool:
        """Whether the folder has ``<module>.py``."""
        return (self.folder / f"{module}.py").is_file()

    def pipeline_files(self, variant: Variant) -> dict[str, bytes]:
        """Content of the files that the ops of a variant's pipeline name, as they lie in the folder.

        Raises
        ------
        ZooError
            One of them cannot be read.
        """
        files = {}
        for name in op_files([op for branch in self.branches(variant) for op in branch.pipeline]):
            try:
                files[name] = (self.folder / name).read_bytes()
            except OSError as error:
                raise ZooError(
                    f"{variant.name}: {self.folder / name} cannot be read: {error.strerror}"
                ) from error
        return files

    def pipeline(self, variant: Variant) -> Pipeline:
        """The executor of a variant's pipeline, with those files."""
        return self.pipelines(variant)[0]

    def pipelines(self, variant: Variant) -> tuple[Pipeline, ...]:
        """The executors of all its branches, that of ``pipeline`` first."""
        files = self.pipeline_files(variant)
        return tuple(
            pipeline_of(branch.source, branch.pipeline, files=files, electrodes=self.file.input.electrodes)
            for branch in self.branches(variant)
        )

    def branches(self, variant: Variant) -> tuple[Branch, ...]:
        """What fills each engine input of a variant, in their order."""
        source: Source = "pictures" if self.file.input.modality == "video" else "sound"
        return (Branch(source=source, pipeline=variant.pipeline), *variant.branches)

    def module(self, name: str) -> ModuleType:
        """Import ``<name>.py`` of the folder.

        Raises
        ------
        ZooError
            The folder has no such module.
        """
        if not self.has(name):
            raise ZooError(f"model {self.file.model} has no {name}.py in {self.folder}")
        if self.package is not None:
            return importlib.import_module(f"{self.package}.{name}")
        alias = f"_zoo_models_{self.file.model.replace('-', '_')}_{name}"
        spec = importlib.util.spec_from_file_location(alias, self.folder / f"{name}.py")
        if spec is None or spec.loader is None:
            raise ZooError(f"cannot load {self.folder / f'{name}.py'}")
        module = importlib.util.module_from_spec(spec)
        sys.modules[alias] = module
        spec.loader.exec_module(module)
        return module

    def path(self, relative: str) -> Path:
        """A file of the folder that the card names.

        Raises
        ------
        DataError
            The file is not there.
        """
        path = self.folder / relative
        if not path.is_file():
            raise DataError(
                f"model {self.file.model}: {path} is missing; reinstall, or train it with zoo train"
            )
        return path

    def build(self, config: Mapping[str, Any]) -> Any:
        """The PyTorch reference with fresh weights (``model.py``'s ``build``)."""
        return self.module("model").build(config)
