"""A small file system that processes work on: the source of events for the filter law.

It has hard links, renames of files and directories, inodes that are used again, a bind mount and refused
attempts. The kernel model gets what real hooks would report: epochs move before and after an inode's
names change.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from agent.events.model import Event, EventType, File, FileFlags
from agent.filters.model import Kernel
from agent.rules.constants import RENAME_FLAGS

NAMES = (b"a", b"b", b"c", b"x.conf", b"passwd")
MAX_PATH = 13  # bytes of a path that is cut
MAX_NAME = max(map(len, NAMES))
HELD = 6  # deleted files that a process holds open
FLAGS = (0, 1, 2, 0o100, 0o101, 0o1001, 0o2002, 0o2000000, 3)
SIMPLE = (
    EventType.OPEN,
    EventType.OPEN,
    EventType.OPEN,
    EventType.CHMOD,
    EventType.CHOWN,
    EventType.TRUNCATE,
    EventType.SETXATTR,
    EventType.CLOSE,
    EventType.EXEC,
)


@dataclass(slots=True)
class Directory:
    """A directory: names to inodes and directories."""

    inode: int
    entries: dict[bytes, Node] = field(default_factory=dict)


@dataclass(slots=True)
class Regular:
    """A file and the number of its names."""

    inode: int
    nlink: int = 1
    upper: bool = False


Node = Directory | Regular


@dataclass(slots=True)
class Place:
    """A name in a directory, reached through a mount."""

    directory: Directory
    name: bytes
    path: bytes
    parents: tuple[int, ...]
    mount: int

    @property
    def node(self) -> Node | None:
        return self.directory.entries.get(self.name)


class World:
    """Draws operations at random and performs them."""

    def __init__(self, seed: int, kernel: Kernel) -> None:
        self.random = random.Random(seed)
        self.kernel = kernel
        self.root = Directory(1)
        self._free: list[int] = []
        self._held: list[tuple[Place, Regular]] = []
        self.mount = 2
        self.detached = False
        self._highest = 10
        tops = [self._directory(self.root, name) for name in NAMES[:3]]
        self.bound = tops[1]
        for top in tops:
            below = self._directory(top, b"b")
            deep = self._directory(below, b"c")
            for directory in (top, below, deep):
                directory.entries[self.random.choice(NAMES[3:])] = Regular(self._inode())

    def _inode(self) -> int:
        if self._free and self.random.random() < 0.7:
            return self._free.pop()
        self._highest += 1
        return self._highest

    def _directory(self, parent: Directory, name: bytes) -> Directory:
        made = Directory(self._inode())
        parent.entries[name] = made
        return made

    def place(self) -> Place:
        """A random name, which may or may not exist; sometimes below the bind mount at /m."""
        through_mount = self.random.random() < 0.2
        at = self.bound if through_mount else self.root
        path = b"/m" if through_mount and not self.detached else b""
        parents: tuple[int, ...] = (at.inode,)
        while True:
            name = self.random.choice(NAMES)
            below = at.entries.get(name)
            if not isinstance(below, Directory) or self.random.random() < 0.25:
                return Place(at, name, path + b"/" + name, parents, self.mount if through_mount else 1)
            at, path, parents = below, path + b"/" + name, (below.inode, *parents)

    def step(self) -> list[Event]:
        """One operation.

        The events that the kernel saw, stamped, those that it forwards and those that it drops.
        """
        chance = self.random.random()
        if chance < 0.55:
            return self._simple()
        if chance < 0.7:
            return self._make()
        if chance < 0.8:
            return self._remove()
        if chance < 0.93:
            return self._two_files(EventType.RENAME if chance < 0.86 else EventType.LINK)
        return self._odd()

    def file(self, place: Place, node: Node | None) -> File:
        """A file as the kernel resolves it; one that is too long is cut to a tail."""
        found = File(path=place.path, device=7, mount_id=place.mount)
        above = (*place.parents[:3], 0, 0, 0)[:3]
        found.identities = (node.inode if node else 0, *above)
        if isinstance(node, Regular):
            found.inode, found.nlink, found.mode = node.inode, node.nlink, 0o100644
            found.flags = FileFlags.UPPER if node.upper else FileFlags.LOWER
        elif node is not None:
            found.inode, found.nlink, found.mode = node.inode, 2, 0o40755
        if place.mount != 1 and self.detached:
            found.flags |= FileFlags.DETACHED
        while len(found.path) >= MAX_PATH:
            found.path = b"/" + found.path.split(b"/", 2)[2]
            found.flags |= FileFlags.TRUNCATED
        return found

    def event(self, kind: EventType, file: File, file2: File | None = None) -> Event:
        made = Event(kind, file=file, file2=file2)
        made.uid = self.random.choice((0, 0, 1000, 33))
        made.auid = self.random.choice((1000, 0xFFFFFFFF))
        made.flags = self.random.choice(FLAGS) if kind is EventType.OPEN else 0
        made.mode = self.random.choice((0o644, 0o4755))
        made.retval = self.random.choice((0, 0, 0, -13))
        made.comm = self.random.choice((b"sh", b"dpkg"))
        self.kernel.stamp(made)
        return made

    def _simple(self) -> list[Event]:
        place = self.place()
        return [self.event(self.random.choice(SIMPLE), self.file(place, place.node))]

    def _make(self) -> list[Event]:
        place = self.place()
        if place.node is not None:
            return self._simple()
        if self.random.random() < 0.4:
            made: Node = Directory(self._inode())
            kind = EventType.MKDIR
        else:
            made = Regular(self._inode(), upper=self.random.random() < 0.3)
            kind = EventType.OPEN
        event = self.event(kind, self.file(place, made))
        place.directory.entries[place.name] = made
        return [event]

    def _remove(self) -> list[Event]:
        place = self.place()
        node = place.node
        if node is None or node is self.bound or (isinstance(node, Directory) and node.entries):
            return self._simple()
        self.kernel.touch(node.inode)
        kind = EventType.RMDIR if isinstance(node, Directory) else EventType.UNLINK
        event = self.event(kind, self.file(place, node))
        self._drop(place)
        self.kernel.touch(node.inode)
        return [event]

    def _drop(self, place: Place) -> None:
        """Remove a name; a process may hold the file open, and reach it through /proc."""
        node = place.directory.entries.pop(place.name)
        if isinstance(node, Directory):
            self._free.append(node.inode)
            return
        node.nlink -= 1
        self._held.append((place, node))
        if len(self._held) > HELD:
            _, old = self._held.pop(0)
            if not old.nlink and old not in [held for _, held in self._held]:
                self._free.append(old.inode)

    def _two_files(self, kind: EventType) -> list[Event]:
        old, new = self.place(), self.place()
        node, target = old.node, new.node
        if (
            node is None
            or node is self.bound
            or node is target
            or isinstance(target, Directory)
            or old.mount != new.mount
        ):
            return self._simple()
        if isinstance(node, Directory) and (kind is EventType.LINK or node.inode in new.parents):
            return self._simple()
        touched = [node.inode, *((target.inode,) if target else ())]
        self._touch(touched, isinstance(node, Directory))
        event = self.event(kind, self.file(old, node), self.file(new, target))
        exchanged = kind is EventType.RENAME and target is not None and self.random.random() < 0.5
        if exchanged:
            event.flags = RENAME_FLAGS["RENAME_EXCHANGE"]
        elif target is not None:
            self._drop(new)
        new.directory.entries[new.name] = node
        if kind is EventType.LINK and isinstance(node, Regular):
            node.nlink += 1
        elif target is not None and exchanged:
            old.directory.entries[old.name] = target
        elif kind is EventType.RENAME:
            del old.directory.entries[old.name]
        self._touch(touched, isinstance(node, Directory))
        return [event]

    def _touch(self, touched: list[int], everything: bool) -> None:
        for inode in touched:
            self.kernel.touch(inode)
        if everything:
            self.kernel.invalidate()
            self._held.clear()

    def _odd(self) -> list[Event]:
        """Return a rare event with an uncertain path."""
        return self.random.choice((self._given, self._deleted, self._deleted, self._move_mount))()

    def _given(self) -> list[Event]:
        """An attempt that was refused before the name was resolved: only the caller's text is known."""
        texts = (b"passwd", b"../a/passwd", self.place().path, b"", b"/a/" + b"n" * 300)
        file = File(path=self.random.choice(texts), flags=FileFlags.AS_GIVEN)
        return [self.event(self.random.choice(SIMPLE), file)]

    def _deleted(self) -> list[Event]:
        """A file with a name that it no longer has."""
        if not self._held:
            return self._simple()
        place, node = self.random.choice(self._held)
        file = self.file(place, node)
        file.flags |= FileFlags.DELETED
        return [self.event(self.random.choice(SIMPLE), file)]

    def _move_mount(self) -> list[Event]:
        """Detach the bind mount lazily, or mount it again as another mount."""
        self.kernel.invalidate()
        self.detached = not self.detached
        if not self.detached:
            self.mount += 1
        self._held = [(place, node) for place, node in self._held if place.mount == 1]
        self.kernel.invalidate()
        return []
