# SPDX-License-Identifier: Apache-2.0
"""TensorRT and TensorRT-RTX in libzoo, over a made-up GPU and library."""

from __future__ import annotations

import ctypes as c
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from libzoo_c import (
    BUNDLE_ERROR,
    FEATURES,
    PROVIDER_UNAVAILABLE,
    Input,
    LibZoo,
    Tensor,
    ZooFailure,
    twin,
)

#: Text that tests/csrc/fake_tensorrt.cc takes for an engine. Its outputs are not in the manifest's order.
FAKE_PLAN = "max 4\ni features 0 -1 87 39\no probs 0 -1 7\no logits 0 -1 7\n"


@dataclass
class FakeGpu:
    """A made-up GPU and TensorRT, as the vendor's libraries would be found."""

    kind: str
    folder: Path
    lib: c.CDLL
    bundle: Callable[..., Path]
    left: int = 0  # what may stay on the device

    def calls(self, name: str) -> int:
        return int(self.lib.fake_calls(name.encode()))


@pytest.fixture(params=["tensorrt", "tensorrt_rtx"])
def fake(
    libzoo: LibZoo,
    ready_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[FakeGpu]:
    kind = request.param
    library = libzoo.path.parent / "tests" / "csrc" / f"fake_{kind}.so"
    if not library.is_file():
        pytest.skip(f"{library} is not built: it needs the headers of {kind}")
    lib = c.CDLL(str(library))
    lib.fake_fail.argtypes = lib.fake_calls.argtypes = [c.c_char_p]
    major, minor = lib.getInferLibMajorVersion(), lib.getInferLibMinorVersion()
    folder = tmp_path / "libraries"
    folder.mkdir()
    stem = "libnvinfer.so" if kind == "tensorrt" else "libtensorrt_rtx.so"
    for name in ("libcuda.so.1", f"{stem}.{major}"):
        (folder / name).symlink_to(library)
    monkeypatch.setenv("ZOO_ENGINE_PATH", str(folder))

    def bundle(name: str = "bundle", plan: str = FAKE_PLAN, batch: int = 4, **keyed: Any) -> Path:
        key = {
            "compute_capability": "8.9",
            "profile": {"batch": (1, 1, batch), "time": (87, 87, 87)},
            "engine_version": f"=={major}.{minor}.0.26",
            **keyed,
        }
        version = key.pop("engine_version")
        return twin(
            ready_bundle,
            tmp_path / name,
            kind=kind,
            version=version,
            graph=plan.encode(),
            keyed=key,
            tuning=None,
        )

    lib.fake_fail(b"")
    lib.fake_gpu(1, 89)
    gpu, before = FakeGpu(kind, folder, lib, bundle), lib.fake_live()
    yield gpu
    lib.fake_fail(b"")
    assert lib.fake_live() - before == gpu.left


def fake_outputs(features: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """What the made-up engine computes of one input."""
    total = features.astype(np.float64).sum()
    return {
        name: (factor * total + np.arange(7)).astype(np.float32)
        for name, factor in (("probs", 1), ("logits", 2))
    }


def whole_numbers(seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(-9, 9, (87, 39)).astype(np.float32)


def test_tensorrt_runs_batches_in_the_manifests_order(libzoo: LibZoo, fake: FakeGpu) -> None:
    model = libzoo.open(fake.bundle())
    assert [output["name"] for output in model.about["outputs"]] == ["logits", "probs"]
    assert model.about["engine"]["version"].endswith(".0.26")
    inputs = [whole_numbers(i) for i in range(7)]
    allocated, shaped, ran = (fake.calls(name) for name in ("cuMemAlloc_v2", "setInputShape", "enqueueV3"))
    for count, batches in ((1, 1), (4, 1), (4, 1), (7, 2), (3, 1), (1, 1)):
        before = fake.calls("enqueueV3")
        for found, features in zip(model.run(*inputs[:count]), inputs, strict=False):
            expected = fake_outputs(features)
            assert list(found.outputs) == ["logits", "probs"]
            for name, array in expected.items():
                np.testing.assert_array_equal(found.outputs[name], array)
        assert fake.calls("enqueueV3") - before == batches
    assert fake.calls("enqueueV3") - ran == 7
    assert fake.calls("setInputShape") - shaped == 4  # for 1, 4, 3 and 1: only where the shape changes
    assert fake.calls("cuMemAlloc_v2") == allocated
    other = c.c_void_p()
    libzoo.call("zoo_session_open", model.handle, c.byref(other))
    assert fake.calls("cuMemAlloc_v2") == allocated + 3
    libzoo.lib.zoo_session_close(other)
    model.close()
    engines = {engine["kind"]: engine for engine in libzoo.text("zoo_engines", libzoo.options())}
    assert engines[fake.kind]["devices"] == ["Made-up GPU (compute capability 8.9)"]


def test_tensorrt_serves_threads(libzoo: LibZoo, fake: FakeGpu) -> None:
    shared = libzoo.open(fake.bundle())
    failures: list[str] = []

    def work(number: int) -> None:
        for round_ in range(10):
            session, array = c.c_void_p(), whole_numbers(100 * number + round_)
            libzoo.call("zoo_session_open", shared.handle, c.byref(session))
            given = Input(kind=FEATURES, dtype=0, rank=2, shape=(87, 39, 0, 0), data=array.ctypes.data)
            found = np.empty(7, np.float32)
            for _ in range(5):
                libzoo.call("zoo_run", session, c.byref(given), 1, None)
                libzoo.call("zoo_output", session, 0, b"logits", found.ctypes.data, found.nbytes, Tensor())
                if not np.array_equal(found, fake_outputs(array)["logits"]):
                    failures.append(f"{number}, {round_}")
            libzoo.lib.zoo_session_close(session)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    shared.close()


def test_tensorrt_allocates_nothing_in_a_stream(libzoo: LibZoo, fake: FakeGpu) -> None:
    program = libzoo.path.parent / "tests" / "csrc" / "allocations"
    done = subprocess.run([program, fake.bundle()], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1].endswith(" 0 failures")) == (0, True), done.stdout


def test_tensorrt_checks_the_key_before_anything_is_deserialised(libzoo: LibZoo, fake: FakeGpu) -> None:
    started = [fake.calls(name) for name in ("cuDevicePrimaryCtxRetain", "deserializeCudaEngine")]
    for name, keyed, message in (
        (
            "version",
            {"engine_version": "==1.0"},
            r"key.engine_version is ==1.0, this machine has [\d.]+.0.26; ",
        ),
        (
            "gpu",
            {"compute_capability": "12.0"},
            r"key.compute_capability is ==12.0, this machine has 8.9; rebuild it here: zoo export tim-net-emodb .*--compute-capability 12.0",
        ),
        ("driver", {"driver": ">=13.0"}, r"key.driver is >=13.0, this machine has 12.9; "),
    ):
        with pytest.raises(ZooFailure, match=message) as failure:
            libzoo.open(fake.bundle(name, **keyed))
        assert failure.value.status == BUNDLE_ERROR
    assert started == [fake.calls(name) for name in ("cuDevicePrimaryCtxRetain", "deserializeCudaEngine")]
    libzoo.open(fake.bundle("any", compute_capability=None, driver=">=12.4,<13")).close()


NO_GPU = "needs an NVIDIA GPU: CUDA driver: {} failed with 2: out of memory"


FAILED = "CUDA driver: {} failed with 2: out of memory"


@pytest.mark.parametrize(
    ("name", "stage", "message"),
    [
        *(
            (name, "open", NO_GPU)
            for name in ("cuInit", "cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetName")
        ),
        *((name, "open", NO_GPU) for name in ("cuDeviceGetAttribute", "cuDriverGetVersion")),
        ("cuDevicePrimaryCtxRetain", "open", NO_GPU),
        ("cuCtxPushCurrent_v2", "open", FAILED),
        ("major", "open", "this libzoo was built with the headers of"),
        ("createInferRuntime", "open", ".0.26 does not start: CUDA initialization failure"),
        ("createExecutionContext", "open", "the GPU has too little memory for this engine"),
        ("cuStreamCreate", "open", FAILED),
        ("cuMemAlloc_v2", "open", FAILED),
        *((name, "run", FAILED) for name in ("cuCtxPushCurrent_v2", "cuStreamSynchronize")),
        *((name, "run", FAILED) for name in ("cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2")),
        ("enqueueV3", "run", "the engine could not be started on the GPU: no kernel"),
    ],
)
def test_tensorrt_says_which_call_failed(
    libzoo: LibZoo, fake: FakeGpu, name: str, stage: str, message: str
) -> None:
    bundle, features = fake.bundle(), whole_numbers(0)
    model = libzoo.open(bundle) if stage == "run" else None
    fake.lib.fake_fail(name.encode())
    with pytest.raises(ZooFailure, match=re.escape(message.format(name))) as failure:
        libzoo.open(bundle) if model is None else model(features)
    assert failure.value.status == PROVIDER_UNAVAILABLE
    fake.lib.fake_fail(b"")
    model = model or libzoo.open(bundle)
    np.testing.assert_array_equal(model(features).outputs["logits"], fake_outputs(features)["logits"])
    model.close()


def test_tensorrt_versions_without_a_build_number(libzoo: LibZoo, fake: FakeGpu) -> None:
    """As the Python package of TensorRT 10.3, which is JetPack 6's, states its own."""
    release = f"{fake.lib.getInferLibMajorVersion()}.{fake.lib.getInferLibMinorVersion()}.0"
    for build in ("", ".26"):
        libzoo.open(fake.bundle(f"is{build}", engine_version=f"=={release}{build}")).close()
    for wanted in (f"=={release}.27", f">={release}.27", f"<{release}.26"):
        with pytest.raises(ZooFailure, match=f"is {wanted}, this machine has {release}.26;") as failure:
            libzoo.open(fake.bundle(f"not{wanted}", engine_version=wanted))
        assert failure.value.status == BUNDLE_ERROR


def test_tensorrt_takes_the_release_of_its_headers(libzoo: LibZoo, fake: FakeGpu) -> None:
    """Those of TensorRT hold within its first number; of TensorRT-RTX within its second."""
    bundle = fake.bundle(engine_version=">=1")
    fake.lib.fake_fail(b"minor")
    if fake.kind == "tensorrt":
        libzoo.open(bundle).close()
    else:
        with pytest.raises(ZooFailure, match=r"built with the headers of (\d+\.\d+); install \1") as failure:
            libzoo.open(bundle)
        assert failure.value.status == PROVIDER_UNAVAILABLE


def test_tensorrt_without_a_gpu(libzoo: LibZoo, fake: FakeGpu) -> None:
    bundle = fake.bundle()
    fake.lib.fake_gpu(0, 89)
    with pytest.raises(ZooFailure, match="needs an NVIDIA GPU: the NVIDIA driver finds 0 GPUs") as failure:
        libzoo.open(bundle)
    assert failure.value.status == PROVIDER_UNAVAILABLE
    (fake.folder / "libcuda.so.1").unlink()
    try:
        c.CDLL("libcuda.so.1")
    except OSError:
        with pytest.raises(
            ZooFailure, match=r"libcuda.so.1 not found: .* install NVIDIA's driver"
        ) as failure:
            libzoo.open(bundle)
        assert failure.value.status == PROVIDER_UNAVAILABLE


@pytest.mark.parametrize(
    ("plan", "batch", "message"),
    [
        ("no engine", 4, "refuses the engine file engine.onnx: magic tag does not match"),
        (FAKE_PLAN.replace("o logits", "o others"), 4, "the engine file has no tensor logits"),
        (FAKE_PLAN.replace("o logits", "i logits"), 4, "the engine file has no tensor logits"),
        (FAKE_PLAN.replace("features 0", "features 1"), 4, "tensor features is not float32"),
        (FAKE_PLAN.replace("probs 0", "probs 8"), 4, "tensor probs is not float32"),
        (FAKE_PLAN.replace("logits 0 -1 7", "logits 0 -1 -2"), 4, "output logits does not follow from"),
        (FAKE_PLAN, 5, "shape (5, 87, 39) of features is outside the engine's profile: shape not in profile"),
        (
            FAKE_PLAN.replace("87 39", "88 39"),
            4,
            "shape (4, 87, 39) of features is outside the engine's profile",
        ),
    ],
)
def test_tensorrt_engines_that_contradict_the_manifest(
    libzoo: LibZoo, fake: FakeGpu, plan: str, batch: int, message: str
) -> None:
    with pytest.raises(ZooFailure, match=re.escape(message)) as failure:
        libzoo.open(fake.bundle(plan=plan, batch=batch))
    assert failure.value.status == BUNDLE_ERROR


def test_tensorrt_gives_room_for_what_the_engine_says(libzoo: LibZoo, fake: FakeGpu) -> None:
    """An output that is greater than the manifest says is written where there is room, then refused."""
    model = libzoo.open(fake.bundle(plan=FAKE_PLAN.replace("probs 0 -1 7", "probs 0 -1 70000")))
    with pytest.raises(ZooFailure, match="probs") as failure:
        model(whole_numbers(0))
    assert failure.value.status == BUNDLE_ERROR
    model.close()


def test_tensorrt_closes_when_the_gpu_is_gone(libzoo: LibZoo, fake: FakeGpu) -> None:
    model = libzoo.open(fake.bundle())
    fake.lib.fake_fail(b"cuCtxPushCurrent_v2")
    model.close()
    fake.left = 6  # three buffers; context, engine and runtime, which went without the GPU's context


def test_the_real_tensorrt_rtx_asks_for_a_gpu(
    libzoo: LibZoo, ready_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    libraries = pytest.importorskip("tensorrt_rtx_libs", reason="tensorrt_rtx is not installed")
    engines = {engine["kind"]: engine for engine in libzoo.text("zoo_engines", libzoo.options())}
    if not engines["tensorrt_rtx"]["built"]:
        pytest.skip("this libzoo has no tensorrt_rtx")
    import tensorrt_rtx

    monkeypatch.setenv("ZOO_ENGINE_PATH", str(Path(libraries.__file__).parent))
    version = tensorrt_rtx.__version__
    here = {engine["kind"]: engine for engine in libzoo.text("zoo_engines", libzoo.options())}["tensorrt_rtx"]
    assert here["version"] == version
    if here["devices"]:
        pytest.skip("this machine has an NVIDIA GPU")
    assert "libcuda.so.1" in here["problem"]
    made = twin(ready_bundle, tmp_path / "made", kind="tensorrt_rtx", version=f"=={version}")
    with pytest.raises(ZooFailure, match=r"needs an NVIDIA GPU: libcuda.so.1 not found") as failure:
        libzoo.open(made)
    assert failure.value.status == PROVIDER_UNAVAILABLE
    other = twin(ready_bundle, tmp_path / "other", kind="tensorrt_rtx", version="==1.0.0.1")
    with pytest.raises(ZooFailure, match=f"is ==1.0.0.1, this machine has {version}") as failure:
        libzoo.open(other)
    assert failure.value.status == BUNDLE_ERROR
    # With a made-up driver it starts, reads the engine file and says why it refuses it.
    driver = libzoo.path.parent / "tests" / "csrc" / "fake_tensorrt_rtx.so"
    (tmp_path / "libcuda.so.1").symlink_to(driver)
    monkeypatch.setenv("ZOO_ENGINE_PATH", f"{tmp_path}:{os.environ['ZOO_ENGINE_PATH']}")
    with pytest.raises(
        ZooFailure, match=rf"TensorRT-RTX {version} refuses the engine file .*: .*Error"
    ) as failure:
        libzoo.open(made)
    assert failure.value.status == BUNDLE_ERROR
