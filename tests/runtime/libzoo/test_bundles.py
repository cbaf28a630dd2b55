# SPDX-License-Identifier: Apache-2.0
"""libzoo and the Python reader take and refuse the same bundles."""

from __future__ import annotations

import json
import os
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libzoo_c import (
    LibZoo,
    contents,
    python_verdict,
    sealed,
    verdict,
)
from zoo.bundle import MANIFEST, open_bundle, write_bundle


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where every value of a JSON document is."""
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*at, key))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 2**40)
    | st.sampled_from([0.5, 1.0, 1e300, -1.5])
    | st.sampled_from(
        [
            "",
            "x",
            "fp32",
            "../x",
            "/etc/passwd",
            "a/../b",
            "onnxruntime",
            "softmax",
            "a" * 5000,
            "é",
            "0" * 64,
        ]
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["op", "type", "x"]), inner, max_size=3)
    ),
    max_leaves=4,
)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_both_readers_agree_on_any_edited_manifest(libzoo: LibZoo, whole: Path, data: st.DataObject) -> None:
    manifest = json.loads((whole / MANIFEST).read_text())
    at = data.draw(st.sampled_from([at for at in places(manifest) if at]))
    holder = manifest
    for key in at[:-1]:
        holder = holder[key]
    action = data.draw(st.sampled_from(["replace", "replace", "remove", "add"]))
    if action == "replace":
        holder[at[-1]] = data.draw(JSON)
    elif action == "remove":
        del holder[at[-1]]
    elif isinstance(holder, dict):
        holder[
            data.draw(st.sampled_from(["x", "recipe", "attention", "threads", "extra_files", "kept", "gate"]))
        ] = data.draw(JSON)
    else:
        holder.insert(at[-1], data.draw(st.sampled_from(holder)))
    copy = whole.parent / "edited"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(whole, copy)
    (copy / MANIFEST).write_bytes(sealed(manifest))
    expected, found = python_verdict(copy), verdict(libzoo, copy)
    assert (found == "whole") == (expected == "whole"), f"{at} {action}: Python: {expected}; C: {found}"


#: Manifests that are none: content, what both readers' messages share.
NO_MANIFESTS: list[bytes] = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff\xfe{}",
    b"[" * 100_000,
    b'{"a":' * 5000 + b"1" + b"}" * 5000,
    b'{"schema": 1e999}',
    b"{}" * 2,
    b'{"schema": 1, "schema": 1}',
]


@pytest.mark.parametrize("content", NO_MANIFESTS, ids=lambda content: repr(content[:12]))
def test_manifests_that_are_none(libzoo: LibZoo, whole: Path, tmp_path: Path, content: bytes) -> None:
    copy = Path(shutil.copytree(whole, tmp_path / "copy"))
    (copy / MANIFEST).write_bytes(content)
    assert MANIFEST in verdict(libzoo, copy)
    assert MANIFEST in python_verdict(copy)


def _links(folder: Path) -> None:
    (folder / "real").write_bytes((folder / "engine.onnx").read_bytes())
    (folder / "engine.onnx").unlink()
    (folder / "engine.onnx").symlink_to("real")


def _pipe(folder: Path) -> None:
    (folder / "golden.npz").unlink()
    os.mkfifo(folder / "golden.npz")


def _flip(folder: Path) -> None:
    content = bytearray((folder / "engine.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "engine.onnx").write_bytes(content)


def _harmless(folder: Path) -> None:
    path = folder / MANIFEST
    path.write_text(path.read_text().replace('"title": "', '"title": "x', 1))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_links, "symbolic link"),
        (_pipe, "not a regular file"),
        (_flip, "engine.onnx is damaged"),
        (_harmless, "was changed after it was written"),
        (lambda folder: (folder / "golden.npz").unlink(), "golden.npz is missing"),
        (lambda folder: (folder / "golden.npz").write_bytes(b"x"), "golden.npz has 1 bytes"),
        (lambda folder: (folder / MANIFEST).write_bytes(b" " * ((4 << 20) + 1)), str(4 << 20)),
        (lambda folder: (folder / MANIFEST).unlink(), "manifest.json is missing"),
    ],
)
def test_damaged_directories(
    libzoo: LibZoo, whole: Path, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    copy = Path(shutil.copytree(whole, tmp_path / "copy"))
    damage(copy)
    assert message in verdict(libzoo, copy)
    assert python_verdict(copy) != "whole"


def test_what_is_no_bundle(libzoo: LibZoo, tmp_path: Path) -> None:
    (tmp_path / "empty.zoo").write_bytes(b"")
    for path in (tmp_path / "nothing", tmp_path / "empty.zoo", Path("/dev/null")):
        assert str(path) in verdict(libzoo, path)
        assert python_verdict(path) != "whole"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_zips_that_are_not_plain(libzoo: LibZoo, whole: Path, tmp_path: Path) -> None:
    files = {path.name: path.read_bytes() for path in whole.iterdir()}
    cases: dict[str, Callable[[zipfile.ZipFile], None]] = {
        "compressed": lambda z: [z.writestr(n, d, zipfile.ZIP_DEFLATED) for n, d in files.items()] and None,
        "twice": lambda z: [z.writestr(n, d) for n, d in [*files.items(), ("golden.npz", b"x")]] and None,
    }
    for message, write in cases.items():
        path = tmp_path / f"{message}.zoo"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            write(archive)
        assert message in verdict(libzoo, path)
        assert python_verdict(path) != "whole"


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_damaged_zips_are_refused_or_whole(libzoo: LibZoo, whole: Path, data: st.DataObject) -> None:
    bundle = open_bundle(whole)
    path = whole.parent / "small.zoo"
    if not path.exists():
        write_bundle(path, bundle.manifest, contents(bundle))
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\x01\x02")
    for _ in range(data.draw(st.integers(1, 4))):
        # mostly where the zip's own numbers are
        at = data.draw(
            st.integers(directory, len(content) - 1) | st.integers(0, 200) | st.integers(0, len(content) - 1)
        )
        width = data.draw(st.sampled_from([1, 2, 4]))
        value = data.draw(st.sampled_from([0, 1, 2**31, 2**32 - 1]) | st.integers(0, 2**32 - 1))
        content[at : at + width] = struct.pack("<I", value)[:width]
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    verdict(libzoo, bytes(content))


def test_an_op_that_the_library_does_not_know(libzoo: LibZoo, whole: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(whole, tmp_path / "copy"))
    manifest = json.loads((copy / MANIFEST).read_text())
    manifest["pipeline"].insert(0, {"op": "of_next_year"})
    (copy / MANIFEST).write_bytes(sealed(manifest))
    assert 'pipeline[0].op is "of_next_year", which is none that this library knows' in verdict(libzoo, copy)
    assert python_verdict(copy) != "whole"


#: What is wrong with a curve, as decode and labels of a manifest.
BAD_CURVES: Mapping[str, tuple[Any, Sequence[str]]] = {
    "range": ({"range": [1.0, -1.0]}, []),
    "mean": ({"smooth": {"mean": 2}}, []),
    "median": ({"smooth": {"median": 4}}, []),
    "cutoff": ({"smooth": {"cutoff": 0.5}}, []),
    "beside others": ([{}, None], ["a", "b"]),
    "other steps": ([{}, {"period": 0.25}], ["a", "b"]),
}


@pytest.mark.parametrize("name", BAD_CURVES)
def test_both_readers_refuse_curves_that_do_not_hold(
    libzoo: LibZoo, whole: Path, tmp_path: Path, name: str
) -> None:
    copy = Path(shutil.copytree(whole, tmp_path / "copy"))
    manifest = json.loads((copy / MANIFEST).read_text())
    output = manifest["engines"][0]["outputs"][0]["name"]

    def decode(change: Mapping[str, Any] | None) -> Any:
        if change is None:
            return {"type": "embedding", "output": output}
        return {"type": "curve", "output": output, "period": 0.5, "window": 1.0, **change}

    def write(change: Any, labels: Sequence[str]) -> None:
        heads = [{"name": label, "decode": decode(one)} for label, one in zip(labels, change, strict=False)]
        manifest["decode"] = {"type": "heads", "heads": heads} if labels else decode(change)
        manifest["labels"] = list(labels)
        (copy / MANIFEST).write_bytes(sealed(manifest))

    change, labels = BAD_CURVES[name]
    write([{}, {}] if labels else {}, labels)
    assert (verdict(libzoo, copy), python_verdict(copy)) == ("whole", "whole")
    write(change, labels)
    assert "decode: " in verdict(libzoo, copy)
    assert "decode: " in python_verdict(copy)
