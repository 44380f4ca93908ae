"""Pictures: `slices` with contours, curves of a `training`, curves of an `evaluation`."""
