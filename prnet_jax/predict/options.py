"""How masks are made and which files are written: the options of a prediction."""

import dataclasses
from typing import Any

from prnet_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of `prnet_jax.predict.predict_files`.

    Attributes:
        threshold: of the probability, 0 to 1; None: the run's, with several runs their mean.
        flips: average over a slice and its mirror images.
        tile: sliding windows at native resolution in place of resizing.
        keep_largest: keep this number of connected components, in volumes in 3-D; None: all.
        fill_holes: fill what the mask encloses within a slice.
        prob: write probabilities too.
        preview: write a PNG with the mask's contour too.
        page: write an HTML page that shows all slices too.
        dicomseg: write a DICOM segmentation beside the NIfTI file of a DICOM series.
        overwrite: replace results that exist.
        axes: "HWD" or "DHW", which axis of NumPy volumes counts their slices; None: see
            `prnet_jax.data.numpy_files.read_numpy`.
        batch_size: slices computed at a time; None: the run's.
    """

    threshold: float | None = None
    flips: bool = False
    tile: bool = False
    keep_largest: int | None = None
    fill_holes: bool = False
    prob: bool = False
    preview: bool = False
    page: bool = False
    dicomseg: bool = False
    overwrite: bool = False
    axes: str | None = None
    batch_size: int | None = None

    def check(self) -> None:
        """Raises InputError for a value that cannot be used."""
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise InputError(f"--threshold must lie between 0 and 1, found {self.threshold}")
        for flag, value in (
            ("--keep-largest", self.keep_largest),
            ("--batch-size", self.batch_size),
        ):
            if value is not None and value < 1:
                raise InputError(f"{flag} must be 1 or more, found {value}")

    def settings(self) -> dict[str, Any]:
        """Those that change a mask, for the report."""
        names = ("threshold", "flips", "tile", "keep_largest", "fill_holes", "axes")
        return {name: getattr(self, name) for name in names}
