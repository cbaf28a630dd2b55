# SPDX-License-Identifier: Apache-2.0
"""Recordings from arrays and files, written here in each layout and read back."""

from __future__ import annotations

import builtins
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo import _native
from zoo.errors import InputError, ProviderUnavailable
from zoo.recording import Recording, last_window, read_recording

NAMES = ("AF3", "O1", "T7")


def signal(n: int = 300, channels: int = 3) -> Any:
    return np.random.default_rng(5).normal(4200, 20, (n, channels)).round(2)


def written(path: Path, head: str, rows: Any, separator: str = ",") -> Path:
    lines = [separator.join(f"{value:.2f}" for value in row) for row in rows]
    path.write_text(head + "\n".join(lines) + "\n", "utf-8")
    return path


def edf(path: Path, x: Any, names: tuple[str, ...], rate: int, *, bits: int = 16, unit: str = "uV") -> Path:
    """EDF (16 bits) or BDF (24), one-second records, as their specifications say; x in ``unit``, -8192 to 8191."""
    top = 1 << (bits - 1)
    records = len(x) // rate
    head = b"\xffBIOSEMI" if bits == 24 else b"0       "
    fields = [("X", 80), ("X", 80), ("01.01.20", 8), ("00.00.00", 8), (256 * (len(names) + 1), 8)]
    fields += [("24BIT" if bits == 24 else "", 44), (records, 8), (1, 8), (len(names), 4)]
    columns: list[tuple[Any, int]] = [(name, 16) for name in names]
    columns += [("", 80) for _ in names]
    for value, width in (
        (unit, 8),
        (-8192, 8),
        (8191, 8),
        (-top, 8),
        (top - 1, 8),
        ("", 80),
        (rate, 8),
        ("", 32),
    ):
        columns += [(value, width)] * len(names)
    text = "".join(str(value).ljust(width) for value, width in fields + columns)
    digital = np.rint((x + 8192) / 16383 * (2 * top - 1) - top).astype(np.int64)
    data = digital[: records * rate].reshape(records, rate, len(names)).transpose(0, 2, 1).ravel()
    if bits == 24:
        samples = (data & 0xFFFFFF).astype("<u4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    else:
        samples = data.astype("<i2").tobytes()
    path.write_bytes(head + text.encode("ascii") + samples)
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv(separator: str, tmp_path: Path) -> None:
    x = signal()
    head = "# made by a test\r\n# Rate = 128 Hz\n" + separator.join(("time", *NAMES)) + "\n"
    path = written(tmp_path / "a.csv", head, np.column_stack([np.arange(300) / 128, x]), separator)
    found = read_recording(path, channels=("EEG T3-REF", "af3"))
    assert (found.rate, found.channels) == (128.0, ("T7", "AF3"))
    np.testing.assert_array_equal(found.samples, x[:, [2, 0]])
    every = read_recording(path)
    assert every.channels == ("time", *NAMES)
    np.testing.assert_array_equal(every.samples[:, 1:], x)


def test_arff_with_nominal_attributes(tmp_path: Path) -> None:
    head = (
        "% made by a test\n@RELATION x\n@attribute 'AF3' NUMERIC\n@ATTRIBUTE O1 real\n@ATTRIBUTE T7 INTEGER\n"
    )
    head += "@ATTRIBUTE who {ann,bob}\n@ATTRIBUTE state {0,1}\n@DATA\n"
    path = tmp_path / "a.arff"
    path.write_text(head + "1,2,3,ann,0\n\n% between\n4,5,-6e-1,bob,1\n", "utf-8")
    found = read_recording(path, rate=128)
    assert found.channels == (*NAMES, "state")
    np.testing.assert_array_equal(found.samples, [[1, 2, 3, 0], [4, 5, -0.6, 1]])


@pytest.mark.parametrize(("bits", "suffix"), [(16, ".edf"), (24, ".bdf")])
def test_edf_and_bdf_through_mne_are_in_microvolts(bits: int, suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("mne")
    x = signal(256)
    path = edf(tmp_path / f"a{suffix}", x, ("EEG AF3", "EEG O1", "EEG T3"), 128, bits=bits)
    found = read_recording(path, channels=NAMES)
    assert found.rate == 128
    np.testing.assert_allclose(found.samples, x, atol=16383 / 2**bits)
    millivolts = edf(tmp_path / f"b{suffix}", x, NAMES, 128, bits=bits, unit="mV")
    np.testing.assert_allclose(read_recording(millivolts).samples, 1000 * x, rtol=1e-4)


def test_eeglab_through_mne(data_root: Path) -> None:
    pytest.importorskip("mne")
    found = read_recording(data_root / "eeg" / "eeglab" / "eeglab_data.set", channels=("Oz", "FPz"))
    assert (found.rate, found.channels, found.samples.shape) == (128.0, ("Oz", "FPz"), (30504, 2))
    assert 5 < np.std(found.samples) < 200  # microvolts of a resting head


def test_what_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = signal()
    head = "AF3,O1,T7\n"
    path = written(tmp_path / "a.csv", head, x)
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("AF3,O1,T7\n", {}, "does not say its rate"),
        ("AF3,O1,T7\n", {"rate": 128, "channels": ("O2",)}, "needs channel O2; there are AF3, O1, T7"),
        ("# rate: 256\nAF3,O1,T7\n", {"rate": 128}, "says 256 Hz, not 128 Hz"),
        ("# rate: 0\nAF3,O1,T7\n", {}, "its rate is '0'"),
        ("1,2,3\n", {"rate": 128}, "line 1: the first line must name the columns"),
        ("AF3,O1\n", {"rate": 128}, "line 2: 3 columns, the header has 2"),
        ("AF3,af3,T7\n", {"rate": 128, "channels": ("AF3",)}, "AF3 is there more than once"),
    ]
    for text, options, message in cases:
        with pytest.raises(InputError, match=message):
            read_recording(written(path, text, x), **options)
    path.write_text("AF3,O1\n1,2\n3,?\n", "utf-8")
    with pytest.raises(InputError, match=r"a.csv, line 3, column 2: '\?' is no finite number"):
        read_recording(path, rate=128)
    path.write_bytes(b"AF3,O1\n1,\x80\x07\n")
    with pytest.raises(InputError, match=r"line 2, column 2: '\?\?' is no finite number"):
        read_recording(path, rate=128)
    path.write_text("# nothing\n", "utf-8")
    with pytest.raises(InputError, match="no line of column names"):
        read_recording(path, rate=128)
    path.write_text("AF3,O1\n", "utf-8")
    with pytest.raises(InputError, match="no row of numbers"):
        read_recording(path, rate=128)
    path.write_bytes(b"\xff\xfe\n1\n")
    with pytest.raises(InputError, match="not UTF-8"):
        read_recording(path, rate=128)
    with pytest.raises(InputError, match="no such file"):
        read_recording(tmp_path / "none.edf")
    with pytest.raises(InputError, match=r"this is .wav"):
        read_recording(tmp_path / "a.wav")
    (tmp_path / "a.arff").write_text("@RELATION x\n", "utf-8")
    with pytest.raises(InputError, match="no @DATA line"):
        read_recording(tmp_path / "a.arff", rate=128)
    (tmp_path / "bad.edf").write_bytes(b"0" * 300)
    pytest.importorskip("mne")
    with pytest.raises(InputError, match="MNE cannot read it"):
        read_recording(tmp_path / "bad.edf")
    whole = builtins.__import__

    def without_mne(name: str, *rest: Any, **named: Any) -> Any:
        if name == "mne":
            raise ImportError(name)
        return whole(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without_mne)
    with pytest.raises(ProviderUnavailable, match=r"affect-zoo\[eeg\]"):
        read_recording(tmp_path / "bad.edf")


def test_a_recording_in_a_models_order() -> None:
    x = signal().astype(np.float32)
    recording = Recording(x, 128, ("EEG AF3", "O1-LE", "T3"), "here")
    np.testing.assert_array_equal(
        recording.in_order(("T7", "AF3"), 128, "m"), x[:, [2, 0]].astype(np.float64)
    )
    with pytest.raises(InputError, match=r"here: recorded at 128 Hz, m needs 256 Hz. Resample it"):
        recording.in_order(("O1",), 256, "m")
    with pytest.raises(InputError, match="here: m needs channel P7, P8; there are EEG AF3"):
        recording.in_order(("O1", "P7", "P8"), 128, "m")
    for value, word in ((math.nan, "nan"), (math.inf, "inf")):
        x[130, 1] = value
        with pytest.raises(InputError, match=rf"here: sample 130 \(1.016 s\) of channel O1 is {word}; 1 of"):
            recording.in_order(("AF3", "O1"), 128, "m")
    recording.in_order(("AF3", "T7"), 128, "m")  # what is not needed may be bad
    with pytest.raises(InputError, match="give \\(samples, channels\\) and a name for each"):
        Recording(x, 128, ("AF3",))
    with pytest.raises(InputError, match="its rate is nan Hz"):
        Recording(x, math.nan, NAMES)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 3), min_size=1, max_size=20
    ),
    wanted=st.lists(st.integers(0, 2), min_size=1, max_size=4),
    blanks=st.sampled_from(["", " ", "\t "]),
    end=st.sampled_from(["\n", "\r\n", "\n\n% x\n"]),
)
def test_parsed_rows_are_exact(rows: Any, wanted: list[int], blanks: str, end: str) -> None:
    text = end.join(",".join(f"{blanks}{value!r}{blanks}" for value in row) for row in rows).encode()
    expected = np.array(rows)[:, wanted]
    np.testing.assert_array_equal(_native.parse_rows(text, 3, wanted), expected)


@settings(max_examples=200, deadline=None)
@given(text=st.binary(max_size=80), columns=st.integers(1, 4), separator=st.sampled_from(",;\t"))
def test_any_bytes_are_numbers_or_an_error(text: bytes, columns: int, separator: str) -> None:
    message = ""
    found = np.zeros((0, columns))
    try:
        found = _native.parse_rows(text, columns, list(range(columns)), separator)
    except InputError as error:
        message = str(error)
    assert not message or message.startswith("line ")
    assert found.shape[1] == columns
    assert np.isfinite(found).all()


def test_golden_recordings_read_alike_from_all_kinds(tmp_path: Path) -> None:
    """The same signal as CSV and as EDF gives the same features, to the file's resolution."""
    pytest.importorskip("mne")
    from zoo import registry

    card, variant = registry.find("eeg-state-epoc")
    names = card.file.input.names
    path = Path(shutil.copy(card.path("golden/closed.csv"), tmp_path / "closed.csv"))
    csv = read_recording(path, channels=names)
    assert csv.channels[0] == "EEG AF3"
    other = read_recording(edf(tmp_path / "closed.edf", csv.samples, names, 128), channels=names)
    pipeline = card.pipeline(variant)
    cut = csv.samples[: len(other.samples)]
    expected = last_window(pipeline, np.ascontiguousarray(cut), 128)
    np.testing.assert_allclose(last_window(pipeline, other.samples, 128), expected, atol=0.05)
