"""The metrics: name, label, unit, decimals and direction of each, once."""

import dataclasses
import math

TOLERANCE_PX = 1  # of the surface Dice
TOLERANCE_MM = 2
TOLERANCES = {"px": TOLERANCE_PX, "mm": TOLERANCE_MM}


@dataclasses.dataclass(frozen=True)
class Metric:
    """How one metric is named, printed and ranked.

    Attributes:
        name: in summary.json and per_image.csv, such as "hd95_mm".
        family: what it measures, whatever the unit: "hd95".
        title: the family for people: "HD95".
        unit: as printed: "px", "mm", "%" of what is stored as a fraction, or "" for none.
        decimals: as printed, in that unit.
        higher_is_better: False for errors and distances.
    """

    name: str
    family: str
    title: str
    unit: str
    decimals: int
    higher_is_better: bool

    @property
    def label(self) -> str:
        """The head of a column: title and unit."""
        return f"{self.title} {self.unit}".rstrip()

    @property
    def factor(self) -> int:
        """From the stored value to the printed one."""
        return 100 if self.unit == "%" else 1

    def text(self, value: float | None) -> str:
        """A stored value as printed below `label`; "-" for None and NaN."""
        if value is None or math.isnan(value):
            return "-"
        return f"{value * self.factor:.{self.decimals}f}"

    def text_with_unit(self, value: float | None) -> str:
        """A stored value as printed after `title`."""
        text = self.text(value)
        return text if text == "-" else f"{text} {self.unit}".rstrip()


def _share(name: str, title: str) -> Metric:
    return Metric(name, name, title, "%", 2, higher_is_better=True)


def _error(name: str, title: str) -> Metric:
    return Metric(name, name, title, "", 4, higher_is_better=False)


def _surface_metrics(unit: str) -> list[Metric]:
    distances = [
        Metric(f"{family}_{unit}", family, title, unit, 2, higher_is_better=False)
        for family, title in _DISTANCES.items()
    ]
    name, title = (
        f"surface_dice_{TOLERANCES[unit]}{unit}",
        f"surface Dice {TOLERANCES[unit]} {unit}",
    )
    return [*distances, Metric(name, "surface_dice", title, "%", 2, higher_is_better=True)]


_DISTANCES = {"hd": "HD", "hd95": "HD95", "hd95_pooled": "HD95 pooled", "assd": "ASSD"}
_PIXEL = [
    _share("iou", "IoU"),
    _share("dsc", "DSC"),
    _share("acc", "ACC"),
    _share("spe", "SPE"),
    _share("sen", "SEN"),
    _share("ppv", "PPV"),
    _share("auc", "AUC"),
    _error("mae", "MAE"),
    Metric("mae_binary", "mae", "MAE binary", "", 4, higher_is_better=False),
    _error("brier", "Brier"),
]

# In the order of the columns of per_image.csv
ALL_METRICS = (*_PIXEL, *_surface_metrics("px"), *_surface_metrics("mm"))

# The paper's order, then the metric that it defines but does not tabulate, then ours; within a
# family pixels come before millimetres.
_PRINTED_FAMILIES = (
    *("iou", "hd", "dsc", "mae", "acc", "spe", "auc", "sen", "ppv", "brier"),
    *("hd95", "hd95_pooled", "assd", "surface_dice"),
)
PRINTED_METRICS = tuple(sorted(ALL_METRICS, key=lambda m: _PRINTED_FAMILIES.index(m.family)))

METRIC_NAMED = {metric.name: metric for metric in ALL_METRICS}
METRICS = tuple(METRIC_NAMED)

# Of all voxels of a volume together: columns of per_volume.csv, such as "hd95_mm_3d"
_OF_VOLUMES = (
    *("dsc", "iou", "sen", "ppv"),
    *("hd_mm", "hd95_mm", "hd95_pooled_mm", "assd_mm", f"surface_dice_{TOLERANCE_MM}mm"),
)
VOLUME_METRIC_NAMED = {
    f"{name}_3d": dataclasses.replace(
        METRIC_NAMED[name], name=f"{name}_3d", title=f"3-D {METRIC_NAMED[name].title}"
    )
    for name in _OF_VOLUMES
}
OF_PROBABILITIES = ("auc", "mae", "brier")  # a mask has none
PIXEL_METRICS = tuple(metric.name for metric in _PIXEL)
DISTANCES = tuple(_DISTANCES)  # families
HIGHER_IS_BETTER = {metric.name: metric.higher_is_better for metric in ALL_METRICS}
