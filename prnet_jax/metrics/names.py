"""The metrics: name, label, unit, decimals and direction of each, once."""

import math

TOLERANCE_PX = 1
TOLERANCE_MM = 2
TOLERANCES = {"px": TOLERANCE_PX, "mm": TOLERANCE_MM}


DISTANCES = ("hd", "hd95", "hd95_pooled", "assd")  # each with the suffix of its unit


PIXEL_METRICS = ("iou", "dsc", "acc", "spe", "sen", "ppv", "auc", "mae", "brier")


METRICS = PIXEL_METRICS + tuple(
    name
    for unit, tolerance in TOLERANCES.items()
    for name in (*(f"{d}_{unit}" for d in DISTANCES), f"surface_dice_{tolerance}{unit}")
)


HIGHER_IS_BETTER = {
    name: name not in ("mae", "brier") and not name.startswith(DISTANCES) for name in METRICS
}


def json_number(value: float) -> float | None:
    """A float for a JSON file, which has no NaN: None there."""
    return None if math.isnan(value) else float(value)


# (name in summary.json, as printed, factor, decimals). The order and the units are the paper's;
# then the metric that it names but does not tabulate, and ours.
LINES = (
    ("iou", "IoU %", 100, 2),
    ("hd_px", "HD px", 1, 2),
    ("hd_mm", "HD mm", 1, 2),
    ("dsc", "DSC %", 100, 2),
    ("mae", "MAE", 1, 4),
    ("acc", "ACC %", 100, 2),
    ("spe", "SPE %", 100, 2),
    ("auc", "AUC %", 100, 2),
    ("sen", "SEN %", 100, 2),
    ("ppv", "PPV %", 100, 2),
    ("brier", "Brier", 1, 4),
    ("hd95_px", "HD95 px", 1, 2),
    ("hd95_mm", "HD95 mm", 1, 2),
    ("hd95_pooled_px", "HD95 pooled px", 1, 2),
    ("hd95_pooled_mm", "HD95 pooled mm", 1, 2),
    ("assd_px", "ASSD px", 1, 2),
    ("assd_mm", "ASSD mm", 1, 2),
    ("surface_dice_1px", "surface Dice 1 px %", 100, 2),
    ("surface_dice_2mm", "surface Dice 2 mm %", 100, 2),
)
