"""Mutates policies in the format of Datadog's agent: they load, or every error has a place in a file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from agent.errors import RuleErrors
from agent.filters.approvers import derive
from agent.rules.load import link
from agent.rules.problems import Problem
from tests.campaigns.law.rules import minimise
from tests.campaigns.law.rules.bounds import bounded
from tests.campaigns.law.rules.cases import Difference
from tests.campaigns.law.rules.expressions import TYPES, Writer

FOLDER = Path(__file__).with_name("policies")
NAMES = ("default.policy", "custom.policy")
FACTS: dict[str, int | bytes | bool] = {"os": b"linux", "hostname": b"host", "kernel.version.major": 6}
SECONDS = 20.0  # of CPU time for one pair of files
Files = tuple[bytes, ...]

# Words that mean something to YAML, to the policy or to an expression.
WORDS = (
    *(
        "- ",
        ": ",
        "&a ",
        "*a",
        "*merged",
        "!!str ",
        "|",
        ">-",
        "'",
        '"',
        "#",
        "---\n",
        "...\n",
        "\t",
        "\r",
        "{",
        "}",
        "[",
        "]",
        ",",
    ),
    *(
        "~",
        "r",
        "<<: *merged",
        "? ",
        "%YAML 1.1\n",
        "\x00",
        "\x85",
        "\u2028",
        "\ufeff",
        "\U0001f600",
        "\\",
        "\\xff",
    ),
    *(
        "combine: merge",
        "combine: override",
        "disabled: true",
        "CRITICAL",
        "${touched}",
        "${x}",
        "&&",
        "||",
        "(",
        ")",
    ),
    *(
        "id: a",
        "rules:\n",
        "macros:\n",
        "actions:",
        "true",
        "0x",
        "1" * 40,
        "9" * 5_000,
        "(){999999999}",
        "a{0,999}",
    ),
    *(
        "open.file.path",
        "rename.retval",
        "fim.write.file.name",
        "process.ancestors.pid",
        "agent_version: x",
        "10s",
    ),
)


def files(seed: str, counts: Counter[str]) -> Iterator[Difference]:
    """Load a mutated pair of policy files, and check what is reported."""
    random = Random(seed)
    contents = [(FOLDER / name).read_bytes() for name in NAMES]
    mutate = random.choice((_bytes, _lines, _words, _expression, _grown))
    at = random.randrange(len(contents))
    for _ in range(random.choice((1, 1, 2, 3))):
        contents[at] = mutate(random, contents[at])
    fault = _fault(tuple(contents), counts)
    if fault:
        yield _shrunk(fault, contents, at)


def _fault(contents: Files, counts: Counter[str] | None = None) -> Difference | None:
    counts = Counter() if counts is None else counts
    try:
        with bounded(SECONDS):
            derive(link(list(zip(NAMES, contents, strict=True)), FACTS))
        counts["policies that load"] += 1
    except RuleErrors as errors:
        counts["policies that are refused"] += 1
        wrong = [each for each in errors.problems if not _placed(each, contents)]
        return Difference("no place", "", None, f"{wrong[0]!r}"[:300]) if wrong else None
    except Exception as error:  # noqa: BLE001 - whatever the loader raises is what is looked for
        return Difference("crash", "", None, f"{type(error).__name__}: {error}"[:300])
    return None


def _placed(problem: object, contents: Files) -> bool:
    """Return whether a problem names a place in one of the files, and prints as lines."""
    if not isinstance(problem, Problem) or problem.file not in NAMES or not problem.message:
        return False
    lines = contents[NAMES.index(problem.file)].decode("utf-8-sig", "replace").split("\n")
    inside = 1 <= problem.line <= len(lines) and 1 <= problem.column <= len(lines[problem.line - 1]) + 1
    return inside and all(line.isprintable() for line in str(problem).split("\n"))


def _bytes(random: Random, content: bytes) -> bytes:
    made = bytearray(content)
    for _ in range(random.choice((1, 2, 8))):
        at = random.randrange(len(made) + 1)
        form = random.random()
        if form < 0.4 and at < len(made):
            made[at] = random.randrange(256)
        elif form < 0.7:
            del made[at : at + random.choice((1, 1, 5, 40))]
        else:
            made[at:at] = made[random.randrange(len(made)) :][: random.choice((1, 5, 40))]
    return bytes(made)


def _lines(random: Random, content: bytes) -> bytes:
    """Leave out, double, move or indent lines: nodes of the file."""
    lines = content.split(b"\n")
    at, to = random.randrange(len(lines)), random.randrange(len(lines))
    form = random.random()
    if form < 0.3:
        del lines[at : at + random.randint(1, 3)]
    elif form < 0.6:
        lines[to:to] = lines[at : at + random.randint(1, 6)]
    elif form < 0.8:
        lines[at] = random.choice((b"  ", b"", b"- ", b"      ")) + lines[at].lstrip(
            random.choice((b" ", b" -"))
        )
    else:
        lines[at], lines[to] = lines[to], lines[at]
    return b"\n".join(lines)


def _words(random: Random, content: bytes) -> bytes:
    words = re.findall(rb"\w+|\s+|[^\w\s]+", content)
    at = random.randrange(len(words))
    if random.random() < 0.5:
        words[at] = random.choice((*words, *(word.encode() for word in WORDS)))
    else:
        words.insert(at, random.choice(WORDS).encode())
    return b"".join(words)


def _expression(random: Random, content: bytes) -> bytes:
    """Put an expression, well-formed or not, in the place of the value of some key."""
    writer = Writer(random, random.choice(TYPES))
    text = random.choice((writer.whole, writer.broken, writer.anything))()
    quoted = "'" + text.replace("'", "''").replace("\n", "\n\n") + "'"
    block = ">-\n" + "\n".join(f"          {line}" for line in text.split("\n"))
    plain = random.choice((quoted, quoted, block, text)).encode("utf-8", "replace")
    keys = list(re.finditer(rb"(?:expression|id|values|tags|every|filters|field|name): ([^\n]*)", content))
    place = random.choice(keys)
    return content[: place.start(1)] + plain + content[place.end(1) :]


def _grown(random: Random, content: bytes) -> bytes:
    """Repeat a part many times."""
    at = random.randrange(len(content))
    part = content[at : at + random.choice((1, 2, 10, 60, 400))]
    return content[:at] + part * random.choice((50, 500, 3_000)) + content[at:]


def _shrunk(found: Difference, contents: list[bytes], at: int) -> Difference:
    best, kept = found, contents[at]

    def fails(content: bytes) -> bool:
        nonlocal best, kept
        again = _fault((*contents[:at], content, *contents[at + 1 :]))
        if again is None or again.kind != found.kind or again.engine[:12] != found.engine[:12]:
            return False
        best, kept = again, content
        return True

    splits: tuple[Callable[[bytes], list[bytes]], ...] = (
        lambda text: text.splitlines(keepends=True),
        lambda text: re.findall(rb"\w+|\s+|.", text, re.DOTALL),
    )
    for split in splits:
        minimise.fewer(split(kept), lambda parts: fails(b"".join(parts)))
    return Difference(best.kind, f"{NAMES[at]}: {kept!r}", None, best.engine)
