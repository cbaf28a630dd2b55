# SPDX-License-Identifier: Apache-2.0
"""Low-level descriptors beside openSMILE.

Two ways of running openSMILE: ``Smile.process_signal``, as its users call it, and its C library alone: no row comes back to
Python, they end in a null sink. Both build the components anew for each signal; openSMILE has no way to keep them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import opensmile
from opensmile.core.config import config
from opensmile.core.lib import OpenSMILE
from run import ORACLES, Row, load

from zoo.ops import isa
from zoo.pipeline import Lld, Pipeline

INPUTS = 16
RATE = 16000


def clips(test: ModuleType) -> list[np.ndarray[Any, np.dtype[np.float32]]]:
    """Two seconds each; real speech where it is at hand."""
    folder = Path(os.environ.get("ZOO_DATA", ""))
    if (folder / "emodb" / "labels.csv").is_file():
        return [clip[: 2 * RATE] for clip in test.speech(folder, INPUTS)]
    voices = test.synthetic()
    return [np.roll(voices["film: voice, music, noise"], 777 * i) for i in range(INPUTS)]


def rows() -> Iterator[Row]:
    """All 76 columns of clips of about 2 s."""
    test = load(ORACLES / "test_lld.py")
    waves = clips(test)
    pipeline = Pipeline([Lld(rate=RATE)], isa=isa())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lld.conf"
        path.write_text(test.configuration())
        smile = opensmile.Smile(str(path), feature_level="A;B;dA;dB", loglevel=0)
        null = Path(folder) / "null.conf"
        null.write_text(
            "[componentInstances:cComponentManager]\ninstance[none].type=cNullSink\n"
            "[none:cNullSink]\nreader.dmLevel=A;B;dA;dB\n"
        )
        options = {
            "source": str(Path(smile.default_config_root) / config.EXTERNAL_INPUT_CONFIG),
            "sink": str(null),
            "sampleRate": RATE,
            "nBits": 16,
        }
        samples = [(wave * 32768).astype(np.int16).tobytes() for wave in waves]

        def library(i: int) -> None:
            engine = OpenSMILE()
            engine.initialize(config_file=str(path), options=options, loglevel=0)
            engine.external_audio_source_write_data(config.EXTERNAL_SOURCE_COMPONENT, samples[i])
            engine.external_audio_source_set_eoi(config.EXTERNAL_SOURCE_COMPONENT)
            engine.run()
            engine.free()

        def table(i: int) -> Any:
            return smile.process_signal(waves[i], RATE)

        def agrees() -> str | None:
            got, want = pipeline.run(waves[0], RATE), table(0).to_numpy()
            part = np.r_[0:24, 32:35]  # without line spectral frequencies and what is counted in periods
            worst = float(
                (np.abs(got - want).max(axis=0) / np.maximum(np.abs(want).max(axis=0), 1e-3))[part].max()
            )
            return None if worst <= 1e-4 else f"worst difference {worst:.3g} of the column, bound 1e-4"

        for peer, call in (
            ("opensmile process_signal", table),
            ("openSMILE's C library, rows dropped", library),
        ):
            yield Row(
                op="lld 16 kHz, 2 s",
                peer=peer,
                ours=lambda i: pipeline.run(waves[i], RATE),
                theirs=call,
                inputs=INPUTS,
                check=agrees,
                goal=5,
            )
