"""A world for programs: file systems of many kinds at short paths, users and control groups, as plain data.

A world is made from a seed; `steps` is what the guest does for a place. A guest whose kernel cannot make a
place leaves it out, with all that need it, and names it in `missing`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

GENERATOR = "/opt/fim/agent/bin/fim-gen"
USER = 1000
IMAGES = "/run/law"
MIB = 1 << 20

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_SHARED = 1, 2, 4, 8, 0x1000, 1 << 20

SHOWING = ("bind", "bind-ro", "btrfs-mount")  # kinds of places whose files are those of the place in `of`

# How an image is made, once. The subvolumes of a btrfs have the same inode numbers; one is a snapshot, made
# once the other had a tree.
_TREE = "mkdir d1 d2 d2/sub etc keep; echo 1 >d1/f1; echo 2 >d1/f2; echo 3 >d2/f1; echo 4 >d2/sub/f1"
_MAKE = {
    "ext4": "mkfs.ext4 -q {image}",
    "xfs": "mkfs.xfs -q --unsupported {image}",
    "btrfs": (
        "set -e; mkfs.btrfs -q -m single -d single {image}; mkdir -p /run/law/made;"
        " mount -o loop {image} /run/law/made; cd /run/law/made;"
        f" for v in a b; do btrfs -q subvolume create $v; (cd $v; {_TREE}); done;"
        " btrfs -q subvolume snapshot a s; btrfs -q subvolume create c; cd /; umount /run/law/made"
    ),
    "vfat": "",  # the guest has no mkfs.vfat: its player writes a FAT12
}
_MIB = {"ext4": 8, "xfs": 32, "btrfs": 128, "vfat": 4}

Step = tuple[
    Any, ...
]  # ("mkdir", path, mode, uid), ("file", path) or ("mount", source, target, type, flags, data)


@dataclass(frozen=True)
class Place:
    """A directory of some kind. `facts` are words about it: `of` is the place that it shows again."""

    name: str
    kind: str
    path: str
    facts: Mapping[str, str] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    after: tuple[str, ...] = ()  # names of places that it needs
    images: tuple[tuple[str, int, str], ...] = ()  # path, bytes, shell command

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "name": self.name, "kind": self.kind, "path": self.path, "facts": dict(self.facts),
            "steps": [list(step) for step in self.steps], "after": list(self.after),
            "images": [list(image) for image in self.images],
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Place:
        """Of `to_json`."""
        steps = tuple(tuple(step) for step in data["steps"])
        images = tuple((path, size, make) for path, size, make in data["images"])
        return cls(
            data["name"], data["kind"], data["path"], data["facts"], steps, tuple(data["after"]), images
        )


@dataclass(frozen=True)
class World:
    """The places of a guest. `missing` has the name and the reason of each that its kernel cannot make."""

    seed: int
    places: tuple[Place, ...]
    user: int = USER
    users: tuple[int, ...] = (0, USER, 1001, 65534)
    cgroups: tuple[str, ...] = ("/sys/fs/cgroup/law/a", "/sys/fs/cgroup/law/b")
    generator: str = GENERATOR
    missing: tuple[str, ...] = ()

    @classmethod
    def from_seed(cls, seed: int) -> World:
        """Return the world of that number: every kind of place, with options that the seed chooses."""
        return cls(seed, tuple(_places(random.Random(f"world {seed}"))))

    def without(self, reasons: Mapping[str, str]) -> World:
        """Return the world of a guest that cannot make these places."""
        left = tuple(place for place in self.places if place.name not in reasons)
        return replace(self, places=left, missing=tuple(f"{name}: {why}" for name, why in reasons.items()))

    def named(self, script: str) -> list[str]:
        """Return the places that a script names, and those that share files with them."""
        found = {place.name for place in self.places if re.search(rf"{re.escape(place.path)}(?!\w)", script)}
        while (
            more := {
                name
                for place in self.places
                if found.intersection((place.name, *place.after))
                for name in (place.name, *place.after)
            }
            - found
        ):
            found |= more
        return sorted(found)

    def paths_of(self, path: str) -> set[str]:
        """Return the paths by which the world's own mounts show the object of a path, that one too."""
        mounts = [(place.path, place.facts.get("of", "")) for place in self.places if place.kind in SHOWING]
        mounts += [(place.path, place.facts["peer"]) for place in self.places if "peer" in place.facts]
        roots = mounts + [(source, target) for target, source in mounts]
        found: set[str] = set()
        more = {path}
        while more:
            found |= more
            more = {
                to + one.removeprefix(root)
                for one in found
                for root, to in roots
                if f"{one}/".startswith(f"{root}/")
            } - found
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "seed": self.seed, "places": [place.to_json() for place in self.places], "user": self.user,
            "users": list(self.users), "cgroups": list(self.cgroups), "generator": self.generator,
            "missing": list(self.missing),
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> World:
        """Of `to_json`; raises KeyError for other data."""
        places = tuple(Place.from_json(place) for place in data["places"])
        users, cgroups, missing = (tuple(data[name]) for name in ("users", "cgroups", "missing"))
        return cls(data["seed"], places, data["user"], users, cgroups, data["generator"], missing)


def _places(dice: random.Random) -> Iterator[Place]:
    yield Place("root", "root", "/w/root", {}, (("mkdir", "/w/root", 0o755, 0),))
    yield Place("private", "root", "/w/priv", {"mode": "0700"}, (("mkdir", "/w/priv", 0o700, 0),))
    yield _tmpfs("tmp", "/w/tmp", dice)
    yield _tmpfs("home", "/w/home", dice, uid=USER)
    yield from _images(dice)
    yield from _btrfs()
    yield from _overlays()
    yield _shared()
    for name, kind, flags in (
        ("bind", "bind", 0),
        ("ro", "bind-ro", MS_RDONLY),
        ("noexec", "bind", MS_NOEXEC),
    ):
        of = dice.choice(("tmp", "ext4", "root"))
        source = f"/w/{of}"
        yield _mounted(name, kind, f"/w/{name}", source, MS_BIND | flags, "", of={"of": source}, after=of)


def _shared() -> Place:
    """A mount whose events reach its peers, so that one bind mount below it becomes two."""
    steps: tuple[Step, ...] = (
        ("mkdir", "/w/peer", 0o755, 0),
        ("mkdir", "/w/sh", 0o755, 0),
        ("mount", "none", "/w/sh", "tmpfs", 0, "mode=755"),
        ("mount", "none", "/w/sh", "", MS_SHARED, ""),
        ("mount", "/w/sh", "/w/peer", "", MS_BIND, ""),
    )
    return Place("sh", "tmpfs", "/w/sh", {"propagation": "shared", "peer": "/w/peer"}, steps)


def _mounted(
    name: str,
    kind: str,
    path: str,
    source: str,
    flags: int,
    data: str,
    *,
    of: Mapping[str, str],
    after: str = "",
) -> Place:
    fs_type = "" if flags & MS_BIND else kind.partition("-")[0]
    steps = (("mkdir", path, 0o755, 0), ("mount", source, path, fs_type, flags, data))
    return Place(name, kind, path, of, steps, (after,) if after else ())


def _tmpfs(name: str, path: str, dice: random.Random, uid: int = 0) -> Place:
    data = f"mode=755,uid={uid},gid={uid},size={dice.choice((4, 16))}m"
    return _mounted(name, "tmpfs", path, "none", 0, data, of={"owner": str(uid)} if uid else {})


def _images(dice: random.Random) -> Iterator[Place]:
    for kind in ("ext4", "xfs", "vfat"):
        image = f"{IMAGES}/{kind}.image"
        path = f"/w/{kind}"
        data = "umask=0,shortname=mixed" if kind == "vfat" else ""
        flags = dice.choice((0, 0, MS_NOSUID, MS_NODEV))
        made = _mounted(kind, kind, path, image, flags, data, of={})
        root = () if kind == "vfat" else (("mkdir", path, 0o755, 0),)
        yield replace(made, steps=(*made.steps, *root), images=((image, _MIB[kind] * MIB, _MAKE[kind]),))


def _btrfs() -> Iterator[Place]:
    image = f"{IMAGES}/btrfs.image"
    top = _mounted("btr", "btrfs", "/w/btr", image, 0, "", of={})
    yield replace(top, images=((image, _MIB["btrfs"] * MIB, _MAKE["btrfs"]),))
    for volume in ("a", "b", "c"):
        path = f"/w/btr/{volume}"
        yield Place(f"btr-{volume}", "btrfs-subvolume", path, {"of": "/w/btr"}, (), ("btr",))
    yield Place("btr-s", "btrfs-snapshot", "/w/btr/s", {"of": "/w/btr/a"}, (), ("btr",))
    yield _mounted("sub", "btrfs-mount", "/w/sub", image, 0, "subvol=b", of={"of": "/w/btr/b"}, after="btr")


def _overlays() -> Iterator[Place]:
    for name, kind, xino in (("ovl", "overlay", "on"), ("ovn", "overlay-noxino", "off")):
        layers = (f"/w/{name}.low", f"/w/{name}.up")
        mounts = tuple(("mount", "none", path, "tmpfs", 0, "mode=755") for path in layers)
        yield _overlay(name, kind, *layers, f"xino={xino}", mounts)
    yield _overlay("ovs", "overlay", "/w/ext4/.low", "/w/ext4/.up", "xino=auto", (), "ext4")


def _overlay(
    name: str, kind: str, low: str, up: str, option: str, mounts: tuple[Step, ...], after: str = ""
) -> Place:
    """The lower layer has a tree."""
    path = f"/w/{name}"
    below = ("", "/etc", "/keep", "/keep/conf", "/d1")
    steps: tuple[Step, ...] = (
        *(("mkdir", folder, 0o755, 0) for folder in (path, low, up)),
        *mounts,
        *(("mkdir", f"{low}/lower{tail}", 0o755, 0) for tail in below),
        *(("file", f"{low}/lower/{tail}") for tail in ("etc/passwd", "keep/conf/a", "d1/x")),
        *(("mkdir", f"{up}/{tail}", 0o755, 0) for tail in ("upper", "work")),
        (
            "mount", "none", path, "overlay", 0,
            f"lowerdir={low}/lower,upperdir={up}/upper,workdir={up}/work,{option}",
        ),
    )  # fmt: skip
    facts = {"lower": f"{low}/lower", "upper": f"{up}/upper"}
    return Place(name, kind, path, facts, steps, (after,) if after else ())
