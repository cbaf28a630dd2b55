# SPDX-License-Identifier: Apache-2.0
"""The suite of large encoders: cosines, the report, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from click.testing import CliRunner


@pytest.fixture(scope="module")
def suite(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("suites/emotion_age_country")


def test_the_mean_embedding_hides_what_tells_clips_apart(suite: ModuleType) -> None:
    rng = np.random.default_rng(0)
    first = 10 + rng.standard_normal((20, 64))
    other = 10 + rng.standard_normal((20, 64))
    found = suite.agreement(first, other)
    assert found.clips == 20
    assert found.least > 0.97
    assert abs(found.centred_mean) < 0.2
    same = suite.agreement(first, first)
    assert min(same.least, same.centred_least) == pytest.approx(1.0)


def test_the_report_names_everything_that_a_figure_needs(suite: ModuleType) -> None:
    speed = suite.Speed(seconds=1.0, p50_ms=120.0, least_ms=110.0, rtf=0.12, ratio=2.5)
    row = suite.Row(
        variant="v", target="cpu-x86", precision="int8", weights="random", kept=1, size_bytes=65_000_000,
        peak_rss_bytes=400_000_000, open_ms=900.0, speeds=(speed,),
        agreement=suite.Agreement(clips=8, least=0.9991, mean=0.9995, centred_least=0.98, centred_mean=0.99),
    )  # fmt: skip
    text = suite.markdown(
        suite.Suite(
            schema=1, created="2026-11-25T00:00:00+00:00", zoo_version="0", machine=suite.describe(),
            remark="A busy machine.", processes=3, runs=5, rows=(row,),
        )
    )  # fmt: skip
    assert (
        "| v | cpu-x86 | int8 | random | 65 | 400 | 120 (0.120, 2.50×) | 0.99910 / 0.99950 | 0.9800 / 0.9900 |"
        in text
    )
    assert "3 processes a bundle" in text
    assert "A busy machine." in text


def test_refusals(suite: ModuleType, tmp_path: Path) -> None:
    result = CliRunner().invoke(suite.main, ["--data", str(tmp_path)])
    assert result.exit_code == 3
    assert "give bundles, the one to compare with first" in result.stderr
