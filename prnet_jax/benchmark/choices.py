"""What is measured, as chosen on the command line. Imports no JAX."""

import dataclasses
import pathlib
from typing import Any

from prnet_jax.errors import InputError
from prnet_jax.models import list_models

DTYPES = ("float32", "bfloat16")
PEERS = ("torch", "torch-compile")
# Train, infer and attention need jax, flax, optax and numpy alone.
PARTS = ("train", "infer", "attention", "predict", "data", "evaluate", "startup", "growth")
LEAST_REPETITIONS = 7


@dataclasses.dataclass(frozen=True)
class Choices:
    """What is measured, and how often.

    Attributes:
        models: names of networks.
        parts: of `PARTS`.
        batch: images in a batch.
        size: side of the image in pixels.
        dtype: of `DTYPES`.
        against: of `PEERS`.
        torch_python: the interpreter that has PyTorch.
        fields: the networks' fields that differ from their defaults.
        repetitions: turns of each side, at least seven.
        slices: how many slices the parts that read a data set have.
        json: where the rows are written.
    """

    models: tuple[str, ...]
    parts: tuple[str, ...]
    batch: int
    size: int
    dtype: str
    against: tuple[str, ...]
    torch_python: str
    fields: dict[str, Any]
    repetitions: int
    slices: int
    json: pathlib.Path | None

    def check(self) -> None:
        """Refuses what cannot be measured.

        Raises:
            InputError: naming the option.
        """
        for flag, values, known in (
            ("--model", self.models, list_models()),
            ("--parts", self.parts, PARTS),
            ("--against", self.against, PEERS),
        ):
            for value in values:
                if value not in known:
                    raise InputError(f"{flag} must be among {', '.join(known)}; found {value!r}")
        for flag, value in (
            ("--batch", self.batch),
            ("--size", self.size),
            ("--slices", self.slices),
        ):
            if value < 1:
                raise InputError(f"{flag} must be 1 or more, found {value}")
        if self.repetitions < LEAST_REPETITIONS:
            raise InputError(
                f"--repetitions must be {LEAST_REPETITIONS} or more, found {self.repetitions}: "
                "fewer say too little about the spread"
            )
        if self.against and not pathlib.Path(self.torch_python).is_file():
            raise InputError(
                f"--torch-python {self.torch_python} is not a file: name a Python that has PyTorch"
            )
        if self.json is not None and not self.json.absolute().parent.is_dir():
            raise InputError(f"--json {self.json}: there is no folder {self.json.parent}")
