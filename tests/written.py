"""What the project's Markdown files say: their commands, links and headings."""

import html
import pathlib
import re
import shlex
from collections.abc import Iterator

from tests.programs import ROOT

_LINK = re.compile(r"!?\[[^\]]*\]\(<?([^)\s>]+)>?\)")
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def markdown_files() -> list[pathlib.Path]:
    """All of the repository that people read, the notebooks not among them."""
    patterns = ("*.md", "docs/**/*.md", "datasets/*/README.md", "launch/README.md")
    return sorted(file for pattern in patterns for file in ROOT.glob(pattern))


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command in its shell blocks, in order, without comments.

    What follows `&&` is a command of its own; a here-document is left out.
    """
    for block in blocks(text, "bash"):
        block = re.sub(r"<<'(\w+)'\n.*?^\1$", "", block, flags=re.MULTILINE | re.DOTALL)
        for line in block.replace("\\\n", " ").splitlines():
            words: list[str] = []
            for word in shlex.split(line, comments=True):
                if word in ("&&", ";"):
                    yield words
                    words = []
                else:
                    words.append(word)
            if words:
                yield words


def links(text: str) -> list[str]:
    """The targets of links and pictures, outside code, that are not addresses of the web."""
    prose = re.sub(r"`[^`\n]*`", "code", _FENCE.sub("", text))
    return [link for link in _LINK.findall(prose) if not re.match(r"\w+:", link)]


def anchors(text: str) -> set[str]:
    """What links can name in a file: GitHub's anchors of its headings."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", _FENCE.sub("", text), re.MULTILINE):
        plain = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", html.unescape(heading))
        anchor = re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")
        count = sum(a == anchor or a.startswith(f"{anchor}-") for a in found)
        found.add(f"{anchor}-{count}" if anchor in found else anchor)
    return found
