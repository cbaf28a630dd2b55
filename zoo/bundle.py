# SPDX-License-Identifier: Apache-2.0
"""The bundle: the only thing a device needs. A directory, or one uncompressed ``.zoo`` zip.

``manifest.json`` describes the model and lists every other file with size and SHA-256; its own bytes are
covered by ``digest``. Reading checks, in this order and before anything is deserialised: manifest syntax,
schema, paths, pipeline, key, sizes and hashes, digest. See docs/bundle.md.
"""

from __future__ import annotations

import ctypes
import errno
import glob
import hashlib
import io
import os
import re
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from zoo.errors import BundleError, InputError, ZooError
from zoo.pipeline import Op, Pipeline, Source, op_files, pipeline_of
from zoo.specs import (
    Decode,
    License,
    Name,
    Precision,
    Quality,
    QuantizeOption,
    Range3,
    RawInput,
    Sha256,
    Spec,
    TensorSpec,
    WeightsStatus,
    attention_output,
    curves,
    decode_problem,
    read_outputs,
)

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 4 << 20
MAX_FILE_BYTES = 8 << 30
ALIGNMENT = 64

EngineKind = Literal["onnxruntime", "openvino", "tensorrt", "tensorrt_rtx"]
#: Relative, forward slashes, no empty or dotted component.
FilePath = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$", max_length=200)
]
Size = Annotated[int, Meta(ge=1, le=MAX_FILE_BYTES)]


class FileSpec(Spec, frozen=True):
    """One file of the bundle."""

    path: FilePath
    size: Size
    sha256: Sha256


class EngineSpec(Spec, frozen=True):
    """One compiled graph. ``kept`` lists the layers that stay in higher precision than ``precision``."""

    kind: EngineKind
    file: FilePath
    precision: Precision
    inputs: Annotated[tuple[TensorSpec, ...], Meta(min_length=1)]
    outputs: Annotated[tuple[TensorSpec, ...], Meta(min_length=1)]
    opset: int | None = None
    extra_files: tuple[FilePath, ...] = ()
    kept: tuple[str, ...] = ()
    placement: dict[str, int] = {}


class Key(Spec, frozen=True):
    """Everything the engine depends on. A field that differs on the device refuses the bundle.

    ``engine_version`` is a requirement such as ``>=1.20`` or ``==1.2.0.54``. ``compute_capability``,
    ``isa`` and ``driver`` are None where the engine file does not depend on them.
    """

    onnx_sha256: Sha256
    calibration_sha256: Sha256 | None
    engine: EngineKind
    engine_version: Annotated[str, Meta(pattern=r"^(>=|==|<)[0-9.]+(,(>=|==|<)[0-9.]+)*$")]
    target: Name
    compute_capability: str | None
    isa: str | None
    driver: str | None
    flags: dict[str, str | int | bool]
    profile: dict[str, Range3]


class Calibration(Spec, frozen=True):
    """What INT8 ranges were measured on."""

    data: str
    items: tuple[str, ...]
    method: str
    sha256: Sha256


class Provenance(Spec, frozen=True):
    """Where the numbers come from. ``quantize`` lists the options of the int8 quantiser, ``inputs_sha256`` covers
    everything that the export read.
    """

    weights: WeightsStatus
    weights_sha256: Sha256
    weights_source: str
    training_data: str
    training_data_sha256: Sha256 | None
    code_version: str
    sheet: str
    tools: dict[str, str]
    quantize: tuple[QuantizeOption, ...] = ()
    inputs_sha256: Sha256 | None = None


class Parity(Spec, frozen=True):
    """Largest difference from the PyTorch reference over ``inputs`` inputs, relative to the output range.

    ``cosine`` is the least one between an embedding and the reference's; None: the model gives no embedding.
    """

    inputs: Annotated[int, Meta(ge=1)]
    input_source: str
    max_error: float
    tolerance: float
    verified_on: str
    cosine: float | None = None


class Gate(Spec, frozen=True):
    """Paired bootstrap of the headline metric, reference precision minus this artifact."""

    metric: str
    protocol: str
    n: int
    reference: float
    artifact: float
    difference: float
    low: float
    high: float
    budget: float
    passed: bool


class Candidate(Spec, frozen=True):
    """One row of a Pareto table: what a precision costs and gains.

    ``kept`` lists the layers of higher precision, the most sensitive first. ``value`` is the metric on held-out items,
    ``loss`` that of fp32 minus this, with its 95 % interval ``low`` to ``high``; None where there were no fold models or
    no data. ``latency`` is the engine's median in seconds; None where the engine does not run on that machine. ``size``
    is bytes of the engine files. ``optimal`` means that no other row is at least as good in loss, latency and size
    and better in one, by these very figures but with latencies a few per cent apart taken as equal; no row is where
    accuracy was not measured. ``refused`` is why there is no such artifact.
    """

    precision: Precision
    quantize: tuple[QuantizeOption, ...] = ()
    kept: tuple[str, ...] = ()
    value: float | None = None
    loss: float | None = None
    low: float | None = None
    high: float | None = None
    latency: float | None = None
    size: Annotated[int, Meta(ge=1)] | None = None
    within_budget: bool | None = None
    optimal: bool = False
    refused: str | None = None


class Pareto(Spec, frozen=True):
    """Accuracy against latency against size of every precision of the target, measured when the bundle was made.

    ``machine`` is the processor and its instruction set; one thread, ``inputs`` distinct inputs, all candidates in turn.
    ``protocol`` says how ``metric`` was taken over ``n`` items; it is empty and ``n`` 0 where it was not.
    """

    machine: str
    inputs: Annotated[int, Meta(ge=1)]
    metric: str
    protocol: str
    n: Annotated[int, Meta(ge=0)]
    budget: float
    rows: tuple[Candidate, ...]


class Trial(Spec, frozen=True):
    """One setting that tuning tried. ``why`` says why it was chosen, or why not.

    ``p50_ms`` and ``p99_ms`` are of one call with ``batch`` inputs, None where it was not timed. ``ratio`` is p50 for each input over that
    of the first setting, with its 95 % interval. ``value`` and ``loss`` are the headline metric on held-out items and what it lost
    against fp32, None where it was not measured. ``cpu_ms`` is CPU time of a call, which other processes' load hardly moves;
    ``flags`` are what to mind, a busy machine say. ``size`` is bytes of all files. ``quick`` marks figures of a first look only.
    """

    precision: Precision
    profile: dict[str, Range3]
    threads: Annotated[int, Meta(ge=1, le=1024)]
    batch: Annotated[int, Meta(ge=1)]
    why: str
    p50_ms: float | None = None
    p99_ms: float | None = None
    cpu_ms: float | None = None
    ratio: tuple[float, float, float] | None = None
    size: Size | None = None
    value: float | None = None
    loss: float | None = None
    flags: tuple[str, ...] = ()
    quick: bool = False
    chosen: bool = False


class Tuning(Spec, frozen=True):
    """How threads, batch, precision and profile were chosen: by measuring from raw input to label on ``machine``.

    ``batch`` is how many inputs go to the engine at once when several are at hand; the chosen number of threads is the
    manifest's own. ``protocol`` says how it was measured, ``quick`` that it was less than the protocol asks for.
    """

    batch: Annotated[int, Meta(ge=1)]
    machine: str
    protocol: str
    quick: bool
    inputs: str
    metric: str | None
    trials: Annotated[tuple[Trial, ...], Meta(min_length=1, max_length=1000)]


class BuildRecipe(Spec, frozen=True):
    """How the device makes the engine file that the bundle does not hold yet (``zoo build``).

    ``graph`` is ONNX, already quantised or cast. The engine's kind, shapes and precision are in ``engines``, the
    builder's version and the compute capability in ``key``.
    """

    graph: FilePath
    optimization_level: Annotated[int, Meta(ge=0, le=5)] | None = None
    workspace_mib: Annotated[int, Meta(ge=1)] | None = None


class BuildRecord(Spec, frozen=True):
    """What the engine's builder said and made.

    ``log`` has its warnings and errors, the first of them; ``build.log`` all it said. ``layers`` is a file with each layer of
    the engine and the types of its tensors. ``timing_cache_sha256`` is the hash of the kernel timings that the engine was
    chosen by: a build that is given them chooses the same kernels.
    """

    log: Annotated[tuple[str, ...], Meta(max_length=64)] = ()
    layers: FilePath | None = None
    timing_cache_sha256: Sha256 | None = None


class Branch(Spec, frozen=True):
    """What fills one engine input of a model that looks at a film in several ways, step by step. ``source`` is what its
    pipeline starts with. All branches have steps of one length; the film ends with the shortest.
    """

    source: Source
    pipeline: Annotated[tuple[Op, ...], Meta(min_length=1)]


class Golden(Spec, frozen=True):
    """Raw inputs with their expected outputs, for ``zoo selftest``."""

    file: FilePath
    count: Annotated[int, Meta(ge=3)]
    tolerance: Annotated[float, Meta(gt=0, le=1)]


class Manifest(Spec, frozen=True):
    """The content of ``manifest.json``."""

    schema: Literal[1]
    digest: Sha256
    name: Name
    model: Name
    title: str
    task: str
    version: str
    target: Name
    precision: Precision
    labels: tuple[str, ...]
    input: RawInput
    pipeline: tuple[Op, ...]
    engines: Annotated[tuple[EngineSpec, ...], Meta(min_length=1)]
    decode: Decode
    key: Key
    files: Annotated[tuple[FileSpec, ...], Meta(min_length=1, max_length=1000)]
    golden: Golden
    provenance: Provenance
    license: License
    parity: Parity | None
    quality: tuple[Quality, ...]
    threads: Annotated[int, Meta(ge=1, le=1024)] = 1
    calibration: Calibration | None = None
    gate: Gate | None = None
    recipe: BuildRecipe | None = None
    pareto: Pareto | None = None
    build: BuildRecord | None = None
    tuning: Tuning | None = None
    notes: tuple[str, ...] = ()
    branches: tuple[Branch, ...] = ()

    def all_branches(self) -> tuple[Branch, ...]:
        """One for each engine input, in their order: that of ``pipeline`` first."""
        source: Source = "pictures" if self.input.modality == "video" else "sound"
        return (Branch(source=source, pipeline=self.pipeline), *self.branches)


_ZERO_DIGEST = "0" * 64
_DIGEST_PATTERN = re.compile(rb'"digest": "([0-9a-f]{64})"')


def encode_manifest(manifest: Manifest) -> bytes:
    """Serialise with the digest filled in. ``manifest.digest`` itself is ignored."""
    blank = msgspec.structs.replace(manifest, digest=_ZERO_DIGEST)
    # omit_defaults keeps cards terse; a manifest states every field, so that a device needs no table of defaults.
    text = (
        msgspec.json.format(msgspec.json.encode(_with_defaults(blank), order="deterministic"), indent=1)
        + b"\n"
    )
    digest = hashlib.sha256(text).hexdigest()
    return text.replace(f'"digest": "{_ZERO_DIGEST}"'.encode(), f'"digest": "{digest}"'.encode(), 1)


def _with_defaults(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        fields = {
            f.encode_name: _with_defaults(getattr(value, f.name)) for f in msgspec.structs.fields(value)
        }
        config = value.__struct_config__
        if config.tag is not None:
            return {str(config.tag_field): config.tag, **fields}
        return fields
    if isinstance(value, (list, tuple)):
        return [_with_defaults(item) for item in value]
    if isinstance(value, dict):
        return {key: _with_defaults(item) for key, item in value.items()}
    return value


def decode_manifest(data: bytes, where: str) -> Manifest:
    """Parse and check a manifest, without looking at the other files.

    Parameters
    ----------
    data : bytes
        Content of ``manifest.json``.
    where : str
        Named in errors.

    Raises
    ------
    BundleError
        Not JSON, another schema, a wrong type or unknown field, an unknown op, an unsafe path, or
        parts that contradict each other.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise BundleError(
            f"{where}: manifest has {len(data)} bytes, more than the limit of {MAX_MANIFEST_BYTES}"
        )
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{where}: {MANIFEST} is not valid: {error}") from error
    listed = [file.path for file in manifest.files]
    if len(set(listed)) != len(listed):
        raise BundleError(f"{where}: {MANIFEST} lists a file twice")
    made = [(f"engines[{i}].file", engine.file) for i, engine in enumerate(manifest.engines)]
    made += [(f"engines[{i}].extra_files", f) for i, e in enumerate(manifest.engines) for f in e.extra_files]
    wanted = made if manifest.recipe is None else [("recipe.graph", manifest.recipe.graph)]
    for field, path in made if manifest.recipe is not None else []:
        if path in listed:
            raise BundleError(
                f"{where}: {MANIFEST}: {field} is there already, but recipe says that it is yet to be built"
            )
    wanted.append(("golden.file", manifest.golden.file))
    wanted += [("pipeline", name) for name in op_files(manifest.pipeline)]
    wanted += [("branches", name) for branch in manifest.branches for name in op_files(branch.pipeline)]
    if manifest.build is not None and manifest.build.layers is not None:
        wanted.append(("build.layers", manifest.build.layers))
    for field, path in wanted:
        if path not in listed:
            raise BundleError(f"{where}: {MANIFEST}: {field} names {path!r}, which is not in files")
    several = manifest.all_branches()
    by_steps = bool(manifest.branches or curves(manifest.decode))
    if by_steps and len(several) != len(manifest.engines[0].inputs):
        raise BundleError(
            f"{where}: {MANIFEST}: the engine has {len(manifest.engines[0].inputs)} inputs, pipeline and branches fill {len(several)}"
        )
    for branch in several:
        try:
            pipeline_of(branch.source, branch.pipeline, electrodes=manifest.input.electrodes)
        except InputError as error:
            raise BundleError(f"{where}: {MANIFEST}: pipeline: {error}") from error
    outputs = {spec.name for spec in manifest.engines[-1].outputs}
    attention = attention_output(manifest.decode)
    if attention is not None and attention not in outputs:
        raise BundleError(
            f"{where}: {MANIFEST}: decode.attention {attention!r} is not an engine output ({', '.join(sorted(outputs))})"
        )
    for output in read_outputs(manifest.decode):
        if output not in outputs:
            raise BundleError(
                f"{where}: {MANIFEST}: decode.output {output!r} is not an engine output ({', '.join(sorted(outputs))})"
            )
    problem = decode_problem(manifest.decode, manifest.labels)
    if problem:
        raise BundleError(f"{where}: {MANIFEST}: decode: {problem}")
    _check_key_is_consistent(manifest, where)
    return manifest


def _check_key_is_consistent(manifest: Manifest, where: str) -> None:
    """A key that contradicts the rest of its own manifest was edited by hand."""
    key, engine = manifest.key, manifest.engines[0]
    files = {file.path: file for file in manifest.files}
    pairs: list[tuple[str, object, object]] = [
        ("engine", key.engine, engine.kind),
        ("target", key.target, manifest.target),
        (
            "calibration_sha256",
            key.calibration_sha256,
            manifest.calibration.sha256 if manifest.calibration else None,
        ),
    ]
    graph = manifest.recipe.graph if manifest.recipe else engine.file
    if graph.endswith(".onnx"):
        pairs.append(("onnx_sha256", key.onnx_sha256, files[graph].sha256))
    for field, found, expected in pairs:
        if found != expected:
            raise BundleError(
                f"{where}: key.{field} is {found!r}, the bundle itself says {expected!r}; "
                f"rebuild it: {rebuild_command(manifest)}"
            )


def rebuild_command(manifest: Manifest) -> str:
    """The command that makes this bundle anew."""
    gpu = manifest.key.compute_capability
    capability = f" --compute-capability {gpu}" if gpu else ""
    options = ",".join(manifest.provenance.quantize)
    steps = f" --quantize {options}" if options else ""
    return (
        f"zoo export {manifest.name} --target {manifest.target} --precision {manifest.precision}{steps}{capability} "
        "--out DIR"
    )


class Bundle:
    """An opened, verified bundle.

    Attributes
    ----------
    manifest : Manifest
    manifest_bytes : bytes
        ``manifest.json`` as it lies there.
    path : Path
        The directory or ``.zoo`` file.
    """

    def __init__(
        self, path: Path, manifest: Manifest, manifest_bytes: bytes, contents: Mapping[str, bytes]
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.manifest_bytes = manifest_bytes
        self._contents = contents

    def read(self, name: str) -> bytes:
        """Content of a listed file: the very bytes whose hash was checked."""
        return self._contents[name]

    def pipeline(self) -> Pipeline:
        """The executor of its pipeline, with the files that the ops name.

        Raises
        ------
        InputError
            A file does not hold what its op reads.
        """
        ops = self.manifest.pipeline
        source: Source | None = "pictures" if self.manifest.input.modality == "video" else None
        files = {name: self.read(name) for name in op_files(ops)}
        return pipeline_of(source, ops, files=files, electrodes=self.manifest.input.electrodes)

    @property
    def size(self) -> int:
        """Bytes of all listed files."""
        return sum(file.size for file in self.manifest.files)


def open_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Open and verify a bundle.

    Raises
    ------
    BundleError
        Whatever is wrong with it, naming the file or field.
    """
    path = Path(path)
    source = _open_source(path)
    with source:
        data = source.read(MANIFEST, MAX_MANIFEST_BYTES)
        manifest = decode_manifest(data, str(path))
        contents: dict[str, bytes] = {}
        for file in manifest.files:
            content = source.read(file.path, file.size)
            if len(content) != file.size:
                raise BundleError(
                    f"{path}: {file.path} has {len(content)} bytes, {MANIFEST} says {file.size}; copy or export it again"
                )
            if hashlib.sha256(content).hexdigest() != file.sha256:
                raise BundleError(
                    f"{path}: {file.path} is damaged: its SHA-256 is not the one in {MANIFEST}; copy or export it again"
                )
            contents[file.path] = content
    # Last, so that a manifest edited by hand is first told what is wrong with it.
    found = _DIGEST_PATTERN.search(data)
    blank = data.replace(manifest.digest.encode(), _ZERO_DIGEST.encode(), 1)
    if found is None or hashlib.sha256(blank).hexdigest() != manifest.digest:
        raise BundleError(
            f"{path}: {MANIFEST} was changed after it was written: its digest does not match; copy or export it again"
        )
    return Bundle(path, manifest, data, contents)


def load_golden(bundle: Bundle) -> list[dict[str, Any]]:
    """Golden cases: ``input`` (audio int16 (n,); text and image uint8, (n,) and (h, w) or (h, w, 3)), ``rate`` (0 but of
    audio), and the expected float32 engine outputs by name.

    Of films ``input`` is uint8 (n, height, width, 3), and where the model hears them too, ``sound`` is int16 and
    ``sound_rate`` its rate.

    Raises
    ------
    BundleError
        The file does not hold what the manifest says.
    """
    import numpy as np

    where = f"{bundle.path}: {bundle.manifest.golden.file}"
    try:
        with np.load(io.BytesIO(bundle.read(bundle.manifest.golden.file)), allow_pickle=False) as arrays:
            data = {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, zipfile.BadZipFile, KeyError, EOFError) as error:
        raise BundleError(f"{where}: not a readable npz: {error}") from error
    cases = []
    outputs = [spec.name for spec in bundle.manifest.engines[-1].outputs]
    for i in range(bundle.manifest.golden.count):
        try:
            case = {"input": data[f"{i}/input"], "rate": int(data[f"{i}/rate"])}
            if f"{i}/sound" in data:
                case |= {"sound": data[f"{i}/sound"], "sound_rate": int(data[f"{i}/sound_rate"])}
            case["outputs"] = {name: data[f"{i}/outputs/{name}"] for name in outputs}
        except KeyError as error:
            raise BundleError(f"{where}: array {error} is missing") from error
        cases.append(case)
    return cases


def write_bundle(
    out: Path, manifest: Manifest, contents: Mapping[str, bytes], *, force: bool = False
) -> Path:
    """Write a bundle atomically: a directory, or a zip where ``out`` ends in ``.zoo``.

    ``manifest.files`` and ``manifest.digest`` are filled in from ``contents``.

    Raises
    ------
    ZooError
        ``out`` exists and ``force`` is not given, or it exists and is not a bundle (never overwritten).
    """
    files = tuple(
        FileSpec(path=name, size=len(content), sha256=hashlib.sha256(content).hexdigest())
        for name, content in sorted(contents.items())
    )
    data = encode_manifest(msgspec.structs.replace(manifest, files=files))
    decode_manifest(data, str(out))
    check_writable(out, force=force)
    out.parent.mkdir(parents=True, exist_ok=True)
    temp = Path(tempfile.mkdtemp(prefix=f".{out.name}{_TEMPORARY}", dir=out.parent))
    try:
        os.chmod(temp, 0o755)
        made = temp / "bundle"
        if out.suffix == ".zoo":
            _write_zip(made, data, contents)
        else:
            made.mkdir()
            for name, content in {MANIFEST: data, **contents}.items():
                target = made / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
        _publish(made, out, force=force)
    finally:
        shutil.rmtree(temp, ignore_errors=True)
    return out


#: Between the name of a bundle and the random end of the folder that it is written in.
_TEMPORARY = ".zoo-tmp-"


def sweep_temporaries(out: Path) -> None:
    """Remove what writers of ``out`` left that were killed. Only for who knows that none is writing it now."""
    for path in out.absolute().parent.glob(f"{glob.escape(f'.{out.name}{_TEMPORARY}')}*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def write_file(path: Path, content: bytes) -> None:
    """Write a file atomically: the old content or the new one is there, never a part."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}{_TEMPORARY}", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def check_output(path: Path, *, force: bool) -> None:
    """Refuse, before any work is done for it, to write a file over what is there.

    Raises
    ------
    ZooError
        It is a folder, or it exists and ``force`` is not given.
    """
    if path.is_dir():
        raise ZooError(f"{path} is a folder; give the name of a file")
    if path.exists() and not force:
        raise ZooError(f"{path} exists; give --force to replace it, or another name")


def write_output(path: Path, content: bytes | str) -> None:
    """:func:`write_file` for what a user asked for: folders above it are made, text is UTF-8.

    Raises
    ------
    ZooError
        It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise ZooError(f"{path} cannot be written: {error.strerror}") from error


def _publish(made: Path, out: Path, *, force: bool) -> None:
    """Move a finished bundle to its place in one step; who reads it at that moment sees the old or the new one."""
    if force and out.exists():
        if not _exchange(made, out):
            os.replace(out, made.with_name("old"))
            os.replace(made, out)
        return
    # It did not exist when the work began: what is there now another export wrote meanwhile.
    try:
        if made.is_dir():
            os.rename(made, out)
        else:
            os.link(made, out)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR):
            raise ZooError(
                f"{out} was written by another process meanwhile; give --force to replace it"
            ) from error
        if made.is_dir() or error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
            raise
        os.replace(made, out)  # a file system without hard links


def _exchange(one: Path, other: Path) -> bool:
    """Swap two paths in one step (Linux's renameat2); False where the system cannot."""
    swap = getattr(ctypes.CDLL(None), "renameat2", None)
    if swap is None:
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(swap(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)


def check_writable(out: Path, *, force: bool) -> None:
    """Refuse, before any work is done, to write over what is there."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not force:
        raise ZooError(f"{out} exists; give --force to replace it, or another --out")
    if out.is_dir() and not (out / MANIFEST).is_file():
        raise ZooError(f"{out} is a folder that is not a bundle; it is not replaced even with --force")
    if out.is_file() and out.suffix != ".zoo":
        raise ZooError(f"{out} is a file that is not a bundle; it is not replaced even with --force")


def _write_zip(path: Path, manifest: bytes, contents: Mapping[str, bytes]) -> None:
    with path.open("wb") as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, content in {MANIFEST: manifest, **contents}.items():
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.external_attr = 0o644 << 16
            # The data start after the 30-byte header, the name and this padding field.
            start = stream.tell() + 30 + len(name)
            padding = -start % ALIGNMENT
            if 0 < padding < 4:
                padding += ALIGNMENT
            if padding:
                info.extra = b"\x00\x5a" + (padding - 4).to_bytes(2, "little") + bytes(padding - 4)
            archive.writestr(info, content)


class _DirectorySource:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> _DirectorySource:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def read(self, name: str, limit: int) -> bytes:
        current = self.path
        try:
            for part in name.split("/"):
                current = current / part
                status = os.lstat(current)
                if stat.S_ISLNK(status.st_mode):
                    raise BundleError(f"{self.path}: {name} is a symbolic link, which a bundle must not hold")
            if not stat.S_ISREG(status.st_mode):
                raise BundleError(f"{self.path}: {name} is not a regular file")
            # The size first: reading up to a hostile limit would allocate that much.
            with current.open("rb") as stream:
                return stream.read(min(status.st_size, limit) + 1)
        except FileNotFoundError as error:
            raise BundleError(f"{self.path}: {name} is missing; this is not a whole bundle") from error
        except OSError as error:
            raise BundleError(f"{self.path}: {name} cannot be read: {error.strerror}") from error


class _ZipSource:
    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._archive = zipfile.ZipFile(path)
            infos = self._archive.infolist()
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, UnicodeDecodeError) as error:
            raise BundleError(f"{path}: not a readable .zoo file: {error}") from error
        self._infos = {info.filename: info for info in infos}
        if len(self._infos) != len(infos):
            raise BundleError(f"{path}: holds a file name twice")
        for info in infos:
            if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
                raise BundleError(
                    f"{path}: {info.filename} is compressed or encrypted; a .zoo file stores plainly"
                )
            if stat.S_ISLNK(info.external_attr >> 16):
                raise BundleError(f"{path}: {info.filename} is a symbolic link, which a bundle must not hold")

    def __enter__(self) -> _ZipSource:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def read(self, name: str, limit: int) -> bytes:
        info = self._infos.get(name)
        if info is None:
            raise BundleError(f"{self.path}: {name} is missing; this is not a whole bundle")
        try:
            with self._archive.open(info) as stream:
                return stream.read(min(info.file_size, limit) + 1)
        except (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError) as error:
            raise BundleError(f"{self.path}: {name} is damaged: {error}") from error


def _open_source(path: Path) -> _DirectorySource | _ZipSource:
    if path.is_dir():
        return _DirectorySource(path)
    if path.is_file():
        return _ZipSource(path)
    raise BundleError(f"{path}: no such bundle")


def json_schema() -> dict[str, Any]:
    """JSON Schema of the manifest, made from the types above (shipped as ``zoo/manifest.schema.json``)."""
    # Through JSON once: defaults become lists rather than tuples.
    schema = msgspec.json.decode(msgspec.json.encode(msgspec.json.schema(Manifest)))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "affect-zoo bundle", **schema}


if __name__ == "__main__":
    import sys

    sys.stdout.write(msgspec.json.format(msgspec.json.encode(json_schema()), indent=1).decode() + "\n")
