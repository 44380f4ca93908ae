"""Whether a mask lies where its image lies, and what to do where it does not."""

import numpy as np

from prnet_jax.data.integrity import size
from prnet_jax.data.scan import (
    NOT_ORIENTED,
    TILTED_DEGREES,
    Scan,
    distance_mm,
    tilt_degrees,
)


def misfit(image_name: str, image: Scan, mask_name: str, mask: Scan) -> str:
    """Why the mask does not fit the image, and what to do; empty where it does."""
    placed = image.affine is not None and mask.affine is not None
    if image.pixels.shape != mask.pixels.shape:
        found = (
            f"{mask_name} is {size(mask.pixels)} but its image {image_name} is "
            f"{size(image.pixels)}; a mask must have its image's size: "
        )
        if placed and sorted(image.pixels.shape) == sorted(mask.pixels.shape):
            return f"{found}{_mend(image_name, image, mask_name, mask)}"
        return f"{found}export it again"
    if not placed:
        return _half_placed({image_name: image, mask_name: mask})
    distance = distance_mm(image, mask)
    if distance > 0.5 * min(image.spacing_mm):
        return (
            f"{mask_name} is up to {distance:.3g} mm away from its image {image_name}; their "
            f"headers must agree: {_mend(image_name, image, mask_name, mask)}"
        )
    return ""


def _half_placed(scans: dict[str, Scan]) -> str:
    for name, scan in scans.items():
        if scan.affine is not None and (scan.turned or scan.pixels.ndim == 3):
            other = next(n for n in scans if n != name)
            return (
                f"{name} states its orientation in the patient but {other} does not, so they "
                "may be oriented differently: give both as NIfTI or DICOM, or neither"
            )
    return ""


def _mend(image_name: str, image: Scan, mask_name: str, mask: Scan) -> str:
    """What to do about headers that disagree. Resampling a mask with a lost one would empty it."""
    for lost, lost_name, sound_name, other in (
        (mask, mask_name, image_name, image),
        (image, image_name, mask_name, mask),
    ):
        if _without_place(lost) and not _without_place(other):
            return (
                f"{lost_name} seems to have lost its header on the way; if the mask was drawn on "
                f"this image, copy the affine of {sound_name} into {lost_name}"
            )
    tilt = max(tilt_degrees(image.affine), tilt_degrees(mask.affine))
    if tilt > TILTED_DEGREES:
        return (
            f"the slices are tilted by {tilt:.3g} degrees (gantry tilt), which converters treat "
            "differently: convert image and mask with the same tool"
        )
    return (
        "if the mask was drawn on this image, copy the image's affine into it; if another tool "
        "converted it, convert image and mask with the same tool; else resample the mask"
    )


def _without_place(scan: Scan) -> bool:
    """Whether the affine says no more than that voxels are cubes of 1 mm, as a default does."""
    axes = np.abs(scan.affine[:3, :3])
    return NOT_ORIENTED in scan.notes or np.allclose(
        np.sort(axes, axis=0), [[0] * 3, [0] * 3, [1] * 3]
    )
