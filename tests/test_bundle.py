# SPDX-License-Identifier: Apache-2.0
"""The bundle format: everything that can be wrong with one is refused by name."""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import zoo
from zoo.bundle import (
    MANIFEST,
    Bundle,
    decode_manifest,
    encode_manifest,
    json_schema,
    load_golden,
    open_bundle,
    write_bundle,
)
from zoo.errors import BundleError, ZooError


def edit(bundle: Path, change: Any) -> None:
    """Change the manifest as a person with an editor would (the digest is then wrong as well)."""
    path = bundle / MANIFEST
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest, indent=1))


def reseal(bundle: Path) -> None:
    """Give an edited manifest a right digest, so that only the edit itself can be refused."""
    import hashlib

    path = bundle / MANIFEST
    text = re.sub(r'"digest": "[^"]*"', '"digest": "' + "0" * 64 + '"', path.read_text(), count=1)
    digest = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(text.replace("0" * 64, digest, 1))


def contents(bundle: Bundle) -> dict[str, bytes]:
    return {file.path: bundle.read(file.path) for file in bundle.manifest.files}


def test_round_trip_as_directory_and_zip(ready_bundle: Path, tmp_path: Path) -> None:
    bundle = open_bundle(ready_bundle)
    for out in (tmp_path / "copy", tmp_path / "copy.zoo"):
        write_bundle(out, bundle.manifest, contents(bundle))
        again = open_bundle(out)
        assert again.manifest == bundle.manifest
        assert again.manifest_bytes == bundle.manifest_bytes
        assert contents(again) == contents(bundle)


def test_zip_is_reproducible_and_its_files_are_aligned(ready_bundle: Path, tmp_path: Path) -> None:
    bundle = open_bundle(ready_bundle)
    first = write_bundle(tmp_path / "a.zoo", bundle.manifest, contents(bundle)).read_bytes()
    second = write_bundle(tmp_path / "b.zoo", bundle.manifest, contents(bundle)).read_bytes()
    assert first == second
    engine = contents(bundle)[bundle.manifest.engines[0].file]
    assert first.index(engine) % 64 == 0


def test_every_file_refuses_a_flipped_byte(bundle_copy: Path) -> None:
    for path in sorted(bundle_copy.rglob("*")):
        if not path.is_file():
            continue
        data = path.read_bytes()
        for at in {0, len(data) // 3, len(data) // 2, len(data) - 1}:
            path.write_bytes(data[:at] + bytes([data[at] ^ 0x20]) + data[at + 1 :])
            with pytest.raises(BundleError, match=re.escape(path.name)):
                open_bundle(bundle_copy)
        path.write_bytes(data)
    open_bundle(bundle_copy)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(min_value=0), bit=st.integers(0, 7))
def test_any_flipped_bit_of_the_manifest_is_refused(
    ready_bundle: Path, at: int, bit: int, tmp_path: Path
) -> None:
    data = bytearray((ready_bundle / MANIFEST).read_bytes())
    data[at % len(data)] ^= 1 << bit
    target = tmp_path / "flipped"
    if not target.exists():
        shutil.copytree(ready_bundle, target)
    (target / MANIFEST).write_bytes(data)
    with pytest.raises(BundleError):
        open_bundle(target)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cut=st.floats(0, 0.999), flips=st.lists(st.tuples(st.floats(0, 0.999), st.integers(1, 255)), max_size=8)
)
def test_damaged_zips_give_a_bundle_error_or_the_same_content(
    ready_bundle: Path, tmp_path: Path, cut: float, flips: list[tuple[float, int]]
) -> None:
    bundle = open_bundle(ready_bundle)
    whole = tmp_path / "whole.zoo"
    if not whole.exists():
        write_bundle(whole, bundle.manifest, contents(bundle))
    data = bytearray(whole.read_bytes())
    for where, mask in flips:
        data[int(where * len(data))] ^= mask
    if not flips:
        data = data[: int(cut * len(data))]
    (tmp_path / "damaged.zoo").write_bytes(data)
    try:
        opened = open_bundle(tmp_path / "damaged.zoo")
    except BundleError:
        return
    # Only bytes that carry nothing (padding, zip dates) were hit.
    assert contents(opened) == contents(bundle)


def test_truncated_engine_and_missing_file_are_named(bundle_copy: Path) -> None:
    engine = bundle_copy / open_bundle(bundle_copy).manifest.engines[0].file
    data = engine.read_bytes()
    engine.write_bytes(data[:-100])
    with pytest.raises(BundleError, match=rf"{engine.name} has {len(data) - 100} bytes"):
        zoo.load(bundle_copy)
    engine.unlink()
    with pytest.raises(BundleError, match=f"{engine.name} is missing"):
        zoo.load(bundle_copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(threads="two"), r"Expected `int`, got `str` - at `\$\.threads`"),
        (lambda m: m.update(schema=2), r"\$\.schema"),
        (lambda m: m.update(surprise=1), "surprise"),
        (lambda m: m.pop("key"), "key"),
        (lambda m: m["pipeline"].append({"op": "teleport"}), "teleport"),
        (lambda m: m["pipeline"][0].update(rate="fast"), r"\$\.pipeline\[0\]"),
        (lambda m: m["pipeline"][0].update(speed=3), "speed"),
        (lambda m: m["pipeline"][0].update(rate=-1), r"pipeline|rate"),
        (lambda m: m["pipeline"].reverse(), "pipeline"),
        (lambda m: m["engines"][0].update(file="../model.onnx"), r"engines\[0\]\.file|\$\.engines"),
        (lambda m: m["engines"][0].update(file="/etc/passwd"), r"\$\.engines"),
        (lambda m: m["files"][0].update(path="a/../../b"), r"\$\.files"),
        (lambda m: m["engines"][0].update(kind="abacus"), "abacus"),
        (lambda m: m["engines"][0].update(file="other.onnx"), "other.onnx"),
        (lambda m: m["decode"].update(output="nothing"), "nothing"),
        (lambda m: m["decode"].update(type="oracle"), "oracle"),
        (lambda m: m["labels"].append(m["labels"][0]), "a label twice"),
        (lambda m: m["key"].update(engine="openvino"), r"key\.engine"),
        (lambda m: m["key"].update(target="jetson"), r"key\.target"),
        (lambda m: m["key"].update(onnx_sha256="0" * 64), r"key\.onnx_sha256"),
        (lambda m: m["key"].update(calibration_sha256="0" * 64), r"key\.calibration_sha256"),
        (lambda m: m["files"].append(m["files"][0]), "twice"),
        (lambda m: m["golden"].update(count=0), r"\$\.golden\.count"),
        (lambda m: m["files"][0].update(size=10**30), r"\$\.files"),
    ],
)
def test_edited_manifest_is_refused_and_named(bundle_copy: Path, change: Any, message: str) -> None:
    edit(bundle_copy, change)
    reseal(bundle_copy)
    with pytest.raises(BundleError, match=message):
        zoo.load(bundle_copy)


def test_key_that_differs_from_this_machine_names_field_and_command(bundle_copy: Path) -> None:
    edit(bundle_copy, lambda m: m["key"].update(engine_version=">=99.0"))
    reseal(bundle_copy)
    with pytest.raises(
        BundleError, match=r"key\.engine_version is >=99\.0, this machine has .*zoo export tim-net-emodb"
    ):
        zoo.load(bundle_copy)


def test_harmless_edit_is_refused_by_the_digest(bundle_copy: Path) -> None:
    edit(bundle_copy, lambda m: m.update(title="Something else"))
    with pytest.raises(BundleError, match="changed after it was written"):
        zoo.load(bundle_copy)


def test_symbolic_links_are_refused(bundle_copy: Path, tmp_path: Path) -> None:
    engine = bundle_copy / open_bundle(bundle_copy).manifest.engines[0].file
    shutil.move(engine, tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", engine)
    with pytest.raises(BundleError, match="symbolic link"):
        zoo.load(bundle_copy)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"schema": 1}', b"[" * 100_000])
def test_manifests_that_are_none(bundle_copy: Path, data: bytes) -> None:
    (bundle_copy / MANIFEST).write_bytes(data)
    with pytest.raises(BundleError, match=r"manifest\.json"):
        zoo.load(bundle_copy)


def test_manifest_larger_than_the_limit(bundle_copy: Path) -> None:
    (bundle_copy / MANIFEST).write_bytes(b" " * (5 << 20))
    with pytest.raises(BundleError, match="limit"):
        zoo.load(bundle_copy)


def test_compressed_zip_is_refused(ready_bundle: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "b.zoo", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in ready_bundle.iterdir():
            archive.write(path, path.name)
    with pytest.raises(BundleError, match="compressed"):
        zoo.load(tmp_path / "b.zoo")


def test_what_is_not_a_bundle(tmp_path: Path) -> None:
    (tmp_path / "x.zoo").write_text("hello")
    with pytest.raises(BundleError, match=r"not a readable \.zoo file"):
        zoo.load(tmp_path / "x.zoo")
    with pytest.raises(BundleError, match=r"manifest\.json is missing"):
        zoo.load(tmp_path)
    with pytest.raises(BundleError, match="no such bundle"):
        zoo.load(tmp_path / "gone.zoo")


def test_writing_never_destroys(ready_bundle: Path, tmp_path: Path) -> None:
    bundle = open_bundle(ready_bundle)
    out = tmp_path / "mine"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    for force in (False, True):
        with pytest.raises(ZooError, match=r"exists|not a bundle"):
            write_bundle(out, bundle.manifest, contents(bundle), force=force)
    assert (out / "thesis.txt").read_text() == "years of work"
    other = write_bundle(tmp_path / "b", bundle.manifest, contents(bundle))
    with pytest.raises(ZooError, match="--force"):
        write_bundle(other, bundle.manifest, contents(bundle))
    write_bundle(other, bundle.manifest, contents(bundle), force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "mine"]


def test_json_schema_in_the_package_is_current_and_agrees_with_the_reader(bundle_copy: Path) -> None:
    shipped = json.loads((Path(zoo.__file__).parent / "manifest.schema.json").read_text())
    assert shipped == json_schema(), "run: python -m zoo.bundle > zoo/manifest.schema.json"
    manifest = json.loads((bundle_copy / MANIFEST).read_text())
    jsonschema.validate(manifest, shipped)
    bad = [
        {**manifest, "threads": "two"},
        {**manifest, "surprise": 1},
        {**manifest, "pipeline": [{"op": "teleport"}]},
        {**manifest, "engines": []},
        {**manifest, "files": [{"path": "../x", "size": 1, "sha256": "0" * 64}]},
    ]
    for document in bad:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(document, shipped)
        with pytest.raises(BundleError):
            decode_manifest(json.dumps(document).encode(), "here")


def test_encoding_states_every_field(ready_bundle: Path) -> None:
    bundle = open_bundle(ready_bundle)
    data = json.loads(encode_manifest(bundle.manifest))
    assert set(data) == set(bundle.manifest.__struct_fields__)
    mfcc = next(op for op in data["pipeline"] if op["op"] == "mfcc")
    assert {"n_mfcc", "n_fft", "hop_length", "n_mels", "top_db"} <= set(mfcc)


def test_golden_inputs_are_raw_and_complete(ready_bundle: Path) -> None:
    cases = load_golden(open_bundle(ready_bundle))
    assert len(cases) >= 3
    assert {case["rate"] for case in cases} >= {16000, 22050, 44100}
    assert all(case["input"].dtype == "int16" for case in cases)
