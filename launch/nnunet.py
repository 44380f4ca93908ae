"""Trains nnU-Net's own network in PyTorch under the protocol of Table 1, on the same folds.

    pip install torch==2.13.0
    pip install --no-deps dynamic_network_architectures
    python launch/nnunet.py --manual-dir FOLDER --variant table1_small --root runs/nnunet
    python launch/nnunet.py --manual-dir FOLDER --like runs/unet_0_fold1of5 --root runs/nnunet
    python -m prnet_jax.evaluate --predictions runs/nnunet/predictions_0_of5 --split all \\
      --dataset finding_lungs --manual-dir FOLDER --name "nnU-Net's network" --keep-masks \\
      --out runs/nnunet_scores

The same as for our networks, by the same code: records, folds, size, window, order of the images,
augmentation (image by image the same draws), learning rates, and the scoring. Written again in
PyTorch: BCE + Dice, AdamW on kernels, clipping, averaged weights, and the best of the
validations. What differs from ours: PyTorch draws the initial weights; the width is the planner's,
not a quarter, so at 96x96 it has 7.8 million parameters and PR-Net 2.5 (`--base-features 8` is a
quarter); its GFLOP count what meets the zeros around a picture too, a few per cent. What differs
from nnU-Net itself: it is planned for the protocol's size; its normalisation of CT, loss on several
scales, SGD, augmentation, batch size, mirror images and 1000 epochs; one logit in place of two
classes.

The same command again resumes after the last validation and skips finished folds. The
probabilities of a seed's folds lie together, in ROOT/predictions_SEED_ofK.
"""

import argparse
import io
import json
import os
import pathlib
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from prnet_jax.commands import Help, run_command
from prnet_jax.errors import InputError

LOG, CONFIG, DONE = "metrics.jsonl", "config.json", "done.json"  # in the folder of a fold
# Fields of the config that a run may have otherwise, and this training cannot
_KNOWN = dict(loss="bce_dice", head_weights=(), early_stopping_epochs=0, init_from=None)
COST = "cost.json"  # beside the predictions, for the table
FOLDS = "1/5 2/5 3/5 4/5 5/5"


def train_fold(
    config: Any, folder: pathlib.Path, predictions: pathlib.Path, base: int, device: str
) -> dict[str, Any]:
    """Trains a fold, or goes on with it, and writes the probabilities of its test images.

    Args:
        config: of the protocol and the fold.
        folder: of the fold.
        predictions: the folder of `ID.npy`, float32 [H, W] at the size of the data.
        base: channels of the network's first stage.
        device: of PyTorch, "cpu" or "cuda".

    Returns:
        What `done.json` holds: the costs and the best epoch.

    Raises:
        InputError: data or a package are missing, or the folder holds another training.
    """
    import numpy as np
    from nnunet_training import CHECKPOINT, Training

    from prnet_jax.data.pipeline import open_splits, splits_hash, train_batches
    from prnet_jax.data.prepare import prepare
    from prnet_jax.progress import progress
    from prnet_jax.run.files import write_json, write_whole
    from prnet_jax.run.session import next_validation

    data = config.dataset
    builder = prepare(data.name, data.data_dir, data.manual_dir, **data.options)
    slices = open_splits(builder, data)
    about = json.loads(config.to_json())
    about["model"] = {"name": "PlainConvUNet", "base_features": base}
    about |= {"records": builder.info.full_name, "split_manifest_sha256": splits_hash(slices)}
    folder.mkdir(parents=True, exist_ok=True)
    _check_same(folder / CONFIG, about)
    test = slices["test"]
    paths = [predictions / f"{id}.npy" for id in test.ids]
    done = None
    if (folder / DONE).exists():
        done = json.loads((folder / DONE).read_text(encoding="utf-8"))
    if done and all(path.exists() for path in paths):
        return done
    if done and not (folder / CHECKPOINT).exists():
        raise InputError(
            f"{predictions} lacks predictions of {folder}, which is finished and has no "
            f"{CHECKPOINT}: remove that folder to train it again"
        )
    write_json(folder / CONFIG, about)
    steps_per_epoch = len(slices["train"]) // config.batch_size
    run = Training(config, folder, steps_per_epoch, base, device)
    total = config.num_epochs * steps_per_epoch
    batches = train_batches(
        slices["train"], config.batch_size, config.seed, data.num_threads, run.at["step"]
    )
    with progress(total, initial=run.at["step"], desc=folder.name, doing="first step") as bar:
        while run.at["step"] < total:
            begin = time.perf_counter()
            losses = []
            epoch = next_validation(config, run.at["epoch"])
            for _ in range((epoch - run.at["epoch"]) * steps_per_epoch):
                losses.append(run.train(next(batches)))
                bar.update(1, loss=losses[-1], images=config.batch_size)
            dsc = run.validate(slices["validation"], epoch)
            run.at["train_s"] += time.perf_counter() - begin
            run.save()
            line = {"epoch": epoch, "train/loss": float(np.mean(losses)), "val/dsc": dsc}
            with open(folder / LOG, "a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")
            bar.write(f"epoch {epoch}/{config.num_epochs}: validation DSC {dsc:.4f}")
    run.average.load_state_dict(run.best)
    for index, prob in run.predict(test):
        paths[index].parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        np.save(content, test.prob_of(index, prob, native=True))
        write_whole(paths[index], content.getvalue())
    if done is None:
        done = run.at | run.cost()
        write_whole(folder / DONE, json.dumps(done, indent=1) + "\n")
    return done


def _check_same(path: pathlib.Path, about: Mapping[str, Any]) -> None:
    """Refuses to go on with a training that was begun with other settings or images."""
    from prnet_jax.run.directory import differing
    from prnet_jax.run.files import flat

    if not path.exists():
        return
    differ = differing(flat(json.loads(path.read_text(encoding="utf-8"))), flat(about))
    if differ:
        raise InputError(
            f"{path.parent} holds a training with other settings ({'; '.join(differ[:3])}): repeat "
            "its command to resume it, or name another --root"
        )


def cost_of(folds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The costs of several folds as those of one training: means, and the largest memory."""
    found = {name: folds[0][name] for name in ("parameters", "gflop")}
    for name in ("train_minutes", "seconds_per_slice"):
        found[name] = sum(fold[name] for fold in folds) / len(folds)
    peaks = [fold["peak_mib"] for fold in folds if fold["peak_mib"] is not None]
    return found | {"peak_mib": max(peaks, default=None)}


def protocol(given: argparse.Namespace) -> Any:
    """The config that all folds share.

    Raises:
        InputError: an unknown variant, or a run that cannot be read.
    """
    from prnet_jax.config import check_config, default_config, make_config
    from prnet_jax.run.directory import read_run

    if given.like is None:
        config = make_config("unet", given.variant)
    else:
        config, recorded = default_config("unet"), read_run(given.like)[0]
        config.update(recorded)  # fields that the run was begun without have their defaults
        config.dataset.options = recorded.dataset.options
    for name in ("manual_dir", "data_dir"):
        if (value := getattr(given, name)) is not None:
            config.dataset[name] = value
    if given.epochs is not None:
        config.num_epochs = given.epochs
    config.seed = given.seed
    if "fold" not in config.dataset.options:
        raise InputError(f"{config.dataset.name} has no folds: choose --variant table1_small")
    check_config(config)
    for name, known in _KNOWN.items():
        if config[name] != known:
            raise InputError(
                f"config.{name} is {config[name]!r}; this training knows {known!r} alone: choose "
                "another run for --like"
            )
    return config


def train_folds(given: argparse.Namespace) -> None:
    """Trains every fold that is asked for, one after another."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # for the augmentation; the GPU is PyTorch's
    from nnunet_training import check_device

    from prnet_jax import compiler
    from prnet_jax.data.splits import parse_fold
    from prnet_jax.run.files import write_json

    compiler.disable_ynn()
    if given.base_features < 1:
        raise InputError(f"--base-features is {given.base_features}; expected 1 or more")
    folds = [parse_fold(fold) for fold in given.folds.replace(",", " ").split()]
    if len({k for _, k in folds}) != 1 or len({*folds}) != len(folds):
        raise InputError(f"--folds is {given.folds!r}; expected folds of one division: {FOLDS}")
    config = protocol(given)
    check_device(given.device)  # before a folder is made
    predictions, finished = given.root / f"predictions_{given.seed}_of{folds[0][1]}", []
    for number, k in folds:
        config.dataset.options.fold = f"{number}/{k}"
        folder = given.root / f"nnunet_{given.seed}_fold{number}of{k}"
        done = train_fold(config, folder, predictions, given.base_features, given.device)
        finished.append(done)
        write_json(predictions / COST, cost_of(finished))
        print(
            f"{folder.name}: best on validation after epoch {done['best_epoch']}, "
            f"{done['parameters']:,} parameters, {done['train_minutes']:.1f} min",
            flush=True,
        )
    print(f"predictions {predictions}: score them with python -m prnet_jax.evaluate, see --help")


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python launch/nnunet.py",
        description="Trains the network of nnU-Net on the folds of Table 1 and writes the "
        "probabilities of all test images.",
        epilog=__doc__.partition("\n\n")[2],
        formatter_class=Help,
    )
    add = parser.add_argument
    add("--root", required=True, type=pathlib.Path, metavar="DIR", help="for all files")
    add("--manual-dir", metavar="DIR", help="the data set, downloaded by hand")
    add("--data-dir", metavar="DIR", help="where prepared records lie")
    add("--variant", default="table1_small", metavar="NAME", help="default: %(default)s")
    add("--like", metavar="RUN", help="a run whose settings are the protocol, not --variant")
    add("--folds", default=FOLDS, metavar="LIST", help="default: %(default)s")
    add("--seed", type=int, default=0, metavar="N", help="default: 0")
    add("--epochs", type=int, metavar="N", help="default: the protocol's")
    add(
        "--base-features",
        type=int,
        default=32,
        metavar="N",
        help="channels of the first stage; default: the planner's 32",
    )
    add("--device", default="cpu", metavar="NAME", help="of PyTorch, such as cuda; default: cpu")
    given = parser.parse_args(argv)
    try:
        return run_command(lambda: train_folds(given))
    except KeyboardInterrupt:
        print("Stopped. The same command resumes after the last validation.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
