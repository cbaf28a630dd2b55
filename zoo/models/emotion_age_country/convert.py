# SPDX-License-Identifier: Apache-2.0
"""The official encoder (safetensors, ``pytorch_model.bin`` or ONNX), and trained multitask heads, to our state dict.

Fact sheet 07, sections 2 and 3. No trained heads are published. A folder may hold some as ``heads.safetensors`` beside
the encoder, named as in the source or as ``zoo train`` writes them; without that file they are random, and said to be.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from zoo.errors import DataError
from zoo.models.emotion_age_country.model import WEIGHT_NORM, build
from zoo.models.emotion_age_country.published_onnx import read as read_onnx

F32 = NDArray[np.float32]
#: Where a checkpoint's folder has its weights, the first that is there.
FILES = ("model.safetensors", "pytorch_model.bin", "model.onnx")
HEADS = "heads.safetensors"
_POSITIONS = "wav2vec2.encoder.pos_conv_embed.conv."
_MASK = "wav2vec2.masked_spec_embed"
_LAYER = re.compile(r"^wav2vec2\.encoder\.layers\.(\d+)\.")
_STATISTICS = ("feature_mean", "feature_std")


def convert(path: Path, variant: Any) -> dict[str, F32]:
    """Read an official checkpoint; nothing in it is executed.

    Parameters
    ----------
    path : Path
        ``*.safetensors``, ``*.bin`` or ``*.onnx``; trained heads are looked for beside it.
    variant : zoo.card.Variant
        The variant whose network the file should fit: its ``config`` is used, and of the file's layers the first ones.

    Returns
    -------
    dict of float32 arrays
        For ``EmotionAgeCountry.load_state_dict(strict=True)``.

    Raises
    ------
    DataError
        The file is of another format or network; the message says what was expected and what was found.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(variant.weights.seed or 0)
        ours = build(variant.config).state_dict()
    found = _read(path)
    for name, theirs in WEIGHT_NORM.items():
        if _POSITIONS + theirs in found:
            found[_POSITIONS + name] = found.pop(_POSITIONS + theirs)
    found.setdefault(_MASK, np.zeros(ours[_MASK].shape, np.float32))  # no inference reads it
    layers = _layers(found)
    wanted = _layers(ours)
    if len(layers) < len(wanted):
        raise DataError(
            f"{path}: {len(layers)} Transformer layers; {variant.name} takes the first {len(wanted)}"
        )
    dropped = layers - wanted
    found = {name: value for name, value in found.items() if _layer(name) not in dropped}
    shapes = {name: tuple(value.shape) for name, value in ours.items() if not name.startswith("heads.")}
    _check(found, shapes, path, variant.name)
    heads = {name: value.numpy() for name, value in ours.items() if name.startswith("heads.")}
    trained = path.with_name(HEADS)
    if trained.is_file():
        given = {
            name if name.startswith("heads.") else f"heads.{name}": value
            for name, value in _read(trained).items()
            if not name.endswith("logsigma")  # weighs the losses in training
        }
        for name in _STATISTICS:  # the source's heads read features that are standardised already
            given.setdefault(f"heads.{name}", heads[f"heads.{name}"])
        _check(given, {name: value.shape for name, value in heads.items()}, trained, variant.name)
        heads = given
    return found | heads


def describe(path: Path, variant: Any) -> dict[str, str]:
    """What of the converted weights is official: ``status``, that of the ``encoder`` alone, and a remark for ``source``."""
    kept = variant.config.get("layers", 12)
    encoder = f"the first {kept} layers of the encoder"
    if path.with_name(HEADS).is_file():
        return {"status": "official", "encoder": "official", "source": f"{encoder}; heads of {HEADS}"}
    seed = variant.weights.seed or 0
    return {
        "status": "random",
        "encoder": "official",
        "source": f"{encoder}, and arousal, dominance, valence, are official; emotion, country and age are random, seed "
        f"{seed}: put trained heads beside it as {HEADS}",
    }


def _layer(name: str) -> int | None:
    match = _LAYER.match(name)
    return int(match[1]) if match else None


def _layers(state: Mapping[str, Any]) -> set[int]:
    """Numbers of the Transformer layers in a state dict."""
    return {layer for layer in map(_layer, state) if layer is not None}


def _check(found: Mapping[str, F32], shapes: Mapping[str, Any], path: Path, name: str) -> None:
    problems = [f"no {key}" for key in shapes if key not in found]
    problems += [f"{key}, which the model has not" for key in sorted(found.keys() - shapes.keys())]
    problems += [
        f"{key} of shape {found[key].shape}, not {tuple(shape)}"
        for key, shape in shapes.items()
        if key in found and found[key].shape != tuple(shape)
    ]
    problems += [f"values in {key} that are not finite" for key in found if not np.isfinite(found[key]).all()]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise DataError(f"{path}: does not fit {name}: it has {'; '.join(problems[:3])}{more}")


def _read(path: Path) -> dict[str, F32]:
    if path.suffix == ".onnx":
        return read_onnx(path)
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        elif path.suffix in (".bin", ".pt", ".pth"):
            content = torch.load(path, map_location="cpu", weights_only=True)
        else:
            raise DataError(f"{path}: give a checkpoint in .safetensors, .bin or .onnx, or its folder")
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: not a readable safetensors file: {error}") from error
    except DataError:
        raise
    except Exception as error:  # torch's reader fails on damaged bytes in as many ways as they can be damaged
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise DataError(f"{path}: not a readable PyTorch state dict: {reason}") from error
    if not isinstance(content, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in content.items()
    ):
        raise DataError(f"{path}: expected a state dict, names to tensors; found a {type(content).__name__}")
    return {key: np.ascontiguousarray(value.detach().float().numpy()) for key, value in content.items()}
