# SPDX-License-Identifier: Apache-2.0
"""Image ops beside Pillow, OpenCV and NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from run import Row

from zoo.ops import isa
from zoo.pipeline import FaceAlign, Normalize, Pipeline, Resize, ResizeNormalize, SquareCrop

cv2.setNumThreads(1)
INPUTS = 16
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MEAN32, STD32 = np.float32(MEAN), np.float32(STD)
Pixels = NDArray[np.uint8]


def pictures(height: int, width: int) -> list[Pixels]:
    """Smooth colour images with some noise."""
    rng = np.random.default_rng(height)
    small = rng.integers(0, 256, (INPUTS, 12, 16, 3), dtype=np.uint8)
    noise = rng.integers(0, 24, (height, width, 3), dtype=np.uint8)
    return [cv2.resize(s, (width, height), interpolation=cv2.INTER_CUBIC) // 2 + noise for s in small]


def worst(a: Any, b: Any, bound: float) -> str | None:
    """None when no two values are further apart than `bound`."""
    difference = float(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).max())
    return None if difference <= bound else f"worst difference {difference:.3g}, bound {bound:g}"


def row(op: str, peer: str, ours: Any, theirs: Any, bound: float, goal: float | None) -> Row:
    """A row that is checked on its first input."""
    return Row(
        op=op,
        peer=peer,
        ours=ours,
        theirs=theirs,
        inputs=INPUTS,
        check=lambda: worst(ours(0), theirs(0), bound),
        goal=goal,
    )


def to_network(x: Any) -> NDArray[np.float32]:
    """What a network takes, in NumPy."""
    scaled = (np.asarray(x, np.float32) / np.float32(255) - MEAN32) / STD32
    return np.ascontiguousarray(scaled.transpose(2, 0, 1))


def rows() -> Iterator[Row]:
    """Resizing with and without normalization, faces."""
    for height, width in ((48, 48), (350, 350), (480, 640), (720, 1280), (1280, 720)):
        images = pictures(height, width)
        pil = [Image.fromarray(i) for i in images]
        fused = Pipeline([ResizeNormalize(height=224, width=224, mean=MEAN, std=STD)], isa=isa())
        yield row(
            f"resize_normalize {width}x{height} -> 224",
            "Pillow BILINEAR + NumPy",
            lambda i, p=fused, x=images: p.run(x[i]),
            lambda i, x=pil: to_network(x[i].resize((224, 224), Image.Resampling.BILINEAR)),
            2e-6,
            2,
        )
        for method, name, filter_ in (
            ("bilinear_antialias", "BILINEAR", Image.Resampling.BILINEAR),
            ("bicubic_antialias", "BICUBIC", Image.Resampling.BICUBIC),
        ):
            plain = Pipeline([Resize(height=224, width=224, method=method)], isa=isa())  # type: ignore[arg-type]
            yield row(
                f"resize {method} {width}x{height} -> 224",
                f"Pillow {name}",
                lambda i, p=plain, x=images: p.run(x[i]),
                lambda i, x=pil, f=filter_: np.asarray(x[i].resize((224, 224), f)),
                0,
                1,
            )
        for method, name, flag in (
            ("bilinear", "LINEAR", cv2.INTER_LINEAR),
            ("area", "AREA", cv2.INTER_AREA),
        ):
            plain = Pipeline([Resize(height=224, width=224, method=method)], isa=isa())  # type: ignore[arg-type]
            yield row(
                f"resize {method} {width}x{height} -> 224",
                f"OpenCV INTER_{name}",
                lambda i, p=plain, x=images: p.run(x[i]),
                lambda i, x=images, f=flag: cv2.resize(x[i], (224, 224), interpolation=f),
                1,
                None,
            )
        exact = Pipeline(
            [ResizeNormalize(height=224, width=224, method="bilinear", rounded=False, mean=MEAN, std=STD)],
            isa=isa(),
        )
        yield row(
            f"resize_normalize float {width}x{height} -> 224",
            "OpenCV LINEAR float32 + NumPy",
            lambda i, p=exact, x=images: p.run(x[i]),
            lambda i, x=images: to_network(cv2.resize(x[i].astype(np.float32), (224, 224))),
            1e-3,
            2,
        )
    images = pictures(224, 224)
    plain = Pipeline([Normalize(mean=MEAN, std=STD)], isa=isa())
    yield row(
        "normalize 224x224",
        "NumPy",
        lambda i: plain.run(images[i]),
        lambda i: to_network(images[i]),
        2e-6,
        None,
    )
    images = pictures(480, 640)
    marks = (250.0, 200.0, 330.0, 204.0, 288.0, 250.0, 258.0, 296.0, 322.0, 299.0)
    align = Pipeline([FaceAlign(landmarks=marks)], isa=isa())
    template = np.array(
        [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
    )

    def warp(i: int) -> Any:
        points = np.array(marks).reshape(5, 2)
        a, b = points - points.mean(0), template - template.mean(0)
        za, zb = a @ [1, 1j], b @ [1, 1j]
        z = (za.conj() @ zb) / (za.conj() @ za).real
        turn = np.array([[z.real, -z.imag], [z.imag, z.real]])
        shift = template.mean(0) - turn @ points.mean(0)
        return cv2.warpAffine(images[i], np.c_[turn, shift], (112, 112))

    yield row(
        "face_align 640x480 -> 112",
        "NumPy + OpenCV warpAffine",
        lambda i: align.run(images[i]),
        warp,
        1,
        None,
    )
    chain = Pipeline(
        [
            SquareCrop(box=(220, 130, 420, 390)),
            ResizeNormalize(height=224, width=224, method="bilinear", rounded=False, mean=MEAN, std=STD),
        ],
        isa=isa(),
    )

    def sheet08(i: int) -> Any:
        part = images[i][104:416, 164:476].astype(np.float32)  # the box lies inside: no edge to repeat
        return to_network(cv2.resize(part, (224, 224)))

    yield row("face box -> 224, sheet 08", "NumPy + OpenCV", lambda i: chain.run(images[i]), sheet08, 1e-3, 2)
