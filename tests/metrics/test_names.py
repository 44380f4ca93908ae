"""The names of the metrics, and how their values are printed."""

import math

from prnet_jax import metrics
from prnet_jax.metrics.names import DISTANCES, METRIC_NAMED, PRINTED_METRICS


def test_names():
    assert metrics.METRICS == (
        *("iou", "dsc", "acc", "spe", "sen", "ppv", "auc", "mae", "mae_binary", "brier"),
        *("hd_px", "hd95_px", "hd95_pooled_px", "assd_px", "surface_dice_1px"),
        *("hd_mm", "hd95_mm", "hd95_pooled_mm", "assd_mm", "surface_dice_2mm"),
    )
    lower = {name for name, higher in metrics.HIGHER_IS_BETTER.items() if not higher}
    assert lower == {"mae", "mae_binary", "brier"} | {
        f"{name}_{unit}" for name in ("hd", "hd95", "hd95_pooled", "assd") for unit in ("px", "mm")
    }
    assert tuple(metrics.HIGHER_IS_BETTER) == metrics.METRICS


def test_every_metric_is_printed_in_the_papers_order():
    labels = [metric.label for metric in PRINTED_METRICS]
    assert labels == [
        *("IoU %", "HD px", "HD mm", "DSC %", "MAE", "MAE binary", "ACC %", "SPE %"),
        *("AUC %", "SEN %", "PPV %", "Brier"),
        *("HD95 px", "HD95 mm", "HD95 pooled px", "HD95 pooled mm", "ASSD px", "ASSD mm"),
        *("surface Dice 1 px %", "surface Dice 2 mm %"),
    ]
    assert {metric.name for metric in PRINTED_METRICS} == set(metrics.METRICS) == set(METRIC_NAMED)
    assert len(PRINTED_METRICS) == len(metrics.METRICS)


def test_values_are_printed_in_their_unit():
    dsc, mae, hd = (METRIC_NAMED[name] for name in ("dsc", "mae", "hd_mm"))
    assert [m.text(0.98765) for m in (dsc, mae, hd)] == ["98.77", "0.9877", "0.99"]
    assert [m.text_with_unit(0.98765) for m in (dsc, mae, hd)] == ["98.77 %", "0.9877", "0.99 mm"]
    for nothing in (None, math.nan):
        assert dsc.text(nothing) == dsc.text_with_unit(nothing) == "-"


def test_a_distance_in_pixels_and_in_millimetres_is_one_family():
    families = {}
    for metric in METRIC_NAMED.values():
        families.setdefault(metric.family, []).append(metric.name)
    assert {family: families[family] for family in DISTANCES} == {
        family: [f"{family}_px", f"{family}_mm"] for family in DISTANCES
    }
    assert families["surface_dice"] == ["surface_dice_1px", "surface_dice_2mm"]
