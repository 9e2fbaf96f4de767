"""`make law`: random programs in real guests under random rules, judged by the kernel's answers.

Exits with 1 if the answers differ anywhere.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from harness.errors import HarnessError
from harness.lab.lab import VmBench
from harness.text import visible
from tests import ROOT
from tests.campaigns.law import entries, planted
from tests.campaigns.law.arena import MATRIX, Arena
from tests.campaigns.law.campaign import BATCH, Campaign, Opener, summary
from tests.campaigns.law.case import Case
from tests.campaigns.law.judge import judge
from tests.campaigns.law.policies import Rule, rendered
from tests.campaigns.law.world import World


def main(words: Sequence[str]) -> int:
    """Run a campaign, or replay a file; return the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # its guest is ended as by Ctrl-C
    arguments = _parser().parse_args(words)
    try:
        return _run(arguments)
    except HarnessError as error:
        hint = f"hint: {visible(error.hint)}\n" if error.hint else ""
        sys.stderr.write(f"law: {visible(error.message)}\n{hint}")
        return error.exit_code


def _run(arguments: argparse.Namespace) -> int:
    with contextlib.ExitStack() as stack:
        bundle = arguments.agent.read_bytes() if arguments.agent else None
        if arguments.plant:
            bundle = stack.enter_context(planted.agent(arguments.plant))
        bench = stack.enter_context(contextlib.closing(VmBench(lock=MATRIX.with_name("matrix.lock"))))

        def opened(world: World) -> Arena:
            return Arena(arguments.kernel, world, arguments.hookset, arguments.neighbour, bench, bundle)

        return _replay(arguments, opened) if arguments.replay else _campaign(arguments, opened)


def _campaign(arguments: argparse.Namespace, opened: Opener) -> int:
    """Play until the minutes are over; return 1 if the answers differ anywhere, or if no rule matched."""
    fault = arguments.plant or (arguments.agent.stem if arguments.agent else "")
    words = [arguments.kernel, arguments.hookset or "auto", str(arguments.seed), fault]
    words += ["neighbour"] if arguments.neighbour else []
    log = arguments.log or ROOT / "build" / "law" / f"{'-'.join(filter(None, words))}.jsonl"
    campaign = Campaign(
        arguments.kernel,
        arguments.seed,
        opened,
        loads,
        log,
        _say,
        arguments.batch,
        not arguments.no_shrink,
        tuple(arguments.place),
        bool(arguments.plant or arguments.agent),
        entries.known(),
    )
    figures = campaign.run(arguments.minutes)
    _say("\n".join(summary(figures)))
    _say(f"log: {log}")
    if not figures.matches:
        _say("nothing was compared: no program caused a match; play for more --minutes")
    return 0 if figures.matches and not figures.kinds else 1


def loads(rule: Rule) -> bool:
    """Return whether the agent accepts a rule; the rule fuzzer judges refusals."""
    from agent.errors import RuleErrors
    from agent.rules.load import loads as load_rules

    try:
        load_rules(rendered([rule]).decode())
    except RuleErrors:
        return False
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.law", description=__doc__)
    parser.add_argument("--kernel", default="6.1", metavar="NAME", help="series of the guests (default: 6.1)")
    parser.add_argument("--minutes", type=float, default=10.0, metavar="N", help="of play (default: 10)")
    parser.add_argument(
        "--seed", type=int, default=int(time.strftime("%Y%m%d")), metavar="N", help="default: today's date"
    )
    parser.add_argument("--hookset", default="", metavar="NAME", help="of both agents (default: they choose)")
    parser.add_argument(
        "--neighbour",
        nargs="?",
        const="all",
        default="",
        metavar="NAME",
        help="another user does its worst meanwhile",
    )
    parser.add_argument("--batch", type=int, default=BATCH, metavar="N", help="programs of a play")
    parser.add_argument(
        "--place", action="append", default=[], metavar="KIND", help="only places of that kind"
    )
    parser.add_argument(
        "--plant",
        choices=sorted(planted.FAULTS),
        default="",
        metavar="FAULT",
        help="play with an agent that has a deliberate fault, until a difference is found",
    )
    parser.add_argument(
        "--agent", type=Path, metavar="FILE", help="the same with an agent from a file (see planted.py)"
    )
    parser.add_argument("--no-shrink", action="store_true", help="write differences down as they are")
    parser.add_argument("--log", type=Path, metavar="FILE", help="JSON lines (default: below build/law)")
    parser.add_argument(
        "--replay", type=Path, metavar="FILE", help="play a corpus entry, or the cases of a log, again"
    )
    return parser


def _replay(arguments: argparse.Namespace, opened: Opener) -> int:
    """Replay the cases of a file; return 1 if an answer differs, or if the file has no case."""
    cases = list(_cases(arguments.replay))
    different = 0
    for world, some in itertools.groupby(cases, key=lambda case: case.world):
        with opened(world) as arena:
            for case in some:
                played = case.play(arena)
                found = judge(played, case.script, case.parts, case.world)
                if played.lost_off:
                    _say(f"filters on and off not comparable: the unfiltered agent lost {played.lost_off}")
                different += bool(found)
                for one in found:
                    _say(f"{one.kind}: expected {one.expected}; got {one.got}")
                    _say("".join(f"    {line}\n" for line in one.evidence))
    _say(f"{len(cases)} cases, {different} differ")
    return 0 if cases and not different else 1


def _cases(file: Path) -> Sequence[Case]:
    if file.suffix == ".jsonl":
        found = [json.loads(line) for line in file.read_text().splitlines()]
        return [Case.from_json(entry["small"]) for entry in found if "small" in entry]
    return [entries.case(file.stem)]


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
