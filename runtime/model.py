# SPDX-License-Identifier: Apache-2.0
"""``zoo.load``: find a bundle, open it, and run it on raw inputs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Union

import numpy as np
from numpy.typing import NDArray

from zoo.bundle import Bundle, load_golden, open_bundle
from zoo.errors import InputError, ZooError
from zoo.media import Film, of_frames, of_samples, open_pictures, open_sound
from zoo.pipeline import Vocab
from zoo.runtime.curves import StepRunner
from zoo.runtime.engines import EngineOptions, NodePlacement, open_engine
from zoo.runtime.prediction import Answer, Prediction, Timing, decode_outputs
from zoo.runtime.stream import AudioWindows
from zoo.specs import attention_output, curves

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Audio: a path of a file, or (samples, rate in Hz). Text: the text, or the path (not str) of a UTF-8 file. Models that give
#: curves also take a ``zoo.media.Film``, whose sound and pictures come from anywhere.
Raw = Union[str, "os.PathLike[str]", tuple[NDArray[Any], int], Film]


@dataclass(frozen=True)
class SelftestReport:
    """Result of running the golden inputs. ``errors`` holds each case's largest absolute difference."""

    errors: tuple[float, ...]
    tolerance: float
    passed: bool


class Model:
    """An opened bundle. Calls are safe from several threads.

    Attributes
    ----------
    name, labels, manifest, bundle
        What was opened.
    pipeline : Pipeline
        Raw input to features.
    engine : Engine
        Features to tensors.

    Parameters
    ----------
    bundle : Bundle
    threads : int or None
        Intra-op threads of the engine; None takes the bundle's own choice (``zoo tune`` measures it).
    batch : int or None
        Most inputs that :meth:`batch` hands to the engine at once; None takes the bundle's own choice, else as many as its
        profile allows.
    strict : bool
        Refuse an engine that would run part of the graph elsewhere than the target says.
    """

    def __init__(
        self, bundle: Bundle, *, threads: int | None = None, batch: int | None = None, strict: bool = True
    ) -> None:
        manifest = bundle.manifest
        if threads is not None and not 1 <= threads <= 1024:
            raise ZooError(f"threads is {threads}; give 1 to 1024")
        most = manifest.key.profile.get("batch", (1, 1, 1))[2]
        if batch is not None and not 1 <= batch <= most:
            raise ZooError(f"batch is {batch}; {manifest.name} {manifest.target} takes 1 to {most}")
        self.bundle = bundle
        self.manifest = manifest
        self.name = manifest.name
        self.labels = manifest.labels
        self.pipeline = bundle.pipeline()
        self.engine = open_engine(bundle, EngineOptions(threads=threads or manifest.threads, strict=strict))
        self._output_names = [tensor.name for tensor in self.engine.outputs]
        self._feature_shape = self.engine.inputs[0].shape[1:]
        last = manifest.pipeline[-1] if manifest.pipeline else None
        #: Whether features are numbers of tokens, of which 0 is padding.
        self._numbered = isinstance(last, Vocab)
        self._max_batch = batch or (manifest.tuning.batch if manifest.tuning else most)
        self._steps = StepRunner(bundle, self.engine) if curves(manifest.decode) else None

    def __call__(self, raw: Raw) -> Prediction:
        """Predict one input.

        Parameters
        ----------
        raw : path, or (samples, rate), or str
            An audio file (WAV, FLAC), or samples float32/float64 in [-1, 1] or int16/int32, shape (n,) or
            (n, channels), with their rate in Hz. Any rate: the pipeline resamples.
            For models that take text: the text, or a ``pathlib.Path`` of a UTF-8 file.
            Models that give curves take films: any file with sound or pictures (other than WAV and FLAC through PyAV) of
            any length, and a :class:`zoo.media.Film`.

        Raises
        ------
        InputError
            Unreadable, empty or non-finite input; a text without a token.
        ProviderUnavailable
            The file needs PyAV, which is not installed.
        """
        if self._steps is not None:
            return self._along(self._steps, raw)
        start = perf_counter()
        features, decode_ms = self._features(raw)
        preprocessed = perf_counter()
        arrays = self.engine.run([features[None]])
        done = perf_counter()
        outputs = {name: array[0] for name, array in zip(self._output_names, arrays, strict=True)}
        answer, heads = decode_outputs(self.manifest.decode, self.labels, outputs)
        end = perf_counter()
        timing = Timing(
            decode_input=decode_ms,
            preprocess=(preprocessed - start) * 1e3 - decode_ms,
            engine=(done - preprocessed) * 1e3,
            decode=(end - done) * 1e3,
            total=(end - start) * 1e3,
        )
        return self._prediction(raw, answer, heads, outputs, timing)

    def batch(self, raws: Sequence[Raw]) -> list[Prediction]:
        """Predict several inputs, as many at a time as the bundle's tuning chose, else as the engine's profile allows.

        Same results as one call each, to the engine's rounding. Inputs whose feature shapes differ are
        run in separate engine calls.

        Raises
        ------
        InputError
            As :meth:`__call__`; the message names the index of the input. No result is returned then.
        """
        if self._steps is not None:
            return [self(raw) for raw in raws]
        predictions: list[Prediction | None] = [None] * len(raws)
        pending: dict[tuple[int, ...], list[tuple[int, NDArray[Any], float, float]]] = {}
        for index, raw in enumerate(raws):
            start = perf_counter()
            try:
                features, decode_ms = self._features(raw)
            except InputError as error:
                raise InputError(f"input {index}: {error}") from error
            group = pending.setdefault(features.shape, [])
            group.append((index, features, decode_ms, (perf_counter() - start) * 1e3))
            if len(group) == self._max_batch:
                self._flush(pending.pop(features.shape), predictions, raws)
        for group in pending.values():
            self._flush(group, predictions, raws)
        return [prediction for prediction in predictions if prediction is not None]

    def stream(
        self, chunks: Iterable[NDArray[Any]], *, rate: int | None = None, hop: float = 0.5
    ) -> Iterator[Prediction]:
        """Predict sliding windows of a live signal.

        A window is as long as the pipeline's ``fit`` length; the first prediction comes once one window is
        full, the next ones every ``hop`` seconds. Each equals ``model((window, rate))``, whatever the
        chunk sizes. A stream shorter than one window gives one prediction at its end.

        Parameters
        ----------
        chunks : iterable of arrays
            Samples as in ``__call__``, any lengths.
        rate : int or None
            Rate of the chunks in Hz; None means the model's own.
        hop : float
            Seconds between predictions.
        """
        rate = rate or self.manifest.input.rate
        if rate is None:
            raise InputError(f"{self.name}: give the rate of the stream")
        window = self.pipeline.window_seconds(rate)
        if window is None:
            raise InputError(f"{self.name}: its pipeline fixes no window length, so it cannot stream")
        for samples, start, end in AudioWindows(rate, window, hop).cut(chunks):
            prediction = self((samples, rate))
            yield replace(prediction, start=start, end=end)

    def selftest(self) -> SelftestReport:
        """Run the bundle's golden raw inputs and compare every engine output with the reference's."""
        errors = []
        for case in load_golden(self.bundle):
            outputs = self(self._golden(case)).outputs
            errors.append(
                max(_max_error(outputs[name], expected) for name, expected in case["outputs"].items())
            )
        tolerance = self.manifest.golden.tolerance
        return SelftestReport(tuple(errors), tolerance, all(error <= tolerance for error in errors))

    def _golden(self, case: Mapping[str, Any]) -> Raw:
        if self.manifest.input.modality == "text":
            return str(case["input"].tobytes().decode())
        if self.manifest.input.modality == "video":
            sound = of_samples(case["sound"], case["sound_rate"]) if "sound" in case else None
            return Film(sound, of_frames(case["input"], case["rate"]))
        return case["input"], case["rate"]

    def features(self, raw: Raw) -> NDArray[Any]:
        """What the pipeline hands to the engine for ``raw``, without the batch dimension."""
        return self._features(raw)[0]

    def run_engine(self, features: NDArray[np.float32]) -> Mapping[str, NDArray[np.generic]]:
        """Run the engine alone on features with the batch dimension; outputs by name."""
        return dict(zip(self._output_names, self.engine.run([np.ascontiguousarray(features)]), strict=True))

    def placement(self) -> list[NodePlacement]:
        """Where each node runs, as the engine reports it."""
        return self.engine.placement()

    def memory(self) -> dict[str, int]:
        """Memory figures that the engine knows, in bytes."""
        return self.engine.memory()

    def _features(self, raw: Raw) -> tuple[NDArray[Any], float]:
        if self.manifest.input.modality == "text":
            start = perf_counter()
            text = self._text(raw)
            decode_ms = (perf_counter() - start) * 1e3
            features = self.pipeline.run(text)
            if self._numbered and not (features.size and features[0]):
                raise InputError(
                    f"{self.name}: the text has no token to judge by; give at least one word, mark or emoji"
                )
        elif isinstance(raw, (str, os.PathLike)):
            features, timing = self.pipeline.run_file(raw)
            decode_ms = timing["decode"]
        elif isinstance(raw, tuple) and len(raw) == 2:
            features, decode_ms = self.pipeline.run(*raw), 0.0
        else:
            raise InputError(
                f"{self.name}: input is {type(raw).__name__}; give a file path, or a tuple (samples, rate)"
            )
        for have, want in zip(features.shape, self._feature_shape, strict=True):
            if isinstance(want, int) and have != want:
                raise InputError(
                    f"{self.name}: the input gives features of shape {features.shape}, the engine takes {self._feature_shape}"
                )
            if isinstance(want, str) and want in self.manifest.key.profile:
                low, _, high = self.manifest.key.profile[want]
                if not low <= have <= high:
                    long = "long" if have > high else "short"
                    raise InputError(
                        f"{self.name}: the input is too {long}: it gives {have} {want}, the engine takes {low} to {high}"
                    )
        return features, decode_ms

    def _along(self, steps: StepRunner, raw: Raw) -> Prediction:
        start = perf_counter()
        outputs, seconds = steps.run(self._film(steps, raw))
        done = perf_counter()
        answer, heads = decode_outputs(self.manifest.decode, self.labels, outputs)
        end = perf_counter()
        timing = Timing(
            decode_input=sum(value for name, value in seconds.items() if name.startswith("decode")) * 1e3,
            preprocess=sum(value for name, value in seconds.items() if name.startswith("preprocess")) * 1e3,
            engine=seconds["engine"] * 1e3,
            decode=(end - done) * 1e3,
            total=(end - start) * 1e3,
            stages={name: value * 1e3 for name, value in seconds.items()},
        )
        return self._prediction(raw, answer, heads, outputs, timing)

    def _film(self, steps: StepRunner, raw: Raw) -> Film:
        if isinstance(raw, Film):
            return raw
        if isinstance(raw, (str, os.PathLike)):
            rate = self.manifest.input.rate or 1
            return Film(
                open_sound(raw) if "sound" in steps.sources else None,
                open_pictures(raw, rate) if "pictures" in steps.sources else None,
            )
        if isinstance(raw, tuple) and len(raw) == 2:
            return Film(of_samples(*raw))
        raise InputError(
            f"{self.name}: input is {type(raw).__name__}; give a file path, a tuple (samples, rate), or a Film"
        )

    def _text(self, raw: Raw) -> str:
        if isinstance(raw, str):
            return raw
        if not isinstance(raw, os.PathLike):
            raise InputError(
                f"{self.name}: input is {type(raw).__name__}; give a text (str), or a file's Path"
            )
        try:
            return Path(raw).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{raw}: not a readable UTF-8 text: {error}") from error

    def _prediction(
        self,
        raw: Raw,
        answer: Answer,
        heads: Mapping[str, Answer],
        outputs: Mapping[str, NDArray[np.generic]],
        timing: Timing,
    ) -> Prediction:
        return Prediction(
            answer.label,
            answer.labels,
            answer.scores,
            answer.values,
            outputs,
            timing,
            attention=self._attention(raw, outputs),
            heads=heads,
            series=answer.series,
        )

    def _attention(
        self, raw: Raw, outputs: Mapping[str, NDArray[np.generic]]
    ) -> tuple[tuple[str, float], ...]:
        name = attention_output(self.manifest.decode)
        if name is None:
            return ()
        weights: list[float] = outputs[name].ravel().tolist()
        return tuple(zip(self.pipeline.tokens(self._text(raw)), weights, strict=False))

    def _flush(
        self,
        group: list[tuple[int, NDArray[Any], float, float]],
        predictions: list[Prediction | None],
        raws: Sequence[Raw],
    ) -> None:
        start = perf_counter()
        arrays = self.engine.run([np.stack([features for _, features, _, _ in group])])
        engine_ms = (perf_counter() - start) * 1e3 / len(group)
        for row, (index, _, decode_ms, features_ms) in enumerate(group):
            began = perf_counter()
            outputs = {name: array[row] for name, array in zip(self._output_names, arrays, strict=True)}
            answer, heads = decode_outputs(self.manifest.decode, self.labels, outputs)
            spent = (perf_counter() - began) * 1e3
            timing = Timing(
                decode_ms, features_ms - decode_ms, engine_ms, spent, features_ms + engine_ms + spent
            )
            predictions[index] = self._prediction(raws[index], answer, heads, outputs, timing)


def load(
    name_or_path: str | os.PathLike[str],
    *,
    target: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    batch: int | None = None,
    strict: bool = True,
) -> Model:
    """Open a model.

    Parameters
    ----------
    name_or_path : str or path
        A bundle's path, or a model's name. A name takes the bundle that ``zoo export`` put into the store
        (``ZOO_HOME``) for ``target`` and ``precision``, else the fp32 bundle that ships with the package.
    target, precision : str or None
        Which bundle of that name; by default the fp32 one that runs on any CPU.
    threads : int or None
        Intra-op threads of the engine; None takes the bundle's own choice (``zoo tune`` measures it).
    batch : int or None
        Most inputs that :meth:`Model.batch` hands to the engine at once; None takes the bundle's own choice.
    strict : bool
        Refuse an engine that would run part of the graph elsewhere than the target says.

    Raises
    ------
    BundleError, ProviderUnavailable, ZooError
        See :func:`zoo.bundle.open_bundle` and :func:`zoo.runtime.open_engine`.
    """
    from zoo.store import find_bundle

    return Model(
        open_bundle(find_bundle(name_or_path, target=target, precision=precision)),
        threads=threads,
        batch=batch,
        strict=strict,
    )


def _max_error(found: NDArray[np.generic], expected: NDArray[np.generic]) -> float:
    """Largest absolute difference; infinite where shapes differ or either is not finite."""
    if found.shape != expected.shape:
        return float("inf")
    difference = np.abs(found.astype(np.float64) - expected.astype(np.float64))
    return float(difference.max()) if np.isfinite(difference).all() else float("inf")


__all__ = ["Model", "Raw", "SelftestReport", "load"]
