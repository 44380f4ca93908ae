"""How a network does on nodules of which four readers have outlines, beside the readers.

    python docs/results/nodules.py runs/nodules_* --flips --out docs/results/nodules_small

The runs are the folds of one training on lidc_nodules, so that every patient is scored once, by a
network that has not seen the patient; of a fold with several seeds, by the mean of their
probabilities. Everything is at the crops' own size. The folder gets

* summary.json: how well they agree, the mean Dice over all pairs of outlines that both mark
  something, and over those of which one or both do, with 95 % intervals that draw patients; misses
  and false alarms; calibration;
* detection.csv and detection.png: sensitivity against false positives a slice, over the threshold.
  A slice whose consensus marks something is found where the mask meets the consensus; a false
  positive is a connected part of the mask (by edges) that meets no pixel of it. What one reader
  alone marked is false too. A mask of the whole crop would find everything in one part, so look at
  the Dice beside it;
* calibration.csv;
* per_slice.csv: of each slice the pixels that each outline marks, and the Dice of each two, blank
  where neither marks any;
* config_SEED_foldKofN.json of each run.
"""

import argparse
import itertools
import pathlib
import sys
from collections.abc import Sequence

import ml_collections
import numpy as np
from scipy import ndimage

import prnet_jax
from prnet_jax.commands import Help, run_command
from prnet_jax.compare.settings import settings_of
from prnet_jax.data.pipeline import Slices
from prnet_jax.data.prepare import prepare
from prnet_jax.errors import InputError
from prnet_jax.evaluate.files import columns_as_csv
from prnet_jax.evaluate.split import predicted
from prnet_jax.figures.png import new_figure, save_figure
from prnet_jax.metrics.agreement import PairwiseDice
from prnet_jax.metrics.calibration import Reliability, calibration_error
from prnet_jax.metrics.statistics import bootstrap_interval, mean_of_scored
from prnet_jax.metrics.summary import json_number
from prnet_jax.run.directory import read_run
from prnet_jax.run.files import CONFIG, SUMMARY, csv_text, write_json, write_whole

READERS = tuple(f"reader_{i}" for i in range(4))
THRESHOLDS = np.round(np.arange(0.05, 1.0, 0.05), 2)
# Whose Dice is averaged under which name
COMPARED = {
    "network with the consensus": [("network", "mask")],
    "network with a reader": [("network", reader) for reader in READERS],
    "a reader with another": list(itertools.combinations(READERS, 2)),
    "a reader with two of the other three": [(name, f"but_{name}") for name in READERS],
}


def found_and_false(mask: np.ndarray, target: np.ndarray) -> tuple[bool, int]:
    """Whether a mask meets the target, and how many parts of it do not; bool [H, W] each."""
    labels, parts = ndimage.label(mask)
    hits = np.unique(labels[target & mask])
    return bool(hits.size), parts - hits.size


def mean_interval(
    values: np.ndarray, patients: Sequence[str] | np.ndarray
) -> dict[str, float | int | None]:
    """The mean of what is not NaN, with an interval that draws patients; None for no number."""
    low, high = bootstrap_interval(values, patients)
    numbers = {"mean": float(mean_of_scored(values)), "ci95_low": low, "ci95_high": high}
    found = {name: json_number(number) for name, number in numbers.items()}
    return {**found, "n": int((~np.isnan(values)).sum())}


class Scores:
    """Gathers slice by slice."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.patients: list[str] = []
        self.pixels: list[dict[str, int]] = []  # that each outline marks
        self.pairs = PairwiseDice()
        self.found: list[list[tuple[bool, int]]] = []
        self.has_nodule: list[bool] = []
        self.marked: list[tuple[bool, bool]] = []  # anything at all; a part of the nodule
        self.reliability = Reliability()

    def add(
        self,
        id: str,
        patient: str,
        prob: np.ndarray,
        threshold: float,
        outlines: dict[str, np.ndarray],
    ) -> None:
        """A slice: prob float32 [H, W]; outlines bool [H, W] of `mask` and the readers."""
        if id in self.ids:
            raise InputError(f"two folds score {id}: give the folds of one division")
        self.ids.append(id)
        masks = {"network": prob >= threshold, **outlines}
        for name in READERS:  # what at least two of the others mark
            others = np.stack([outlines[other] for other in READERS if other != name])
            masks[f"but_{name}"] = others.sum(0) >= 2
        self.pixels.append({f"{name}_px": int(mask.sum()) for name, mask in masks.items()})
        self.patients.append(patient)
        self.pairs.add(masks)
        target = outlines["mask"]
        self.has_nodule.append(bool(target.any()))
        network = masks["network"]
        self.marked.append((bool(network.any()), bool((network & target).any())))
        self.found.append([found_and_false(prob >= cut, target) for cut in THRESHOLDS])
        self.reliability.add(prob, target)

    def summary(self) -> dict:
        """What summary.json holds."""
        nodule, (marked, met) = np.array(self.has_nodule), np.array(self.marked).T
        images = self.pairs.images()

        def dice(name: str, counted: str) -> np.ndarray:
            """[pairs, slices], NaN where it does not count."""
            found = [images[pair] for pair in COMPARED[name]]
            return np.array([np.where(of[counted], of["dice"], np.nan) for of in found])

        def agreement(name: str, counted: str) -> dict[str, float | int | None]:
            values = dice(name, counted)
            return mean_interval(values.T.ravel(), np.repeat(self.patients, len(values)))

        own, others = (
            mean_of_scored(dice(name, "both_marked"))
            for name in ("network with a reader", "a reader with another")
        )
        return {
            "slices": len(nodule),
            "patients": len(set(self.patients)),
            "with_nodule": int(nodule.sum()),
            "missed": int((nodule & ~marked).sum()),  # nothing is marked
            "not_found": int((nodule & ~met).sum()),  # nothing of the nodule is
            "false_alarms": int((~nodule & marked).sum()),
            "agreement": {
                name: {
                    counted: agreement(name, counted) for counted in ("both_marked", "any_marked")
                }
                for name in COMPARED
            },
            # The mean over slices that the network and two readers mark
            "network_less_readers": mean_interval(own - others, self.patients),
            "calibration_error": calibration_error(self.reliability.table()),
        }

    def per_slice(self) -> list[dict[str, str | int | float]]:
        """A row for each slice."""
        images = self.pairs.images()
        dice = {
            f"dice_{first}_{second}": np.where(of["any_marked"], of["dice"], np.nan).round(6)
            for (first, second), of in images.items()
            if any((first, second) in pairs for pairs in COMPARED.values())
        }
        columns = zip(*dice.values(), strict=True)
        return [
            {"id": id, "patient_id": patient, **px, **dict(zip(dice, map(float, row), strict=True))}
            for id, patient, px, row in zip(
                self.ids, self.patients, self.pixels, columns, strict=True
            )
        ]

    def detection(self) -> list[dict[str, float]]:
        """A row for each threshold."""
        found = np.array([[hit for hit, _ in row] for row in self.found])
        false = np.array([[parts for _, parts in row] for row in self.found])
        nodule = np.array(self.has_nodule)
        return [
            {
                "threshold": float(cut),
                "sensitivity": float(found[nodule, i].mean()),
                "false_positives_per_slice": float(false[:, i].mean()),
            }
            for i, cut in enumerate(THRESHOLDS)
        ]


def draw(rows: list[dict[str, float]], used: float, path: pathlib.Path) -> None:
    """The curve of `Scores.detection`, a PNG."""
    figure = new_figure(6, 4.5)
    axes = figure.subplots()
    x = [row["false_positives_per_slice"] for row in rows]
    y = [100 * row["sensitivity"] for row in rows]
    axes.plot(x, y, "o-", markersize=4)
    nearest = min(rows, key=lambda row: abs(row["threshold"] - used))
    for row in rows:
        if row in (rows[0], nearest, rows[-1]):
            place = row["false_positives_per_slice"], 100 * row["sensitivity"]
            text = f"threshold {row['threshold']:g}"
            axes.annotate(text, place, xytext=(-6, 6), textcoords="offset points", ha="right")
    axes.set_xlabel("false positives a slice")
    axes.set_ylabel("slices with a nodule of which it is found, %")
    axes.set_xlim(left=0)
    axes.margins(y=0.1)
    axes.grid(alpha=0.3)
    save_figure(figure, path)


def score_fold(
    runs: Sequence[pathlib.Path], config: ml_collections.ConfigDict, flips: bool, scores: Scores
) -> None:
    """Adds the test split of a fold: the mean probability of its runs, which have other seeds.

    Args:
        config: of one of them.
        flips: of each run, the mean over a slice and its mirror images.
    """
    data = config.dataset
    data.cache = False
    records = prepare(data.name, data.data_dir, manual_dir=data.manual_dir, **data.options)
    slices = Slices(records, "test", data)
    found = [dict(predicted(prnet_jax.load(run, flips=flips), slices, native=True)) for run in runs]
    for index in range(len(slices)):
        prob = np.mean([probs[index] for probs in found], axis=0)
        picture = slices.picture(index, native=True)
        names = ("mask", *READERS)  # "mask" is the consensus, whatever the run was trained on
        outlines = {name: slices.outline(index, name, native=True) for name in names}
        scores.add(picture["id"], picture["patient_id"], prob, config.threshold, outlines)


def configs_of(runs: Sequence[pathlib.Path]) -> list[ml_collections.ConfigDict]:
    """The config of each run.

    Raises:
        InputError: they are not folds of one training on lidc_nodules.
    """
    configs = [read_run(run)[0] for run in runs]
    alike = []
    for run, config in zip(runs, configs, strict=True):
        if config.dataset.name != "lidc_nodules":
            raise InputError(f"{run} is of {config.dataset.name}; expected runs on lidc_nodules")
        settings = settings_of(config.to_dict())
        settings |= {"threshold": config.threshold, "dataset.options.fold": None}
        alike.append(settings)
        if settings != alike[0]:
            differ = [name for name in settings if settings[name] != alike[0].get(name)]
            raise InputError(
                f"{run} and {runs[0]} differ in {', '.join(differ)}: give the folds of one training"
            )
    return configs


def by_fold(configs: Sequence[ml_collections.ConfigDict]) -> dict[str, dict[int, int]]:
    """{fold: {seed: the index of its config}}, both in order.

    Raises:
        InputError: a fold lacks a seed that another has, or has one twice.
    """
    folds: dict[str, dict[int, int]] = {}
    for i, config in enumerate(configs):
        fold, seed = config.dataset.options.fold, config.seed
        if seed in folds.setdefault(fold, {}):
            raise InputError(f"two runs have fold {fold} and seed {seed}: give each once")
        folds[fold][seed] = i
    seeds = sorted({config.seed for config in configs})
    for fold, there in folds.items():
        if lacking := [seed for seed in seeds if seed not in there]:
            raise InputError(f"fold {fold} lacks seed {lacking[0]}, which other folds have")
    return {fold: dict(sorted(folds[fold].items())) for fold in sorted(folds)}


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python docs/results/nodules.py",
        description=__doc__.partition("\n")[0],
        epilog=__doc__.partition("\n\n")[2],
        formatter_class=Help,
    )
    parser.add_argument("runs", type=pathlib.Path, nargs="+", metavar="RUN")
    parser.add_argument("--flips", action="store_true", help="mean over mirror images")
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="FOLDER")
    arguments = parser.parse_args(argv)

    def write() -> None:
        scores = Scores()
        configs = configs_of(arguments.runs)
        folds = by_fold(configs)
        for there in folds.values():
            first, *_ = there.values()
            runs = [arguments.runs[i] for i in there.values()]
            score_fold(runs, configs[first], arguments.flips, scores)
        used = configs[0].threshold
        arguments.out.mkdir(parents=True, exist_ok=True)
        rows = scores.detection()
        table = scores.reliability.table()
        write_whole(arguments.out / "detection.csv", csv_text(rows))
        write_whole(arguments.out / "calibration.csv", columns_as_csv(table))
        write_whole(arguments.out / "per_slice.csv", csv_text(scores.per_slice()))
        draw(rows, used, arguments.out / "detection.png")
        for old in arguments.out.glob("config_*.json"):
            old.unlink()
        for fold, there in folds.items():
            for seed, i in there.items():
                name = f"config_{seed}{fold and '_fold' + fold.replace('/', 'of')}.json"
                write_whole(
                    arguments.out / name, (arguments.runs[i] / CONFIG).read_text(encoding="utf-8")
                )
        about = {
            "network": configs[0].model.name,
            "image_size": configs[0].dataset.image_size,
            "seeds": list(next(iter(folds.values()))),
            "flips": arguments.flips,
            "threshold": used,
            "folds": list(folds),
        }
        write_json(arguments.out / SUMMARY, about | scores.summary())
        print(f"written    {arguments.out}")

    return run_command(write)


if __name__ == "__main__":
    sys.exit(main())
