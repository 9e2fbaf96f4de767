"""Computes the order in which kernel modules are loaded.

The input is modprobe's: `modules.dep` (dependencies), `modules.softdep` (optional dependencies),
`modules.alias` (other names) and `modules.builtin` (modules that are built in). A module's name has `_` where
its file name may have `-`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InfrastructureError


@dataclass(frozen=True)
class Modules:
    """One kernel's modules.

    `files` maps a name to a path relative to the folder of modules.dep; the other mappings map names to
    names.
    """

    files: dict[str, str]
    needs: dict[str, tuple[str, ...]]
    prefers: dict[str, tuple[str, ...]]
    aliases: dict[str, tuple[str, ...]]
    builtin: frozenset[str]

    def load_order(self, wanted: Iterable[str]) -> list[str]:
        """The paths to load: each once and after its dependencies, without modules that are built in.

        A name after `?` is optional. Raises InfrastructureError if any other module does not exist, and for a
        cycle of dependencies.
        """
        order: dict[str, None] = {}
        for word in wanted:
            name = _canonical(word.removeprefix("?"))
            if name in self.files or not word.startswith("?"):
                self._visit(name, order, ())
        return [self.files[name] for name in order]

    def _visit(self, name: str, order: dict[str, None], above: tuple[str, ...]) -> None:
        if name in self.builtin or name in order:
            return
        if name in above:
            raise InfrastructureError(f"cycle of kernel modules: {' -> '.join((*above, name))}")
        if name not in self.files:
            raise InfrastructureError(
                f"this kernel has no module {name}, and it is not built in",
                hint="build the kernel with it",
            )
        for needed in (*self._preferred(name), *self.needs[name]):
            self._visit(needed, order, (*above, name))
        order[name] = None

    def _preferred(self, name: str) -> Iterator[str]:
        """The soft dependencies, by name or alias, that this kernel has."""
        for wish in self.prefers.get(name, ()):
            yield from (module for module in (wish, *self.aliases.get(wish, ())) if module in self.files)


def read(folder: Path) -> Modules:
    """The modules below a folder in which depmod has run. Raises InfrastructureError if it has not."""
    try:
        dependencies = (folder / "modules.dep").read_text()
    except FileNotFoundError as error:
        raise InfrastructureError(f"{folder}: no modules.dep", hint="run depmod for this kernel") from error
    return parse(
        dependencies,
        softdep=_text(folder / "modules.softdep"),
        alias=_text(folder / "modules.alias"),
        builtin=_text(folder / "modules.builtin"),
    )


def parse(dependencies: str, *, softdep: str = "", alias: str = "", builtin: str = "") -> Modules:
    """The modules that the texts of modprobe's files describe."""
    lines = [line.partition(":") for line in dependencies.splitlines() if ":" in line]
    return Modules(
        files={_name(path): path for path, _, _ in lines},
        needs={_name(path): tuple(map(_name, needed.split())) for path, _, needed in lines},
        prefers=dict(_soft_dependencies(softdep)),
        aliases=_aliases(alias),
        builtin=frozenset(map(_name, builtin.split())),
    )


def _soft_dependencies(text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Parse `softdep NAME pre: WISH... post: WISH...`; only the modules after `pre:` matter for the order."""
    for words in (line.split() for line in text.splitlines()):
        if words[:1] == ["softdep"] and "pre:" in words:
            wishes = words[words.index("pre:") + 1 :]
            end = wishes.index("post:") if "post:" in wishes else len(wishes)
            yield _canonical(words[1]), tuple(map(_canonical, wishes[:end]))


def _aliases(text: str) -> dict[str, tuple[str, ...]]:
    aliases: dict[str, tuple[str, ...]] = {}
    for words in (line.split() for line in text.splitlines()):
        # Aliases with wildcards match hardware; no module depends on these by name.
        if len(words) == 3 and words[0] == "alias" and not set("*?[") & set(words[1]):
            alias = _canonical(words[1])
            aliases[alias] = (*aliases.get(alias, ()), _canonical(words[2]))
    return aliases


def _name(path: str) -> str:
    return _canonical(path.rpartition("/")[2].partition(".")[0])


def _canonical(name: str) -> str:
    return name.replace("-", "_")


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""
