# SPDX-License-Identifier: Apache-2.0
"""Images: PNG and JPEG files, or pixels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import InputError
from zoo.ops import read_image, read_pixels
from zoo.runtime.modality.base import Features, Given, Modality, Raw, Window
from zoo.runtime.stream import HOP, hop_rows

if TYPE_CHECKING:
    from zoo.runtime.modality.front import Front
    from zoo.specs import RawInput


class Image(Modality):
    """Pixels uint8, (height, width) for grey or (height, width, 3) for RGB."""

    takes, files = "images", "image files"

    def features(self, front: Front, given: Given) -> tuple[Features, float]:
        start = perf_counter()
        pixels = read_pixels(given)
        decode_ms = (perf_counter() - start) * 1e3
        return self.run(front, pixels), decode_ms

    def golden(self, path: Path, spec: RawInput, model: str) -> Raw:
        return Raw(read_image(path), 0)

    def given(self, raw: Raw) -> Given:
        return raw.samples

    def altered(self, raw: Raw, step: int) -> Raw:
        """Cut, mirrored and darkened."""
        height, width = raw.samples.shape[:2]
        top, left = (step * 7919) % max(1, height // 4), (step * 104729) % max(1, width // 4)
        part = raw.samples[top:, left:]
        if step % 2:
            part = part[:, ::-1]
        level = 1 - (step % 7) / 14
        return Raw(np.rint(part * level).astype(np.uint8), 0)

    def windows(
        self, front: Front, chunks: Iterable[Any], rate: int | None, hop: float | None
    ) -> Iterator[Window]:
        """Every ``hop`` seconds one picture; each chunk is one, or several as (n, height, width, 3)."""
        rate = rate or front.spec.rate
        if not rate or not 1e-3 <= rate <= 768_000:
            raise InputError(
                f"{front.model}: the stream's rate is {rate}; give pictures a second: 0.001 to 768000"
            )
        step = hop_rows(rate, HOP if hop is None else hop)
        pictures = (picture for chunk in chunks for picture in (chunk if np.ndim(chunk) == 4 else (chunk,)))
        for index, picture in enumerate(pictures):
            if index % step == 0:
                begun = perf_counter()
                features, decode_ms = self.features(front, picture)
                spent = (perf_counter() - begun) * 1e3 - decode_ms
                yield Window(features, decode_ms, spent, index / rate, (index + 1) / rate)
