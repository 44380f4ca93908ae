"""Small masks of squares and their scores, for the tests of policies and summaries."""

import numpy as np

from prnet_jax import metrics

EMPTY = np.zeros((6, 8), bool)
SQUARE = EMPTY.copy()
SQUARE[1:4, 1:4] = True
MOVED = np.roll(SQUARE, 2, axis=1)  # shares 3 of its 9 pixels with SQUARE
MM = {name for name in metrics.METRICS if name.endswith("mm")}


def score(pred, target, **arguments):
    return metrics.score_image(pred.astype(np.float32), target, **arguments)


def six_rows(policy="penalise", **arguments):
    pairs = [(SQUARE, SQUARE), (MOVED, SQUARE), (EMPTY, SQUARE), (SQUARE, EMPTY)]
    pairs += [(EMPTY, EMPTY)] * 2
    return [score(*pair, policy=policy, **arguments) for pair in pairs]
