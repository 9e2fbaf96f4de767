"""Parses expressions to syntax trees, with the grammar of `grammar.lark`.

Building the parser's tables from the grammar takes longer than the rest of the agent's start. An installed
agent therefore has them in `_tables.py`, which `tables.py` generates and which replaces lark. Without that
file the tables are built by lark.
"""

from __future__ import annotations

import importlib
import zlib
from pathlib import Path
from typing import Any

from agent.rules.builder import Builder, ParseError
from agent.rules.syntax import Node, walk

GRAMMAR = Path(__file__).with_name("grammar.lark")
MAX_LENGTH = 16_384  # characters of one expression
MAX_DEPTH = 64  # levels of nesting

_READABLE = {
    "NAME": "a field",
    "STRING": "a string",
    "GLOB": 'a ~"glob"',
    "REGEX": 'an r"expression"',
    "INT": "a number",
    "LPAR": "`(`",
    "RPAR": "`)`",
    "LSQB": "a list",
    "RSQB": "`]`",
    "COMMA": "`,`",
    "COMPARE": "a comparison",
    "IN": "`in`",
    "AND": "`&&`",
    "OR": "`||`",
    "NOT": "`!`",
}


def parse(text: str) -> Node:
    """Return the syntax tree of one expression.

    Raises ParseError for text that is too long, nested too deeply or invalid, and for `a && b || c`, which
    SECL and other languages group differently.
    """
    if len(text) > MAX_LENGTH:
        raise ParseError(f"the expression has {len(text)} characters, the limit is {MAX_LENGTH}", 0, 1)
    # Bound the parser's stack. Brackets in quotes count too, which is acceptable for a limit this high.
    if text.count("(") + text.count("[") > MAX_LENGTH // 4:
        raise ParseError("too many brackets", 0, 1, "split the expression into macros")
    parser, engine = _parser()
    try:
        tree: Node = parser.parse(text)
    except engine.UnexpectedInput as error:
        raise _explain(error, text, engine) from None
    if any(depth > MAX_DEPTH for _, depth in walk(tree)):
        raise ParseError(f"nested more than {MAX_DEPTH} levels deep", 0, 1, "split it into macros")
    return tree


def _explain(error: Any, text: str, engine: Any) -> ParseError:
    at = len(text) if error.pos_in_stream is None or error.pos_in_stream < 0 else error.pos_in_stream
    if isinstance(error, engine.UnexpectedCharacters):
        return _explain_character(text, at)
    token = getattr(error, "token", None)
    ended = token is None or token.type == "$END"
    at = len(text.rstrip()) if ended else at
    wanted = _wanted(getattr(error, "accepts", None) or getattr(error, "expected", ()))
    found = "the expression ends here" if ended else f"unexpected `{token}`"
    end = at + (1 if ended else len(str(token)))
    return ParseError(found + (f", expected {wanted}" if wanted else ""), at, end)


def _explain_character(text: str, at: int) -> ParseError:
    rest = text[at:]
    if rest.startswith(('"', '~"', 'r"')):
        return ParseError("the quote is not closed", at, at + 1, 'end it with "; write a quote inside as \\"')
    if rest.startswith("'"):
        return ParseError("unexpected character '", at, at + 1, 'write strings in double quotes: "text"')
    if rest.startswith("=") and not rest.startswith("=="):
        return ParseError("unexpected character =", at, at + 1, "did you mean == ?")
    if rest[:1].isdigit():
        return ParseError(
            "invalid number", at, at + 1, "write numbers as 42, 0x2a or 0755, and text in quotes"
        )
    shown = rest[:1] if rest[:1].isprintable() else f"U+{ord(rest[0]):04X}"
    return ParseError(f"unexpected character {shown}", at, at + 1)


def _wanted(expected: Any) -> str:
    words = [_READABLE[name] for name in _READABLE if name in set(expected)]
    if len(words) < 2:
        return "".join(words)
    return ", ".join(words[:-1]) + " or " + words[-1]


_created: list[tuple[Any, Any]] = []


def _parser() -> tuple[Any, Any]:
    """Return the parser and the module with its exceptions, lark or the generated tables. Created once."""
    if not _created:
        _created.append(_from_tables() or _from_grammar())
    return _created[0]


def fingerprint() -> str:
    """Return the checksum of the grammar; generated tables of another grammar are not used."""
    return f"{zlib.crc32(GRAMMAR.read_bytes()):08x}"


def _from_tables() -> tuple[Any, Any] | None:
    try:
        tables = importlib.import_module("agent.rules._tables")
    except ModuleNotFoundError:
        return None
    if fingerprint() != tables.FINGERPRINT:
        return None
    return tables.Lark_StandAlone(transformer=Builder()), tables


def _from_grammar() -> tuple[Any, Any]:
    import lark

    engine: Any = importlib.import_module("lark.exceptions")
    return lark.Lark(GRAMMAR.read_text(), parser="lalr", transformer=Builder()), engine
