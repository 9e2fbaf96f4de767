"""One play as data, from which it can be repeated: world, rules, programs, kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tests.campaigns.law.played import Played
from tests.campaigns.law.policies import Rule, rendered
from tests.campaigns.law.programs import Program
from tests.campaigns.law.steps import RELOAD, Step, parse, render
from tests.campaigns.law.world import World


@dataclass(frozen=True)
class Case:
    """The data of a play. `reload` has the rules from the program `cut` on; None if they stay the same."""

    world: World
    rules: tuple[Rule, ...]
    programs: tuple[Program, ...]
    reload: tuple[Rule, ...] | None = None
    cut: int = 0

    @property
    def script(self) -> str:
        """Return the script of all programs; nothing is witnessed of those that make the trees."""
        rows = []
        for number, program in enumerate(self.programs):
            if number == self.cut and self.reload is not None:
                rows.append(f"{RELOAD}\n")
            rows += [f"witness {'off' if program.makes else 'on'}\n", render([program.step()])]
        return "".join(rows)

    @property
    def parts(self) -> tuple[tuple[Rule, ...], ...]:
        """Return the rules of each part."""
        return (self.rules, self.rules if self.reload is None else self.reload)

    def size(self) -> int:
        """Return the number of lines of programs and rules."""
        lines = sum(step.size() for program in self.programs for step in program.steps)
        return lines + len(self.rules) + len(self.reload or ())

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        found: dict[str, Any] = {
            "world": self.world.to_json(),
            "rules": _plain(self.rules),
            "script": render(program.step() for program in self.programs),
        }
        if self.reload is not None:
            found |= {"reload": _plain(self.reload), "cut": self.cut}
        return found

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Case:
        """Read the data of `to_json`; raises ValueError or KeyError for other data."""
        reload = data.get("reload")
        return cls(
            World.from_json(data["world"]),
            _rules(data["rules"]),
            tuple(_program(step) for step in parse(data["script"])),
            None if reload is None else _rules(reload),
            data.get("cut", 0),
        )

    def having(self, programs: Sequence[Program]) -> Case:
        """Return the case with some of its programs; the reload stays between the same programs."""
        names = {program.name for program in self.programs[: self.cut]}
        return replace(self, programs=tuple(programs), cut=sum(one.name in names for one in programs))

    def play(self, arena: Any) -> Played:
        """Play the case in a guest. Raises HarnessError if the guest dies."""
        played: Played = arena.play(
            rendered(self.rules), self.script, None if self.reload is None else rendered(self.reload)
        )
        return played


def _plain(rules: Sequence[Rule]) -> list[dict[str, str]]:
    return [{"id": rule.id, "kind": rule.kind, "expression": rule.expression} for rule in rules]


def _rules(data: Sequence[Mapping[str, str]]) -> tuple[Rule, ...]:
    return tuple(Rule(one["id"], one["kind"], one["expression"]) for one in data)


def _program(step: Step) -> Program:
    if step.call != "program" or len(step.words) != 2:
        raise ValueError(f"'{' '.join(step.words)}' stands outside of a program")
    return Program(step.words[1], step.body)
