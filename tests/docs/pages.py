"""The content of documentation pages as data: links, anchors, and lines to paste."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType

from tests import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


def _program(path: Path) -> ModuleType:
    """Return a program of packaging/ as a module, because an installed package has the name `packaging`."""
    spec = importlib.util.spec_from_file_location(f"packaging_{path.stem}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generator = _program(ROOT / "packaging/pages.py")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return [body for _, found, body in _FENCE.findall(text) if found == language]


def prose(text: str) -> str:
    """Return the page without its fenced and indented blocks."""
    return re.sub(r"^ {4}.*$", "", _FENCE.sub("", text), flags=re.MULTILINE)


def links(text: str) -> list[str]:
    """Return the targets of its links and pictures."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(text))


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to its headings."""
    heads = re.findall(r"^#+ (.+)$", _FENCE.sub("", text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def lines(text: str) -> list[list[str]]:
    """Return the lines of its shell blocks as words, without comments, redirections and sudo."""
    found = [
        re.split("  #| > ", line)[0].strip() for block in blocks(text, "sh") for line in block.splitlines()
    ]
    found = [line.removeprefix("$ ").removeprefix("sudo ") for line in found]
    return [shlex.split(line) for line in found if line and not line.startswith("#")]
