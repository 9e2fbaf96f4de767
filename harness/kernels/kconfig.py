"""Reads fragments of kernel configurations, and checks that a kernel's configuration agrees with them.

A fragment is a file in `images/configs/`, or one of the user. Each line sets one option and says after `#`
for which distribution and source the value stands. Kconfig changes values that other options exclude, and
prints nothing: so each line is compared with the configuration that comes out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import ConfigError
from harness.host import files, resources
from harness.kernels import catalogue
from harness.plan.matrix import is_fragment_file

FOLDER = resources.FOLDER / "configs"
BASE = "base"  # the fragment that comes before all others
_SUFFIX = ".config"
_MAX_BYTES = 1 << 20
# make and shell scripts of the kernel read the values, and would expand $ and `.
_LINE = re.compile(r'CONFIG_(\w+)=(y|m|n|-?\d+|0x[0-9A-Fa-f]+|"[^"\\$`]*")(?:\s+#\s*(\S.*))?')
_SETTING = re.compile(r"^CONFIG_(\w+)=(.+)$", re.MULTILINE)
_SELECTING = re.compile(r"\s+select\s+(\w+)\b")
_DEPENDING = re.compile(r"\s+depends on\s+(.+)")
_ENTRY = re.compile(r"\s*(?:menu)?config\s+(\w+)")


@dataclass(frozen=True)
class Line:
    """A line of a fragment: `option` without CONFIG_, `value` as Kconfig writes it, `source` of the value."""

    option: str
    value: str
    source: str
    where: str

    def __str__(self) -> str:
        """The line as in a `.config`."""
        return (
            f"# CONFIG_{self.option} is not set"
            if self.value == "n"
            else f"CONFIG_{self.option}={self.value}"
        )


def known() -> list[str]:
    """The names of the fragments in `images/configs/`."""
    return sorted(path.stem for path in FOLDER.glob(f"*{_SUFFIX}"))


def path_of(word: str) -> Path:
    """The file of a fragment. Raises ConfigError for an unknown name."""
    if is_fragment_file(word):
        return Path(word)
    if word not in known():
        raise ConfigError(f"unknown fragment {word!r}", hint=catalogue.choices(word, known()))
    return FOLDER / f"{word}{_SUFFIX}"


def read(path: Path) -> tuple[Line, ...]:
    """The lines of a fragment. Raises ConfigError with the place of what is wrong."""
    try:
        text = files.read_input(path, _MAX_BYTES).decode("utf-8", "replace")
    except FileNotFoundError as error:
        hint = "paths in a matrix are relative to its folder"
        raise ConfigError(f"{path}: no such file", hint=hint) from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    found = tuple(_parsed(path, text))
    if not found:
        raise ConfigError(f"{path}: sets no option", hint="write lines such as CONFIG_FPROBE=n")
    return found


def _parsed(path: Path, text: str) -> Iterator[Line]:
    seen: dict[str, int] = {}
    for number, row in enumerate(text.splitlines(), 1):
        if not row.strip() or row.lstrip().startswith("#"):
            continue
        where = f"{path.name}:{number}"
        match = _LINE.fullmatch(row.strip())
        if not match:
            raise ConfigError(
                f"{where}: not an option and its value: {row.strip()[:80]!r}",
                hint='write CONFIG_NAME=y, n, m, a number or "text"; n is what `is not set` means',
            )
        if before := seen.get(match[1]):
            raise ConfigError(f"{where}: CONFIG_{match[1]} is set in line {before} too", hint="remove one")
        seen[match[1]] = number
        yield Line(match[1], match[2], match[3] or "", where)


def merged(fragments: Iterable[Iterable[Line]]) -> tuple[Line, ...]:
    """One line for each option: later fragments replace what earlier ones set."""
    lines = {line.option: line for fragment in fragments for line in fragment}
    return tuple(lines.values())


def text(lines: Iterable[Line]) -> str:
    """The lines as a `.config`."""
    return "".join(f"{line}\n" for line in lines)


def check(lines: Iterable[Line], config: str, source: Path) -> None:
    """Raise ConfigError for the first line that `config` does not have; `source` has the Kconfig files."""
    options = dict(_SETTING.findall(config))
    for line in lines:
        value = options.get(line.option, "n")
        if value != line.value:
            raise ConfigError(
                f"{line.where}: CONFIG_{line.option}={line.value} does not survive olddefconfig, "
                f"which makes it {value}",
                hint=_remedy(line, options, source),
            )


def _remedy(line: Line, options: Mapping[str, str], source: Path) -> str:
    """What the user should set: the options that select an option, or those that it depends on."""
    entries = [entry for path in _kconfigs(source) for entry in _entries(path)]
    if line.value == "n":
        chosen = sorted({name for name, body in entries if name in options and line.option in _selects(body)})
        if chosen:
            return f"set to n what selects it: {', '.join(f'CONFIG_{name}' for name in chosen[:6])}"
        return "it has no prompt of its own; leave the line out"
    bodies = [body for name, body in entries if name == line.option]
    if not bodies:
        return "this kernel has no such option; leave the line out"
    needed = [match[1].strip() for body in bodies for row in body if (match := _DEPENDING.match(row))]
    known = f": {' && '.join(needed)[:300]}" if needed else ""
    return f"set what it depends on{known} (`make menuconfig`, then / {line.option}, shows it)"


def _selects(body: Iterable[str]) -> set[str]:
    return {match[1] for row in body if (match := _SELECTING.match(row))}


def _kconfigs(source: Path) -> Iterator[Path]:
    """The Kconfig files of a source, without those of other architectures."""
    for path in sorted(source.rglob("Kconfig*")):
        parts = path.relative_to(source).parts
        if (parts[0] != "arch" or parts[1] in ("Kconfig", "x86")) and path.is_file():
            yield path


def _entries(path: Path) -> Iterator[tuple[str, list[str]]]:
    """The options that a Kconfig file defines, each with the lines of its definition."""
    name = ""
    body: list[str] = []
    for row in path.read_text(errors="replace").splitlines():
        if match := _ENTRY.match(row):
            if name:
                yield name, body
            name, body = match[1], []
        else:
            body.append(row)
    if name:
        yield name, body
