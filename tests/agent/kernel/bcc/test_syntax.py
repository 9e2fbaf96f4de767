"""What bcc compiles in guests is valid C, with the types of bpf/kernel.h in place of the kernel's headers.

That takes a second, and finds what a change of the common headers breaks: a macro that bpf/bcc.h does not
define, a function that the set does not include. Headers that differ between kernels show only in a guest.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.kernel.bcc import backend, layout
from agent.kernel.bcc import source as bcc_source
from agent.kernel.bcc.compile import defines
from tests import ROOT

BPF = ROOT / "bpf"
OWN_TYPES = ("mount", "mnt_namespace", "nameidata___lookup", "open_flags")  # bpf/bcc.h defines these itself
HEADERS = """
typedef __u64 size_t;
struct hlist_node { void *next; };
int vfs_setxattr(struct dentry *, const char *, const void *, size_t, int);
__u64 bpf_pseudo_fd(__u64, __u64);
__u64 PT_REGS_PARM6(const void *);
"""


def stub() -> str:
    """Return what stands for the kernel's headers: kernel.h without the types and macros of bcc.h."""
    macros = re.findall(r"^#define (\w+)", (BPF / "bcc.h").read_text(), re.MULTILINE)
    renamed = "".join(f"#define {name} kernel_{name}\n" for name in OWN_TYPES)
    hidden = "".join(f"#undef {name}\n" for name in (*OWN_TYPES, *macros))
    return f'{renamed}#include "kernel.h"\n{hidden}{HEADERS}'


def compiled(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Return the result of clang on what bcc would compile."""
    path = folder / "body.c"
    path.write_text(stub() + re.sub(r"^#include <.*\n", "", text, flags=re.MULTILINE))
    sizes = [f"-D{name}={value}" for name, value in defines(layout.Layout(8, 16, 24)).items()]
    words = ["clang", "-fsyntax-only", "-target", "bpf", "-D__TARGET_ARCH_x86", "-fms-extensions"]
    words += [
        "-Werror=implicit-function-declaration",
        f"-I{BPF}",
        "-idirafter",
        "/usr/include/x86_64-linux-gnu",
        *sizes,
        str(path),
    ]
    return subprocess.run(words, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def text() -> str:
    if not shutil.which("clang"):
        pytest.skip("clang is not installed")
    return bcc_source.read(BPF, tuple(backend.symbols().values())).body


def test_the_text_for_bcc_is_valid(text: str, tmp_path: Path) -> None:
    """All programs of the set, as agent/kernel/bcc/source.py prepares them."""
    result = compiled(text, tmp_path)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("macro", ["FIM_ONCE", "FIM_JUDGES_APART", "FIM_PARM6"])
def test_a_macro_that_bcc_h_lacks_is_found(text: str, tmp_path: Path, macro: str) -> None:
    """So the test above can fail."""
    without = re.sub(rf"^#define {macro}\b.*\n", "", text, flags=re.MULTILINE)
    assert compiled(without, tmp_path).returncode
