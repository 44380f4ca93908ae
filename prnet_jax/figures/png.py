"""PNG files of figures, written atomically."""

import io
import os
import pathlib
from typing import TYPE_CHECKING

from prnet_jax.run.files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure of 150 pixels an inch; needs no display and no pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # long to import: when it is drawn
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: "Figure", path: str | os.PathLike) -> None:
    """Writes a figure as a PNG; a file that exists is replaced."""
    content = io.BytesIO()
    figure.savefig(content, format="png")
    write_whole(pathlib.Path(path), content.getvalue())
