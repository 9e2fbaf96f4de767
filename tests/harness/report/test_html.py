"""The page as text: hostile text stays text, and the page has every fact that a reader needs."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.report import html
from harness.report.html import by_test, matrix
from harness.results.model import Assertion, Attempt, Hook, Results, Splat, TestResult
from harness.results.verdict import Verdict
from tests.harness.report.made_up import PANIC, a_cell, a_run, a_test, every_verdict, ledger

HOSTILE = (
    "</script><script>alert(1)</script>",
    "</style><img src=x onerror=alert(1)>",
    "\"' onmouseover=alert(1) x='",
    "]]> --> <!-- {{ 7*7 }} {% raw %}",
    "\x1b[31mred\x1b[0m\x00\x07\x08\x9b2J",
    "\ud800 \udc80 \udfff",
    "\u202egnp.exe \u2066\u200b\ufeff",
    "javascript:alert(1)",
)
OURS = ("#", "cells/", "data:image/svg+xml,")


class Page(HTMLParser):
    """The tags, attributes, and the text of style and script, as a browser parses them."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.within = ""
        self.inline: dict[str, str] = {"style": "", "script": ""}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.within = tag

    def handle_endtag(self, tag: str) -> None:
        self.within = ""

    def handle_data(self, data: str) -> None:
        if self.within in self.inline:
            self.inline[self.within] += data
        else:
            self.words.append(data)


def hostile_run(text: str) -> Results:
    """A run in which a guest sent `text` in every field that it can send."""
    row_text = text.encode("utf-8", "replace").decode()  # as `judge.clean` leaves it
    sent: dict[str, Any] = {"name": row_text, "expected": row_text, "got": {row_text: [row_text]}}
    evidence = {row_text: [row_text, {row_text: row_text}]}
    row = ledger()["open"].model_copy(update={"matched": 3})
    splat = Splat(kind=text, line=text, fingerprint=text, allowed=text)
    test = TestResult(
        name="truth.open",
        verdict=Verdict.FAIL,
        reason=text,
        attempts=(Attempt(verdict=Verdict.FAIL, reason=text),) * 2,
        assertions=(
            Assertion.model_validate({"ok": False, "evidence": evidence, **sent}),
            Assertion(ok=True, **sent),
        ),
        ledger={row_text: row},
        splats=(splat,),
    )
    hook = Hook(event=row_text, point=row_text, program=row_text, type=row_text, state=row_text)
    facts: dict[str, Any] = {"capabilities": {text: text}, "coverage": {text: text}, "splats": (splat,)}
    cell = a_cell("6.1", tests=(test,), hooks=(hook,), reason=text, **facts)
    # A results file with such a command line is refused; if it were not, the page would stay whole.
    return a_run(cell.model_copy(update={"cmdline": text}), notes=(text,))


TAGS = {tag for tag, _ in Page(html.render(hostile_run("harmless"))).tags}


def assert_harmless(page: Page) -> None:
    """Only our elements, no handlers, no addresses but our own."""
    assert {tag for tag, _ in page.tags} <= TAGS
    assert [tag for tag, _ in page.tags].count("script") == 1
    for _, attributes in page.tags:
        assert not [
            name for name in attributes if name.startswith("on") or name in ("style", "src", "srcdoc")
        ]
        for link in (attributes.get("href"), attributes.get("xlink:href"), attributes.get("action")):
            assert link is None or link.startswith(("#", "cells/", "data:image/svg+xml,"))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_of_a_guest_stays_text(text: str) -> None:
    page = html.render(hostile_run(text))
    assert_harmless(Page(page))
    page.encode("utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200b\ufeff]", page)


@settings(max_examples=25, deadline=None)
@given(st.text(alphabet=st.characters(), max_size=40))
def test_any_text_of_a_guest_stays_text(text: str) -> None:
    assert_harmless(Page(html.render(hostile_run(text or "nothing"))))


def test_long_text_is_cut() -> None:
    """Reasons of ten megabytes in every place do not make a page of a hundred."""
    page = html.render(hostile_run("x" * (10 << 20)))
    assert len(page) < 1 << 20
    assert "more characters" in page


def test_many_long_texts_are_cut_shorter() -> None:
    """After a limit of text in the whole page, each further text is short."""
    rows = tuple(Assertion(name=f"{n}", ok=False, expected="y" * 5000, got="z" * 5000) for n in range(100))
    tests = tuple(a_test(f"made.up{n}", assertions=rows) for n in range(100))
    page = html.render(a_run(*(a_cell(kernel, tests=tests) for kernel in ("6.1", "7.3"))))
    assert len(page) < 10 << 20
    assert "and 40 more failed" in page


def test_the_policy_names_this_style_and_this_script_and_nothing_else() -> None:
    page = Page(html.render(every_verdict()))
    (policy,) = (
        attributes["content"]
        for tag, attributes in page.tags
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "http" not in policy
    for kind, text in page.inline.items():
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_every_link_within_the_page_leads_somewhere() -> None:
    page = Page(html.render(every_verdict()))
    names = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    links = {attributes.get("href") or "" for _, attributes in page.tags}
    assert {link[1:] for link in links if link.startswith("#")} <= names
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("verdict", Verdict)
def test_every_verdict_is_a_word_and_a_sign(verdict: Verdict) -> None:
    """The verdict can be read without colours."""
    page = html.render(every_verdict())
    assert f"<symbol id=i-{verdict} " in page
    assert f'href="#i-{verdict}"/></svg>{verdict.replace("_", " ")}' in page


def test_a_ledger_that_does_not_close_shows_the_difference() -> None:
    text = " ".join(Page(html.render(every_verdict())).words)
    assert "3 of generated unaccounted for" in text
    assert "2 ledgers off" in text


def test_a_wrong_prediction_is_shown() -> None:
    hook = Hook.model_validate({"event": "open", "state": "silent", "predicted": "fires"})
    text = " ".join(Page(html.render(a_run(a_cell("5.10", hooks=(hook,))))).words)
    assert "Predicted" in text
    assert "(not as predicted)" in text


def test_no_cell_of_a_kernel_hides_another_one() -> None:
    """Two cells with one command line are two columns of the matrix, also if one of them fails."""
    lost = a_cell("6.1", id="6.1-auto-lockable", cmdline="lock", tests=(a_test("truth.open", Verdict.FAIL),))
    found = matrix.grid(a_run(lost, a_cell("6.1", id="6.1-auto-integrity", cmdline="lock")))
    assert [column.rest for column in found.columns] == ["lock (lockable)", "lock (integrity)"]
    assert [cell and cell.verdict for cell in found.rows[0].cells] == [Verdict.FAIL, Verdict.PASS]


def test_failures_come_before_passes() -> None:
    """In a cell and in the view by test, so that a reader need not search among eighty passes."""
    words = " ".join(Page(html.render(every_verdict())).words)
    cell = words[words.index("6.1-auto", words.index("One kernel with one variant")) :]
    assert cell.index("discarders.parent") < cell.index("truth.open")
    by_test = words[words.index("Each test over all kernels.") :]
    assert by_test.index("approvers.path") < by_test.index("truth.unlink")


def test_cells_with_one_reason_are_one_group_of_a_test() -> None:
    """Failures that differ only in numbers are one; of many others the page says how many it leaves out."""
    alike = [
        a_cell(f"6.{n}", tests=(a_test("truth.open", Verdict.FAIL, f"expected 1, got {n}"),)) for n in (1, 2)
    ]
    (row,) = by_test.rows(a_run(a_cell("5.10", tests=(a_test("truth.open"),)), *alike))
    assert [(group.reason, group.cells) for group in row.troubles] == [("expected 1, got 1", alike)]
    assert (row.worst, row.counts) == (Verdict.FAIL, [(Verdict.PASS, 1), (Verdict.FAIL, 2)])
    words = [chr(ord("a") + n) for n in range(22)]
    many = [a_cell(word, tests=(a_test("truth.open", Verdict.FAIL, word),)) for word in words]
    assert "and 2 more reasons" in html.render(a_run(*many))


def test_a_failure_shows_its_script_and_its_rules() -> None:
    """A failed assertion has script and rules; values of assertions that hold are only in results.json."""
    evidence = {"hooks": [{"event": "open.exit", "runs": 7, "reason": ""}], "script": ["open /x", "close $0"]}
    rows = (
        Assertion.model_validate({"name": "arrives", "ok": False, "evidence": evidence}),
        Assertion(name="held", ok=True, expected="quiet", got="quiet"),
        Assertion(name="held", ok=True, expected="quiet", got="quiet"),
    )
    failed = a_test("truth.open", Verdict.FAIL, "it did not arrive", assertions=rows)
    words = " ".join(Page(html.render(a_run(a_cell("6.1", tests=(failed,))))).words)
    assert words.index("open /x\nclose $0") < words.index("open.exit  runs 7")
    assert "held ×2" in re.sub(" +", " ", words)  # noqa: RUF001 - the sign is what is shown
    assert "quiet" not in words


@pytest.mark.parametrize(
    "evidence", ["text", [1], {"script": HOSTILE[0]}, {"rules": {"x": [None]}}, {"a": ["y"] * 99}]
)
def test_evidence_of_any_shape_is_text(evidence: Any) -> None:
    """An agent of another version may send any structure."""
    row = Assertion.model_validate({"name": "arrives", "ok": False, "evidence": evidence})
    failed = a_test("truth.open", Verdict.FAIL, "it did not arrive", assertions=(row,))
    assert_harmless(Page(html.render(a_run(a_cell("6.1", tests=(failed,))))))


def test_complaints_of_the_kernel_are_shown() -> None:
    splat = Splat(kind="warning", line="WARNING: at kernel/bpf/ringbuf.c:310", allowed="known there")
    test = a_test("truth.open", splats=(splat,))
    words = " ".join(Page(html.render(a_run(a_cell("6.1", tests=(test,), splats=(splat,))))).words)
    assert words.count("WARNING: at kernel/bpf/ringbuf.c:310") == 2
    assert "allowed: known there" in words


def test_consoles_and_files_of_the_folder(tmp_path: Path) -> None:
    """The page has an excerpt, and a link to the whole file."""
    folder = tmp_path / "cells" / "6.18-auto"
    folder.mkdir(parents=True)
    (folder / "console.log").write_text(f"[    1.000000] booting\r\n[   31.200000] {PANIC}\r\n")
    (folder / "domain.xml").symlink_to("/etc/hostname")
    page = Page(html.render(every_verdict(), tmp_path))
    text = " ".join(page.words)
    assert "decided" in text
    assert "booting" in text
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert "cells/6.18-auto/console.log" in links
    assert "cells/6.18-auto/domain.xml" not in links


@pytest.mark.parametrize("link", ["cells", "cells/6.18-auto", "cells/6.18-auto/console.log"])
def test_evidence_behind_a_link_is_not_read(tmp_path: Path, link: str) -> None:
    """A folder from another host may have links to files of this one, at each level."""
    console = tmp_path / "cells" / "6.18-auto" / "console.log"
    console.parent.mkdir(parents=True)
    console.write_text("[    1.000000] a secret of this host\n")
    (tmp_path / link).rename(tmp_path / "elsewhere")
    (tmp_path / link).symlink_to(tmp_path / "elsewhere")
    assert "a secret of this host" not in html.render(every_verdict(), tmp_path)


def test_a_cell_whose_name_is_a_path_has_no_folder(tmp_path: Path) -> None:
    (tmp_path / "console.log").write_text("not a cell's\n")
    cell = a_cell("6.1").model_copy(update={"id": "../../" + tmp_path.name})
    assert "not a cell" not in html.render(a_run(cell), tmp_path)


@pytest.mark.parametrize("cells", [(), (a_cell("6.1", tests=()),)])
def test_an_empty_run_has_a_page(cells: tuple[Any, ...]) -> None:
    assert_harmless(Page(html.render(a_run(*cells))))


def test_a_big_run_is_a_small_page() -> None:
    """26 kernels with 5 hook sets and 40 tests; one more takes less than 2 kB, with all its tests."""
    tests = tuple(a_test(f"family{n % 8}.test{n}") for n in range(40))
    cells = [
        a_cell(f"6.{n}", hookset, tests) for n in range(26) for hookset in ("auto", "lsm", "a", "b", "c")
    ]
    whole, half = (len(html.render(a_run(*kept))) for kept in (cells, cells[:65]))
    assert whole < 3 << 19
    assert (whole - half) / 65 < 2000


def test_a_big_page_has_the_details_of_what_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left out is counted, by its reason, and the page says where it is."""
    monkeypatch.setattr("harness.report.html.shown.DETAILED", 2)
    monkeypatch.setattr("harness.report.html.shown.WHOLE", 1)
    skipped = [a_test(f"truth.skip{n}", Verdict.SKIP, "no such call") for n in range(12)]
    failed = [a_test("truth.fail1", Verdict.FAIL, "one"), a_test("truth.fail2", Verdict.FAIL, "two")]
    passed = [a_test(f"truth.pass{n}") for n in range(5)]
    cells = a_cell("6.1", tests=(*passed, *skipped)), a_cell("7.3", tests=(*passed, *failed))
    page = html.render(a_run(*cells))
    details = [part.partition("</summary>")[0] for part in page.split('<details class="test"')[1:]]
    assert ["truth.fail1" in details[0], "truth.fail2" in details[1], len(details)] == [True, True, 2]
    assert "12 tests: truth.skip0, " in page
    assert "truth.skip7 and 4 more" in page
    assert page.count("5 tests passed") == 2
    assert page.count("<h3>Where the time went</h3>") == 1


def test_a_page_of_too_many_tests_shows_the_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells that ended as expected are left out first, and the page counts them."""
    passed = [a_cell(kernel, tests=(a_test("truth.open"),)) for kernel in ("5.10", "6.1", "6.12")]
    failed = a_cell("7.3", tests=(a_test("truth.open", Verdict.FAIL),))
    monkeypatch.setattr("harness.report.html.page.TEST_LIMIT", 2)
    page = html.render(a_run(*passed, failed))
    assert "2 cells of 4 did not fit on this page; results.json has all of them" in page
    assert [cell.id in page for cell in (*passed, failed)] == [True, False, False, True]
    assert "did not fit" not in html.render(a_run(passed[0], failed))
