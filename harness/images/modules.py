"""In which order kernel modules go in, read from what depmod and the kernel's packages say.

The files are those of modprobe: `modules.dep` (what a module needs), `modules.softdep` (what it had better
find), `modules.alias` (other names), `modules.builtin` (what is in the kernel already). A module's name has
`_` where its file may have `-`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InfrastructureError


@dataclass(frozen=True)
class Modules:
    """One kernel's modules.

    `files` maps a name to a path relative to modules.dep, the others map names to names.
    """

    files: dict[str, str]
    needs: dict[str, tuple[str, ...]]
    prefers: dict[str, tuple[str, ...]]
    aliases: dict[str, tuple[str, ...]]
    builtin: frozenset[str]

    def load_order(self, wanted: Iterable[str]) -> list[str]:
        """The paths to load, each after what it needs, none twice, nothing that is built in.

        A `?` before a name says that the kernel need not have it. Raises InfrastructureError for another that
        is neither there nor built in, and for one that needs itself.
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
            raise InfrastructureError(f"modules need each other: {' -> '.join((*above, name))}")
        if name not in self.files:
            raise InfrastructureError(f"this kernel has no module {name}, built in or not")
        for needed in (*self._preferred(name), *self.needs[name]):
            self._visit(needed, order, (*above, name))
        order[name] = None

    def _preferred(self, name: str) -> Iterator[str]:
        """Soft dependencies are wishes: by name or alias, and none if this kernel has neither."""
        for wish in self.prefers.get(name, ()):
            yield from (one for one in (wish, *self.aliases.get(wish, ())) if one in self.files)


def read(folder: Path) -> Modules:
    """The modules below a folder that depmod has been through; raises InfrastructureError if it has not."""
    try:
        dependencies = (folder / "modules.dep").read_text()
    except FileNotFoundError as error:
        raise InfrastructureError(f"{folder} has no modules.dep") from error
    return parse(
        dependencies,
        softdep=_text(folder / "modules.softdep"),
        alias=_text(folder / "modules.alias"),
        builtin=_text(folder / "modules.builtin"),
    )


def parse(dependencies: str, *, softdep: str = "", alias: str = "", builtin: str = "") -> Modules:
    """The same from the files' texts."""
    lines = [line.partition(":") for line in dependencies.splitlines() if ":" in line]
    return Modules(
        files={_name(path): path for path, _, _ in lines},
        needs={_name(path): tuple(map(_name, needed.split())) for path, _, needed in lines},
        prefers=dict(_soft_dependencies(softdep)),
        aliases=_aliases(alias),
        builtin=frozenset(map(_name, builtin.split())),
    )


def _soft_dependencies(text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """`softdep NAME pre: WISH... post: WISH...`: only what comes before matters to an order."""
    for words in (line.split() for line in text.splitlines()):
        if words[:1] == ["softdep"] and "pre:" in words:
            wishes = words[words.index("pre:") + 1 :]
            end = wishes.index("post:") if "post:" in wishes else len(wishes)
            yield _canonical(words[1]), tuple(map(_canonical, wishes[:end]))


def _aliases(text: str) -> dict[str, tuple[str, ...]]:
    aliases: dict[str, tuple[str, ...]] = {}
    for words in (line.split() for line in text.splitlines()):
        # Patterns stand for hardware, which nothing here depends on by name.
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
