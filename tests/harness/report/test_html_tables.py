"""Tables of the page: the head and every row have the same number of cells."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser

from harness.report import html
from tests.harness.report.made_up import every_verdict


class Tables(HTMLParser):
    """The widths of the rows of each table, by the table's class; the first row is the head."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, list[int]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.found.append((dict(attributes).get("class") or "", []))
        elif tag == "tr":
            self.found[-1][1].append(0)
        elif tag in ("th", "td"):
            self.found[-1][1][-1] += int(dict(attributes).get("colspan") or 1)


def uneven(page: str) -> Iterator[str]:
    """Name each table of which a row is not as wide as the head."""
    for name, widths in Tables(page).found:
        if len(set(widths)) > 1:
            yield f"{name}: {widths}"


def test_the_head_of_a_table_fits_its_rows() -> None:
    """In every table of a run with each verdict; each kind of table occurs."""
    page = html.render(every_verdict())
    kinds = {"matrix", "rows", "rows wide ledger", "rows wide hooks", "rows drift"}
    assert kinds <= {name for name, _ in Tables(page).found}
    assert not list(uneven(page))


def test_a_missing_cell_is_found() -> None:
    """The check itself can fail."""
    page = "<table class=t><tr><th>a<th>b</tr><tr><td>1</tr></table>"
    assert list(uneven(page)) == ["t: [2, 1]"]
