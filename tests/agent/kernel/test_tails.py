"""The programs that others call at their end: both sides number them alike."""

import platform
import re
import subprocess
from pathlib import Path

import pytest

from agent.kernel import tails
from agent.kernel.choose import Chosen, Plan
from tests.agent.kernel import disassembly

BPF = Path(__file__).parents[3] / "bpf"
MAPS = BPF / "maps.h"
TAIL_CALL = re.compile(r"\bcall (?:0xc|12)$")


def plan(*chosen: tuple[str, str]) -> Plan:
    """A plan of hooks by kinds, whose programs are called as the loader calls them."""
    made = [Chosen(hook, kind, "somewhere") for hook, kind in chosen]
    return Plan({one.hook: one for one in made}, ())


def test_numbers_are_those_of_the_header() -> None:
    """Each program's number is its place in the enumeration."""
    body = re.search(r"enum fim_tail \{(.*?)\}", MAPS.read_text("ascii"), re.DOTALL)
    assert body is not None
    names = re.findall(r"FIM_TAIL_\w+", body[1])
    assert names[-1] == "FIM_TAIL_COUNT"
    for table in tails.MAPS:
        numbers = [tail.number for tail in tails.TAILS if tail.table == table]
        assert numbers == list(range(len(names) - 1))


def test_a_refused_tail_call_is_reported_for_its_callers() -> None:
    """Programs that do not call it are not reported."""
    entry, end, once = ("open.enter", "kprobe"), ("open.exit", "kretprobe"), ("close.once", "kprobe")
    chosen = plan(entry, end, once, ("unlink.resolve", "fentry"))
    assert [one.hook for one in tails.users("tail__kprobe", chosen)] == ["open.enter"]
    assert [one.hook for one in tails.users("tail__kretprobe", chosen)] == ["open.exit"]
    assert [one.hook for one in tails.users("kprobe__close__once", chosen)] == ["close.once"]


@pytest.mark.parametrize("kind", ["kprobe", "kretprobe", "kprobe_multi"])
def test_what_observes_a_kind_calls_and_jumps_as_its_programs_do(kind: str) -> None:
    """A kernel with net.core.bpf_jit_enable=0 refuses both in one program.

    An observer without them fired there, and 7.3 then refused a hundred programs, one in each load.
    """
    known = disassembly.functions()
    jumping = {
        name for name, function in known.items() if any(TAIL_CALL.search(line) for line in function.lines)
    }
    assert any(name.startswith(f"{kind}__") for name in jumping)
    observer = f"probe__{kind}"
    assert observer in jumping
    assert known[observer].refers & known.keys()


def test_no_program_of_arm64_jumps_and_calls(tmp_path: Path) -> None:
    """Before 6.0 the kernel allows no tail call there beside a function of the object."""
    made = tmp_path / "fim.bpf.o"
    flags = ("-g", "-O2", "-fno-unroll-loops", "-target", "bpf", "-mcpu=v2", "-D__TARGET_ARCH_arm64")
    headers = ("-idirafter", f"/usr/include/{platform.machine()}-linux-gnu")
    source = BPF / "fim.bpf.c"
    subprocess.run(("clang", *flags, f"-I{BPF}", *headers, "-c", source, "-o", made), check=True)
    known = disassembly.functions(made)
    jumping = {name: one for name, one in known.items() if any(map(TAIL_CALL.search, one.lines))}
    assert {"kretprobe__open__exit", "probe__kretprobe"} <= jumping.keys()
    assert not [name for name, one in jumping.items() if one.refers & known.keys()]
