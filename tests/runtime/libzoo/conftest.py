# SPDX-License-Identifier: Apache-2.0
"""The library, and bundles that several files run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from libzoo_c import (
    ENGINE_FOLDERS,
    REPOSITORY,
    CModel,
    LibZoo,
    exported,
    twin,
)


@pytest.fixture(scope="session")
def libzoo() -> Iterator[LibZoo]:
    """The shared library: ``ZOO_LIBRARY``, or what ``make runtime`` built."""
    path = Path(os.environ.get("ZOO_LIBRARY") or REPOSITORY / "build" / "runtime" / "libzoo.so")
    if not path.is_file():
        pytest.skip(f"{path} is not built; make runtime, or set ZOO_LIBRARY")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_ENGINE_PATH", ":".join(["/nowhere", *map(str, ENGINE_FOLDERS.values())]))
        yield LibZoo(path)


@pytest.fixture(scope="session")
def openvino_bundle(ready_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return twin(ready_bundle, tmp_path_factory.mktemp("openvino") / "tim-net.zoo")


@pytest.fixture(scope="session")
def model(libzoo: LibZoo, openvino_bundle: Path) -> CModel:
    return libzoo.open(openvino_bundle)


@pytest.fixture(scope="session")
def face_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of faces, as exported."""
    return exported("neurogaze-distill-small", tmp_path_factory.mktemp("faces") / "bundle")


@pytest.fixture(scope="session")
def recording() -> np.ndarray[Any, Any]:
    """Ten seconds of 14 channels, microvolts, with spikes."""
    rng = np.random.default_rng(11)
    signal = rng.normal(4000, 30, (1280, 14)) + 20 * np.sin(np.arange(1280) / 2)[:, None]
    signal[[200, 700], 3] += 1e5
    return signal


@pytest.fixture(scope="session")
def whole(ready_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that both readers take, for an engine that libzoo does not find."""
    return twin(ready_bundle, tmp_path_factory.mktemp("whole") / "bundle", kind="tensorrt")
