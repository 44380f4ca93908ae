"""Predicted masks in one small file, so that networks can be compared with each other."""

import io
import pathlib
import zipfile

import numpy as np

from prnet_jax.errors import InputError
from prnet_jax.run.files import write_whole

FILE = "masks.npz"  # in the folder of an evaluation


class MaskWriter:
    """Collects bool masks [H, W], eight pixels a byte, for one compressed file; nothing pickled."""

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._shapes: list[tuple[int, ...]] = []
        self._bits: list[np.ndarray] = []

    def add(self, id: str, mask: np.ndarray) -> None:
        """Adds the mask of an image, bool [H, W]."""
        self._ids.append(id)
        self._shapes.append(mask.shape)
        self._bits.append(np.packbits(mask))

    def write(self, path: pathlib.Path) -> None:
        """Writes the file, whole or not at all."""
        content = io.BytesIO()
        np.savez_compressed(
            content,
            ids=np.array(self._ids, str),
            shapes=np.array(self._shapes, np.int32).reshape(-1, 2),
            bits=np.concatenate([np.zeros(0, np.uint8), *self._bits]),
        )
        write_whole(path, content.getvalue())


class KeptMasks:
    """The masks of an evaluation by id, bool [H, W]; each is unpacked when it is asked for.

    Raises:
        InputError: the file is not one that `MaskWriter` wrote.
    """

    def __init__(self, path: pathlib.Path):
        try:
            with np.load(path, allow_pickle=False) as found:
                ids, shapes, self._bits = found["ids"], found["shapes"], found["bits"]
            sizes = -(-shapes.astype(np.int64).prod(axis=1) // 8)
            right = len(ids) == len(shapes) and (shapes > 0).all()
            right = right and self._bits.dtype == np.uint8 and sizes.sum() == len(self._bits)
        except (OSError, ValueError, KeyError, EOFError, IndexError, zipfile.BadZipFile):
            right = False
        if not right:
            raise InputError(f"{path} is damaged: evaluate again (python -m prnet_jax.evaluate)")
        ends = np.cumsum(sizes)
        self._place = {
            str(id): (int(end - size), int(end), (int(rows), int(columns)))
            for id, end, size, (rows, columns) in zip(ids, ends, sizes, shapes, strict=True)
        }

    def __contains__(self, id: str) -> bool:
        return id in self._place

    def __getitem__(self, id: str) -> np.ndarray:
        begin, end, (rows, columns) = self._place[id]
        flat = np.unpackbits(self._bits[begin:end], count=rows * columns)
        return flat.astype(bool).reshape(rows, columns)
