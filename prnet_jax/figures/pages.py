"""HTML pages that need no network and no other file: a template with data and pictures in it.

Text from outside is not trusted: whoever fills in a template escapes it, and scripts insert it as
text.
"""

import base64
import html
import io
import json
import pathlib
import string
from collections.abc import Mapping
from typing import Any

from PIL import Image, features

_HERE = pathlib.Path(__file__).parent


def fill_page(folder: pathlib.Path, data: Any, title: str, **parts: str) -> str:
    """The page whose page.html, page.css and page.js lie in a folder, as text.

    page.html is the body, which the page.html beside this file surrounds. The style and the
    functions that all pages share, beside this file too, come before the folder's own.

    Args:
        folder: of the three files, that of the command that writes the page.
        data: as JSON has it, for the script, which finds it in the variable `data`.
        title: markup.
        parts: markup for the names in the folder's page.html.
    """

    def both(name: str) -> str:
        return "".join((where / name).read_text(encoding="utf-8") for where in (_HERE, folder))

    def template(where: pathlib.Path) -> string.Template:
        return string.Template((where / "page.html").read_text(encoding="utf-8"))

    page = template(_HERE).substitute(
        title=title,
        body=template(folder).substitute(parts),
        command=f"prnet_jax.{folder.name}",
        style=both("page.css"),
        script=both("page.js"),
        # "</script>" and "<!--" end or hide the block even within a string.
        data=json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
    )
    return page.encode(errors="replace").decode()  # a file's name may not be Unicode


def photo_uri(picture: Image.Image, quality: int, effort: int = 4) -> str:
    """A picture as a data URI, compressed with loss.

    Args:
        picture: grey or RGB.
        quality: 0 to 100.
        effort: 0 (fast) to 6 (small).
    """
    kind = "webp" if features.check("webp") else "jpeg"
    return _uri(picture, kind, quality=quality, **({"method": effort} if kind == "webp" else {}))


def png_uri(picture: Image.Image) -> str:
    """A picture as a data URI, every pixel as it is."""
    return _uri(picture, "png")


def _uri(picture: Image.Image, kind: str, **options: Any) -> str:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def facts_table(facts: Mapping[str, Any]) -> str:
    """Names and values, each escaped; a dictionary has a line for each of its entries."""
    lines = "".join(
        f"<tr><th scope='row'>{html.escape(name)}</th><td>{_value(value)}</td></tr>"
        for name, value in facts.items()
    )
    return f'<div class="scroll"><table class="facts">{lines}</table></div>'


def _value(value: Any) -> str:
    if isinstance(value, dict):
        text = "\n".join(
            f"{k}: {v if isinstance(v, str) else json.dumps(v)}" for k, v in value.items()
        )
        return f"<pre>{html.escape(text)}</pre>"
    return html.escape(value if isinstance(value, str) else json.dumps(value))
