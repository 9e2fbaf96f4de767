"""The source `fragment`: sources and options make a kernel; each fault is one line, and nothing is cached.

The sources are a fake whose make copies an image: a real kernel takes a quarter of an hour.
"""

from __future__ import annotations

import collections
import os
import select
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.errors import ConfigError
from harness.host import resources
from harness.host.cache import Cache
from harness.kernels import fetcher, fragment, kbuild, kconfig, named, preflight, sources
from harness.kernels.model import Package
from harness.plan.matrix import Kernel, Matrix
from tests.harness.kernels.signed import fetch, refused
from tests.harness.kernels.trees import RELEASE, bzimage, write

MAKEFILE = """\
allnoconfig:
\techo >>$(CURDIR)/configured
\tcp $(KCONFIG_ALLCONFIG) $(O)/.config
olddefconfig:
\tpython3 conf.py $(O)/.config
all:
\techo $(O) $(MAKEFLAGS) >>$(CURDIR)/calls
\tmkdir -p $(O)/arch/x86/boot
\techo "  CC      init/main.o"
\t@if grep -q BROKEN=y $(O)/.config; then echo "init/main.c:1:2: error: broken" >&2; exit 1; fi
\ttouch $(O)/vmlinux.o $(O)/.tmp_vmlinux1 $(O)/main.o
\tcp bzImage $(O)/arch/x86/boot/bzImage
"""
CONF = """\
import sys
rows = open(sys.argv[1]).read().splitlines()
last = {row.replace('# ', '').split('=')[0].split()[0]: row for row in rows}
if last.get('CONFIG_LANDLOCK') == 'CONFIG_LANDLOCK=y':
    last['CONFIG_PATH'] = 'CONFIG_PATH=y'
for name in ('CONFIG_LAZY', 'CONFIG_NEW'):
    last.pop(name, None)
open(sys.argv[1], 'w').write('\\n'.join(last.values()) + '\\n')
"""
KCONFIG = """\
config PATH
\tbool "paths"
config LANDLOCK
\tbool
\tselect PATH
config LAZY
\tbool "lazy"
\tdepends on PREEMPT_BUILD
"""
FRAGMENTS = {
    "base.config": "CONFIG_LANDLOCK=y  # Debian 13: its config\nCONFIG_PATH=y\n",
    "good.config": "# comment\n\nCONFIG_FPROBE=n  # Talos: its config\n",
    "stubborn.config": "CONFIG_PATH=n\n",
    "lazy.config": "CONFIG_LAZY=y\n",
    "absent.config": "CONFIG_LAZY=n\nCONFIG_NEW=y\n",
    "broken.config": "CONFIG_BROKEN=y\n",
}
PACKAGE = Package("linux-source-6.12", "6.12.0-1", "ab" * 32, 1, "pool/l/linux-source-6.12_6.12.0-1_all.deb")


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> Path:
    """A fake linux-source package, fragments, and all programs; return the folder of the fragments."""
    del own_cache
    tree: dict[str, bytes | str] = {
        "Makefile": MAKEFILE,
        "conf.py": CONF,
        "bzImage": bzimage(),
        "init/Kconfig": KCONFIG,
    }
    write(tmp_path / "linux-source-6.12", tree)

    def unpacked(_resolved: object, _repositories: object, scratch: Path, _progress: object) -> Path:
        folder = scratch / "tree/usr/src"
        folder.mkdir(parents=True)
        archive = folder / "linux-source-6.12.tar.xz"
        subprocess.run(["tar", "-C", tmp_path, "-cJf", archive, "linux-source-6.12"], check=True)
        return scratch / "tree"

    monkeypatch.setattr(fetcher, "unpacked", unpacked)
    monkeypatch.setattr(fragment, "listed", lambda *_: (PACKAGE,))
    monkeypatch.setattr(fragment, "_suite", lambda *_: "trixie")
    monkeypatch.setattr(kbuild, "missing", dict)
    monkeypatch.setattr(kbuild, "compiler", lambda: Package("compiler", "12", "cd" * 32, 0, "gcc 12"))
    monkeypatch.setattr(kconfig, "FOLDER", write(tmp_path / "configs", FRAGMENTS))
    monkeypatch.setenv("MAKEFLAGS", "--trace")
    return tmp_path / "configs"


def _kernel(*words: str) -> Kernel:
    return Kernel(name="own", fragment=words)


def _built() -> list[str]:
    """What each `make all` was called with."""
    path = next(Cache().root.glob("kernel-source/*/content/calls"), None)
    return path.read_text().splitlines() if path else []


def test_a_kernel_is_built_once_in_a_copy_of_the_base_objects(source: Path) -> None:
    """At the same path as these, with the flags of no make around us; then it comes from the cache."""
    kernel = _kernel("good")
    found = fetch(kernel)
    assert (found.release, kernel.requested) == (RELEASE, "configuration of good on Debian 6.12")
    assert [one.name for one in found.packages] == ["linux-source-6.12", "configuration", "compiler"]
    config = preflight.settings(found.config.read_text()) if found.config else {}
    assert config == {"LANDLOCK": "y", "PATH": "y", "LOCALVERSION": '"-fragment-good"'}
    assert len(_built()) == 2
    assert len(set(_built())) == 1
    assert "--trace" not in _built()[0]
    assert fetch(kernel) == found
    (source / "good.config").write_text("CONFIG_FPROBE=y\n")
    assert fetch(kernel).digest != found.digest
    assert len(_built()) == 3
    configured = next(Cache().root.glob("kernel-source/*/content/configured"))
    assert len(configured.read_text().splitlines()) == 2  # before the build of the base, and for it
    assert not list(Cache().root.glob("kernel-build/*.partial"))
    kept = next(Cache().root.glob("kernel-objects/*/content"))
    assert {path.name for path in kept.glob("*[o1]")} == {"main.o"}


@pytest.mark.parametrize(
    ("name", "words", "hint"),
    [
        (
            "stubborn",
            r"stubborn\.config:1: CONFIG_PATH=n does not survive .* makes it y",
            "n what selects it",
        ),
        ("lazy", r"lazy\.config:1: CONFIG_LAZY=y does not survive .* makes it n", "PREEMPT_BUILD"),
        ("absent", r"absent\.config:2: CONFIG_NEW=y does not survive", "no such option"),
        ("broken", r"does not build: init/main\.c:1:2: error: broken", "kernel-build.log"),
        ("goood", "unknown fragment 'goood'", "did you mean 'good'"),
    ],
)
def test_faults_of_a_fragment(source: Path, name: str, words: str, hint: str) -> None:
    """One line with the place and the remedy; nothing of the kernel stays."""
    del source
    refused(_kernel(name), ConfigError, words)
    with pytest.raises(ConfigError) as caught:
        fetch(_kernel(name))
    assert hint in caught.value.hint
    assert not list(Cache().root.glob("kernel-build/*.partial"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("CONFIG_A=y\nCONFIG_A=n\n", r"own\.config:2: CONFIG_A is set in line 1 too"),
        ("FPROBE=n\n", r"own\.config:1: not an option and its value"),
        ("# CONFIG_FPROBE is not set\n", "sets no option"),
        ("CONFIG_A=yes\n", "not an option"),
        ('CONFIG_A="$(shell id)"\n', "not an option"),
        ('CONFIG_A="`id`"\n', "not an option"),
        ('CONFIG_A="a\\"\n', "not an option"),
        ("CONFIG_A=y\x00\n", "not an option"),
    ],
)
def test_a_fragment_of_the_user_that_cannot_be_read(source: Path, text: str, words: str) -> None:
    """Before anything is fetched."""
    path = source / "own.config"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        fragment.check(_kernel(str(path)), "amd64")
    assert caught.value.hint


def test_a_fragment_that_others_can_change(source: Path) -> None:
    """It decides what make does on this host."""
    path = source / "own.config"
    path.write_text("CONFIG_A=y\r\n")
    fragment.check(_kernel(str(path)), "amd64")
    path.chmod(0o666)
    with pytest.raises(ConfigError, match="every user of this host can change it"):
        fragment.check(_kernel(str(path)), "amd64")


def test_what_is_known_before_anything_is_fetched(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another architecture, a file that does not exist, and programs that are not installed."""
    with pytest.raises(ConfigError, match="built for amd64 only"):
        fragment.check(_kernel("good"), "arm64")
    with pytest.raises(ConfigError, match="no such file"):
        fragment.check(_kernel(str(source / "gone.config")), "amd64")
    monkeypatch.setattr(kbuild, "missing", lambda: {"flex": "flex", "gelf.h": "libelf-dev"})
    with pytest.raises(ConfigError, match=r"lacks flex, gelf\.h") as caught:
        sources.check_host([_kernel("good")])
    assert caught.value.hint == "apt-get install flex libelf-dev"
    sources.check_host([Kernel(name="6.1", series="6.1")])


def test_no_disk_for_a_build(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found before anything is unpacked."""
    del source
    usage = collections.namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(1 << 30))
    refused(_kernel("good"), ConfigError, "no disk space in .* to build a kernel: 1024 MiB free")
    assert not _built()


def test_missing_programs_and_headers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each with its package."""
    monkeypatch.setattr(shutil, "which", lambda name, path: None if name == "pahole" else f"{path}/{name}")
    monkeypatch.setattr(kbuild, "_INCLUDE", tmp_path)
    write(tmp_path, {"x86_64-linux-gnu/openssl/opensslv.h": ""})
    assert kbuild.missing() == {"pahole": "dwarves", "gelf.h": "libelf-dev"}


def test_a_build_ends_with_the_harness() -> None:
    """With all its children, which would go on for minutes."""
    children = []

    def interrupted() -> None:
        with kbuild._group(["sh", "-c", "sleep 1000 & echo $!; wait"], dict(os.environ)) as running:
            assert running.stdout
            children.append(os.pidfd_open(int(running.stdout.readline())))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert select.select(children, [], [], 20)[0]
    os.close(children[0])


def test_a_command_line_names_a_fragment() -> None:
    """As `fragment:NAME`, beside the kernels of the matrix."""
    matrix, names = named.added(Matrix(kernels=(Kernel(name="6.1", series="6.1"),)), ["fragment:no-btf"])
    assert names == ("no-btf",)
    assert matrix.kernels[1].fragment == ("no-btf",)


def test_every_line_of_our_fragments_has_a_source() -> None:
    """Distribution and place after #, or the purpose in a guest."""
    assert kconfig.FOLDER == resources.FOLDER / "configs"
    wanted = {"no-security-path", "no-btf", "no-fprobe", "no-bpf-lsm", "no-kprobes", "preempt-full", "el9"}
    assert wanted | {"base", "debug", "kheaders"} <= set(kconfig.known())
    for name in kconfig.known():
        for line in kconfig.read(kconfig.path_of(name)):
            assert ":" in line.source or name == "base", f"{line.where}: no source"
            assert line.source, f"{line.where}: no source"


def test_a_fragment_in_a_matrix_is_a_name_or_a_path(tmp_path: Path) -> None:
    """Paths are relative to the matrix; names are those of images/configs."""
    kernel = _kernel("el9", "mine/own.config").below(tmp_path)
    assert kernel.fragment == ("el9", f"{tmp_path}/mine/own.config")
    assert kernel.requested == "configuration of el9 and own on Debian 6.12"
