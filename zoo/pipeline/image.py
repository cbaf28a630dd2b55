# SPDX-License-Identifier: Apache-2.0
"""Image ops of a pipeline: parameter names, defaults and ranges of the C++ table."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from zoo.pipeline.op import BaseOp

Side: TypeAlias = Annotated[int, Meta(ge=1, le=65536)]
Pixels: TypeAlias = Annotated[int, Meta(ge=1, le=1048576)]
Position: TypeAlias = Annotated[int, Meta(ge=0, le=1048576)]
Factor: TypeAlias = Annotated[float, Meta(ge=1e-12, le=1e12)]
Method: TypeAlias = Literal[
    "nearest", "nearest_opencv", "bilinear", "bilinear_antialias", "bicubic_antialias", "box", "area"
]
Layout: TypeAlias = Literal["hwc", "chw"]


class Resize(BaseOp, frozen=True, kw_only=True, tag="resize"):
    """Resample to another size. Image to image; see :func:`zoo.ops.resize`."""

    height: Side | None = None
    width: Side | None = None
    shorter: Side | None = None
    method: Method = "bilinear_antialias"
    rounded: bool = True


class ResizeNormalize(BaseOp, frozen=True, kw_only=True, tag="resize_normalize"):
    """``Resize`` and ``Normalize`` in one pass. Image to tensor; see :func:`zoo.ops.resize_normalize`."""

    height: Side | None = None
    width: Side | None = None
    shorter: Side | None = None
    method: Method = "bilinear_antialias"
    rounded: bool = True
    scale: Factor = 1 / 255
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    layout: Layout = "chw"


class Crop(BaseOp, frozen=True, kw_only=True, tag="crop"):
    """A part of the image. Image to image; see :func:`zoo.ops.crop`."""

    height: Pixels
    width: Pixels
    top: Position | None = None
    left: Position | None = None


class SquareCrop(BaseOp, frozen=True, kw_only=True, tag="square_crop"):
    """The square around a box. Image to image; see :func:`zoo.ops.square_crop`."""

    box: tuple[float, ...]
    scale: Annotated[float, Meta(ge=1e-6, le=100)] = 1.2


class ToGrey(BaseOp, frozen=True, kw_only=True, tag="to_grey"):
    """Luma of RGB. Image to image; see :func:`zoo.ops.to_grey`."""


class GreyToRgb(BaseOp, frozen=True, kw_only=True, tag="grey_to_rgb"):
    """The grey channel three times. Image to image; see :func:`zoo.ops.grey_to_rgb`."""


class Normalize(BaseOp, frozen=True, kw_only=True, tag="normalize"):
    """(x * scale - mean) / std of each channel. Image to tensor; see :func:`zoo.ops.normalize`."""

    scale: Factor = 1 / 255
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    layout: Layout = "chw"


class MoveChannels(BaseOp, frozen=True, kw_only=True, tag="layout"):
    """Move the channel axis of an image tensor, or of a stack of them; see :func:`zoo.ops.layout`."""

    to: Layout = "chw"


class FaceAlign(BaseOp, frozen=True, kw_only=True, tag="face_align"):
    """Move five landmarks onto a template. Image to image; see :func:`zoo.ops.face_align`."""

    landmarks: tuple[float, ...]
    size: Annotated[int, Meta(ge=1, le=4096)] = 112
    destination: tuple[float, ...] = ()


ImageOp: TypeAlias = (
    Resize | ResizeNormalize | Crop | SquareCrop | ToGrey | GreyToRgb | Normalize | MoveChannels | FaceAlign
)
