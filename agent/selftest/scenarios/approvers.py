"""What no rule asks for stays in the kernel, and what a rule asks for does not."""

from __future__ import annotations

from agent.events import EventType
from agent.selftest.bench import Bench, Round
from agent.selftest.scenarios import proves

NOISE = 1009  # opens that no rule asks for
WANTED = 13
CONTROL = 11


def _opens(count: int, path: str, flags: str) -> str:
    """A script that opens a path so often."""
    return f"repeat {count}\nopen {path} {flags} 0600 -> $0\nclose $0\nend\n"


def _check_silence(bench: Bench, noise: Round) -> None:
    bench.equal("noise that reaches the agent", 0, len(noise.of(EventType.OPEN)))
    bench.equal("noise rejected by approvers", NOISE, noise.spent[EventType.OPEN].approver_rejected)


@proves("approvers.path")
def approvers_path(bench: Bench) -> None:
    """Open a thousand other files beside the one that the rule names."""
    wanted, others = bench.path("wanted"), bench.path("other%d")
    bench.rules(wanted=f'open.file.path == "{wanted}"')
    _check_silence(bench, bench.play(_opens(NOISE, others, "O_RDWR|O_CREAT")))
    passed = bench.play(_opens(WANTED, wanted, "O_RDWR|O_CREAT"))
    bench.equal("opens of the wanted path", WANTED, len(passed.matches("wanted")))

    bench.rules(wanted=f'open.file.path == "{wanted}"', anything=f'open.file.path != "{wanted}"')
    control = bench.play(_opens(CONTROL, others, "O_RDWR"))
    bench.equal("the same noise, once a rule asks for it", CONTROL, len(control.matches("anything")))


@proves("approvers.flags")
def approvers_flags(bench: Bench) -> None:
    """Read a file a thousand times where the rule asks for writing."""
    path = bench.path("file")
    bench.rules(written="open.flags & (O_WRONLY|O_RDWR) > 0")
    created = bench.play(_opens(1, path, "O_WRONLY|O_CREAT"))
    bench.equal("the open that created it", 1, len(created.matches("written")))
    _check_silence(bench, bench.play(_opens(NOISE, path, "O_RDONLY")))
    for flags in ("O_WRONLY", "O_RDWR"):
        passed = bench.play(_opens(WANTED, path, flags))
        bench.equal(f"opens with {flags}", WANTED, len(passed.matches("written")))

    bench.rules(read="open.flags & O_ACCMODE == O_RDONLY")
    control = bench.play(_opens(CONTROL, path, "O_RDONLY"))
    bench.equal("the same noise, once a rule asks for it", CONTROL, len(control.matches("read")))
