"""Text of others is printed as it is written: in Markdown it means no more than on a terminal."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from harness.text import counted, markdown, one_line, visible

READER = MarkdownIt("commonmark")


@given(st.text(alphabet=st.sampled_from("a1 _*`~[]()<>!&#|@\\/:.w-") | st.characters(), max_size=40))
@example("__init__ a__b _x_ *y*")
@example("[x](javascript:alert(1)) <b> &lt; `c`")
@example("\\<")
def test_escaped_markdown_shows_the_original_text(text: str) -> None:
    """CommonMark renders the one line that was meant."""
    shown = READER.renderInline(markdown(text))
    assert "<" not in shown
    assert html.unescape(shown) == one_line(text, 300)


def test_names_of_programs_stay_readable() -> None:
    """Underscores within a word need no escape, so the source stays readable."""
    assert markdown("fim_open__resolve") == "fim_open__resolve"


@pytest.mark.parametrize(
    "text", ["https://evil.example/x", "www.evil.example", "WWW.evil.example", "me@evil.example"]
)
def test_addresses_do_not_become_links(text: str) -> None:
    """GitHub makes links of these by itself, unless a backslash divides them."""
    written = markdown(text)
    assert written.replace("\\", "") == text
    assert not re.search(r"://|www\.|[^\\]@", written, re.IGNORECASE)


def test_nouns_agree_with_their_number() -> None:
    """One is singular, zero and thousands are plural."""
    words = [counted(number, "test") for number in (0, 1, 2, 1000)]
    assert words == ["0 tests", "1 test", "2 tests", "1,000 tests"]


def test_what_acts_on_a_terminal_is_shown() -> None:
    """Printable ASCII, newlines and tabs stay; a character that is printable elsewhere may be none in XML."""
    ascii_text = "".join(map(chr, range(32, 127)))
    assert visible(ascii_text) == ascii_text
    assert visible("ü\n\t\x7f\x1b\u202e\ufffc\ud800") == "ü\n\t\\x7f\\x1b\\x202e\\xfffc\\xd800"
