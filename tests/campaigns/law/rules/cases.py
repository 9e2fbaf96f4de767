"""One case of the rule fuzzer: an expression and an event, and the answers of engine and naive evaluator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from agent.errors import RuleErrors
from agent.rules.engine import Ruleset
from agent.rules.load import link
from agent.rules.problems import Problem
from tests.campaigns.law import naive
from tests.campaigns.law.naive_patterns import RefusedError, UndefinedError
from tests.campaigns.law.rules import samples
from tests.campaigns.law.rules.bounds import bounded
from tests.campaigns.law.rules.expressions import MACROS, VARIABLES
from tests.campaigns.law.rules.samples import Sample

NAME = "fuzz.policy"
REFUSED, UNDEFINED = "refused", "undefined"
Answer = bool | str  # of an event, or `refused` or `undefined`, and why

# Rules that declare the variables of `VARIABLES`, on an event that no sample has.
_SETS = (
    "{name: num, value: 0}",
    '{name: word, value: ""}',
    "{name: nums, field: fork.pid, append: true}",
    "{name: texts, field: fork.comm, append: true}",
    "{name: unset, field: fork.comm}",
)


@dataclass(frozen=True)
class Difference:
    """What the fuzzer found: a kind, the input that shows it, and both answers.

    `seed` is that of the round, where no smaller input shows it.
    """

    kind: str
    expression: str
    sample: Sample | None = None
    engine: str = ""
    naive: str = ""
    seed: str = ""


def policy(expressions: Iterable[str]) -> bytes:
    """Return a policy file with the macros, the variables, and a rule r0, r1 ... for each expression."""
    lines = ["macros:"]
    for name, macro in MACROS.items():
        values = macro if isinstance(macro, str) else None
        lines.append(f"  - id: {name}")
        lines.append(
            f"    expression: {quoted(values)}"
            if values is not None
            else f"    values: [{', '.join(map(quoted, macro))}]"
        )
    lines += ["rules:", "  - id: variables", "    expression: fork.pid == -1", "    actions:"]
    lines += [f"      - set: {each}" for each in _SETS]
    lines += [f"  - {{id: r{at}, expression: {quoted(text)}}}" for at, text in enumerate(expressions)]
    return "\n".join([*lines, ""]).encode()


def quoted(text: str) -> str:
    """Return a text in double quotes of YAML, on one line."""
    return '"' + "".join(_escaped(char) for char in text) + '"'


def _escaped(char: str) -> str:
    point = ord(char)
    if char in '"\\':
        return "\\" + char
    if char.isprintable() and point < 0x10000:
        return char
    return f"\\x{point:02x}" if point < 0x100 else f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def load(expressions: Sequence[str]) -> tuple[Ruleset | None, dict[int, Problem]]:
    """Load the good ones of expressions as one policy, and return the first problem of each other one."""
    content = policy(expressions)
    try:
        return _with_variables(link([(NAME, content)], {})), {}
    except RuleErrors as errors:
        found = [problem for problem in errors.problems if isinstance(problem, Problem)]
    first = content[: content.index(b"  - {id: r0,")].count(b"\n") + 1
    problems: dict[int, Problem] = {}
    for problem in found:
        problems.setdefault(problem.line - first, problem)
    good = [text for at, text in enumerate(expressions) if at not in problems]
    return (load(good)[0] if good and len(good) < len(expressions) else None), problems


def _with_variables(ruleset: Ruleset) -> Ruleset:
    """Store the values of `VARIABLES`; one that is empty was not set yet."""
    for name, value in VARIABLES.items():
        if isinstance(value, list):
            ruleset.variables.values[name] = dict.fromkeys(map(_stored, value))
        elif value:
            ruleset.variables.values[name] = _stored(value)
    return ruleset


def _stored(value: object) -> object:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value


def naive_facts(sample: Sample) -> dict[str, object]:
    """Return what the naive evaluator reads: the fields of a sample, and the variables."""
    return {**samples.facts(sample), **{f"${{{name}}}": value for name, value in VARIABLES.items()}}


def by_page(expression: str, facts: Mapping[str, object]) -> Answer:
    """Return the answer of docs/rules.md to an expression and an event."""
    try:
        known = naive.evaluate(expression, facts, MACROS)
    except RefusedError as error:
        return f"{REFUSED}: {error}"
    except UndefinedError as error:
        return f"{UNDEFINED}: {error}"
    return f"{UNDEFINED}: a value that the event lacks" if known is None else known


def by_engine(expression: str, sample: Sample) -> Answer:
    """Return the answer of the engine to an expression and an event, or why it refuses the expression."""
    ruleset, problems = load([expression])
    if ruleset is None:
        return f"{REFUSED}: {next(iter(problems.values()))}"
    return bool(ruleset.evaluate(*samples.event(sample)))


def judge(expression: str, sample: Sample, seconds: float) -> Difference | None:
    """Compare both answers to one case; a crash or a hang of the engine is a difference as well."""
    page = by_page(expression, naive_facts(sample))
    try:
        with bounded(seconds):
            engine = by_engine(expression, sample)
    except Exception as error:  # noqa: BLE001 - whatever the engine raises is what is looked for
        return Difference("crash", expression, sample, f"{type(error).__name__}: {error}", str(page))
    kind = compare(engine, page)
    return Difference(kind, expression, sample, str(engine), str(page)) if kind else None


def compare(engine: Answer, page: Answer) -> str:
    """Return how two answers differ, "" if they agree; what the page leaves open agrees with any."""
    if isinstance(page, str) and page.startswith(UNDEFINED):
        return ""
    if isinstance(engine, str) != isinstance(page, str):
        return "refused by the engine" if isinstance(engine, str) else "refused by the page"
    return "value" if isinstance(engine, bool) and engine != page else ""
