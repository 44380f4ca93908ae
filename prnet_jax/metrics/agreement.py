"""How well several outlines of the same images agree: readers with each other and a network."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from prnet_jax.metrics.overlap import overlap


class PairwiseDice:
    """The mean Dice of every pair of outlines. Images are added one at a time."""

    def __init__(self):
        # (first, second) -> (DSC, both marked something, at least one did) of each image
        self._pairs: dict[tuple[str, str], list[tuple[float, bool, bool]]] = {}

    def add(self, outlines: Mapping[str, np.ndarray]) -> None:
        """Adds an image.

        Args:
            outlines: name -> bool [H, W]; the same names for every image.

        Raises:
            ValueError: other names than those of the first image, or masks as `overlap` refuses.
        """
        pairs = list(itertools.combinations(outlines, 2))
        if self._pairs and list(self._pairs) != pairs:
            raise ValueError(
                f"every image must have the same outlines, found {', '.join(outlines)}"
            )
        marked = {name: bool(np.any(outline)) for name, outline in outlines.items()}
        for first, second in pairs:
            dice = overlap(outlines[first], outlines[second])["dsc"]
            both = marked[first] and marked[second]
            either = marked[first] or marked[second]
            self._pairs.setdefault((first, second), []).append((dice, both, either))

    def images(self) -> dict[tuple[str, str], dict[str, np.ndarray]]:
        """What `rows` averages, of every pair (first, second), in the order of the images.

        Returns:
            `dice` float64 [images], and bool [images] `both_marked` and `any_marked`: whether both
            marked something, or at least one.
        """
        found = {}
        for pair, images in self._pairs.items():
            dice, both, either = zip(*images, strict=True)
            marked = {"both_marked": np.array(both), "any_marked": np.array(either)}
            found[pair] = {"dice": np.array(dice, np.float64), **marked}
        return found

    def rows(self) -> list[dict]:
        """The agreement over all images added.

        Returns:
            A row for each pair: `first`, `second`; `dice_both_marked`, the mean over the
            `n_both_marked` images in which both marked something (how inter-reader Dice is mostly
            given); `dice_any_marked`, over the `n_any_marked` images in which at least one did,
            where a blank outline scores 0. NaN where there is no such image.
        """
        rows = []
        for (first, second), of in self.images().items():
            row: dict = {"first": first, "second": second}
            for counted in ("both_marked", "any_marked"):
                row[f"dice_{counted}"] = _mean(of["dice"][of[counted]])
                row[f"n_{counted}"] = int(of[counted].sum())
            rows.append(row)
        return rows


def pairwise_dice(outlines: Mapping[str, Sequence[np.ndarray]]) -> list[dict]:
    """`PairwiseDice.rows` of images that are all at hand.

    Args:
        outlines: name -> bool [H, W] of each image, in the same order.
    """
    pairs = PairwiseDice()
    for masks in zip(*outlines.values(), strict=True):
        pairs.add(dict(zip(outlines, masks, strict=True)))
    return pairs.rows()


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
