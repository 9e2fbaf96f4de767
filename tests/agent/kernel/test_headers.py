"""Each header of bpf/ compiles alone."""

from __future__ import annotations

import platform
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent.parent
ARCHES = {"x86_64": "x86", "aarch64": "arm64"}
# bcc.h replaces kernel.h where bcc compiles in a guest, by that kernel's own headers.
HEADERS = sorted(path.name for path in (ROOT / "bpf").glob("*.h") if path.name != "bcc.h")


def compiled(header: Path) -> subprocess.CompletedProcess[str]:
    machine = platform.machine()
    argv = (
        "clang", "-O2", "-target", "bpf", "-mcpu=v2", f"-D__TARGET_ARCH_{ARCHES[machine]}",
        "-Wall", "-Werror", "-Wno-unused-function", "-fsyntax-only",
        f"-I{ROOT / 'bpf'}", "-idirafter", f"/usr/include/{machine}-linux-gnu", "-x", "c", str(header),
    )  # fmt: skip
    return subprocess.run(argv, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_compiles_alone(name: str) -> None:
    """It includes everything that it uses."""
    done = compiled(ROOT / "bpf" / name)
    assert done.returncode == 0, done.stderr


def test_a_header_that_depends_on_others_is_found(tmp_path: Path) -> None:
    """A header that uses a structure of another header without including it does not compile."""
    header = tmp_path / "lonely.h"
    header.write_text("static inline int lonely(struct fim_slot *slot)\n{\n\treturn slot->used;\n}\n")
    assert compiled(header).returncode != 0


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_names_what_it_includes(name: str) -> None:
    """Every header guards itself, and includes kernel.h or a library first, never another one by accident."""
    text = (ROOT / "bpf" / name).read_text()
    guard = f"FIM_{name.removesuffix('.h').upper()}_H"
    assert f"#ifndef {guard}\n#define {guard}\n" in text
    included = re.findall(r'^#include [<"]([\w./]+)[>"]', text, re.MULTILINE)
    assert included[0] == ("linux/bpf.h" if name == "kernel.h" else "kernel.h")
