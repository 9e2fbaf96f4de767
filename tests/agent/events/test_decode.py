"""Records: a valid one is decoded exactly, and an invalid one is an error without other effects."""

from __future__ import annotations

import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.events.decode import FILE, HEAD, SIZE, VERSION, DecodeError, decode, join
from agent.events.model import EventType, FileFlags

NAME = st.binary(min_size=1, max_size=40).filter(lambda name: not {0, 0x2F} & set(name))


def record(
    kind: EventType,
    paths: list[list[bytes]],
    *,
    flags: int = 0,
    given: list[bytes] | None = None,
    retval: int = 0,
    name: bytes = b"",
    root: tuple[int, int] = (0, 0),
    call_flags: int = 0o1,
) -> bytes:
    """A record as `bpf/record.h` writes it."""
    payload, files = b"", b""
    for number, parts in enumerate(paths):
        path = b"".join(part + b"\0" for part in reversed(parts))
        text = given[number] + b"\0" if given else b""
        places = len(payload), len(path), len(payload) + len(path), len(text)
        payload += path + text
        files += FILE.pack(77, 7, 6, 5, 4, 3, 29, 0o100644, 1, 2, 1, flags, 11, 12, 13, 14, *places, 0)
    files += bytes(2 * FILE.size - len(files))
    text = name + b"\0" if name else b""
    head = HEAD.pack(
        VERSION, SIZE, SIZE + len(payload) + len(text), 99, 5, kind, 2, retval, 10, 11, 9, 1000, 1001, 1002,
        4026531840, 3, 8, call_flags, 0o644, 0, 0, 0, b"comm", len(payload), len(text), 0, 0, *root, 0,
    )  # fmt: skip
    return head + files + payload + text


class TestDecode:
    """From bytes to events."""

    @given(st.lists(NAME, min_size=1, max_size=20))
    def test_names_may_have_any_bytes(self, parts: list[bytes]) -> None:
        event = decode(record(EventType.OPEN, [parts]))
        assert event.file.path == b"/" + b"/".join(parts)
        assert event.file2 is None

    def test_flags_of_an_open_are_the_callers(self) -> None:
        """The kernel adds O_LARGEFILE to every open of a 64-bit program."""
        largefile = 0o400000 if os.uname().machine == "aarch64" else 0o100000
        assert decode(record(EventType.OPEN, [[b"x"]], call_flags=largefile)).flags == os.O_RDONLY
        assert decode(record(EventType.MOUNT, [[b"x"]], call_flags=largefile)).flags == largefile

    def test_every_field(self) -> None:
        event = decode(record(EventType.SETXATTR, [[b"etc", b"passwd"]], retval=-13, name=b"user.x"))
        assert (event.pid, event.tid, event.ppid, event.uid, event.gid, event.auid) == (
            10, 11, 9, 1000, 1001, 1002,
        )  # fmt: skip
        assert (event.retval, event.comm, event.name, event.generation, event.serial) == (
            -13, b"comm", b"user.x", 3, 8,
        )  # fmt: skip
        assert (event.file.inode, event.file.identities) == (77, (7, 6, 5, 4))
        assert event.file.epochs == (11, 12, 13, 14)
        assert (event.file.device, event.file.mount_id, event.file.mode) == (3, 29, 0o100644)

    def test_the_root_itself(self) -> None:
        assert decode(record(EventType.CHMOD, [[]])).file.path == b"/"

    @pytest.mark.parametrize(
        ("root", "path"), [((0, 0), b"/"), ((0xFFFF, 0), b""), ((0, 9), b"/srv/jail")], ids=str
    )
    def test_the_root_of_the_process(self, root: tuple[int, int], path: bytes) -> None:
        """The root of the file system, unknown, or a path of components like any other."""
        made = record(EventType.OPEN, [[b"srv", b"jail"]], root=root)
        assert decode(made).root == path

    def test_a_script(self) -> None:
        """An exec has a second file if an interpreter runs it: the script, as the caller named it."""
        whole = record(EventType.EXEC, [[b"bin", b"sh"]])
        assert decode(whole).file2 is None
        made = record(EventType.EXEC, [[b"home"]], flags=FileFlags.AS_GIVEN, given=[b"x.sh"])
        first, second = made[HEAD.size : HEAD.size + FILE.size], made[HEAD.size + FILE.size : SIZE]
        event = decode(made[: HEAD.size] + second + first + made[SIZE:])
        assert event.file2
        assert event.file2.path == b"/home/x.sh"

    @pytest.mark.parametrize(
        ("place", "cut"), [((40, 0), False), ((40, 4), False), ((40, 4_096), True), ((0, 0), True)], ids=str
    )
    def test_arguments_that_are_missing(self, place: tuple[int, int], *, cut: bool) -> None:
        """The kernel copies at most 4,096 bytes, and none if it could not read them."""
        made = bytearray(record(EventType.EXEC, [[b"x" * 5_000]]))
        made[HEAD.size - 12 : HEAD.size - 8] = struct.pack("=HH", *place)
        assert decode(bytes(made)).args_truncated is cut

    def test_two_files(self) -> None:
        event = decode(record(EventType.RENAME, [[b"a"], [b"b", b"c"]]))
        assert event.file2
        assert (event.file.path, event.file2.path) == (b"/a", b"/b/c")

    def test_a_second_name_that_was_not_resolved(self) -> None:
        assert (
            decode(record(EventType.RENAME, [[b"a"]], flags=FileFlags.AS_GIVEN, given=[b"b"])).file2 is None
        )

    @pytest.mark.parametrize("flag", [FileFlags.TRUNCATED, FileFlags.DETACHED])
    def test_a_tail_does_not_look_like_a_path(self, flag: FileFlags) -> None:
        event = decode(record(EventType.OPEN, [[b"deep", b"file"]], flags=flag))
        assert event.file.path == b"deep/file"
        assert event.file.flags == flag

    def test_a_path_as_the_caller_gave_it(self) -> None:
        made = record(EventType.UNLINK, [[b"home", b"me"]], flags=FileFlags.AS_GIVEN, given=[b"../you/x"])
        assert decode(made).file.path == b"/home/you/x"

    def test_a_refused_name_in_the_directory_that_was_found(self) -> None:
        """The path is known without links, so it has no mark."""
        event = decode(record(EventType.MKDIR, [[b"srv", b"keep"]], given=[b"x"], retval=-17))
        assert (event.file.path, event.file.flags) == (b"/srv/keep/x", FileFlags.NONE)

    @given(st.binary(max_size=2 * SIZE))
    def test_any_bytes(self, data: bytes) -> None:
        with pytest.raises(DecodeError):
            decode(data)

    @given(st.data())
    def test_damaged_records(self, data: st.DataObject) -> None:
        """One wrong byte gives an event or a DecodeError, and no byte beyond the record is read."""
        whole = bytearray(record(EventType.RENAME, [[b"a", b"b"], [b"c"]], name=b"n"))
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
        try:
            event = decode(bytes(whole))
        except DecodeError:
            return
        assert event.file2 is None or len(event.file.path + event.file2.path + event.name) <= len(whole)

    def test_cut_short(self) -> None:
        whole = record(EventType.OPEN, [[b"a", b"b"]])
        for length in range(len(whole)):
            with pytest.raises(DecodeError):
                decode(whole[:length])


class TestJoin:
    """A path from the caller's text and the directory in which it starts."""

    @pytest.mark.parametrize(
        ("base", "given_", "path"),
        [
            (b"/home/me", b"file", b"/home/me/file"),
            (b"/home/me", b"./a//b/", b"/home/me/a/b"),
            (b"/home", b"../../../etc", b"/etc"),
            (b"/", b"/etc/passwd", b"/etc/passwd"),
            (b"/srv/root", b"/../../etc", b"/srv/root/etc"),
            (b"tail", b"x", b"tail/x"),
            (b"/a", b"", b"/a"),
        ],
    )
    def test_examples(self, base: bytes, given_: bytes, path: bytes) -> None:
        assert join(base, given_) == path

    @given(st.binary(max_size=60), st.binary(max_size=60))
    def test_absolute_texts_stay_below_their_root(self, base: bytes, text: bytes) -> None:
        root = join(b"/", base)
        inside = join(root, b"/" + text)
        assert inside == root or inside.startswith(root.rstrip(b"/") + b"/")
