# SPDX-License-Identifier: Apache-2.0
"""Golden cases of a bundle: raw inputs and what the reference gives for them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import ParityError
from zoo.export.inputs import Preprocessor, Raw
from zoo.export.parity import Run
from zoo.specs import Precision

#: Absolute difference allowed in fp32, for each unit of the outputs' largest magnitude above one. The engine's
#: own rounding gives some 1e-6. What crosses machines is the pipeline's: its sums are grouped differently on
#: another instruction set (features of TIM-Net differ by up to 4e-4 dB between baseline, AVX2 and AVX-512 on 64
#: clips, its logits by 3e-6), and other CPUs and GPUs sum convolutions in another order. A wrong resampler, a
#: shifted window or a swapped weight moves logits by 1e-2 and more.
FP32_TOLERANCE = 1e-4
#: Lower precisions: the difference measured here, with room for values that round the other way on another
#: machine. Never more than a quarter of the outputs' range: beyond that a selftest would prove nothing.
MARGIN = 1.5
LARGEST_SHARE = 0.25


@dataclass(frozen=True)
class GoldenCases:
    """The file's bytes, the number of cases and the tolerance of their outputs."""

    data: bytes
    count: int
    tolerance: float


def make_golden(
    raws: Sequence[Raw],
    preprocessor: Preprocessor,
    reference: Run,
    artifact: Run,
    precision: Precision,
    name: str,
) -> GoldenCases:
    """Golden cases from raw inputs.

    Raises
    ------
    ParityError
        The artifact is further from the reference than any tolerance that would mean something.
    """
    arrays: dict[str, NDArray[Any]] = {}
    worst, largest, span = 0.0, 1.0, 0.0
    for i, raw in enumerate(raws):
        features = preprocessor.raw(raw)
        expected, found = reference(features), artifact(features)
        arrays[f"{i}/input"] = raw.samples
        arrays[f"{i}/rate"] = np.array(raw.rate, np.int64)
        if raw.sound is not None:
            arrays[f"{i}/sound"] = raw.sound.samples
            arrays[f"{i}/sound_rate"] = np.array(raw.sound.rate, np.int64)
        for output, value in expected.items():
            arrays[f"{i}/outputs/{output}"] = value[0]
            worst = max(worst, float(np.abs(found[output].astype(np.float64) - value).max()))
            largest = max(largest, float(np.abs(value).max()))
            span = max(span, float(np.ptp(value)))
    tolerance = FP32_TOLERANCE * largest
    if precision != "fp32":
        tolerance = max(tolerance, MARGIN * worst)
    limit = min(1.0, max(LARGEST_SHARE * max(span, largest), FP32_TOLERANCE * largest))
    if worst > min(tolerance, limit):
        raise ParityError(
            f"{name} {precision}: on a golden input the outputs differ from the reference by {worst:.2e}, "
            f"more than the tolerance of {min(tolerance, limit):.2e}"
        )
    return GoldenCases(npz_bytes(arrays), len(raws), float(f"{min(tolerance, limit):.2e}"))


def npz_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """A compressed npz whose bytes follow from the arrays alone: fixed dates, order as given."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(
                content, np.ascontiguousarray(array).reshape(array.shape), allow_pickle=False
            )
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.external_attr = 0o644 << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content.getvalue())
    return buffer.getvalue()
