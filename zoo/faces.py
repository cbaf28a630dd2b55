# SPDX-License-Identifier: Apache-2.0
"""Faces in photos: found, levelled by the eyes, cut out, for models whose input is a cropped face.

The detector is OpenCV's: the Haar cascades that come with ``opencv-python-headless`` 4 (extra ``faces``). They find
frontal, upright faces, and now and then something that is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo import ops
from zoo.errors import InputError, ProviderUnavailable

_FACE, _EYE = "haarcascade_frontalface_alt2.xml", "haarcascade_eye.xml"
#: Longer side that larger photos are scaled down to before faces are looked for; faces are cut from the photo itself.
_LONGEST = 1280
#: Least side of a face in the scaled photo: the cascade was trained on 20 pixels.
_SMALLEST = 24
#: Border put around a photo in which no face was found, over its longer side. Of 120 portraits of 350 pixels, cut close,
#: 92 are found without, 110 with it.
_BORDER = 0.25
#: Side of the face that eyes are looked for in.
_EYE_SIDE = 128
#: Eyes whose line is steeper than this are two other things.
_STEEPEST_DEG = 25.0
#: Side of the square over that of the detector's box. FER2013's faces, which the models learned, are this detector's boxes.
SCALE = 1.0


@dataclass(frozen=True)
class Face:
    """One face of a photo.

    Attributes
    ----------
    box : (left, top, right, bottom)
        Pixels of the photo, not turned; the square that the detector found, which may lie partly beyond the photo.
    turned : float
        Degrees (counterclockwise as seen) that the face was turned by, so that its eyes are level; 0 where no two eyes were
        found.
    pixels : uint8, shape (side, side) or (side, side, 3)
        What a model takes; beyond the photo its edge pixels are repeated.
    """

    box: tuple[float, float, float, float]
    turned: float
    pixels: NDArray[np.uint8]


class FaceFinder:
    """Finds faces; make one and use it for many photos.

    Parameters
    ----------
    scale : float
        Side of the square that is cut out, over the side of the detector's box.
    level : bool
        Turn faces so that their eyes are level.

    Raises
    ------
    ProviderUnavailable
        OpenCV is not installed, or one that has no cascades (5.0 has none).
    """

    def __init__(self, *, scale: float = SCALE, level: bool = True) -> None:
        self._scale, self._level = scale, level
        self._cv2: Any = _opencv()
        self._faces, self._eyes = (_cascade(self._cv2, name) for name in (_FACE, _EYE))

    def __call__(self, image: NDArray[np.uint8]) -> tuple[Face, ...]:
        """All faces of a photo, the largest first; none where there are none.

        Parameters
        ----------
        image : uint8, shape (h, w) grey or (h, w, 3) RGB
            Upright, as :func:`zoo.ops.read_image` gives it.

        Raises
        ------
        InputError
            Not such an array.
        """
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim not in (2, 3):
            raise InputError(
                "faces are looked for in pixels: a uint8 array of shape (height, width) or (height, width, 3)"
            )
        if not image.size or image.shape[2:] not in ((), (3,)):
            raise InputError(
                f"the photo's shape is {image.shape}; faces are looked for in (height, width) or (height, width, 3)"
            )
        grey = image if image.ndim == 2 else ops.to_grey(image)[..., 0]
        small, factor = self._scaled(np.ascontiguousarray(grey), _LONGEST)
        if min(small.shape) < _SMALLEST:
            return ()
        boxes, border = self._boxes(small), 0
        if not boxes:
            # A portrait cut close: the cascade wants room around a face.
            border = round(_BORDER * max(small.shape))
            small = self._cv2.copyMakeBorder(
                small, border, border, border, border, self._cv2.BORDER_REPLICATE
            )
            boxes = self._boxes(small)
        return tuple(self._face(image, small, box, border, factor) for box in boxes)

    def _boxes(self, grey: NDArray[np.uint8]) -> list[tuple[int, int, int]]:
        """Left, top and side of each face, the largest first."""
        found = self._faces.detectMultiScale(
            self._cv2.equalizeHist(grey), scaleFactor=1.1, minNeighbors=4, minSize=(_SMALLEST, _SMALLEST)
        )
        return sorted(
            ((int(x), int(y), int(side)) for x, y, side, _ in found), key=lambda box: (-box[2], box)
        )

    def _scaled(self, grey: NDArray[np.uint8], longest: int) -> tuple[NDArray[np.uint8], float]:
        """The picture with at most ``longest`` pixels a side, and the factor back."""
        factor = max(grey.shape) / longest
        if factor <= 1:
            return grey, 1.0
        height, width = (max(1, round(side / factor)) for side in grey.shape)
        small: NDArray[np.uint8] = self._cv2.resize(grey, (width, height), interpolation=self._cv2.INTER_AREA)
        return small, factor

    def _face(
        self,
        image: NDArray[np.uint8],
        small: NDArray[np.uint8],
        box: tuple[int, int, int],
        border: int,
        factor: float,
    ) -> Face:
        x, y, side = box
        turned = self._slope(small[y : y + side, x : x + side]) if self._level else 0.0
        left, top = (x - border) * factor, (y - border) * factor
        where = (left, top, left + side * factor, top + side * factor)
        pixels = self._turned(image, where, turned) if turned else ops.square_crop(image, where, self._scale)
        return Face(
            where,
            turned,
            pixels if image.ndim == 3 else np.ascontiguousarray(pixels.reshape(pixels.shape[:2])),
        )

    def _slope(self, face: NDArray[np.uint8]) -> float:
        """How far the line through the eyes falls to the right, in degrees; 0 where they are not found."""
        scaled = self._cv2.resize(face, (_EYE_SIDE, _EYE_SIDE), interpolation=self._cv2.INTER_LINEAR)
        upper = self._cv2.equalizeHist(scaled)[: int(0.6 * _EYE_SIDE)]
        found = self._eyes.detectMultiScale(
            upper, scaleFactor=1.05, minNeighbors=4, minSize=(_EYE_SIDE // 8, _EYE_SIDE // 8)
        )
        return slope([(x + width / 2, y + height / 2) for x, y, width, height in found], _EYE_SIDE)

    def _turned(
        self, image: NDArray[np.uint8], box: tuple[float, float, float, float], degrees: float
    ) -> NDArray[np.uint8]:
        """The square around the middle of the box, turned."""
        cv2 = self._cv2
        left, top, right, bottom = box
        side = max(1, math.floor(self._scale * (right - left) + 0.5))
        # Of pixel centres at whole numbers, as warpAffine has them.
        middle = ((left + right) / 2 - 0.5, (top + bottom) / 2 - 0.5)
        matrix = cv2.getRotationMatrix2D(middle, degrees, 1.0)
        matrix[:, 2] += (side - 1) / 2 - np.array(middle)
        pixels: NDArray[np.uint8] = cv2.warpAffine(
            image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return pixels


def slope(eyes: Sequence[tuple[float, float]], side: float) -> float:
    """Degrees that the line through a face's two eyes falls to the right; 0 where no two of ``eyes`` can be a pair.

    Parameters
    ----------
    eyes : sequence of (x, y)
        Middles of what may be eyes, in pixels of the face.
    side : float
        Of the face's square. Eyes of a pair lie in different halves, between a quarter and two thirds of it apart.
    """
    pairs = []
    for first in eyes:
        for second in eyes:
            right, down = second[0] - first[0], second[1] - first[1]
            if not first[0] < side / 2 < second[0] or not side / 4 <= math.hypot(right, down) <= side * 2 / 3:
                continue
            degrees = math.degrees(math.atan2(down, right))
            # The pair nearest to where eyes are: at the same distance from the middle.
            if abs(degrees) <= _STEEPEST_DEG:
                pairs.append((abs((first[0] + second[0]) / 2 - side / 2), degrees))
    return min(pairs)[1] if pairs else 0.0


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise ProviderUnavailable(
            "faces in photos are found by OpenCV, which is not installed: pip install 'affect-zoo[faces]'; or give the "
            "face cut out"
        ) from error
    return cv2


def _cascade(cv2: Any, name: str) -> Any:
    path = Path(cv2.data.haarcascades) / name
    if not path.is_file() or not hasattr(cv2, "CascadeClassifier"):
        raise ProviderUnavailable(
            f"OpenCV {cv2.__version__} comes without {name}: pip install 'opencv-python-headless>=4.10,<5'; or give the "
            "face cut out"
        )
    return cv2.CascadeClassifier(str(path))


__all__ = ["SCALE", "Face", "FaceFinder", "slope"]
