"""Generates the parser's tables at build time: `python -m agent.rules.tables FILE`.

The file is a Python module with the tables and the part of lark that runs them. With it, installed as
`agent/rules/_tables.py`, the agent neither imports lark nor builds the tables, which would take most of its
start.
"""

from __future__ import annotations

import importlib
import io
import sys
from pathlib import Path
from typing import Any

from agent.rules.parser import GRAMMAR, fingerprint


def source() -> str:
    """Return the source of the module."""
    import lark

    standalone: Any = importlib.import_module("lark.tools.standalone")
    out = io.StringIO()
    standalone.gen_standalone(lark.Lark(GRAMMAR.read_text(), parser="lalr"), out=out)
    return f"{out.getvalue()}\nFINGERPRINT = {fingerprint()!r}\n"


def main(arguments: list[str]) -> int:
    """Write the module to the file named on the command line."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m agent.rules.tables FILE\n")
        return 2
    Path(arguments[0]).write_text(source())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
