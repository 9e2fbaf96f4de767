"""Writes the files of a bench, and the page of several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.bench import changes, chart, model, table
from harness.bench.model import Bench
from harness.bench.monitors import MONITORS
from harness.errors import ConfigError

FILES = (model.NAME, "cost.md", "cost.svg")

_INTRODUCTION = """# What monitoring costs

Do not edit this page. `make bench` measures one kernel, and `harness bench --from FILE --page docs/cost.md`
makes the page.

Each trial boots a machine, starts one monitor and runs all workloads beside it. All monitors watch the same
paths, and a round measures all of them, one after another; the next round goes through them in the reverse
order. Under emulation (TCG) the guest's clock counts its instructions, so the load of the host does not
change the figures. Instructions are no cycles: caches and the TLB do not count.

- **program**: CPU of the workload for each operation, with what the monitor adds inside its system calls.
- **monitor's own**: CPU of all other threads beyond what it is without a monitor, kernel threads included.
- **all**: both. **wall**: from the first operation to the last, so without what the monitor does later.
- **lost**: watched opens without a line, of all that were generated.
- **spread**: range of "all" over the rounds, in percent of its median.
- **start**: CPU until the monitor reported its first event. **memory**: of its processes (PSS) after all
  workloads. **kernel's memory**: growth of slabs, maps and page tables during the start.

To open one file again and again is a case in which inotify and fatrace merge: of equal events that wait, one
stays.

"""

_CHANGES = """## What changes did

Figures are instructions that the agent adds to one operation of the program, or what the table says.

"""


def folder(path: Path) -> Path:
    """Make the folder of a bench and return it; it may have an earlier bench. Raises ConfigError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        others = {entry.name for entry in path.iterdir()} - set(FILES)
    except OSError as error:
        raise ConfigError(f"--output {path}: {error.strerror}", hint="name a new folder") from error
    if others:
        raise ConfigError(
            f"--output {path}: has other files, such as {min(others)}", hint="name a new folder"
        )
    return path


def save(bench: Bench, folder: Path) -> None:
    """Write the files of one bench into a folder. Raises OSError."""
    model.save(bench, folder)
    (folder / "cost.md").write_text(text([bench], {bench.kernel: "cost.svg"}), encoding="utf-8")
    (folder / "cost.svg").write_text(chart.svg(bench), encoding="utf-8")


def write(benches: Sequence[Bench], path: Path) -> None:
    """Write the page of several kernels and, beside it, a chart for each. Raises OSError."""
    charts = {bench.kernel: f"{path.stem}-{bench.kernel}.svg" for bench in benches}
    for bench in benches:
        (path.parent / charts[bench.kernel]).write_text(chart.svg(bench), encoding="utf-8")
    made = f"{text(benches, charts)}\n{_CHANGES}{table.markdown(changes.rows())}"
    path.write_text(made, encoding="utf-8")


def text(benches: Sequence[Bench], charts: dict[str, str]) -> str:
    """Return the page in Markdown; `charts` names a file for each kernel."""
    parts = [_INTRODUCTION]
    for bench in benches:
        parts.append(f"## {bench.kernel}\n\n{table.conditions(bench)}\n")
        parts.append(f"![cost of each monitor on {bench.kernel}]({charts[bench.kernel]})\n")
        for title, rows in table.tables(bench):
            parts.append(f"### {title}\n\n{table.markdown(rows)}")
        about = "".join(f"- `{name}`: {words}\n" for name, words in bench.monitors.items())
        parts.append(f"### Monitors\n\n{about}")
    return "\n".join(parts)


def joined(benches: Sequence[Bench]) -> list[Bench]:
    """Join benches of one kernel that measured different monitors or workloads.

    Only the agent is built from the commit: the other monitors may have been measured at another.
    Raises ConfigError for benches of one kernel that must not be compared.
    """
    found: dict[str, Bench] = {}
    for bench in benches:
        first = found.get(bench.kernel)
        found[bench.kernel] = _join(first, bench) if first else bench
    return list(found.values())


def _join(first: Bench, second: Bench) -> Bench:
    for name in ("release", "arch", "clock", "accelerator"):
        _must_agree(first.kernel, name, getattr(first, name), getattr(second, name))
    for name in first.workloads.keys() & second.workloads.keys():
        _must_agree(first.kernel, f"workload {name}", first.workloads[name], second.workloads[name])
    if _measures_agent(first) and _measures_agent(second):
        _must_agree(first.kernel, "commit of the agent", first.commit, second.commit)
    rounds = first.rounds
    later = tuple(one.model_copy(update={"round": one.round + rounds}) for one in second.trials)
    return first.model_copy(
        update={
            "commit": second.commit if _measures_agent(second) else first.commit,
            "monitors": {**first.monitors, **second.monitors},
            "workloads": {**first.workloads, **second.workloads},
            "trials": (*first.trials, *later),
            "seconds": first.seconds + second.seconds,
        }
    )


def _must_agree(kernel: str, what: str, one: object, other: object) -> None:
    if one != other:
        raise ConfigError(f"two benches of {kernel} differ in {what}: {one} and {other}")


def _measures_agent(bench: Bench) -> bool:
    return any(monitor.is_agent for monitor in MONITORS if monitor.name in bench.monitors)
