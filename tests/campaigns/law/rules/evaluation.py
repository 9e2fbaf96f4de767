"""Compares the engine and the naive evaluator on batches of expressions and events, each from a seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from random import Random

from tests.campaigns.law import naive_words
from tests.campaigns.law.rules import cases, minimise, samples
from tests.campaigns.law.rules.bounds import bounded
from tests.campaigns.law.rules.cases import Difference
from tests.campaigns.law.rules.expressions import TYPES, Writer

EXPRESSIONS, EVENTS = 20, 60
SECONDS = 10.0  # of CPU time for one batch or case
WRITES = tuple(naive_words.WRITES)


def batch(seed: str, counts: Counter[str]) -> Iterator[Difference]:
    """Compare expressions on one event type with events of it; each difference is shrunk."""
    random = Random(seed)
    fim = random.random() < 0.15
    kind = random.choice(WRITES if fim else TYPES)
    writer = Writer(random, kind, fim=fim)
    expressions = [writer.whole() for _ in range(EXPRESSIONS)]
    drawn = [samples.draw(random, kind, writer.pools) for _ in range(EVENTS)]
    odd = [writer.broken() if random.random() < 0.7 else writer.anything() for _ in range(2)]
    found: list[Difference] = [each for text in odd if (each := _odd(text, drawn[0], counts))]
    try:
        with bounded(SECONDS):
            found += _compared(expressions, drawn, counts)
    except Exception:
        alone = [each for text in expressions if (each := cases.judge(text, drawn[0], SECONDS))]
        if not any(each.kind == "crash" for each in alone):
            raise  # no single case shows it: the caller knows the seed of the batch
        found += alone
    for each in _first_of_each(found):
        yield shrunk(each)


def _odd(text: str, sample: samples.Sample, counts: Counter[str]) -> Difference | None:
    counts["refusals"] += 1
    return cases.judge(text, sample, SECONDS)


def _compared(
    expressions: list[str], drawn: list[samples.Sample], counts: Counter[str]
) -> Iterator[Difference]:
    ruleset, problems = cases.load(expressions)
    facts = [cases.naive_facts(sample) for sample in drawn]
    matched = [set(ruleset.evaluate(*samples.event(sample))) if ruleset else set[str]() for sample in drawn]
    number = 0
    for at, text in enumerate(expressions):
        refused = problems.get(at)
        for fact, hits, sample in zip(facts, matched, drawn, strict=True):
            engine = f"{cases.REFUSED}: {refused}" if refused else f"r{number}" in hits
            page = cases.by_page(text, fact)
            counts[_counted(engine, page)] += 1
            kind = cases.compare(engine, page)
            if kind:
                yield Difference(kind, text, sample, str(engine), str(page))
            if refused:
                break
        number += not refused


def _counted(engine: cases.Answer, page: cases.Answer) -> str:
    if isinstance(engine, str):
        return "refused"
    if isinstance(page, str):
        return page
    return "matches" if page else "no matches"


def _first_of_each(found: list[Difference]) -> list[Difference]:
    """Return one difference of each kind and expression."""
    return list({(each.kind, each.expression): each for each in reversed(found)}.values())


def shrunk(found: Difference) -> Difference:
    """Return the smallest case that still shows a difference of this kind."""
    best = found
    assert found.sample is not None

    def fails(text: str, event: samples.Sample) -> bool:
        nonlocal best
        again = cases.judge(text, event, SECONDS)
        if again is None or again.kind != found.kind or again.engine[:12] != found.engine[:12]:
            return False
        best = again
        return True

    if not fails(found.expression, found.sample):
        return found  # only with the other rules of its batch
    sample = found.sample
    minimise.expression(found.expression, lambda text: fails(text, sample))
    text = best.expression
    minimise.sample(sample, lambda event: fails(text, event))
    return best
