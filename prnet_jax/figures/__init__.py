"""Pictures: slices with contours, the gallery of a split, curves of training and evaluation."""
