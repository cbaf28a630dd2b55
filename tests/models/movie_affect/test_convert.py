# SPDX-License-Identifier: Apache-2.0
"""Official fusion nets: state dicts written here in the official layout, and the real files with their golden logits."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from zoo import registry
from zoo.errors import DataError
from zoo.export import convert_model
from zoo.models.movie_affect.convert import convert
from zoo.models.movie_affect.model import WIDTHS, TwoLayers, build

AUDIO = ("RAT_emobase2010_2FC__Arousal_Audio.pth", "NCO_emobase2010_2FC_Valence_Audio.pth")
#: Fact sheet 5, section 7: logits of row 0 of film "10", before the temperature.
GOLDEN = {
    "arousal": [-2.1408, 2.1783, 2.7243, 1.6047, 0.3732, -0.5052, -4.2205],
    "valence": [-1.9514, 0.7099, 1.5317, 1.7409, 1.6689, -0.8006, -2.8770],
}


def variant(name: str) -> Any:
    return registry.find(name)[1]


def official(folder: Path, name: str, modalities: tuple[str, ...], *, seed: int = 3, **changes: Any) -> Path:
    """A state dict as the source saves it: a net of one modality calls its reduction ``reduced_rgb``."""
    torch.manual_seed(seed)
    state = OrderedDict(TwoLayers(modalities).state_dict())
    if len(modalities) == 1:
        state["reduced_rgb.weight"] = state.pop(f"reduced_{modalities[0]}.weight")
    path = folder / name
    torch.save(
        {key: value for key, value in (state | changes).items() if value is not None},
        path,
        _use_new_zipfile_serialization=False,
    )
    return path


def test_the_official_layout_is_read_exactly(tmp_path: Path) -> None:
    path = official(tmp_path, "X_2FC_Valence_Audio.pth", ("audio",))
    state = torch.load(path, weights_only=True)
    found = convert(path, variant("movie-affect-audio-2fc"))
    assert set(found) == {f"valence.{name}.weight" for name in ("reduced_audio", "fc1", "fc2", "class_dim")}
    np.testing.assert_array_equal(found["valence.reduced_audio.weight"], state["reduced_rgb.weight"].numpy())
    np.testing.assert_array_equal(found["valence.fc1.weight"], state["fc1.weight"].numpy())


@pytest.mark.parametrize("modalities", [("audio",), ("rgb", "OF"), ("rgb", "OF", "audio")])
def test_one_matrix_gives_what_the_layers_give(modalities: tuple[str, ...], tmp_path: Path) -> None:
    class Asked:
        name = "asked"
        config = {"net": "folded", "modalities": list(modalities)}

    path = official(tmp_path, "X_2FC_Arousal.pth", modalities)
    matrix = convert(path, Asked)["arousal.matrix.weight"]
    assert matrix.shape == (7, sum(WIDTHS[name] for name in modalities))
    Asked.config = {"net": "2fc", "modalities": list(modalities)}
    layers = convert(path, Asked)
    x = np.random.default_rng(0).uniform(0, 1, (64, matrix.shape[1]))
    blocks = np.split(x, np.cumsum([WIDTHS[name] for name in modalities])[:-1], axis=1)
    y = np.concatenate(
        [b @ layers[f"arousal.reduced_{n}.weight"].T for n, b in zip(modalities, blocks, strict=True)], axis=1
    )
    for name in ("fc1", "fc2", "class_dim"):
        y = y @ layers[f"arousal.{name}.weight"].astype(np.float64).T
    # float64 through the layers; what is left is the rounding of the matrix itself
    assert np.abs(x @ matrix.T - y).max() <= 1e-6 * np.abs(y).max()
    # ... and in the nets' own float32, either way of computing it
    nets = {kind: build({"net": kind, "modalities": list(modalities)}) for kind in ("2fc", "folded")}
    nets["2fc"].arousal.load_state_dict(
        {key.removeprefix("arousal."): torch.from_numpy(value) for key, value in layers.items()}
    )
    nets["folded"].arousal.load_state_dict({"matrix.weight": torch.from_numpy(matrix)})
    with torch.no_grad():
        wide, one = (
            nets[kind](torch.from_numpy(x[None].astype(np.float32)))[0].numpy() for kind in ("2fc", "folded")
        )
    assert np.abs(wide - one).max() <= 1e-5 * np.abs(y).max()


def test_the_official_nets_give_the_golden_logits(data_root: Path, tmp_path: Path) -> None:
    folder = data_root / "movie-affect"
    if not folder.is_dir():
        pytest.skip(f"official weights not at hand: {folder}")
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "only_audio_sample.h5") as file:
        rows = {film: file[film][:] for film in file}
    logits: dict[str, dict[str, np.ndarray]] = {}
    for name in ("movie-affect-audio", "movie-affect-audio-2fc"):
        result = convert_model(name, [folder / one for one in AUDIO], tmp_path / f"{name}.safetensors")
        assert result.parameters == {"movie-affect-audio": 2 * 7 * 1582}.get(name, 2 * 215232)
        net = build(variant(name).config)
        net.load_state_dict({k: torch.from_numpy(v) for k, v in load_file(result.path).items()}, strict=True)
        with torch.no_grad():
            outputs = net(torch.from_numpy(np.stack([rows[film] for film in rows])))
        logits[name] = dict(zip(GOLDEN, (output.numpy() for output in outputs), strict=True))
        for head, expected in GOLDEN.items():
            # the sheet gives four decimals
            np.testing.assert_allclose(logits[name][head][list(rows).index("10"), 0], expected, atol=6e-5)
    for head in GOLDEN:
        folded, layers = (one[head] for one in logits.values())
        assert np.abs(folded - layers).max() <= 2e-5
        np.testing.assert_array_equal(folded.argmax(-1), layers.argmax(-1))
    for head, accuracy in (("arousal", 0), ("valence", 9)):  # the sheet's, per cent, on all 120 rows
        with h5py.File(folder / f"my_discrete_{head}_Audio_sample.h5") as file:
            truth = np.stack([file[film][:] for film in rows])
        found = logits["movie-affect-audio"][head].argmax(-1)
        assert round(100 * float((found == truth).mean())) == accuracy


def test_every_real_file_fits_its_own_net_and_no_other(data_root: Path) -> None:
    folder = data_root / "movie-affect"
    if not folder.is_dir():
        pytest.skip(f"official weights not at hand: {folder}")

    class Asked:
        name = "asked"
        config: dict[str, Any] = {}

    kinds = {
        "_RGB_OF": ["rgb", "OF"],
        "_RGB": ["rgb"],
        "_OF": ["OF"],
        "_Audio": ["audio"],
        "_audio_video": ["rgb", "OF", "audio"],
    }
    files = sorted(folder.glob("*.pth"))
    assert len(files) == 10
    for path in files:
        own = next(
            kind for kind in kinds if path.stem.endswith(kind) and (kind != "_OF" or "RGB" not in path.stem)
        )
        for kind, modalities in kinds.items():
            Asked.config = {"net": "folded", "modalities": modalities}
            if kind == own:
                (name,) = convert(path, Asked)
                assert name == f"{'arousal' if 'Arousal' in path.name else 'valence'}.matrix.weight"
            else:
                with pytest.raises(DataError, match=r"does not fit asked|the file's name says"):
                    convert(path, Asked)


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    asked = variant("movie-affect-audio")
    with pytest.raises(DataError, match="its name must say which head"):
        convert(official(tmp_path, "net.pth", ("audio",)), asked)
    with pytest.raises(DataError, match="its name must say which head"):
        convert(official(tmp_path, "arousal_and_valence.pth", ("audio",)), asked)
    with pytest.raises(DataError, match=r"the file's name says rgb"):
        convert(official(tmp_path, "X_Arousal_RGB.pth", ("rgb",)), asked)
    with pytest.raises(DataError, match=r"reduced_audio.weight of shape \(128, 2048\), not \(128, 1582\)"):
        convert(official(tmp_path, "X_Arousal.pth", ("rgb",)), asked)
    with pytest.raises(DataError, match=r"it has no fc2\.weight"):
        convert(official(tmp_path, "X_Arousal.pth", ("audio",), **{"fc2.weight": None}), asked)
    bad = official(tmp_path, "X_Arousal.pth", ("audio",), **{"fc1.weight": torch.full((64, 128), torch.inf)})
    with pytest.raises(DataError, match=r"values in fc1\.weight that are not finite"):
        convert(bad, asked)


def test_the_two_heads_come_in_two_files(tmp_path: Path) -> None:
    arousal = official(tmp_path, "X_Arousal.pth", ("audio",), seed=1)
    valence = official(tmp_path, "X_Valence.pth", ("audio",), seed=2)
    out = tmp_path / "w.safetensors"
    with pytest.raises(DataError, match=r"valence.matrix.weight missing"):
        convert_model("movie-affect-audio", arousal, out)
    with pytest.raises(DataError, match=r"holds arousal.matrix.weight, as another of the given files does"):
        convert_model("movie-affect-audio", [arousal, valence, arousal], out)
    assert not out.exists()
    result = convert_model("movie-affect-audio", [valence, arousal], out)
    assert result.tensors == 2
