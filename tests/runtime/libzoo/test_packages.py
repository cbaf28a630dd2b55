# SPDX-License-Identifier: Apache-2.0
"""libzoo installed: find_package, pkg-config, and both packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

import zoo
import zoo.pipeline
from libzoo_c import (
    REPOSITORY,
    LibZoo,
)

FIND_PACKAGE = """cmake_minimum_required(VERSION 3.18)
project(app LANGUAGES C CXX)
find_package(zoo REQUIRED)
add_executable(app {source})
target_link_libraries(app PRIVATE zoo::zoo)
"""


def test_a_program_finds_the_installed_library(
    libzoo: LibZoo, openvino_bundle: Path, golden_folder: Path, tmp_path: Path
) -> None:
    """With ``find_package`` and with pkg-config, from a folder that the library was installed in."""
    cmake = _tool("cmake")
    root, clip, source = (
        tmp_path / "usr",
        golden_folder / "calm_22050.flac",
        REPOSITORY / "examples" / "classify_wav.c",
    )
    _output(cmake, "--install", libzoo.path.parent, "--prefix", root, "--strip")
    expected = zoo.load(openvino_bundle)(clip).label
    (tmp_path / "CMakeLists.txt").write_text(FIND_PACKAGE.format(source=source))
    _output(cmake, "-S", tmp_path, "-B", tmp_path / "build", f"-DCMAKE_PREFIX_PATH={root}")
    _output(cmake, "--build", tmp_path / "build")
    assert f"\t{expected} " in _output(tmp_path / "build" / "app", openvino_bundle, clip)
    (config,) = root.rglob("zoo.pc")
    environment = {**os.environ, "PKG_CONFIG_PATH": str(config.parent)}
    flags = _output(_tool("pkg-config"), "--cflags", "--libs", "zoo", env=environment).split()
    _output("cc", source, *flags, "-o", tmp_path / "app")
    environment["LD_LIBRARY_PATH"] = str(config.parent.parent)
    assert f"\t{expected} " in _output(tmp_path / "app", openvino_bundle, clip, env=environment)


def test_the_packages(libzoo: LibZoo, tmp_path: Path) -> None:
    arguments = ("--config", libzoo.path.parent / "CPackConfig.cmake", "-B", tmp_path)
    _output(_tool("cmake").with_name("cpack"), *arguments)
    (archive,), (package,) = tmp_path.glob("libzoo-*.tar.gz"), tmp_path.glob("libzoo_*.deb")
    with tarfile.open(archive) as files:
        names = {Path(*Path(name).parts[1:]) for name in files.getnames()}
    listed = _output("dpkg-deb", "-c", package)
    for name in ("zoo.h", "zoo.hpp", "libzoo.so.1", "libzoo.so", "zoo.pc", "zooConfig.cmake", "LICENSE"):
        assert any(path.name == name for path in names)
        assert f"/{name}" in listed
    assert "libstdc++6" in _output("dpkg-deb", "-f", package, "Depends")


def _tool(name: str) -> Path:
    """A build tool of the test environment or of the system; the test is skipped where there is none."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return Path(found)


def _output(*command: str | Path, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout
