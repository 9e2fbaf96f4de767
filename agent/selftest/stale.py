"""Serves a small FUSE whose names lead elsewhere after an answer of ESTALE (include/uapi/linux/fuse.h).

The kernel looks a whole name up again if a file system answers ESTALE. The root has three names: `link`, a
symbolic link to `decoy` and afterwards to the file `x` of a real directory; `decoy`, a file; and `d`, a
directory with a file `x` and a directory `sub`, and afterwards a symbolic link to the real directory.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import struct
import subprocess
import threading
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from enum import IntEnum
from pathlib import Path

from agent.selftest.evidence import CannotTellError

_DEVICE = "/dev/fuse"


class Code(IntEnum):
    """What a request asks for."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    STATFS = 17
    RELEASE = 18
    SETXATTR = 21
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    ACCESS = 34
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42


_UNANSWERED = {Code.FORGET, Code.INTERRUPT, Code.BATCH_FORGET}
_MAKING = {Code.SYMLINK, Code.MKNOD, Code.MKDIR, Code.LINK}  # which get no other answer than ESTALE
_CHANGING = {Code.UNLINK, Code.RMDIR, Code.RENAME, Code.SETXATTR, Code.REMOVEXATTR}
_USES = {Code.OPEN, Code.SETATTR} | _MAKING | _CHANGING
_WITHOUT_BODY = {Code.RELEASE, Code.FLUSH, Code.ACCESS, Code.DESTROY} | _CHANGING  # in the answer
_IN = struct.Struct("=IIQQIIIHH")  # fuse_in_header
_OUT = struct.Struct("=IiQ")  # fuse_out_header
_ATTR = struct.Struct("=6Q10I")  # fuse_attr
_STARTED = struct.Struct("=4I2H2I36x")  # fuse_init_out, as since 7.23
_ENTRY = struct.Struct("=4Q2I")  # fuse_entry_out without its attributes; valid for no time, if all are 0
_VALID = struct.Struct("=Q2I")  # fuse_attr_out without its attributes
_OPENED = struct.Struct("=Q2I")  # fuse_open_out
_STATFS = struct.Struct("=5Q3I28x")  # fuse_kstatfs
_VERSION, _MINOR = 7, 31
_LARGEST = 1 << 17  # of a request; a read into less than one of max_write needs fails

_ROOT, _LINK, _DECOY, _FOLDER, _BELOW, _SUB, _FOLDER_LINK = range(1, 8)  # node ids; none changes its type
_MODES = {
    _ROOT: stat.S_IFDIR | 0o755,
    _LINK: stat.S_IFLNK | 0o777,
    _DECOY: stat.S_IFREG | 0o755,
    _FOLDER: stat.S_IFDIR | 0o755,
    _BELOW: stat.S_IFREG | 0o644,
    _SUB: stat.S_IFDIR | 0o755,
    _FOLDER_LINK: stat.S_IFLNK | 0o777,
}


class _RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.number = number


class Server:
    """Answers the requests of one mount: truthfully, and with ESTALE as often as it is told to."""

    def __init__(self, device: int, real: str) -> None:
        self._device = device
        self._real = os.fsencode(real)
        self.stale = 0  # answers of ESTALE
        self._held: Code | None = None
        self._kept: list[bytes] = []  # requests without an answer
        self.calm()

    def calm(self) -> None:
        """Lead names to their first objects, and answer nothing with ESTALE."""
        self._armed: Collection[int] = ()
        self._elsewhere = False

    def arm(self, *codes: Code) -> None:
        """Answer the next of these requests with ESTALE; without `codes`, the next that uses an object.

        Names lead to their first objects until then, and elsewhere afterwards. Only lookups in `d` count.
        """
        self.calm()
        self._armed = codes or _USES

    def hold(self, code: Code) -> None:
        """Answer no request of this kind until `released`, and lead names to their first objects."""
        self.calm()
        self._held = code

    @contextmanager
    def released(self) -> Iterator[None]:
        """Answer the requests that were held, and those that follow."""
        self._held = None
        self._answer_kept()
        yield

    def _answer_kept(self) -> None:
        while True:
            try:
                request = self._kept.pop()  # another thread may take the last one
            except IndexError:
                return
            self._answer(request)

    def serve(self, end: int) -> None:
        """Answer requests until the mount ends, or the pipe `end` has a byte."""
        while end not in select.select([self._device, end], [], [])[0]:
            try:
                self._answer(os.read(self._device, _LARGEST))
            except OSError as error:
                if error.errno == errno.ENODEV:  # unmounted
                    return
                if error.errno not in (errno.ENOENT, errno.EINTR, errno.EAGAIN):  # the caller was killed
                    raise

    def _answer(self, request: bytes) -> None:
        _, code, unique, node, *_ = _IN.unpack_from(request)
        if code in _UNANSWERED:
            return
        if code == self._held:
            self._kept.append(request)
            if self._held is None:  # released meanwhile, by another thread
                self._answer_kept()
            return
        try:
            number, body = 0, self._reply(code, node, request[_IN.size :])
        except _RefusedError as refused:
            number, body = refused.number, b""
        os.write(self._device, _OUT.pack(_OUT.size + len(body), -number, unique) + body)

    def _reply(self, code: int, node: int, asked: bytes) -> bytes:
        if code in self._armed and (code != Code.LOOKUP or node == _FOLDER):
            self._armed, self._elsewhere = (), True
            self.stale += 1
            raise _RefusedError(errno.ESTALE)
        if code in _WITHOUT_BODY:
            return b""
        match code:
            case Code.INIT:
                _, minor, readahead = struct.unpack_from("=III", asked)
                return _STARTED.pack(_VERSION, min(minor, _MINOR), readahead, 0, 1, 1, 4096, 1)
            case Code.LOOKUP:
                found = self._found(node, asked.rstrip(b"\0"))
                return _ENTRY.pack(found, 0, 0, 0, 0, 0) + _attributes_of(found)
            case Code.GETATTR | Code.SETATTR:
                return _VALID.pack(0, 0, 0) + _attributes_of(node)
            case Code.READLINK:
                return self._target(node)
            case Code.OPEN:
                return _OPENED.pack(0, 0, 0)
            case Code.STATFS:
                return _STATFS.pack(0, 0, 0, 0, 0, 4096, 255, 4096)
            case _:
                raise _RefusedError(errno.ENOSYS)

    def _found(self, folder: int, name: bytes) -> int:
        """Return the node that a name leads to now."""
        below = _FOLDER_LINK if self._elsewhere else _FOLDER
        nodes = {(_ROOT, b"link"): _LINK, (_ROOT, b"decoy"): _DECOY, (_ROOT, b"d"): below}
        nodes |= {(_FOLDER, b"x"): _BELOW, (_FOLDER, b"sub"): _SUB}
        if (folder, name) not in nodes:
            raise _RefusedError(errno.ENOENT)
        return nodes[folder, name]

    def _target(self, node: int) -> bytes:
        if node == _FOLDER_LINK:
            return self._real
        return self._real + b"/x" if self._elsewhere else b"decoy"


def _attributes_of(node: int) -> bytes:
    return _ATTR.pack(node, 0, 0, 0, 0, 0, 0, 0, 0, _MODES[node], 1, 0, 0, 0, 4096, 0)


@contextmanager
def served(target: Path, real: str) -> Iterator[Server]:
    """Mount the file system at a new directory; its names lead to `real` after an answer of ESTALE.

    Raises CannotTellError, with the reason, on a host that cannot mount it.
    """
    target.mkdir()
    with ExitStack() as ending:  # in reverse order
        device = _opened()
        ending.callback(os.close, device)
        end, wake = os.pipe()
        ending.callback(os.close, end)
        ending.callback(os.close, wake)
        _mount(device, target)
        server = Server(device, real)
        thread = threading.Thread(target=server.serve, args=(end,))
        thread.start()
        ending.callback(thread.join)
        ending.callback(os.write, wake, b"\n")
        ending.callback(subprocess.check_call, ["umount", "-l", target])
        yield server


def _opened() -> int:
    if not Path("/sys/fs/fuse").exists():  # a module makes it
        subprocess.run(["modprobe", "-q", "fuse"], check=False)
    try:
        return os.open(_DEVICE, os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:
        raise CannotTellError(f"no FUSE here: {_DEVICE}: {error.strerror}") from error


def _mount(device: int, target: Path) -> None:
    """Mount by a program, which has the device by the same number; `-i` keeps it from calling a helper."""
    data = f"fd={device},rootmode=40000,user_id=0,group_id=0"
    words = ("mount", "-i", "-t", "fuse", "-o", data, "fim", str(target))
    done = subprocess.run(words, pass_fds=[device], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotTellError(f"cannot mount a FUSE here: {done.stderr.strip()}")
