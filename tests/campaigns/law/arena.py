"""A guest with a world, in which programs run while two agents watch: with filters, and without."""

from __future__ import annotations

import contextlib
import json
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from harness.console.complaints import scan
from harness.errors import InfrastructureError
from harness.guest.deploy import deploy
from harness.lab.lab import VmBench, VmMachine
from harness.plan.plan import Selectors
from harness.run.run import Options, Run
from tests import ROOT
from tests.campaigns.law import outside, records
from tests.campaigns.law.neighbours import NAMES, NEIGHBOURS, READY, RELOADS, UID
from tests.campaigns.law.played import Match, Outside, Played, Record
from tests.campaigns.law.steps import RELOAD
from tests.campaigns.law.world import World

if TYPE_CHECKING:
    from harness.guest.base import Channel, Guest

MATRIX = ROOT / "matrix.yaml"
TEST = "truth.open"  # a plan needs a test; none is run
MEMORY_MIB = 1024
BOOT_S = 300.0
BUILD_S = 600.0
START_S = 900.0
PLAY_S = 1800.0
PLAYER = "/root/guest_player.py"
MODULES = ("guest_fanotify.py", "guest_neighbours.py")  # that it imports
UNFILTERED = "/root/guest_unfiltered.py"
FOLDER = "/run/law"
_HERE = Path(__file__).parent
_FILES = {
    PLAYER: _HERE / "guest_player.py",
    **{f"/root/{name}": _HERE / name for name in MODULES},
    UNFILTERED: ROOT / "tests" / "guest" / "agent" / "guest_unfiltered.py",
}
_AGENTS = {"on": ["python3", "-m", "agent"], "off": ["python3", UNFILTERED]}


class Arena:
    """One guest of a kernel of matrix.yaml, with a world and the agents in it.

    `world` is without what the kernel cannot make once the arena was entered. `neighbour` is "", one of
    `neighbours.NAMES`, or "all" to have another one with each play. `bundle` is the agent's, if it is not
    this tree's; with it there is no agent without filters, and what it would have reported is not known: the
    answers `off` are those of the only agent. Raises the harness's errors if the guest dies.
    """

    def __init__(
        self,
        kernel: str,
        world: World,
        hookset: str = "",
        neighbour: str = "",
        bench: VmBench | None = None,
        bundle: bytes | None = None,
    ) -> None:
        self.kernel, self.world, self.hookset, self.neighbour = kernel, world, hookset, neighbour
        self.infrastructure: frozenset[int] = frozenset()
        self.helper = ""  # the program that the kernel starts for a file system or format that it lacks
        # Seconds of the last play: reset, then play and settling of each part, reply.
        self.timing: list[float] = []
        self.unwatched: dict[str, str] = {}  # what fanotify cannot watch here, and why
        self._bench, self._bundle = bench, bundle
        self._open = contextlib.ExitStack()
        self._plays = 0
        self._before: dict[str, Any] = {}  # what the agents had counted before the last play

    def __enter__(self) -> Arena:
        with contextlib.ExitStack() as stack:
            self._machine = self._boot(stack)
            self._guest: Guest = self._machine.guest
            try:
                self._start_player(stack)
            except InfrastructureError as error:
                for note in (self.death(), *self.complaints()):
                    error.add_note(note)
                raise
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def play(self, policies: bytes, script: str, reload: bytes | None = None) -> Played:
        """Play a script in the world's first state; `reload` are the rules from a line `# reload` on.

        Raises InfrastructureError if an agent ends, does not catch up, or refuses the rules.
        """
        self._plays += 1
        texts = script.split(f"{RELOAD}\n", 1)
        rules = [policies] if len(texts) == 1 or reload is None else [policies, reload]
        name = NAMES[self._plays % len(NAMES)] if self.neighbour == "all" else self.neighbour
        beside = {
            "neighbours": [NEIGHBOURS[name]] if name in NEIGHBOURS else [],
            "reloads": name == RELOADS,
        }
        parts = []
        for number, (text, rule) in enumerate(zip(texts, rules, strict=False)):
            self._guest.put_bytes(rule, f"{FOLDER}/rules.{number}")
            self._guest.put_bytes(
                "go\n".join([*records.blocks(text), ""]).encode(), f"{FOLDER}/script.{number}"
            )
            files = {"rules": f"{FOLDER}/rules.{number}", "script": f"{FOLDER}/script.{number}"}
            parts.append({**files, **beside})
        answer = self._ask(
            {"do": "play", "parts": parts, "reset": self.world.named(script), "ready": READY}, PLAY_S
        )
        self.timing = answer["seconds"]
        problems = [*answer["problems"], *(f"rules refused: {one}" for one in answer["wrong"])]
        return self._played(texts[: len(rules)], problems)

    def death(self) -> str:
        """Return how the machine ended; "the machine runs" if it did not."""
        return str(self._machine.death() or "the machine runs")

    def complaints(self) -> list[str]:
        """Return what the kernel complained about on its console (warnings, oopses), as fingerprints."""
        return [one.fingerprint or one.line for one in scan(self._machine.console().splitlines()).found]

    def run(self, *words: str) -> str:
        """Return the output of a command in the guest."""
        return self._guest.run(words).stdout.decode(errors="replace")

    def _start_player(self, stack: contextlib.ExitStack) -> None:
        for remote, local in _FILES.items():
            self._guest.put(local, remote)
        self._channel: Channel = self._guest.open_channel(["python3", PLAYER])
        stack.callback(self._channel.close)
        self._build()

    def _boot(self, stack: contextlib.ExitStack) -> VmMachine:
        bench = self._bench or stack.enter_context(
            contextlib.closing(VmBench(lock=MATRIX.with_name("matrix.lock")))
        )
        bench.memory_mib = MEMORY_MIB
        options = Options(matrix=MATRIX, selectors=Selectors(kernel=(self.kernel,), test=(TEST,)))
        plan = Run(options, bench).plan
        cell = plan.cells[0]
        supplies = bench.prepare(plan, bench.accelerator(cell.arch)[0], bench.progress)
        workdir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="law-")))
        machine = bench.machine(cell, supplies, workdir)
        stack.callback(machine.destroy)
        machine.boot(BOOT_S)
        if self._bundle is None:
            machine.deploy()
        else:
            deploy(machine.guest, self._bundle)
        return machine

    def _build(self) -> None:
        request = {
            "do": "build",
            "places": [place.to_json() for place in self.world.places],
            "cgroups": list(self.world.cgroups),
        }
        made = self._ask(request, BUILD_S)
        self.world, self.helper = self.world.without(made["missing"]), made["helper"]
        options = ["--hookset", self.hookset] if self.hookset else []
        agents = _AGENTS if self._bundle is None else {"on": _AGENTS["on"]}
        started = self._ask({"do": "start", "agents": agents, "options": options}, START_S)
        self.infrastructure = frozenset(started["pids"])

    def _ask(self, request: dict[str, Any], deadline_s: float) -> dict[str, Any]:
        self._channel.write(json.dumps(request).encode() + b"\n")
        line = self._channel.readline(deadline_s)
        if line is None:
            raise InfrastructureError(
                f"the player in the guest ended: {self._channel.stderr_tail().decode(errors='replace')}"
            )
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise InfrastructureError(f"{request['do']} in the guest: {answer['error']}")
        return answer

    def _played(self, texts: Sequence[str], problems: list[str]) -> Played:
        with tempfile.NamedTemporaryFile() as file:
            self._guest.get(f"{FOLDER}/reply", Path(file.name))
            data = zlib.decompress(Path(file.name).read_bytes())
        head, _, body = data.partition(b"\n")
        header = json.loads(head)
        found: list[Record] = []
        seen: list[Outside] = []
        matches: dict[str, list[Match]] = {"on": [], "off": []}
        offset = line = 0
        for part, (text, lengths) in enumerate(zip(texts, header["lengths"], strict=True)):
            pieces = []
            for length in lengths:
                pieces.append(body[offset : offset + length])
                offset += length
            try:
                found += records.read(pieces[0], text, part=part, first_line=line)
                seen.append(Outside(part, outside.parsed(pieces[1]), frozenset(header["devices"][part])))
            except (ValueError, LookupError) as error:
                raise InfrastructureError(f"a report of the guest cannot be read: {error}") from error
            for name, piece in zip(header["status"], pieces[2:], strict=True):
                matches[name] += self._matches(piece, part)
            line += text.count("\n") + 1
        self.unwatched |= header["unwatched"]
        before, self._before = self._before, header["status"]
        counted = {name: _since(before.get(name), now) for name, now in header["status"].items()}
        if "off" not in counted:
            none = dict.fromkeys(("lost", "lost_to_neighbour", "dropped"), 0)
            matches["off"], counted["off"] = matches["on"], {**counted["on"], **none}
        return replace(_played(found, matches, counted, problems), outside=tuple(seen))

    def _matches(self, data: bytes, part: int) -> Iterator[Match]:
        for text in data.splitlines():
            match = json.loads(text)
            if "event" not in match:  # an event of the agent itself
                continue
            process = match["process"]
            # An agent also starts children, to see whether its hooks fire.
            agents = self.infrastructure.intersection((process["pid"], process["ppid"]))
            helper = self.helper in (process["exe"], match["event"].get("path"))
            if not agents and not helper and process["uid"] != UID:
                yield {**match, "part": part}


def _since(before: dict[str, Any] | None, now: dict[str, Any]) -> dict[str, Any]:
    """Return what an agent counted since the last request."""
    if before is None:
        return now
    rows = {
        kind: {name: count - before["ledger"].get(kind, {}).get(name, 0) for name, count in row.items()}
        for kind, row in now["ledger"].items()
    }
    counts = {name: now[name] - before[name] for name in ("lost", "lost_to_neighbour", "dropped")}
    return {**now, "ledger": rows, **counts}


def _played(
    found: Iterable[Record], matches: dict[str, list[Match]], status: dict[str, Any], problems: list[str]
) -> Played:
    on, off = status["on"], status["off"]
    for name, one in status.items():
        problems += [] if one["ledger"] else [f"the agent with filters {name} reports no ledger"]
        problems += [f"ledger with filters {name} does not close: {text}" for text in one["open"]]
        problems += [f"{one['dropped']} matches were dropped with filters {name}"] if one["dropped"] else []
    lost, lost_off = (one["lost"] - one["lost_to_neighbour"] for one in (on, off))
    return Played(
        tuple(found),
        tuple(matches["on"]),
        tuple(matches["off"]),
        on["ledger"],
        off["ledger"],
        lost,
        lost_off,
        tuple(problems),
    )
