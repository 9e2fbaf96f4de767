"""Reads the generator's reports of a script into records."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from typing import Any

from tests.campaigns.law.played import Opened, Record, Seen, Stat

BLOCKS = frozenset({"repeat", "rate", "fork", "thread", "program", "beside"})
EXECS = frozenset({"exec", "execveat"})
BLOCK = 400  # lines
_ESCAPE = re.compile(rb"\\(?:\\|x([0-9a-f]{2}))")


def text(escaped: str) -> str:
    r"""The bytes that `\xHH` and `\\` stand for, decoded with surrogateescape."""
    data = escaped.encode("utf-8", "surrogateescape")
    if b"\\" in data:
        data = _ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()) if match[1] else b"\\", data)
    return data.decode("utf-8", "surrogateescape")


def blocks(script: str) -> list[str]:
    """The script in pieces of at least `BLOCK` lines, each of which the generator reads before it runs it."""
    found: list[list[str]] = [[]]
    depth = 0
    for line in script.splitlines():
        if len(found[-1]) >= BLOCK and depth == 0:
            found.append([])
        found[-1].append(line)
        depth += _opens(line)
    return ["".join(f"{line}\n" for line in lines) for lines in found]


def _opens(line: str) -> int:
    word = line.split(maxsplit=1)[:1]
    return -1 if word == ["end"] else len(BLOCKS.intersection(word))


def read(reports: bytes, script: str, *, part: int = 0, first_line: int = 0) -> list[Record]:
    """The records of one part; lines are counted over the whole script, of which `first_line` stand before.

    Raises ValueError for a script that the generator refused.
    """
    lines = script.splitlines()
    before = [0, *itertools.accumulate(block.count("\n") for block in blocks(script))]
    found: list[Record] = []
    done = 0  # blocks that the generator has run
    execs: dict[tuple[int, int, int], int] = {}
    for raw in reports.splitlines():
        report = json.loads(raw)
        if "done" in report:
            done += 1
        elif "error" in report:
            raise ValueError(f"line {before[done] + report['line']} of the script: {report['error']}")
        elif report.get("call", "witness") != "witness":
            line = before[done] + report["line"]
            _add(found, execs, _record(report, lines[line - 1], first_line + line, part))
    return found


def _add(found: list[Record], execs: dict[tuple[int, int, int], int], record: Record) -> None:
    """An exec that fails is reported twice: before the call, as a success, and after it."""
    if record.call in EXECS:
        key = record.tid, record.line, record.part
        if (before := execs.pop(key, None)) is not None:
            found[before] = record
            return
        execs[key] = len(found)
    found.append(record)


def _record(report: Mapping[str, Any], line: str, number: int, part: int) -> Record:
    words = line.split()
    if len(words) > 2 and words[-2] == "->":
        words = words[:-2]
    return Record(
        program=text(report.get("program", "")),
        line=number,
        call=report["call"],
        words=tuple(words),
        pid=report.get("kpid", report["pid"]),
        tid=report.get("ktid", report["tid"]),
        ppid=report["ppid"],
        uid=report["uid"],
        gid=report["gid"],
        ret=report["ret"],
        ok=report["ok"],
        failed=report["failed"],
        status=report["status"],
        comm=text(report.get("comm", "")),
        seen=tuple(map(_seen, report.get("witness", ()))),
        fd=_opened(report["fd"]) if "fd" in report else None,
        part=part,
    )


def _seen(one: Mapping[str, Any]) -> Seen:
    resolved = text(one["resolved"]) if "resolved" in one else None
    st = _stat(one.get("st"))
    follows = "followed" in one or "followed_error" in one
    return Seen(
        one["arg"],
        resolved,
        text(one["followed"]) if "followed" in one else None if follows else resolved,
        st,
        _stat(one.get("fst")) if follows else st,
        one.get("error", one.get("followed_error", 0)),
        _stat(one.get("parent")),
    )


def _opened(one: Mapping[str, Any]) -> Opened:
    return Opened(text(one.get("path", "")), _stat(one.get("st")))


def _stat(one: Mapping[str, Any] | None) -> Stat | None:
    return None if one is None else Stat(**one)
