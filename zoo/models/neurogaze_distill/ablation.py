# SPDX-License-Identifier: Apache-2.0
"""What each part of the loss adds (fact sheet 09, "Results", B0 to B3): CE, then KD, Proto-KD and D-Geo, each on top of the last.

The small student at 32 pixels and for few epochs, so that twelve trainings fit into an afternoon of one core: what the rows
differ by is told, not how good a student can be. Every row starts from the same weights and sees the same views in the
same order, one run a seed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np
from numpy.typing import NDArray

from zoo import metrics, registry
from zoo.bundle import check_output, write_output
from zoo.card import Variant
from zoo.crossval import Progress, read_recipe
from zoo.data import ckplus
from zoo.errors import ZooError
from zoo.models.neurogaze_distill import losses
from zoo.models.neurogaze_distill import train as trainer
from zoo.models.neurogaze_distill.model import build
from zoo.models.training import rounded
from zoo.pipeline import Pipeline
from zoo.pipeline.image import Resize

F32 = NDArray[np.float32]
#: The rows: a name, and which parts of the recipe it has.
ROWS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("CE", ()),
    ("+ KD", ("kd",)),
    ("+ Proto-KD", ("kd", "proto")),
    ("+ D-Geo", ("kd", "proto", "geo")),
)
SEEDS = (1, 2, 3)
EPOCHS, SIZES = 8, ((0, 24), (5, 32))
#: Of the shares of the epochs between which D-Geo's weight rises: the sheet's 20 and 60 of 100.
GEO = (0.2, 0.6)
RESAMPLES = 2000
"""Of the faces (CK+: of the subjects) for each interval."""


def variant_of(variant: Variant, parts: tuple[str, ...], epochs: int = EPOCHS) -> Variant:
    """The student of a row: the card's recipe, shorter and smaller, with the ``parts`` of its loss."""
    recipe = read_recipe(variant, trainer.Recipe)
    if recipe.kd is None:
        raise ZooError(f"{variant.name}: its recipe has no teacher (training.kd) to ablate")
    sizes = SIZES if epochs == EPOCHS else ((0, SIZES[-1][1]),)
    table = msgspec.to_builtins(msgspec.structs.replace(recipe, epochs=epochs, sizes=sizes))
    given: dict[str, Any] = {
        "kd": table.pop("kd"),
        "proto": {},
        "geo": {"start": GEO[0] * epochs, "end": GEO[1] * epochs},
    }
    side = sizes[-1][1]
    ops = tuple(
        msgspec.structs.replace(op, height=side, width=side) if isinstance(op, Resize) else op
        for op in variant.pipeline
    )
    return msgspec.structs.replace(
        variant, pipeline=ops, training={**table, **{part: given[part] for part in parts}}
    )


class Judged:
    """Class scores of a trained student on both sets, and what is read from them."""

    def __init__(self, data: Path) -> None:
        jury = trainer.Jury(data)
        other = ckplus.read(data)
        self.sets: dict[str, tuple[NDArray[np.uint8], NDArray[np.int64], list[str]]] = {
            "ferplus_valid": (jury.images, jury.truth, [str(i) for i in range(len(jury.truth))]),
            "ckplus": (
                np.stack([np.asarray(item.source, np.uint8) for item in other.items]),
                jury.by.truth(other),
                [str(item.group) for item in other.items],
            ),
        }

    def scores(self, variant: Variant, weights: Path) -> dict[str, F32]:
        """Probabilities (n, classes) of each set's faces."""
        net = trainer.loaded(build(variant.config), weights)
        pipeline = Pipeline(variant.pipeline, files=Path(__file__).parent)
        return {
            name: trainer.probabilities(net, pipeline, faces) for name, (faces, _, _) in self.sets.items()
        }


def readings(present_only: bool) -> dict[str, Callable[[Any, Any], float]]:
    """The sheet's three figures of (truth, scores)."""

    def figure(name: str) -> Callable[[Any, Any], float]:
        return lambda truth, scores: float(
            getattr(metrics.class_figures(truth, scores, present_only=present_only), name)
        )

    return {name: figure(name) for name in ("acc", "macro_f1", "bacc")}


def compare(judged: Judged, found: dict[str, dict[int, dict[str, F32]]]) -> list[dict[str, Any]]:
    """The table: of each row and set its figures by seed, their mean, and the mean's gain over the row before, in points.

    Intervals are paired bootstraps over faces (of CK+: over subjects) with the seeds taken together: they say what other faces
    would change, and the figures by seed what another training would.
    """
    table: list[dict[str, Any]] = []
    for place, (row, by_seed) in enumerate(found.items()):
        entry: dict[str, Any] = {"row": row}
        before = list(found.values())[place - 1] if place else None
        for name, (_, truth, groups) in judged.sets.items():
            own = readings(present_only=name == "ckplus")
            seeds = list(by_seed)
            truths, names = np.tile(truth, len(seeds)), np.tile(np.array(groups), len(seeds))
            stacked = np.concatenate([by_seed[seed][name] for seed in seeds])
            entry[name] = {}
            for metric, function in own.items():
                values = [100 * function(truth, by_seed[seed][name]) for seed in seeds]
                told: dict[str, Any] = {"mean": float(np.mean(values)), "by_seed": values}
                if before is not None:
                    last = np.concatenate([before[seed][name] for seed in seeds])
                    pooled = metrics.paired_bootstrap(
                        function, truths, last, stacked, groups=names, n=RESAMPLES
                    )
                    told["gain"] = told["mean"] - table[-1][name][metric]["mean"]
                    told["interval"] = [100 * value for value in pooled[1:]]
                entry[name][metric] = told
        table.append(entry)
    return table


def run(
    name: str,
    data: Path,
    work: Path,
    *,
    seeds: tuple[int, ...] = SEEDS,
    epochs: int = EPOCHS,
    threads: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train every row with every seed (``work`` keeps checkpoints, from which a run goes on) and compare them.

    Raises
    ------
    DataError
        FERPlus or CK+ is not in ``data``, or the teacher has no weights.
    """
    variant = registry.find(name)[1]
    judged = Judged(data)
    found: dict[str, dict[int, dict[str, F32]]] = {row: {} for row, _ in ROWS}
    recipe = None
    for seed in seeds:
        for row, parts in ROWS:
            own = variant_of(variant, parts, epochs)
            report = trainer.train(own, data=data, out=work, seed=seed, threads=threads, progress=progress)
            assert report.weights is not None
            found[row][seed] = judged.scores(own, work / report.weights)
            recipe = own.training
            if progress:
                progress(f"{row}, seed {seed}: {100 * report.metrics['WAR']:.1f} on valid", 1, 1)
    prototypes = losses.read_prototypes(Path(__file__).parent / trainer.PrototypeDistillation().file)
    return {
        "schema": 1,
        "variant": name,
        "seeds": list(seeds),
        "recipe_of_the_last_row": msgspec.to_builtins(recipe),
        "prototypes": "synthetic" if prototypes.synthetic else "of rated EEG",
        "n": {name: len(truth) for name, (_, truth, _) in judged.sets.items()},
        "selection": "of each run the epoch that does best on FERPlus valid; CK+ chose nothing",
        "readings": {"ferplus_valid": "8-way", "ckplus": "present-only"},
        "interval": f"95 %, paired bootstrap of faces (CK+: subjects), seeds taken together, {RESAMPLES} resamples",
        "table": rounded(compare(judged, found)),
        "command": "python -m zoo.models.neurogaze_distill.ablation --data DIR --out FILE.json",
    }


@click.command()
@click.option("--data", type=click.Path(path_type=Path), envvar="ZOO_DATA", show_envvar=True, required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File to write, .json.")
@click.option(
    "--work",
    type=click.Path(path_type=Path),
    help="Folder of checkpoints, to go on from; default: a temporary one.",
)
@click.option("--force", is_flag=True, help="Replace the file.")
def main(data: Path, out: Path, work: Path | None, force: bool) -> None:
    """Train neurogaze-distill-small with CE, + KD, + Proto-KD, + D-Geo, three seeds each, and write the table.

    Example: python -m zoo.models.neurogaze_distill.ablation --data DIR --out ablation.json --work ablation
    """

    def say(stage: str, done: int, total: int) -> None:
        if done == total:
            click.echo(stage, err=True)

    try:
        check_output(out, force=force)
        with tempfile.TemporaryDirectory() as scratch:
            document = run("neurogaze-distill-small", data, work or Path(scratch), progress=say)
        write_output(out, msgspec.json.format(msgspec.json.encode(document), indent=1).decode() + "\n")
    except (ZooError, OSError) as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(getattr(error, "exit_code", 1)) from error
    click.echo(str(out))


if __name__ == "__main__":
    main()
