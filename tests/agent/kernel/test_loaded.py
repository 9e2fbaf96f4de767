"""Which programs are attached for the rules, with a fake of what attaches them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from agent.events.model import EventType
from agent.hooks import needs
from agent.kernel import causes
from agent.kernel.choose import Chooser
from agent.kernel.loaded import Loaded, Parts
from tests.agent.kernel.test_choose import ALL, Kernel


def asked_for(hookset: str, events: set[EventType]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the hooks that are attached for these events, and all hooks of the set."""
    plan = Chooser(hookset, {**ALL, "tracepoint": "fires"}, Kernel()).plan(needs.EVENTS)
    asked: set[str] = set()
    attached = SimpleNamespace(plan=plan, attach=lambda hooks, *_: asked.update(hooks))
    opened = SimpleNamespace(programs={chosen.program: None for chosen in plan.chosen.values()})
    calls = SimpleNamespace(set=lambda *_: None)
    parts: Any = Parts(opened, attached, None, None, calls)  # type: ignore[arg-type]
    Loaded(parts, {}, lambda refused: plan).attach(events)
    return frozenset(asked), frozenset(plan.chosen)


@pytest.mark.parametrize("hookset", ["lsm", "fentry", "kprobe", "tracepoint"])
@pytest.mark.parametrize("admin", [True, False])
def test_only_what_the_rules_need_is_attached(
    monkeypatch: pytest.MonkeyPatch, hookset: str, admin: bool
) -> None:
    """But all that is attached through perf, if that would be refused later."""
    monkeypatch.setattr(causes, "perf_takes_admin", lambda: admin)
    asked, every = asked_for(hookset, {EventType.EXEC})
    if admin and hookset == "kprobe":
        assert asked == every
    elif admin and hookset == "tracepoint":
        assert {"syscall.enter", "syscall.exit"} <= asked
    else:
        assert asked < every
        assert not {name for name in asked if name.startswith(("chmod", "setxattr", "mkdir"))}
