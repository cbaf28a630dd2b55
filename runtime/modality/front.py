# SPDX-License-Identifier: Apache-2.0
"""The way of a model's inputs to its engine: modality and pipelines together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.pipeline import op_files, pipeline_of
from zoo.runtime.modality.audio import Audio
from zoo.runtime.modality.base import Features, Given, Modality, Raw
from zoo.runtime.modality.eeg import Eeg
from zoo.runtime.modality.image import Image
from zoo.runtime.modality.text import Text
from zoo.runtime.modality.video import Video
from zoo.specs import curves

if TYPE_CHECKING:
    from zoo.bundle import Branch, Bundle
    from zoo.specs import RawInput

_MODALITIES: dict[str, Modality] = {
    "audio": Audio(),
    "image": Image(),
    "video": Video(),
    "eeg": Eeg(),
    "text": Text(),
}


def modality(name: str) -> Modality:
    """The modality that a manifest calls so."""
    return _MODALITIES[name]


def golden_file(path: Path, spec: RawInput, model: str) -> Raw:
    """A golden input as it lies in a model's folder; errors as of :meth:`Modality.golden`."""
    return modality(spec.modality).golden(path, spec, model)


class Front:
    """Raw input to what the engine takes.

    Attributes
    ----------
    modality : Modality
        The kind of input.
    pipeline : Pipeline
        The executor that fills the first engine input.

    Parameters
    ----------
    model : str
        Its name, for errors.
    spec : RawInput
        The input as the manifest describes it.
    branches : sequence of Branch
        The pipelines, one for each engine input.
    files : mapping of str to bytes
        Content of the files that their ops name.
    along : bool
        The engine goes along the input step by step, so that files of any length and kind are read in blocks.

    Raises
    ------
    InputError
        A file does not hold what its op reads.
    """

    def __init__(
        self,
        model: str,
        spec: RawInput,
        branches: Sequence[Branch],
        files: Mapping[str, bytes],
        *,
        along: bool,
    ) -> None:
        self.model, self.spec, self.branches, self.files, self.along = model, spec, branches, files, along
        self.modality = modality(spec.modality)
        self.pipeline = pipeline_of(
            branches[0].source, branches[0].pipeline, files=files, electrodes=spec.electrodes
        )

    @classmethod
    def of(cls, bundle: Bundle) -> Front:
        """That of a bundle."""
        manifest = bundle.manifest
        branches = manifest.all_branches()
        names = op_files([op for branch in branches for op in branch.pipeline])
        files = {name: bundle.read(name) for name in names}
        return cls(manifest.name, manifest.input, branches, files, along=bool(curves(manifest.decode)))

    def features(self, given: Given) -> tuple[Features, float]:
        """Features of an input, and the milliseconds of decoding it; errors as of :meth:`Modality.features`."""
        return self.modality.features(self, given)

    def raw(self, raw: Raw) -> Features:
        """Features of a golden input."""
        return self.features(self.modality.given(raw))[0]
