"""Settings of the site, which `python -m sphinx -W docs build/docs` writes (extra: docs)."""

import os
import pathlib
import re
import subprocess
import sys

from sphinx.application import Sphinx

from prnet_jax.__main__ import COMMANDS

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_LINK = re.compile(r"\]\((?!\w+:|#|<)([^)#\s]+)(#[^)\s]*)?\)")


def _elsewhere() -> dict[str, pathlib.Path]:
    """Pages that lie with what they are about; in docs/ they say "This page is [...](...)."."""
    found = {}
    for page in _ROOT.glob("docs/**/*.md"):
        text = page.read_text(encoding="utf-8")
        if text.startswith("This page is ["):
            name = page.relative_to(_ROOT / "docs").with_suffix("").as_posix()
            found[name] = (page.parent / _LINK.search(text)[1]).resolve()
    return found


_ELSEWHERE = _elsewhere()

project = "prnet_jax"
author = "the prnet_jax maintainers"
copyright = f"{author}, Apache License 2.0"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]

myst_heading_anchors = 3  # links to headings work as on GitHub
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 600

add_module_names = False
default_role = "code"  # `single quotes` in docstrings
autodoc_member_order = "bysource"
autodoc_default_options = {"exclude-members": "NETWORK"}
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "sphinx_book_theme"
html_title = "prnet_jax"
html_context = {"default_mode": "auto"}
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "home_page_in_toc": False,
    "show_toc_level": 2,
    "use_download_button": False,
    "use_fullscreen_button": False,
}


def _take_from_elsewhere(app: Sphinx, page: str, source: list[str]) -> None:
    """Fills the pages of `_ELSEWHERE`, and turns links to them into links within the site."""
    folder = pathlib.Path(app.env.doc2path(page)).parent
    if path := _ELSEWHERE.get(page):
        folder = path.parent
        source[0] = path.read_text(encoding="utf-8")
    places = {path: place for place, path in _ELSEWHERE.items()}

    def link(found: re.Match) -> str:
        target, anchor = (folder / found[1]).resolve(), found[2] or ""
        if target in places:
            return f"](/{places[target]}.md{anchor})"
        back = os.path.relpath(target, pathlib.Path(app.env.doc2path(page)).parent)
        if target.suffix == ".ipynb" and not target.is_relative_to(_ROOT / "docs"):
            return f"](path:{back})"  # a file to download: myst_nb would look for a page of it
        if page in _ELSEWHERE:
            return f"]({back}{anchor})"
        return found[0]

    if page == "reference/commands":
        source[0] += "".join(map(_help, ("", *COMMANDS)))
    source[0] = _LINK.sub(link, source[0])


def _help(command: str) -> str:
    """A section with what a command prints."""
    words = ["-m", f"prnet_jax.{command}", "--help"] if command else ["-m", "prnet_jax"]
    done = subprocess.run([sys.executable, *words], cwd=_ROOT, capture_output=True, check=True)
    title = " ".join(["python", *words[:2]])
    said = done.stdout.decode().strip().replace(f"{_ROOT}/", "")
    return f"\n## {title}\n\n```text\n{said}\n```\n"


def _mark_code(app: Sphinx, kind: str, name: str, it, options, lines: list[str]) -> None:
    """Marks indented examples in docstrings as code, which they are to whoever reads the source."""

    def indent(line: str) -> int:
        return len(line) - len(line.lstrip())

    for i in range(len(lines) - 2, 0, -1):
        before, after = lines[i - 1], lines[i + 1]
        starts = not lines[i].strip() and before.strip() and indent(after) > indent(before)
        if starts and not after.lstrip().startswith(("* ", "=")) and not before.endswith("::"):
            if before.endswith(":"):
                lines[i - 1] += ":"
            else:
                lines[i:i] = ["", indent(before) * " " + "::"]


def _shorten(app: Sphinx, kind: str, name: str, it, options, signature: str, returns: str):
    """Leaves out of a signature what every Flax module has, and where its layers are from."""
    if signature:
        signature = re.sub(r",? ?parent=<flax[^>]*>, name=None", "", signature)
        signature = re.sub(r"<(?:class|function) '?[\w.]*?(\w+)'?(?: at \w+)?>", r"\1", signature)
    return signature, returns


def setup(app: Sphinx) -> None:
    app.connect("source-read", _take_from_elsewhere)
    app.connect("autodoc-process-docstring", _mark_code, priority=400)  # before napoleon
    app.connect("autodoc-process-signature", _shorten)
