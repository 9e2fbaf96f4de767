"""Generated files are up to date: the reference, and the parser's tables."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from agent.rules import fields, parser, tables
from agent.rules.builder import ParseError
from agent.rules.syntax import unparse
from tests import ROOT
from tests.docs.pages import generator

PAGE = ROOT / "docs/rules.md"


def test_the_reference_is_up_to_date() -> None:
    """`python packaging/pages.py docs/rules.md` would change nothing."""
    assert generator.render(PAGE.read_text()) == PAGE.read_text()


def test_every_field_has_a_line() -> None:
    text = PAGE.read_text()
    assert all(f"| `{name}` |" in text for name in fields.names() if not name.startswith("fim."))


def test_the_page_is_written_in_place(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- begin: rule_limits -->\nold\n<!-- end: rule_limits -->\nb\n")
    assert generator.main([str(page)]) == 0
    assert "old" not in page.read_text()
    assert generator.main([]) == 2


def test_the_tables_replace_lark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With tables the agent parses the same without lark; tables of another grammar are not used."""
    assert tables.main([str(tmp_path / "_tables.py")]) == 0
    assert tables.main([]) == 2
    package = sys.modules["agent.rules"]
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    monkeypatch.setattr(parser, "_created", [])
    monkeypatch.setitem(sys.modules, "lark", None)
    text = 'open.file.path in ["/a", ~"/b/*"] && !(open.flags & O_CREAT > 0)'
    assert unparse(parser.parse(text)) == text
    for wrong in ("a ==", 'a == "x', "a = 1", "(a"):
        with pytest.raises(ParseError):
            parser.parse(wrong)
    monkeypatch.setattr(parser, "fingerprint", lambda: "another")
    assert parser._from_tables() is None
    monkeypatch.delitem(sys.modules, "agent.rules._tables")
