# SPDX-License-Identifier: Apache-2.0
"""Blocks of EEG Eye State: what they hold, and that they share nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from zoo.data.eye_state import CHANNELS, FILE, read
from zoo.errors import DataError
from zoo.recording import Recording


def written(path: Path, states: list[int]) -> Path:
    head = [f"@ATTRIBUTE {name} NUMERIC" for name in CHANNELS] + ["@ATTRIBUTE eyeDetection {0,1}", "@DATA"]
    rows = [",".join([str(4000 + i)] * 14 + [str(state)]) for i, state in enumerate(states)]
    path.write_text("\n".join(["@RELATION x", *head, *rows]) + "\n", "utf-8")
    return path


def test_blocks_share_no_sample_and_windows_have_one_state(tmp_path: Path) -> None:
    states = [0] * 500 + [1] * 524
    written(tmp_path / FILE, states)
    found = read(tmp_path, blocks=2, gap=40, window=64, hop=32)
    # 512 samples a block, 472 of them used: windows start at 0, 32 ... 384 (ends 448), and 408 would end in the gap
    assert Counter(item.group for item in found.items) == {"block-00": 13, "block-01": 13}
    spans: dict[str, tuple[float, float]] = {}
    for item in found.items:
        assert isinstance(item.source, Recording)
        index = np.asarray(item.source.samples)[:, 0] - 4000
        assert len({states[int(i)] for i in index[-64:]}) == 1
        assert item.label == states[int(index[-1])]
        low, high = spans.get(item.group, (np.inf, -np.inf))
        spans[item.group] = min(low, index[0]), max(high, index[-1])
    assert spans == {"block-00": (0, 447), "block-01": (512, 959)}
    changed = states[:200] + [1] * 10 + states[210:]
    written(tmp_path / FILE, changed)
    other = read(tmp_path, blocks=2, gap=40, window=64, hop=32)
    assert len(other.items) < len(found.items)
    assert other.fingerprint() != found.fingerprint()


def test_the_real_recording(data_root: Path) -> None:
    found = read(data_root)
    assert len(found.items) == 168
    assert Counter(item.label for item in found.items) == {0: 92, 1: 76}
    assert len({found.source_sha256(item) for item in found.items}) == 168


def test_what_is_no_such_recording_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"no {FILE} in"):
        read(tmp_path)
    path = written(tmp_path / FILE, [0, 1] * 100)
    with pytest.raises(DataError, match="10 blocks of 200 samples with gaps of 128 hold no window of 128"):
        read(path)
    path.write_text(path.read_text().replace(",1\n", ",2\n", 1))
    with pytest.raises(DataError, match="other values than 0 and 1"):
        read(path, blocks=1, gap=1)
    path.write_text(path.read_text().replace("@ATTRIBUTE O1 ", "@ATTRIBUTE OZ "))
    with pytest.raises(DataError, match="needs channel O1"):
        read(path)
