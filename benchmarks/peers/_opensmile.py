# SPDX-License-Identifier: Apache-2.0
"""openSMILE with the signal graph of emobase2010, described here in our own words.

The wheel ``opensmile`` holds the engine, but not this feature set. A graph is a dict of components with their settings; every
level of it can be tapped, so that our ops can be compared with each step, fed with openSMILE's own values.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Settings = dict[str, object]
#: Type, levels read, level written, settings.
Part = tuple[str, str, str, Settings]

#: Levels whose columns are the 76 of our op ``lld``, in its order: openSMILE's own order of lld, lld_de, lld2, lld2_de.
LLD_LEVELS = ("lld", "lld_de", "lld2", "lld2_de")
#: Levels whose columns are the 1582 functionals.
FUNCTIONAL_LEVELS = ("func", "funcNz", "functOnsets")


def _pitch(**outputs: int) -> Settings:
    every = {"F0raw": 0, "F0final": 0, "F0finalEnv": 0, "voicingFinalUnclipped": 0, **outputs}
    return {**every, "medianFilter0": 0, "postSmoothingMethod": "simple", "octaveCorrection": 0, **_whole}


#: A level that keeps all frames.
_whole: Settings = {"writer.levelconf.isRb": 0, "writer.levelconf.growDyn": 1}


def _statistics(window: Settings, nonzero: bool) -> Settings:
    """Positions, mean, regression line, moments, quartiles, percentiles, times above a level; all else off."""
    chosen = {
        "Extremes": ("maxpos minpos amean", "max min range maxameandist minameandist"),
        "Regression": (
            "linregc1 linregc2 linregerrA linregerrQ",
            "qregc1 qregc2 qregc3 qregerrA qregerrQ centroid doRatioLimit centroidRatioLimit",
        ),
        "Moments": ("stddev skewness kurtosis", "variance amean doRatioLimit"),
        "Percentiles": ("quartiles iqr interp", ""),
        "Times": (
            "upleveltime75 upleveltime90",
            "upleveltime25 downleveltime25 upleveltime50 downleveltime50 downleveltime75 downleveltime90 risetime "
            "falltime leftctime rightctime duration",
        ),
    }
    s: Settings = {**window, "functionalsEnabled": ";".join(chosen)}
    for group, (on, off) in chosen.items():
        s.update(
            {f"{group}.{name}": 1 for name in on.split()} | {f"{group}.{name}": 0 for name in off.split()}
        )
    s.update({"Extremes.norm": "segment", "Times.norm": "segment"})
    if nonzero:
        return {**s, "Percentiles.percentile": "0.99", "nonZeroFuncts": 1}
    return {**s, "Percentiles.percentile": "0.01;0.99", "Percentiles.pctlrange": "0-1"}


def _turn(window: Settings) -> Settings:
    """Number of pitch onsets and the duration in seconds."""
    times = ("upleveltime", "downleveltime")
    off = [f"{t}{p}" for t in times for p in (25, 50, 75, 90)] + [
        "risetime",
        "falltime",
        "leftctime",
        "rightctime",
    ]
    return {
        **window,
        "copyInputName": 0,
        "functNameAppend": "Turn",
        "functionalsEnabled": "Onset;Times",
        "Onset.threshold": 0,
        "Onset.useAbsVal": 0,
        "Onset.onsetPos": 0,
        "Onset.offsetPos": 0,
        "Onset.numOnsets": 1,
        "Onset.numOffsets": 0,
        "Times.duration": 1,
        "Times.norm": "second",
        **{f"Times.{name}": 0 for name in off},
    }


def _statistic_parts(window: tuple[float, float] | None) -> dict[str, Part]:
    """The three components that compute functionals, of the whole input or of windows."""
    span: Settings = {"frameMode": "full", "frameSize": 0, "frameStep": 0}
    if window is not None:
        span = {"frameMode": "fixed", "frameSize": window[0], "frameStep": window[1]}
    return {
        "statA": ("Functionals", "lld;lld_de", "func", _statistics(span, False)),
        "statB": ("Functionals", "lld2;lld2_de", "funcNz", _statistics(span, True)),
        "turn": ("Functionals", "pitchF", "functOnsets", _turn(span)),
    }


def graph(window: tuple[float, float] | None = None) -> dict[str, Part]:
    """Components by name.

    ``window``: seconds of the functionals' window and hop; None for the whole input.
    """
    frame: Settings = {"frameStep": 0.010, "frameCenterSpecial": "left"}
    mel: Settings = {"htkcompatible": 0, "usePower": 1, "lofreq": 20}
    shs: Settings = {
        "F0raw": 0,
        "voicingClip": 0,
        "voicingC1": 0,
        "scores": 1,
        "voicing": 1,
        "nCandidates": 3,
    }
    smooth: Settings = {"smaWin": 3, **_whole}
    delta: Settings = {"deltawin": 2, "blocksize": 1, **_whole}
    lpc: Settings = {"lpGain": 0, "saveRefCoeff": 0, "residual": 0, "forwardFilter": 0, "lpSpectrum": 0}
    jitter: Settings = {
        "jitterLocalEnv": 0,
        "jitterDDPEnv": 0,
        "shimmerLocalEnv": 0,
        "onlyVoiced": 0,
        "copyInputName": 1,
    }
    return {  # the order of the components is that of emobase2010: what is left at the end of the input depends on it
        "fr60": ("Framer", "wave", "frames60", {**frame, "frameSize": 0.060}),
        "w60": ("Windower", "frames60", "win60", {"winFunc": "gauss", "sigma": 0.25, "gain": 1.0}),
        "fft60": ("TransformFFT", "win60", "fftc60", {"zeroPadSymmetric": 0}),
        "mag60": ("FFTmagphase", "fftc60", "fftmag60", {}),
        "scale": ("SpecScale", "fftmag60", "hps", {"scale": "log", "logScaleBase": 2}),
        "shs": ("PitchShs", "hps", "pitchShs", {**shs, "octaveCorrection": 0}),
        "smoothA": ("PitchSmoother", "pitchShs", "pitch", _pitch(F0finalEnv=1, voicingFinalUnclipped=1)),
        "jitter": (
            "PitchJitter",
            "wave",
            "jitter",
            {
                "F0reader.dmLevel": "pitchF",
                "F0field": "F0final",
                "searchRangeRel": 0.25,
                "jitterLocal": 1,
                "jitterDDP": 1,
                "shimmerLocal": 1,
                **jitter,
            },
        ),
        "smoothB": ("PitchSmoother", "pitchShs", "pitchF", _pitch(F0final=1)),
        "res": ("SpecResample", "fftc", "outpR", {"targetFs": 11000}),
        "fr25": ("Framer", "wave", "frames", {**frame, "frameSize": 0.025}),
        "pe": ("VectorPreemphasis", "frames", "framespe", {"k": 0.97}),
        "win": ("Windower", "framespe", "winframe", {"winFunc": "ham", "gain": 1.0}),
        "fft": ("TransformFFT", "winframe", "fftc", {"zeroPadSymmetric": 0}),
        "mag": ("FFTmagphase", "fftc", "fftmag", {}),
        "mel26": ("Melspec", "fftmag", "mspec1", {**mel, "hifreq": 8000, "nBands": 26}),
        "mfcc": (
            "Mfcc",
            "mspec1",
            "mfcc",
            {"htkcompatible": 0, "firstMfcc": 0, "lastMfcc": 14, "cepLifter": 22},
        ),
        "mel8": ("Melspec", "fftmag", "mspec2", {**mel, "hifreq": 6500, "nBands": 8}),
        "log": (
            "VectorOperation",
            "mspec2",
            "mspec2log",
            {"operation": "log", "copyInputName": 0, "nameAppend": "logMelFreqBand"},
        ),
        "lpc": ("Lpc", "outpR", "lpc", {"p": 8, "method": "acf", "saveLPCoeff": 1, **lpc}),
        "lsp": ("Lsp", "lpc", "lsp", {}),
        "loud": ("Intensity", "frames", "intens", {"intensity": 0, "loudness": 1}),
        "lldA": ("ContourSmoother", "intens;mfcc;mspec2log;lsp;pitch", "lld", smooth),
        "lldB": ("ContourSmoother", "pitchF;jitter", "lld2", smooth),
        "deltaA": ("DeltaRegression", "lld", "lld_de", delta),
        "deltaB": ("DeltaRegression", "lld2", "lld2_de", delta),
        **_statistic_parts(window),
    }


def _text(sections: Mapping[str, tuple[str, Settings]]) -> str:
    """A configuration file: name -> (type, settings)."""
    lines = ["[componentInstances:cComponentManager]", "instance[dataMemory].type=cDataMemory"]
    lines += [f"instance[{name}].type=c{kind}" for name, (kind, _) in sections.items()]
    lines += ["nThreads=1", "printLevelStats=0"]
    for name, (kind, more) in sections.items():
        lines += ["", f"[{name}:c{kind}]", *(f"{key}={value}" for key, value in more.items())]
    return "\n".join(lines) + "\n"


def _sections(
    parts: Mapping[str, Part], taps: Iterable[str], dropped: Iterable[str]
) -> dict[str, tuple[str, Settings]]:
    """Components, and a sink on each level that is tapped or dropped."""
    found = {
        name: (kind, {"reader.dmLevel": read, "writer.dmLevel": write, **more})
        for name, (kind, read, write, more) in parts.items()
    }
    sinks = {f"tap_{level}": ("ExternalSink", {"reader.dmLevel": level}) for level in taps}
    return {
        **found,
        **sinks,
        **{f"drop_{level}": ("NullSink", {"reader.dmLevel": level}) for level in dropped},
    }


def _open(text: str) -> Any:
    from opensmile.core.lib import OpenSMILE

    smile = OpenSMILE()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.conf"
        path.write_text(text, encoding="ascii")
        smile.initialize(str(path), {}, loglevel=0)
    return smile


def _write_rows(smile: Any, source: str, rows: NDArray[np.float32]) -> None:
    """Rows to an external source; the wheel's own method passes the number of values for that of rows."""
    from ctypes import POINTER, c_float

    from opensmile.core.lib import smileapi

    data = rows.ctypes.data_as(POINTER(c_float))
    if smileapi.smile_extsource_write_data(smile._smileobj, source.encode(), data, len(rows)) != 0:
        raise RuntimeError(f"openSMILE did not take {len(rows)} rows of {source}")


def _collect(smile: Any, taps: Iterable[str]) -> dict[str, list[NDArray[np.float32]]]:
    """Lists that fill up with the rows of each tapped level."""
    rows: dict[str, list[NDArray[np.float32]]] = {level: [] for level in taps}

    def take(level: str) -> Any:
        return lambda data, meta: rows[level].append(data.copy())

    for level in taps:
        smile.external_sink_set_callback_ex(f"tap_{level}", take(level))
    return rows


class Emobase2010:
    """A graph, ready to run on signals of one rate.

    Parameters
    ----------
    taps : sequence of str
        The levels to return.
    rate : int
        Hz.
    window : (float, float) or None
        As :func:`graph`.
    idle : sequence of str
        Levels to compute and drop, for timing.
    """

    def __init__(
        self,
        taps: Iterable[str],
        rate: int = 16000,
        window: tuple[float, float] | None = None,
        idle: Iterable[str] = (),
    ) -> None:
        self.taps, dropped = tuple(taps), tuple(idle)
        parts = graph(window)
        needed, seen = {*self.taps, *dropped}, {"wave"}
        while needed - seen:  # only the components that the taps depend on
            level = (needed - seen).pop()
            seen.add(level)
            for _, read, write, more in parts.values():
                if write == level:
                    needed |= set(read.split(";")) | {
                        str(v) for k, v in more.items() if k == "F0reader.dmLevel"
                    }
        parts = {name: part for name, part in parts.items() if part[2] in seen}
        source: Settings = {
            "writer.dmLevel": "wave",
            "sampleRate": rate,
            "nBits": 16,
            "channels": 1,
            **_whole,
        }
        self._text = _text(
            {"samples": ("ExternalAudioSource", source), **_sections(parts, self.taps, dropped)}
        )

    def names(self) -> dict[str, list[str]]:
        """Names of the columns of each level."""
        smile, found = _open(self._text), {}
        for level in self.taps:
            n = smile.external_sink_get_num_elements(f"tap_{level}")
            found[level] = [smile.external_sink_get_element_name(f"tap_{level}", i) for i in range(n)]
        smile.free()
        return found

    def __call__(self, wave: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """[frames, columns] of each level. Samples are rounded to 16 bits, as they are in the wheel and in files."""
        samples = np.round(wave * 32768.0).clip(-32768, 32767).astype("<i2")
        smile = _open(self._text)
        rows = _collect(smile, self.taps)
        smile.external_audio_source_write_data("samples", samples.tobytes())
        smile.external_audio_source_set_eoi("samples")
        smile.run()
        smile.free()
        return {level: np.array(values, np.float32) for level, values in rows.items()}


class FunctionalsOnly:
    """openSMILE's functionals of descriptors that it is given, for timing.

    Parameters
    ----------
    window : (float, float) or None
        As :func:`graph`.
    """

    def __init__(self, window: tuple[float, float] | None = None) -> None:
        sources = {}
        for level, columns in {"lld": 34, "lld_de": 34, "lld2": 4, "lld2_de": 4, "pitchF": 1}.items():
            fields: Settings = {"fieldNames": level, "fieldSizes": columns, "period": 0.01}
            sources[level] = ("ExternalSource", {"writer.dmLevel": level, **fields, **_whole})
        self._text = _text({**sources, **_sections(_statistic_parts(window), FUNCTIONAL_LEVELS, ())})

    def __call__(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """[windows, 1582] of [frames, 76]; onsets are those of the smoothed pitch."""
        smile = _open(self._text)
        found = _collect(smile, FUNCTIONAL_LEVELS)
        cuts = {"lld": (0, 34), "lld_de": (38, 72), "lld2": (34, 38), "lld2_de": (72, 76), "pitchF": (34, 35)}
        for level, (first, last) in cuts.items():
            _write_rows(smile, level, np.ascontiguousarray(rows[:, first:last], np.float32))
            smile.external_source_set_eoi(level)
        smile.run()
        smile.free()
        return np.concatenate(
            [np.array(found[level], np.float32)[:, 0] for level in FUNCTIONAL_LEVELS], axis=1
        )
