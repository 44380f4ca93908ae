"""What networks have in common: the masks that most of them give, and the pixels all have wrong.

    python docs/results/majority.py FOLDER \\
      runs/table1/{unetpp,awsnet,anamnet}_0_fold?of5/test_native

FOLDER holds `2d_masks` of finding_lungs. The evaluations are at native resolution and kept their
masks (`--keep-masks`, as `launch/table1.sh` does); those of a network's folds are joined. Only
images that all of the networks have count. In the majority's mask is what more than half of the
networks mark, so take an odd number of them.
"""

import argparse
import collections
import json
import pathlib

import numpy as np
from PIL import Image

from prnet_jax.evaluate.masks import FILE, KeptMasks
from prnet_jax.metrics import overlap
from prnet_jax.run.files import SUMMARY


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("evaluations", type=pathlib.Path, nargs="+")
    parser.add_argument("--without", nargs="+", default=[], metavar="ID", help="images")
    arguments = parser.parse_args()
    kept: dict[str, list[KeptMasks]] = collections.defaultdict(list)
    for evaluation in arguments.evaluations:
        network = json.loads((evaluation / SUMMARY).read_text(encoding="utf-8"))["network"]
        kept[network].append(KeptMasks(evaluation / FILE))
    scores: dict[str, list] = collections.defaultdict(list)
    wrong_in_one, wrong_in_all = 0.0, 0
    for path in sorted((arguments.folder / "2d_masks").glob("*.tif")):
        found_in = [[fold for fold in folds if path.stem in fold] for folds in kept.values()]
        if path.stem in arguments.without or not all(found_in):
            continue
        if max(map(len, found_in)) > 1:
            parser.error(f"{path.stem} is in two evaluations of a network: name one seed's folds")
        target = np.array(Image.open(path)) > 0
        of_networks = np.stack([fold[path.stem] for (fold,) in found_in])
        majority = 2 * of_networks.sum(axis=0) > len(kept)
        for name, mask in zip((*kept, "majority"), (*of_networks, majority), strict=True):
            found = overlap(mask, target)
            scores[name].append((100 * found["dsc"], 100 * found["iou"]))
        scores["best for each image"].append(max(scores[name][-1] for name in kept))
        wrong = of_networks != target
        wrong_in_one += wrong.sum() / len(kept)
        wrong_in_all += wrong.all(axis=0).sum()
    if not scores:
        parser.error(f"{arguments.folder}/2d_masks has no image that all networks have")
    for name, values in scores.items():
        dsc, iou = np.mean(values, axis=0)
        print(f"{name}: DSC {dsc:.2f} %, IoU {iou:.2f} % of {len(values)}")
    share = 100 * wrong_in_all / wrong_in_one
    print(f"of the pixels that a network has wrong, all {len(kept)} have {share:.0f} % wrong")


if __name__ == "__main__":
    main()
