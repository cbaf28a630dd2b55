# SPDX-License-Identifier: Apache-2.0
"""The pictures of docs/preprocessing.md: our ops beside independent implementations, and their difference.

    python docs/pictures/make.py DATA [--only topomap|mel|flow] [--out docs/pictures]

DATA is the folder of real data (see tests/conftest.py), of which only electrode positions are used. What is drawn is
synthetic or the project's own speech clip, so that the pictures may be passed on.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from zoo import ops

Array = np.ndarray[Any, Any]
MAX_BYTES = 60_000
ELECTRODES = [
    "Fp1",
    "Fp2",
    "AF3",
    "AF4",
    "F7",
    "F3",
    "Fz",
    "F4",
    "F8",
    "FC5",
    "FC1",
    "FC2",
    "FC6",
    "T7",
    "C3",
    "Cz",
    "C4",
    "T8",
    "CP5",
    "CP1",
    "CP2",
    "CP6",
    "P7",
    "P3",
    "Pz",
    "P4",
    "P8",
    "PO3",
    "PO4",
    "O1",
    "Oz",
    "O2",
]


def save(figure: Any, path: Path) -> None:
    """Write a PNG with as many colours as MAX_BYTES allow."""
    from PIL import Image

    for dpi, colours in ((90, 0), (72, 0), (90, 256), (90, 64)):
        picture = io.BytesIO()
        figure.savefig(picture, dpi=dpi)
        image = Image.open(picture).convert("RGB")
        small = image.quantize(colours, kmeans=4, dither=Image.Dither.NONE) if colours else image
        small.save(path, optimize=True)
        if path.stat().st_size <= MAX_BYTES:
            break
    else:
        raise SystemExit(f"{path} has {path.stat().st_size} bytes, more than {MAX_BYTES}: draw less")
    plt.close(figure)
    print(f"{path}: {path.stat().st_size} bytes")


def panel(axis: Any, title: str, image: Array, **options: Any) -> Any:
    """One image without ticks."""
    shown = axis.imshow(image, **options)
    axis.set_title(title, fontsize=10)
    axis.set_xticks([])
    axis.set_yticks([])
    return shown


def topomap(data: Path, out: Path) -> None:
    """32 electrodes, values of two sources: spherical spline, Clough-Tocher, MNE, and the difference of the last two."""
    import mne
    from mne.viz import topomap as peer

    mne.set_log_level("error")
    lines = (data / "eeg" / "montage" / "fsaverage_1005.tsv").read_text().splitlines()[1:]
    places = {r[0]: [float(v) for v in r[1:4]] for r in (line.split("\t") for line in lines)}
    place = np.array([places[name] for name in ELECTRODES])
    flat = ops.project_positions(place)
    values = np.exp(-((flat - [-0.4, 0.35]) ** 2).sum(1) / 0.18) - 0.8 * np.exp(
        -((flat - [0.3, -0.5]) ** 2).sum(1) / 0.3
    )
    values = values.astype(np.float32)

    size = 128
    outlines = peer._make_head_outlines(np.array([0, 0, 0, 1.0]), flat, "head", (0.0, 0.0))
    extent, xi, yi, interpolator = peer._setup_interp(flat, size, "cubic", "head", outlines, "mean")
    theirs = interpolator.set_values(values.astype(float)).set_locations(xi, yi)()[::-1]
    radius = outlines["clip_radius"][0]
    spacing = float(np.hypot(*interpolator.tri.points[-1])) - 1.1 * radius
    cubic = ops.topomap(values, place, size=size, method="clough_tocher", spacing=spacing)
    spline = ops.topomap(values, place, size=size)
    outside = np.hypot(xi, yi)[::-1] > radius
    difference = np.abs(cubic - theirs) / np.ptp(values)
    worst = float(difference[~outside].max())

    figure, axes = plt.subplots(1, 4, figsize=(9.2, 2.5), layout="constrained")
    limit = float(np.abs(values).max())
    style = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    shown = None
    for axis, title, image, edge in (
        (axes[0], "zoo.ops.topomap\nspline", spline, (-1, 1, -1, 1)),
        (axes[1], "zoo.ops.topomap\nclough_tocher", cubic, extent),
        (axes[2], "MNE 1.13\nviz.plot_topomap", theirs, extent),
    ):
        hidden = np.hypot(*np.meshgrid(np.linspace(-1, 1, size), np.linspace(-1, 1, size))) > 1
        shown = panel(axis, title, np.where(hidden, np.nan, image), extent=edge, **style)
    figure.colorbar(shown, ax=axes[2], shrink=0.6)
    shown = panel(
        axes[3], f"|clough_tocher - MNE|\nworst {worst:.1e} of the range", np.where(outside, np.nan, difference * 1e7),
        extent=extent, cmap="viridis", vmin=0,
    )  # fmt: skip
    figure.colorbar(shown, ax=axes[3], shrink=0.6, label="$10^{-7}$ of the range")
    for axis in axes:
        for name in ("head", "nose", "ear_left", "ear_right"):
            axis.plot(*outlines[name], color="black", linewidth=0.8)
        axis.plot(flat[:, 0], flat[:, 1], "k.", markersize=2)
        axis.set_xlim(-1.15, 1.15)
        axis.set_ylim(-1.1, 1.2)
        axis.set_axis_off()
    save(figure, out / "topomap.png")


def mel(_: Path, out: Path) -> None:
    """The project's own clip: mel spectrogram, librosa's, and the difference."""
    import librosa

    import zoo.models.tim_net

    clip = Path(zoo.models.tim_net.__path__[0]) / "golden" / "excited_16000.flac"
    wave, rate = ops.read_audio(clip)
    ours = ops.mel(wave, rate, n_fft=512, hop_length=128, n_mels=64).T
    theirs = librosa.feature.melspectrogram(
        y=wave, sr=rate, n_fft=512, hop_length=128, n_mels=64, pad_mode="constant"
    )
    difference = np.abs(ours - theirs) / theirs.max()
    figure, axes = plt.subplots(1, 3, figsize=(9.2, 2.6), layout="constrained", sharey=True)
    top = 10 * np.log10(theirs.max())
    style = {"origin": "lower", "aspect": "auto", "extent": (0, len(wave) / rate, 0, 64)}
    shown = None
    for axis, title, image in ((axes[0], "zoo.ops.mel", ours), (axes[1], "librosa 0.11", theirs)):
        level = 10 * np.log10(np.maximum(image, 1e-10))
        shown = axis.imshow(level, cmap="magma", vmin=top - 70, vmax=top, **style)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("s")
    axes[0].set_ylabel("mel band")
    figure.colorbar(shown, ax=axes[1], label="dB")
    shown = axes[2].imshow(
        np.log10(np.maximum(difference, 1e-12)), cmap="viridis", vmin=-12, vmax=-6, **style
    )
    axes[2].set_title(f"|difference|, worst {difference.max():.1e} of the largest", fontsize=10)
    axes[2].set_xlabel("s")
    figure.colorbar(shown, ax=axes[2], label="power of 10")
    save(figure, out / "mel.png")


def wheel(flow: Array, longest: float) -> Array:
    """RGB of a flow field: direction as hue, length as saturation."""
    hue = (np.arctan2(flow[..., 1], flow[..., 0]) / (2 * np.pi)) % 1
    length = np.clip(np.hypot(flow[..., 0], flow[..., 1]) / longest, 0, 1)
    return mpl.colors.hsv_to_rgb(np.stack([hue, length, np.ones_like(hue)], -1))


def flow(_: Path, out: Path) -> None:
    """A texture and its warp by a known field: the field, our flow, OpenCV's, and the difference of the two."""
    import cv2

    rng = np.random.default_rng(0)
    height, width = 240, 320
    texture = sum(
        (cv2.GaussianBlur(rng.standard_normal((height, width)), (0, 0), s) * s for s in (1.5, 3, 6, 12)),
        np.zeros((height, width)),
    )
    texture = (texture - texture.min()) / np.ptp(texture) * 255
    y, x = np.mgrid[:height, :width].astype(np.float32)
    true = np.stack([4 * np.sin(y / 40) * np.cos(x / 70), 3 * np.cos(x / 50 + y / 90)], -1).astype(np.float32)
    # the second frame is given; the first one looks up where each of its pixels went
    second = texture.astype(np.uint8)
    first = cv2.remap(
        texture.astype(np.float32),
        x + true[..., 0],
        y + true[..., 1],
        cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT,
    )
    first = np.clip(np.round(first), 0, 255).astype(np.uint8)
    ours = ops.optical_flow(first, second, method="dis", preset="medium")  # type: ignore[attr-defined]
    theirs = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(first, second, None)
    difference = np.hypot(*np.moveaxis(ours - theirs, -1, 0))
    error = np.hypot(*np.moveaxis(ours - true, -1, 0)).mean()
    figure, axes = plt.subplots(1, 4, figsize=(9.2, 2.3), layout="constrained")
    longest = float(np.hypot(true[..., 0], true[..., 1]).max())
    panel(axes[0], "the field that warps", wheel(true, longest))
    panel(axes[1], f"zoo.ops.optical_flow, dis\nmean error {error:.2f} px", wheel(ours, longest))
    panel(axes[2], "OpenCV 5 DIS", wheel(theirs, longest))
    shown = panel(
        axes[3], f"|difference|\nworst {difference.max():.1e} px", difference, cmap="viridis", vmin=0
    )
    figure.colorbar(shown, ax=axes[3], shrink=0.7, label="px")
    save(figure, out / "flow.png")


PICTURES = {"topomap": topomap, "mel": mel, "flow": flow}


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of real data")
    parser.add_argument("--only", choices=sorted(PICTURES), help="default: all")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    args = parser.parse_args()
    for name, draw in PICTURES.items():
        if args.only in (None, name):
            draw(args.data, args.out)


if __name__ == "__main__":
    main()
