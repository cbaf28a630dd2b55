# SPDX-License-Identifier: Apache-2.0
"""Fixtures shared by all tests. Real data come from ``ZOO_DATA`` (default: ``../shared/data``)."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

# No test asserts milliseconds: on a busy machine a deadline fails by chance.
settings.register_profile("zoo", deadline=None)
settings.load_profile("zoo")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data; the test is skipped where it is not at hand."""
    root = Path(os.environ.get("ZOO_DATA") or REPOSITORY.parent / "shared" / "data")
    if not (root / "emodb" / "labels.csv").is_file():
        pytest.skip(f"real data not at hand: {root} has no emodb (set ZOO_DATA)")
    return root


@pytest.fixture(scope="session")
def ready_bundle() -> Path:
    """The fp32 bundle of tim-net-emodb that ships in the package."""
    from zoo.store import find_bundle

    return find_bundle("tim-net-emodb", target="cpu-x86", precision="fp32")


@pytest.fixture
def bundle_copy(ready_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the ready bundle that a test may damage."""
    return Path(shutil.copytree(ready_bundle, tmp_path / "bundle"))


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    """Speech clips that the project made itself."""
    import zoo.models.tim_net

    return Path(zoo.models.tim_net.__path__[0]) / "golden"


@pytest.fixture(scope="session")
def script() -> Callable[[str], ModuleType]:
    """Imports a script of ``benchmarks``, such as ``suites/tim_net``, with its folder first on the path meanwhile."""

    def load(name: str) -> ModuleType:
        file = REPOSITORY / "benchmarks" / name
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(file.parent)
            return importlib.import_module(file.name)

    return load


@pytest.fixture(autouse=True)
def _own_place(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the user's store, or runs in the repository, where ``python -c`` would import the source tree."""
    monkeypatch.chdir(tmp_path_factory.getbasetemp())
    monkeypatch.setenv("ZOO_HOME", str(tmp_path_factory.getbasetemp() / "zoo-home"))
    monkeypatch.delenv("ZOO_MODELS", raising=False)
