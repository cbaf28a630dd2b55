# SPDX-License-Identifier: Apache-2.0
"""``zoo.load``: find a bundle, open it, and run it on raw inputs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoo.bundle import Bundle, load_golden, open_bundle
from zoo.errors import InputError, ZooError
from zoo.runtime.curves import Step, StepRunner
from zoo.runtime.engines import EngineOptions, NodePlacement, open_engine
from zoo.runtime.modality import Features, Front, Given, Raw
from zoo.runtime.modality.text import read_text
from zoo.runtime.modality.video import film_of
from zoo.runtime.prediction import Answer, Prediction, Timing, decode_outputs, stepwise
from zoo.specs import attention_output, curves

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zoo.recording import Recording


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
    front : Front
        Raw input to features.
    pipeline : Pipeline
        The front's, of the first engine input.
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
        self.front = Front.of(bundle)
        self.pipeline = self.front.pipeline
        self.engine = open_engine(bundle, EngineOptions(threads=threads or manifest.threads, strict=strict))
        self._output_names = [tensor.name for tensor in self.engine.outputs]
        self._feature_shape = self.engine.inputs[0].shape[1:]
        self._max_batch = batch or (manifest.tuning.batch if manifest.tuning else most)
        #: Of models that give curves: what runs pipelines and engine along the input.
        self.steps = StepRunner(bundle, self.engine) if curves(manifest.decode) else None

    def __call__(self, raw: Given) -> Prediction:
        """Predict one input.

        Parameters
        ----------
        raw : path, or (samples, rate), or str
            An audio file (WAV, FLAC), or samples float32/float64 in [-1, 1] or int16/int32, shape (n,) or
            (n, channels), with their rate in Hz. Any rate: the pipeline resamples.
            For models that take EEG: a file, a :class:`zoo.recording.Recording`, or samples (n, channels) in microvolts, in
            the model's channel order, at its rate; the answer is that of the last window.
            For models that take text: the text, or a ``pathlib.Path`` of a UTF-8 file.
            Models that give curves take films: any file with sound or pictures (other than WAV and FLAC through PyAV) of
            any length, and a :class:`zoo.media.Film`.
            For models that take images: a PNG or JPEG file (see :func:`zoo.ops.read_image`), or pixels, uint8 of shape
            (height, width) for grey or (height, width, 3) for RGB.

        Raises
        ------
        InputError
            Unreadable, empty or non-finite input; a text without a token.
        ProviderUnavailable
            The file needs PyAV, Pillow or MNE, which is not installed.
        """
        if self.steps is not None:
            return self._along(self.steps, raw)
        start = perf_counter()
        features, decode_ms = self._features(raw)
        preprocessed = perf_counter()
        return self._answered(raw, features, decode_ms, (preprocessed - start) * 1e3 - decode_ms)

    def batch(self, raws: Sequence[Given]) -> list[Prediction]:
        """Predict several inputs, as many at a time as the bundle's tuning chose, else as the engine's profile allows.

        Same results as one call each, to the engine's rounding. Inputs whose feature shapes differ are
        run in separate engine calls.

        Raises
        ------
        InputError
            As :meth:`__call__`; the message names the index of the input. No result is returned then.
        """
        if self.steps is not None:
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
        self, chunks: Iterable[NDArray[Any] | Recording], *, rate: int | None = None, hop: float | None = None
    ) -> Iterator[Prediction]:
        """Predict sliding windows of a live signal.

        EEG: windows and hop are those of the pipeline, whose filters run on over all chunks, (n, channels) in the model's
        order at its rate, or recordings.

        Images: each chunk is a picture, or pictures as uint8 (n, height, width, 3); one is judged every ``hop`` seconds.

        Models that give curves: sound, or pictures as uint8 (n, height, width, 3); a prediction for each of their steps, whose
        series is that step before smoothing, its seconds counted from ``start``. Those that need all of their input first, or
        both sound and pictures, do not stream.

        What follows is about audio.

        A window is as long as the pipeline's ``fit`` length; the first prediction comes once one window is
        full, the next ones every ``hop`` seconds. Each equals ``model((window, rate))``, whatever the
        chunk sizes. A stream shorter than one window gives one prediction at its end.

        Parameters
        ----------
        chunks : iterable of arrays
            Samples as in ``__call__``, any lengths.
        rate : int or None
            Rate of the chunks in Hz, or pictures a second; None means the model's own.
        hop : float or None
            Seconds between predictions; None means 0.5, of EEG and curves the model's own, which alone they can have.

        Raises
        ------
        InputError
            The model does not stream; a rate, hop or chunk that it does not take.
        """
        if self.steps is not None:
            yield from self._stepwise(self.steps.stream(chunks, rate, hop))
            return
        for window in self.front.modality.windows(self.front, chunks, rate, hop):
            features = self._checked(window.features)
            prediction = self._answered("", features, window.decode_ms, window.preprocess_ms)
            yield replace(prediction, start=window.start, end=window.end)

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

    def _golden(self, case: Mapping[str, Any]) -> Given:
        sound = Raw(case["sound"], case["sound_rate"]) if "sound" in case else None
        return self.front.modality.given(Raw(case["input"], case["rate"], sound))

    def features(self, raw: Given) -> NDArray[Any]:
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

    def _features(self, raw: Given) -> tuple[NDArray[Any], float]:
        features, decode_ms = self.front.features(raw)
        return self._checked(features), decode_ms

    def _checked(self, found: Features) -> NDArray[Any]:
        """The features of the one engine input, if the engine takes them."""
        reason = self.front.modality.unfit(self.front, found)
        if reason is not None:
            raise InputError(f"{self.name}: {reason}")
        features = found[0]
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
        return features

    def _answered(
        self, raw: Given, features: NDArray[Any], decode_ms: float, preprocess_ms: float
    ) -> Prediction:
        start = perf_counter()
        arrays = self.engine.run([features[None]])
        done = perf_counter()
        outputs = {name: array[0] for name, array in zip(self._output_names, arrays, strict=True)}
        answer, heads = decode_outputs(self.manifest.decode, self.labels, outputs)
        end = perf_counter()
        timing = Timing(
            decode_input=decode_ms,
            preprocess=preprocess_ms,
            engine=(done - start) * 1e3,
            decode=(end - done) * 1e3,
            total=decode_ms + preprocess_ms + (end - start) * 1e3,
        )
        return self._prediction(raw, answer, heads, outputs, timing)

    def _along(self, steps: StepRunner, raw: Given) -> Prediction:
        start = perf_counter()
        outputs, seconds = steps.run(film_of(self.front, raw))
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

    def _stepwise(self, steps: Iterator[Step]) -> Iterator[Prediction]:
        decode = stepwise(self.manifest.decode)
        curve = curves(decode)[0]
        for index, step in enumerate(steps):
            began = perf_counter()
            answer, heads = decode_outputs(decode, self.labels, step.outputs)
            spent = (perf_counter() - began) * 1e3
            total = step.preprocess_ms + step.engine_ms + spent
            timing = Timing(0.0, step.preprocess_ms, step.engine_ms, spent, total)
            start = index * curve.period
            prediction = self._prediction("", answer, heads, step.outputs, timing)
            yield replace(prediction, start=start, end=start + curve.window)

    def _prediction(
        self,
        raw: Given,
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
        self, raw: Given, outputs: Mapping[str, NDArray[np.generic]]
    ) -> tuple[tuple[str, float], ...]:
        name = attention_output(self.manifest.decode)
        if name is None:
            return ()
        weights: list[float] = outputs[name].ravel().tolist()
        return tuple(zip(self.pipeline.tokens(read_text(raw, self.name)), weights, strict=False))

    def _flush(
        self,
        group: list[tuple[int, NDArray[Any], float, float]],
        predictions: list[Prediction | None],
        raws: Sequence[Given],
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


__all__ = ["Given", "Model", "SelftestReport", "load"]
