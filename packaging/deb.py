"""Builds the Debian package of the agent: `python packaging/deb.py FOLDER`, or `make deb`.

The package has the agent with its compiled BPF programs, the systemd unit, the default policy and the
rotation of the log as configuration files, a manual page and the completion of bash, both made from the
program itself. It depends on its sources alone: the times of all files are that of the last commit.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from agent import __version__, cli  # noqa: E402 - the tree is not installed where packages are built
from harness.run.package import record  # noqa: E402 - likewise

NAME = "fim-agent"
PARTS = ROOT / "packaging/deb"
LIBRARY = Path("usr/lib") / NAME
CONFFILES = ("/etc/fim-agent/default.policy", "/etc/logrotate.d/fim-agent")
# As Debian's own build flags, so that lintian finds the same hardening.
GENERATOR_FLAGS = (
    *("-O2", "-w", "-s", "-fPIE", "-pie", "-fstack-protector-strong"),
    *("-D_FORTIFY_SOURCE=2", "-Wl,-z,relro,-z,now"),
)
_SUFFIXES = {".py", ".lark", ".yaml", ".json"}
_DESCRIPTION = """File-integrity monitor on eBPF
 Reports which process changed, read or executed which file, by rules in the
 language of Datadog's agent. The kernel drops what no rule can match, and
 everything that is lost is counted and reported.
 .
 Matches go to files, to the journal, to syslog or to an OpenTelemetry
 collector."""


def build(folder: Path) -> Path:
    """Build the package in `folder` and return its path. `make build` must have been run before.

    Beside it is a record of what it was made from, by which `harness run` notices an outdated one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    architecture = _output("dpkg", "--print-architecture")
    package = folder / f"{NAME}_{__version__}_{architecture}.deb"
    with tempfile.TemporaryDirectory() as temporary:
        stage = Path(temporary) / "root"
        stage.mkdir(mode=0o755)
        _program(stage)
        _configuration(stage)
        _documentation(stage)
        _control(stage, architecture)
        _settle(stage)
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "-Zxz", "--build", str(stage), str(package)],
            check=True,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "SOURCE_DATE_EPOCH": str(_epoch())},
        )
    record(package)
    return package


def _program(stage: Path) -> None:
    """Install the Python package with the BPF programs, and the command."""
    library = stage / LIBRARY / "agent"
    for source in sorted((ROOT / "agent").rglob("*")):
        if source.suffix in _SUFFIXES:
            _install(source, library / source.relative_to(ROOT / "agent"))
    _install(ROOT / "build/rules_tables.py", library / "rules/_tables.py")
    for name in ("fim.bpf.o", "fim-casts.bpf.o"):
        _install(ROOT / "build" / name, library / "bpf" / name)
    for source in sorted((ROOT / "bpf").glob("*.[ch]")):
        _install(source, library / "bpf" / source.name)
    (library / "bin").mkdir(parents=True)
    sources = sorted(map(str, (ROOT / "agent/selftest/generator").glob("*.c")))
    generator = str(library / "bin/fim-gen")
    subprocess.run(["cc", *GENERATOR_FLAGS, "-o", generator, *sources], check=True)
    subprocess.run(["strip", "--remove-section=.comment", generator], check=True)
    _install(PARTS / "fim-agent", stage / "usr/bin" / NAME, 0o755)
    completion = stage / "usr/share/bash-completion/completions" / NAME
    _write(completion, _output("register-python-argcomplete", NAME) + "\n")


def _configuration(stage: Path) -> None:
    _install(ROOT / "agent/policies/default.yaml", stage / CONFFILES[0].lstrip("/"))
    _install(PARTS / "logrotate", stage / CONFFILES[1].lstrip("/"))
    _install(ROOT / "packaging/fim-agent.service", stage / "usr/lib/systemd/system/fim-agent.service")


def _documentation(stage: Path) -> None:
    folder = stage / "usr/share/doc" / NAME
    for page in ("operations.md", "rules.md", "limits.md", "security.md"):
        _compress(folder / f"{page}.gz", (ROOT / "docs" / page).read_text())
    _install(PARTS / "copyright", folder / "copyright")
    _install(PARTS / "lintian-overrides", stage / "usr/share/lintian/overrides" / NAME)
    when = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(_epoch()))
    entry = f"  * Built from the sources of version {__version__}.\n\n -- {_maintainer()}  {when}\n"
    _compress(folder / "changelog.gz", f"{NAME} ({__version__}) unstable; urgency=medium\n\n{entry}")
    _compress(stage / "usr/share/man/man8" / f"{NAME}.8.gz", manual())


def _control(stage: Path, architecture: str) -> None:
    size = sum(path.stat().st_size for path in stage.rglob("*") if path.is_file()) // 1024
    fields = {
        "Package": NAME,
        "Version": __version__,
        "Architecture": architecture,
        "Maintainer": _maintainer(),
        "Installed-Size": str(size),
        "Depends": "libbpf1, libc6, python3 (>= 3.11), python3-yaml, init-system-helpers (>= 1.54~)",
        "Recommends": "logrotate, python3-argcomplete",
        "Suggests": "python3-bpfcc",
        "Section": "admin",
        "Priority": "optional",
        "Description": _DESCRIPTION,
    }
    _write(stage / "DEBIAN/control", "".join(f"{name}: {value}\n" for name, value in fields.items()))
    _write(stage / "DEBIAN/conffiles", "".join(f"{path}\n" for path in CONFFILES))
    for script in ("postinst", "prerm", "postrm"):
        _install(PARTS / script, stage / "DEBIAN" / script, 0o755)
    sums = (
        f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  {path.relative_to(stage)}\n"
        for path in sorted(stage.rglob("*"))
        if path.is_file() and "DEBIAN" not in path.parts and f"/{path.relative_to(stage)}" not in CONFFILES
    )
    _write(stage / "DEBIAN/md5sums", "".join(sums))


def manual() -> str:
    """Return the manual page: the commands of the program with their options."""
    words = [command.name for command in cli.COMMANDS]
    lines = [
        f'.TH FIM\\-AGENT 8 "" "{NAME} {__version__}"',
        ".SH NAME",
        "fim\\-agent \\- file\\-integrity monitor on eBPF",
        ".SH SYNOPSIS",
        *(f".B fim\\-agent {_roff(word)}\n.RI [ OPTIONS ]\n.br" for word in words),
        ".SH DESCRIPTION",
        "Reports which process changed, read or executed which file, by rules. The service",
        ".B fim\\-agent.service",
        "runs it with the rules in",
        ".IR /etc/fim\\-agent .",
        "Messages call the program",
        ".BR agent .",
        ".SH COMMANDS",
        *(line for command in cli.COMMANDS for line in _command(command)),
        ".SH EXIT STATUS",
        "0 on success, 2 if the command line or a file that it names is wrong, 3 if the kernel refused",
        "something that was needed, 4 if the minimum of hooks is not available, 1 for all other errors.",
        ".SH FILES",
        *(f".TP\n.I {_roff(path)}\n{about}" for path, about in _FILES),
        ".SH SEE ALSO",
        f"The pages in /usr/share/doc/{NAME}.".replace("-", "\\-"),
    ]
    return "\n".join(lines) + "\n"


_FILES = (
    ("/etc/fim-agent/*.policy, *.yaml", "Rules: default.policy first, then by name."),
    ("/var/log/fim-agent/matches.jsonl", "Matches, one JSON object a line."),
    ("/var/lib/fim-agent", "What survives a restart: mutes, and matches that wait for a collector."),
    ("/run/fim-agent/control.sock", "The socket of status, reload and mute."),
)


def _command(command: cli.Command) -> Iterator[str]:
    parser = cli._parser([command.name])
    (choices,) = (one for one in parser._actions if isinstance(one, argparse._SubParsersAction))
    yield f".SS fim\\-agent {_roff(command.name)}"
    yield _sentence(command.help)
    for action in choices.choices[command.name]._actions:
        if action.help in (argparse.SUPPRESS, None):
            continue
        names = ", ".join(action.option_strings) or str(action.metavar)
        value = "" if action.nargs == 0 or not action.option_strings else f" {action.metavar or ''}"
        if action.choices:
            value = f" {'|'.join(map(str, action.choices))}"
        yield f".TP\n.B {_roff(names + value)}\n{_sentence(str(action.help))}"


def _sentence(text: str) -> str:
    return f"{_roff(text[:1].upper() + text[1:])}."


def _roff(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("%%", "%")
    return re.sub(r"^(?=[.'])", r"\\&", escaped, flags=re.MULTILINE)


def _maintainer() -> str:
    """Return name and address as Debian's tools take them from the environment, or the last author's."""
    name, address = os.environ.get("DEBFULLNAME"), os.environ.get("DEBEMAIL")
    if name and address:
        return f"{name} <{address}>"
    return _output("git", "-C", str(ROOT), "log", "-1", "--format=%an <%ae>")


@functools.cache
def _epoch() -> int:
    return int(_output("git", "-C", str(ROOT), "log", "-1", "--format=%ct"))


def _output(*argv: str) -> str:
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def _install(source: Path, target: Path, mode: int = 0o644) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)


def _write(target: Path, text: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    target.chmod(0o644)


def _compress(target: Path, text: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    target.chmod(0o644)


def _settle(stage: Path) -> None:
    """Give all files the time of the last commit, and folders their mode."""
    for path in sorted(stage.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
        os.utime(path, (_epoch(), _epoch()))


def main(arguments: list[str]) -> int:
    """Build the package in the folder that the command line names, and print its path."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python packaging/deb.py FOLDER\n")
        return 2
    sys.stdout.write(f"{build(Path(arguments[0]))}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
