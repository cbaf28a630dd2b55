# SPDX-License-Identifier: Apache-2.0
"""Peak memory of recording the ranges of a ResNet-50 (random weights, seeded) on real faces.

    python benchmarks/calibration_memory.py FACES.npz [--items 128] [--size 224] [--width 64] [--json]

FACES.npz has grey faces ``images``, uint8 [N, H, W]. The process measures itself: VmHWM of /proc/self/status. Exit
code 6 when the peak reaches 2 GB.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from zoo.export import calibrate, quantize
from zoo.pipeline import Pipeline

LIMIT = 2e9
STAGES = ((3, 1), (4, 2), (6, 2), (3, 2))


def resnet50(size: int, width: int = 64) -> onnx.ModelProto:
    """The bottleneck ResNet-50 with its normalisations folded: 53 convolutions and the classifier, He's initial values."""
    rng = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def constant(name: str, value: NDArray[Any]) -> str:
        weights.append(numpy_helper.from_array(value.astype(np.float32), name))
        return name

    def conv(
        x: str, name: str, channels: tuple[int, int], kernel: int, stride: int, relu: bool = True
    ) -> str:
        shape = (channels[1], channels[0], kernel, kernel)
        weight = constant(f"{name}.weight", rng.normal(0, np.sqrt(2 / (channels[0] * kernel**2)), shape))
        bias = constant(f"{name}.bias", np.zeros(channels[1]))
        pads = [kernel // 2] * 4
        nodes.append(
            helper.make_node("Conv", [x, weight, bias], [name], name, strides=[stride] * 2, pads=pads)
        )
        return activate(name) if relu else name

    def activate(x: str) -> str:
        nodes.append(helper.make_node("Relu", [x], [f"{x}.relu"], f"{x}.relu"))
        return f"{x}.relu"

    x = conv("image", "stem", (3, width), 7, 2)
    nodes.append(
        helper.make_node("MaxPool", [x], ["pool"], "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    )
    x, channels = "pool", width
    for stage, (blocks, first) in enumerate(STAGES):
        inner = width << stage
        for block in range(blocks):
            name, stride = f"layer{stage + 1}.{block}", first if block == 0 else 1
            short = x if block else conv(x, f"{name}.short", (channels, 4 * inner), 1, stride, relu=False)
            y = conv(x, f"{name}.conv1", (channels, inner), 1, 1)
            y = conv(y, f"{name}.conv2", (inner, inner), 3, stride)
            y = conv(y, f"{name}.conv3", (inner, 4 * inner), 1, 1, relu=False)
            nodes.append(helper.make_node("Add", [y, short], [name], name))
            x, channels = activate(name), 4 * inner
    nodes += [
        helper.make_node("GlobalAveragePool", [x], ["mean"], "mean"),
        helper.make_node("Flatten", ["mean"], ["flat"], "flat"),
        helper.make_node(
            "Gemm",
            [
                "flat",
                constant("fc.weight", rng.normal(0, 0.01, (1000, channels))),
                constant("fc.bias", np.zeros(1000)),
            ],
            ["logits"],
            "fc",
            transB=1,
        ),
    ]
    graph = helper.make_graph(
        nodes,
        "resnet50",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, size, size])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 1000])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


class Faces(Sequence[Any]):
    """Faces through the C++ pipeline, made as they are asked for."""

    def __init__(self, images: NDArray[np.uint8], size: int) -> None:
        self._images = images
        steps = [{"op": "grey_to_rgb"}, {"op": "resize_normalize", "height": size, "width": size}]
        self._pipeline = Pipeline(steps, shape=(*images.shape[1:], 1))

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: Any) -> Any:
        return (self._pipeline(self._images[index][..., None]),)


def peak_bytes() -> int:
    """The greatest resident size of this process since it started."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def main() -> int:
    """Record, and print the peak."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("faces", type=Path)
    parser.add_argument("--items", type=int, default=calibrate.MIN_ITEMS)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    model = resnet50(options.size, options.width)
    with np.load(options.faces) as file:
        faces = Faces(file["images"][: options.items], options.size)
    before = peak_bytes()
    names = dict.fromkeys(name for layer in quantize.layers(model) for name in layer.data)
    start = time.monotonic()
    recording = calibrate.record(model, list(names), faces)
    seconds = time.monotonic() - start
    limits = calibrate.thresholds(recording, "mse")
    peak = peak_bytes()
    figures = {
        "items": len(faces),
        "tensors": len(limits),
        "before": before,
        "peak": peak,
        "seconds": seconds,
    }
    if options.json:
        print(json.dumps(figures))
    else:
        print(
            f"{len(faces)} faces, {len(limits)} tensors, weights: random: peak {peak / 1e9:.2f} GB "
            f"({before / 1e9:.2f} GB before recording), {seconds:.1f} s"
        )
    return 0 if peak < LIMIT else 6


if __name__ == "__main__":
    sys.exit(main())
