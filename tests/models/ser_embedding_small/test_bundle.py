# SPDX-License-Identifier: Apache-2.0
"""From a clip of any length to four answers: the exported bundle against the reference on the same features."""

from __future__ import annotations

import numpy as np
import pytest

import zoo
from zoo import registry

torch = pytest.importorskip("torch", reason="torch is not installed")
CARD, VARIANT = registry.find("ser-embedding-small")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> zoo.Model:
    from zoo.export import export_model

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ZOO_DATA", raising=False)
        out = tmp_path_factory.mktemp("embedding") / "bundle"
        return zoo.load(export_model("ser-embedding-small", target="cpu-x86", precision="fp32", out=out).path)


def clip(seconds: float, rate: int = 16000) -> np.ndarray:
    rng = np.random.default_rng(int(seconds * 100))
    time = np.arange(round(seconds * rate)) / rate
    tone = 0.3 * np.sin(2 * np.pi * 180 * time) * (1 + np.sin(2 * np.pi * 3 * time))
    return (tone + 0.02 * rng.standard_normal(len(time))).astype(np.float32)


def test_clips_of_any_length_equal_the_reference(model: zoo.Model) -> None:
    from safetensors.torch import load_file

    assert model.selftest().passed
    assert VARIANT.weights.file
    net = CARD.build(VARIANT.config).eval()
    net.load_state_dict(load_file(CARD.path(VARIANT.weights.file)))
    pipeline = CARD.pipeline(VARIANT)
    for seconds in (0.25, 1.0, 2.0, 30.0):
        samples = clip(seconds)
        with torch.no_grad():
            expected = net(torch.from_numpy(pipeline.run(samples, 16000))[None])
        found = model((samples, 16000))
        for name, value in zip(("emotion", "sex", "age", "embedding"), expected, strict=True):
            np.testing.assert_allclose(found.outputs[name], value[0], rtol=1e-4, atol=1e-4, err_msg=name)
        assert list(found.heads) == ["emotion", "sex", "age", "embedding"]
        assert found.heads["emotion"].label == VARIANT.decode.heads[0].labels[int(expected[0].argmax())]
        assert sum(found.heads["sex"].scores.values()) == pytest.approx(1, abs=1e-5)
        assert found.heads["age"].values["age"] == pytest.approx(float(expected[2]), abs=1e-3)


def test_a_batch_of_lengths_equals_its_clips(model: zoo.Model) -> None:
    clips = [(clip(seconds), 16000) for seconds in (2.0, 0.5, 2.0)]
    for one, other in zip(model.batch(clips), map(model, clips), strict=True):
        for name, value in one.outputs.items():
            np.testing.assert_allclose(value, other.outputs[name], rtol=1e-4, atol=1e-4)
