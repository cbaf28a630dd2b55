# SPDX-License-Identifier: Apache-2.0
"""Dense inverse search beside OpenCV's ``DISOpticalFlow``: end-point errors where the true flow is known.

True flows: a stereo pair with measured disparity, and real frames warped by smooth fields (a frame sampled at x + flow(x)
is the first frame, the frame itself the second one, so the flow is exact), with camera noise and, in a third of them, a
change of exposure.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from zoo.ops import flow_dis, optical_flow

cv2 = pytest.importorskip("cv2")

Grey = NDArray[np.uint8]
PRESETS = ("ultrafast", "fast", "medium")


@dataclass(frozen=True)
class Pair:
    """Two frames, the true flow and where it is known and stays inside the frame."""

    name: str
    prev: Grey
    next: Grey
    flow: NDArray[np.float32]
    known: NDArray[np.bool_]

    def error(self, flow: NDArray[np.float32]) -> float:
        """Mean end-point error, pixels."""
        return float(np.hypot(*np.moveaxis(flow - self.flow, -1, 0))[self.known].mean())


def smooth_field(height: int, width: int, size: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Waves, an affine part and a shift, `size` pixels large altogether."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y = x - width / 2, y - height / 2
    longer = max(height, width)
    flow = np.zeros((height, width, 2), np.float32)
    for c in range(2):
        for _ in range(4):
            kx, ky = rng.uniform(-2, 2, 2)
            wave = np.sin(2 * np.pi * (kx * x + ky * y) / longer + rng.uniform(0, 2 * np.pi))
            flow[..., c] += wave * size / 4 * rng.uniform(0.5, 1.5)
        a, b = rng.uniform(-0.02, 0.02, 2)
        flow[..., c] += a * x + b * y + rng.uniform(-size / 2, size / 2)
    return flow


def warped(name: str, frame: Grey, size: float, seed: int) -> Pair:
    """A pair made from one frame."""
    rng = np.random.default_rng(seed)
    height, width = frame.shape
    flow = smooth_field(height, width, size, rng)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    to_x, to_y = x + flow[..., 0], y + flow[..., 1]
    first = cv2.remap(
        frame.astype(np.float32), to_x, to_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )
    if seed % 3 == 1:
        first = first * 1.05 + 4
    noisy = [
        np.clip(np.rint(f + rng.normal(0, 1.5, f.shape)), 0, 255).astype(np.uint8) for f in (first, frame)
    ]
    known = (to_x >= 0) & (to_x <= width - 1) & (to_y >= 0) & (to_y <= height - 1)
    return Pair(name, noisy[0], noisy[1], flow, known)


def video_frames(root: Path) -> Iterator[tuple[str, Grey]]:
    for file in sorted(p for p in (root / "video").iterdir() if p.suffix in {".mp4", ".webm"}):
        capture = cv2.VideoCapture(str(file))
        for _ in range(40):
            read, frame = capture.read()
        if read:
            yield file.stem, cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)


@pytest.fixture(scope="module")
def motorcycle(data_root: Path) -> Pair:
    folder = data_root / "flow" / "motorcycle"
    left, right = (cv2.imread(str(folder / f"motorcycle_{side}.png"), 0) for side in ("left", "right"))
    disparity = np.load(folder / "motorcycle_disp.npz")["arr_0"]
    known = np.isfinite(disparity)
    flow = np.zeros((*known.shape, 2), np.float32)
    flow[..., 0][known] = -disparity[known]
    return Pair("motorcycle", left, right, flow, known)


@pytest.fixture(scope="module")
def pairs(data_root: Path, motorcycle: Pair) -> list[Pair]:
    frames = [("motorcycle", motorcycle.prev), *video_frames(data_root)]
    sintel = data_root / "flow" / "sintel_pwcnet_reference" / "frame_0010.png"
    frames.append(("sintel", cv2.imread(str(sintel), 0)))
    faces = sorted((data_root / "faces_hires").rglob("*.jpg"))
    frames += [(f"face {p.stem}", cv2.imread(str(p), 0)) for p in faces[:: max(1, len(faces) // 4)][:4]]
    assert len(frames) >= 10
    made = []
    shapes = itertools.cycle([(224, 224), (640, 480), (101, 77)])
    for seed, ((name, frame), size) in enumerate(itertools.product(frames, (2.0, 6.0))):
        width, height = next(shapes)
        shrink = frame.shape[1] > width
        scaled = cv2.resize(
            frame, (width, height), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR
        )
        made.append(warped(f"{name} {width}x{height} {size:g} px", scaled, size, seed))
    return made


@pytest.fixture(scope="module")
def peer_errors(pairs: list[Pair], motorcycle: Pair) -> dict[str, list[float]]:
    """OpenCV's errors a preset: the motorcycle's first."""
    cv2.setNumThreads(1)
    result = {}
    for index, preset in enumerate(PRESETS):
        dis = cv2.DISOpticalFlow_create(index)
        result[preset] = [p.error(dis.calc(p.prev, p.next, None)) for p in (motorcycle, *pairs)]
    return result


@pytest.mark.parametrize("preset", PRESETS)
def test_errors_are_no_larger_than_opencv(
    isa: str, preset: Any, pairs: list[Pair], motorcycle: Pair, peer_errors: dict[str, list[float]]
) -> None:
    """1 % is what the task allows; the geometric mean over pairs is well below (the figures are in the message)."""
    ours = np.array([p.error(optical_flow(p.prev, p.next, preset=preset)) for p in (motorcycle, *pairs)])
    ratio = ours / np.array(peer_errors[preset])
    mean = float(np.exp(np.log(ratio[1:]).mean()))
    report = (
        f"{isa} {preset}: motorcycle {ratio[0]:.3f}, warped frames {mean:.3f} of OpenCV's error; "
        + ", ".join(f"{p.name} {r:.2f}" for p, r in zip(pairs, ratio[1:], strict=True))
    )
    print(report)
    assert ratio[0] <= 1.01, report
    assert mean <= 0.95, report
    assert ours[1:].sum() <= sum(peer_errors[preset][1:]), report


@pytest.mark.parametrize("preset", PRESETS)
def test_real_motion_agrees_with_opencv(isa: str, preset: Any, data_root: Path) -> None:
    """Two frames of a film without ground truth: both methods see the same motion nearly everywhere.

    Bound: the median distance between the two flows is below a quarter pixel; the frames' motion is several pixels.
    """
    folder = data_root / "flow" / "sintel_pwcnet_reference"
    prev, following = (cv2.imread(str(folder / f"frame_00{n}.png"), 0) for n in (10, 11))
    theirs = cv2.DISOpticalFlow_create(PRESETS.index(preset)).calc(prev, following, None)
    ours = optical_flow(prev, following, preset=preset)
    assert float(np.median(np.hypot(*np.moveaxis(ours - theirs, -1, 0)))) < 0.25


def test_instruction_sets_agree(pairs: list[Pair]) -> None:
    """Rounding can turn a comparison of two candidates, so single patches may differ; nearly all do not."""
    from zoo import _native

    for pair, preset in itertools.product(pairs[:6], PRESETS):
        flows = []
        for name in _native.isas():
            _native.set_isa(name)
            flows.append(flow_dis(np.stack([pair.prev, pair.next]), preset=preset)[0])  # type: ignore[arg-type]
        _native.set_isa("")
        for flow in flows[1:]:
            off = np.hypot(*np.moveaxis(flow - flows[0], -1, 0))
            assert np.median(off) < 1e-3
            assert (off > 0.1).mean() < 0.02
            assert abs(pair.error(flow) / pair.error(flows[0]) - 1) < 0.02


def test_grey_equals_opencv(isa: str) -> None:
    """Every red, green and blue in steps of 5, and random ones: the flow is that of OpenCV's grey frames, bit for bit."""
    levels = np.arange(0, 256, 5, dtype=np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(208, -1, 3)
    rng = np.random.default_rng(0)
    frames = np.stack([cube, rng.permutation(cube.reshape(-1, 3)).reshape(cube.shape)])
    frames = np.concatenate([frames, rng.integers(0, 256, frames.shape, np.uint8)])
    grey = np.stack([cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in frames])
    np.testing.assert_array_equal(flow_dis(frames), flow_dis(grey))
