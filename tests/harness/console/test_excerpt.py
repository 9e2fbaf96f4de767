"""Excerpts of a console: which of its lines a report shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.console import excerpt as console


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "console.log"


def test_an_empty_console_has_no_excerpt(log: Path) -> None:
    assert console.read(log, "") is None


def test_first_last_and_marked_lines(log: Path) -> None:
    """Omitted lines are counted, and every line keeps its number."""
    lines = [f"line {number}" for number in range(1, 1001)]
    lines[499] = "[   12.000000] WARNING: CPU: 0 PID: 1 at kernel/x.c:1"
    log.write_text("\n".join(lines) + "\n")
    excerpt = console.read(log, "")
    assert excerpt
    numbers = [line.number for line in excerpt.lines]
    assert numbers == [*range(1, 7), 498, 499, 500, *range(977, 1001)]
    assert sum(line.skipped for line in excerpt.lines) + len(excerpt.lines) == excerpt.lines_total == 1000
    assert [line.number for line in excerpt.lines if line.mark] == [500]


def test_the_line_that_the_verdict_quotes_is_marked(log: Path) -> None:
    """A time stamp or the id of printk's caller at its beginning does not matter."""
    panic = "Kernel panic - not syncing:"
    log.write_text(f"[    3.100000][  T412] {panic} VFS\n[    3.200000] {panic} other\n")
    excerpt = console.read(log, "no command ran: Kernel panic - not syncing: VFS")
    assert excerpt
    assert [line.mark for line in excerpt.lines] == ["decided", "notable"]


def test_a_short_line_is_not_marked(log: Path) -> None:
    """Every reason contains a line such as `a`."""
    log.write_text("a\n\nok\n")
    excerpt = console.read(log, "a reason that holds ok")
    assert excerpt
    assert excerpt.marked == 0


def test_one_endless_line(log: Path) -> None:
    """One line of ten megabytes is cut."""
    log.write_bytes(b"x" * (10 << 20) + b"\nlast\n")
    excerpt = console.read(log, "")
    assert excerpt
    assert [len(line.text) for line in excerpt.lines] == [console.LINE_SHOWN, 4]


def test_endless_alarms_are_bounded(log: Path) -> None:
    """A guest that prints only panics does not fill the page with them."""
    log.write_text("[    3.100000] Kernel panic - not syncing: again\n" * 100_000)
    excerpt = console.read(log, "")
    assert excerpt
    assert len(excerpt.lines) <= console.MARKED + console.TAIL + console.HEAD
    assert excerpt.marked == console.MARKED


def test_only_the_kernel_raises_an_alarm(log: Path) -> None:
    """Only lines of the kernel are marked; a program that prints "panic" is neither a cause nor an alarm."""
    log.write_text("Kernel panic - not syncing: no\n[    3.100000] UBSAN: shift-out-of-bounds in x.c:1\n")
    excerpt = console.read(log, "")
    assert excerpt
    assert [line.mark for line in excerpt.lines] == ["", "notable"]


def test_only_the_end_of_a_huge_console_is_read(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "READ_LIMIT", 1000)
    log.write_text("early\n" * 1000 + "the end\n")
    excerpt = console.read(log, "")
    assert excerpt
    assert (excerpt.unread, excerpt.bytes_total) == (5008, 6008)
    assert excerpt.lines[-1].text == "the end"


def test_bytes_that_are_no_text_are_replaced(log: Path) -> None:
    log.write_bytes(b"\xff\x00\x1b[2J\r\n")
    excerpt = console.read(log, "")
    assert excerpt
    assert excerpt.lines[0].text.isprintable()
