# SPDX-License-Identifier: Apache-2.0
"""What differs between sound, films, images, EEG and texts, one module each. Nothing else asks which one a model takes.

:func:`modality` finds one by the manifest's name; :class:`Front` is one together with a model's pipelines.
"""

from zoo.runtime.modality.base import Features, Given, Modality, Raw, Window
from zoo.runtime.modality.front import Front, golden_file, modality

__all__ = ["Features", "Front", "Given", "Modality", "Raw", "Window", "golden_file", "modality"]
