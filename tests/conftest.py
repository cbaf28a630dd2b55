# SPDX-License-Identifier: Apache-2.0
"""Fixtures shared by all tests. Real data come from ``ZOO_DATA`` (default: ``../shared/data``)."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

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


@pytest.fixture(scope="session")
def film_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of movie-affect-full with a narrow and shallow net for small pictures, and an LSTM: ``movie-affect-tiny``."""
    from zoo import registry

    card, _ = registry.find("movie-affect-full")
    folder = tmp_path_factory.mktemp("models") / "tiny"
    shutil.copytree(card.folder, folder, ignore=shutil.ignore_patterns("bundles", "__pycache__"))
    text = (folder / "card.toml").read_text(encoding="utf-8")
    shallow = "width = 4, pictures = [1, 1, 1, 1], motion = [1, 2, 1, 1]"
    text = text.replace("movie-affect-full", "movie-affect-tiny").replace("width = 64", shallow)
    text = text.replace("224", "64").replace("shorter = 500", "shorter = 80")
    text = text.replace("folded", "lstm").replace("window = 0.4,", "window = 0.4, context = 4,")
    (folder / "card.toml").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def film_bundle(film_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That one exported."""
    from zoo.export import export_model

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_MODELS", str(film_models.parent))
        patch.delenv("ZOO_DATA", raising=False)
        out = tmp_path_factory.mktemp("full") / "bundle"
        return export_model("movie-affect-tiny", target="cpu-x86", precision="fp32", out=out).path


@pytest.fixture(autouse=True)
def _own_place(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the user's store, or runs in the repository, where ``python -c`` would import the source tree."""
    monkeypatch.chdir(tmp_path_factory.getbasetemp())
    monkeypatch.setenv("ZOO_HOME", str(tmp_path_factory.getbasetemp() / "zoo-home"))
    monkeypatch.delenv("ZOO_MODELS", raising=False)


@pytest.fixture
def bench_inputs(tmp_path: Path) -> Callable[..., list[Any]]:
    """``bench_inputs(bundle, **options)``: what zoo bench would time, checked: 64 distinct inputs on their way to a worker,
    where pipelines, engine and decoding one by one give what the model as a whole gives.
    """

    def make(bundle: Path, **options: Any) -> list[Any]:
        from zoo.bundle import open_bundle
        from zoo.runtime.bench.inputs import Inputs, make_inputs
        from zoo.runtime.bench.subject import difference, open_subject, result_of

        made = make_inputs(open_bundle(bundle), **options)
        made.save(tmp_path / "inputs.npz")
        read = Inputs.open(tmp_path / "inputs.npz")
        assert len({item.tobytes() for item in read.items}) == len(read.items) == 64
        assert len({item.shape for item in read.items}) == 1
        subject = open_subject(str(bundle), None, 1)
        for raw in read.raws()[::21]:
            whole = result_of(subject.pipeline(raw))
            parts = result_of(subject.decode(subject.engine(subject.features(raw))))
            assert difference(parts, whole) == 0
            assert whole[1]
        return read.raws()

    return make
