"""From stored pixels to a network's input: windowing and resizing."""

import numpy as np


def window(hu: np.ndarray, low: float, high: float) -> np.ndarray:
    """HU clipped to low..high and mapped to 0..1, float32."""
    return ((np.clip(hu, low, high) - low) / (high - low)).astype(np.float32)


def resize_image(image: np.ndarray, size: int) -> np.ndarray:
    """[H, W] -> [size, size] float32: each pixel the mean over the area that it covers."""
    rows, columns = (_area_weights(n, size) for n in image.shape)
    return (rows @ image.astype(np.float64) @ columns.T).astype(np.float32)


def resize_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """Bool [H, W] -> [size, size]: set where more than half of the covered area is."""
    return resize_image(mask, size) > 0.5


def _area_weights(old: int, new: int) -> np.ndarray:
    """[new, old] float64: the share of each old pixel in each new one; rows sum to 1."""
    edges = np.linspace(0.0, old, new + 1)
    left, right = edges[:-1, None], edges[1:, None]
    pixel = np.arange(old)
    overlap = np.minimum(right, pixel + 1) - np.maximum(left, pixel)
    return np.clip(overlap, 0.0, None) * (new / old)
