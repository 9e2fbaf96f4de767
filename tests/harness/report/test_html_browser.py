"""The page in a headless Chromium: opening, filtering, keys, printing, no network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.report import html
from tests.harness.report.browser import Browser, find
from tests.harness.report.made_up import PANIC, every_verdict
from tests.harness.report.test_html import HOSTILE, hostile_run

PROGRAM = find()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium on PATH")

CELL = "cell-6.18-auto"
OPEN = f"document.getElementById('{CELL}').closest('details').open"
SHOWN = "[...document.querySelectorAll('[data-panel]')].filter((panel) => !panel.hidden).length"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert PROGRAM
    with Browser(PROGRAM) as opened:
        yield opened


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("out of a run")
    cell = place / "cells" / "6.18-auto"
    cell.mkdir(parents=True)
    boot = "".join(f"[{n:5d}.000000] booting\n" for n in range(200))
    (cell / "console.log").write_text(
        f"{boot}[   31.200000] {PANIC}\n</script><script>document.title = 'owned'</script>\n"
    )
    (place / "report.html").write_text(html.render(every_verdict(), place), encoding="utf-8")
    return place


@pytest.fixture
def page(browser: Browser, folder: Path) -> Iterator[str]:
    """The page's address, in a fresh state; afterwards no script failed and no address was fetched."""
    browser.scripts(allowed=True)
    browser.media()
    browser.size(1280, 900)
    browser.complaints.clear()
    browser.requests.clear()
    address = (folder / "report.html").as_uri()
    browser.open(address)
    yield address
    assert browser.complaints == []
    assert {request.partition("#")[0] for request in browser.requests} == {address}


def test_a_link_opens_its_cell(browser: Browser, page: str) -> None:
    assert not browser.evaluate(OPEN)
    browser.evaluate(f"document.querySelector('a.tile[href=\"#{CELL}\"]').click()")
    browser.open(f"{page}#{CELL}")
    assert browser.evaluate(OPEN)
    top = browser.evaluate(
        f"document.getElementById('{CELL}').closest('details').getBoundingClientRect().top"
    )
    assert 0 <= top < 300


def test_a_link_opens_its_cell_without_the_script(browser: Browser, page: str) -> None:
    """Every view works, except the filters."""
    browser.scripts(allowed=False)
    browser.open(f"{page}#{CELL}")
    assert browser.evaluate(OPEN)
    assert browser.evaluate("document.getElementById('filters').hidden")
    assert browser.evaluate(SHOWN) == 15


@pytest.mark.parametrize(
    ("name", "value", "shown"), [("verdict", "CRASH", 1), ("kernel", "6.1", 3), ("event", "unlink", 15)]
)
def test_filters(browser: Browser, page: str, name: str, value: str, shown: int) -> None:
    """A filter hides cells, dims tiles, shows the number of remaining ones, and is part of the address."""
    browser.evaluate(f"document.querySelector('input[name={name}][value=\"{value}\"]').click()")
    assert browser.evaluate(SHOWN) == shown
    assert browser.evaluate("document.querySelector('#filters output').textContent") == f"{shown} of 15 cells"
    assert browser.evaluate("location.hash") == f"#{name}={value}"
    browser.open(f"{page}#{name}={value}")
    assert browser.evaluate(SHOWN) == shown
    browser.evaluate("document.querySelector('#filters [type=reset]').click()")
    assert browser.evaluate(f"new Promise((done) => setTimeout(() => done({SHOWN})))") == 15


def test_filters_together(browser: Browser, page: str) -> None:
    browser.open(f"{page}#verdict=FAIL,CRASH&kernel=6.1")
    assert browser.evaluate(SHOWN) == 2
    assert browser.evaluate("document.querySelectorAll('a.tile:not(.dim)').length") >= 2


def test_links_to_a_cell_are_filtered_with_it(browser: Browser, page: str) -> None:
    """A tile is dimmed and a chip is hidden if its cell is hidden, whatever hides it."""
    browser.open(f"{page}#verdict=FAIL&kernel=6.1")
    shown = "[...document.querySelectorAll('{}')].map((link) => link.hash)"
    cells = {"#cell-6.1-auto", "#cell-6.1-kprobe"}
    assert set(browser.evaluate(shown.format("a.tile:not(.dim)"))) == cells
    assert set(browser.evaluate(shown.format(".chips a:not([hidden])"))) == cells


def test_a_link_to_a_filtered_cell_clears_the_filters(browser: Browser, page: str) -> None:
    browser.open(f"{page}#kernel=6.1")
    browser.evaluate(f"location.hash = '#{CELL}'")
    assert browser.evaluate(f"new Promise((done) => setTimeout(() => done({OPEN}), 50))")
    assert browser.evaluate(SHOWN) == 15


def test_the_keyboard_is_enough(browser: Browser, page: str) -> None:
    """Panels and filters open with Enter, close with Enter or Escape, and the focus is seen."""
    browser.evaluate(f"document.getElementById('{CELL}').closest('details').querySelector('summary').focus()")
    browser.press("Enter")
    assert browser.evaluate(OPEN)
    browser.press("Tab")
    assert browser.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.evaluate("document.querySelector('#pick-verdict summary').focus()")
    browser.press("Enter")
    assert browser.evaluate("document.getElementById('pick-verdict').open")
    browser.press("Escape")
    assert not browser.evaluate("document.getElementById('pick-verdict').open")


def test_the_console_opens_at_the_line_that_decided(browser: Browser, page: str) -> None:
    browser.open(f"{page}#{CELL}")
    seen = """new Promise((done) => setTimeout(() => {
        const line = document.querySelector('.decided').getBoundingClientRect();
        const box = document.querySelector('.decided').closest('.console').getBoundingClientRect();
        done(line.top >= box.top && line.bottom <= box.bottom);
    }, 100))"""
    assert browser.evaluate(seen)
    assert browser.evaluate("document.title") != "owned"


@pytest.mark.parametrize("width", [320, 390, 768, 1280, 1920])
def test_no_width_scrolls_sideways(browser: Browser, page: str, width: int) -> None:
    """Wide tables scroll within their frame, the page never."""
    browser.size(width, 844)
    browser.evaluate(
        "document.querySelectorAll('details:not(.picker)').forEach((each) => { each.open = true; })"
    )
    assert browser.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_are_readable(browser: Browser, page: str, scheme: str) -> None:
    """Every badge has a contrast of 4.5 at least, as WCAG AA asks."""
    browser.media(scheme=scheme)
    ratios = browser.evaluate(_CONTRAST)
    assert len(ratios) >= 12
    assert min(ratios.values()) >= 4.5, ratios


def test_print_opens_the_failed_cells(browser: Browser, page: str) -> None:
    """Also without the script."""
    browser.scripts(allowed=False)
    browser.open(page)
    browser.media("print")
    assert browser.evaluate("getComputedStyle(document.querySelector('.bar')).display") == "none"
    seen = "document.getElementById('{}').checkVisibility()"
    assert browser.evaluate(seen.format(CELL))
    assert not browser.evaluate(seen.format("cell-5.10-auto"))


def test_paper_does_not_scroll(browser: Browser, page: str) -> None:
    """On A4 no table is cut at the right, neither the matrix nor a ledger nor the hooks."""
    browser.size(794 - 106, 1123)  # CSS pixels of A4, less its margins
    browser.media("print")
    browser.evaluate(
        "document.querySelectorAll('details:not(.picker)').forEach((each) => { each.open = true; })"
    )
    wide = """[...document.querySelectorAll('.scroll')]
        .filter((each) => each.scrollWidth > each.clientWidth + 1)
        .map((each) => each.getAttribute('aria-label') || each.getAttribute('aria-labelledby'))"""
    assert browser.evaluate(wide) == []
    assert browser.evaluate("document.documentElement.scrollWidth") <= 794 - 106


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_runs_no_script(browser: Browser, page: str, tmp_path: Path, text: str) -> None:
    evil = tmp_path / "evil.html"
    evil.write_text(html.render(hostile_run(text)), encoding="utf-8")
    browser.evaluate("window.alert = () => { throw new Error('ran'); }")
    browser.open(evil.as_uri())
    assert browser.evaluate("document.querySelectorAll('script, style').length") == 2
    assert browser.evaluate("document.querySelectorAll('img, iframe, object').length") == 0
    browser.open(page)
    browser.requests[:] = [page]


_CONTRAST = """(() => {
  const light = (channel) => {
    const share = channel / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  };
  const luminance = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map(light);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = {};
  for (const badge of document.querySelectorAll('.badge, .tile:not(.none), .cap')) {
    const style = getComputedStyle(badge);
    const [a, b] = [luminance(style.color), luminance(style.backgroundColor)].sort((x, y) => y - x);
    found[badge.className + ' ' + badge.textContent.trim().slice(0, 12)] = (a + 0.05) / (b + 0.05);
  }
  return found;
})()"""
