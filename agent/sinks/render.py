r"""Renders a match as one line of JSON that no file name can forge.

A line is printable ASCII: quotes, backslashes, control characters and all non-ASCII characters (also U+2028
and those that change the direction of text) are JSON escapes.

Names are bytes, JSON strings are not. Every string from the system is escaped before it becomes JSON, so that
a reader can restore the exact bytes with any JSON parser:

    a byte that is not part of valid UTF-8    \xHH, two lower case hexadecimal digits
    a backslash                               two backslashes
    everything else                           itself

To restore the bytes, encode the parsed string as UTF-8 and replace `\xHH` and `\\`, as `unescape` does. A
name of valid UTF-8 without a backslash is not changed.

The keys are an interface. A new or changed key also changes "Reading a match" of docs/operations.md (a test
compares the keys with it), tests/guest/agent/test_events.py, and tests/campaigns/law/judge.py, which compares
matches with expected ones.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from pathlib import Path
from typing import Any, Generic, TypeVar

from agent.events.actors import HOST, NOT_LIVE, Container, Context, Live, Process
from agent.events.model import Event, EventType, File, FileFlags

_ESCAPES = re.compile(rb"\\(?:\\|x([0-9a-f]{2}))")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_SECOND_NS = 1_000_000_000
_MAX_JOINED = 128


def escape(name: bytes) -> str:
    r"""Escape any bytes to text, as described in the module's docstring."""
    return name.replace(b"\\", rb"\\").decode("utf-8", "backslashreplace")


def unescape(text: str) -> bytes:
    """Return the bytes that `escape` encoded."""
    return _ESCAPES.sub(lambda match: bytes.fromhex(match[1].decode()) if match[1] else b"\\", text.encode())


def quote(text: str) -> str:
    """Return a JSON string of printable ASCII; the JSON encoder alone would not escape DEL."""
    return encode_basestring_ascii(text).replace("\x7f", "\\u007f")


def quote_name(name: bytes) -> str:
    """Return the JSON string of a name from the system."""
    return quote(escape(name))


_rule = lru_cache(maxsize=1024)(quote)
_quote_cached = lru_cache(maxsize=512)(quote_name)  # for programs and users, which repeat in many matches


T = TypeVar("T")


class _Joined(Generic[T]):
    """Renders the elements of a tuple, once for each tuple: all events of a process have the same ones."""

    def __init__(self, render: Callable[[T], str]) -> None:
        self._render = render
        self._known: dict[int, tuple[tuple[T, ...], str]] = {}  # by identity; the tuple keeps it from reuse

    def __call__(self, elements: tuple[T, ...]) -> str:
        known = self._known.get(id(elements))
        if known is not None:
            return known[1]
        text = ",".join(map(self._render, elements))
        if len(self._known) >= _MAX_JOINED:
            self._known.clear()
        self._known[id(elements)] = elements, text
        return text


class WallClock:
    """Converts CLOCK_BOOTTIME, the time of events, to the time of day.

    Measures the offset again for every second of event time, to follow changes of the clock.
    """

    def __init__(
        self,
        now_ns: Callable[[], int] = time.time_ns,
        boot_ns: Callable[[], int] = lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME),
    ) -> None:
        self._now_ns = now_ns
        self._boot_ns = boot_ns
        self._measure_at = 0
        self._offset = 0

    def now_ns(self) -> int:
        """Return nanoseconds since 1970 at this moment."""
        return self._now_ns()

    def unix_ns(self, boot_ns: int) -> int:
        """Return nanoseconds since 1970 at an event's time."""
        if boot_ns >= self._measure_at:
            self._measure_at = boot_ns + _SECOND_NS
            self._offset = self._now_ns() - self._boot_ns()
        return boot_ns + self._offset


@lru_cache(maxsize=16)
def _second(unix: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(unix))


def timestamp(unix_ns: int) -> str:
    """Format as RFC 3339 in UTC with nanoseconds."""
    return f"{_second(unix_ns // _SECOND_NS)}.{unix_ns % _SECOND_NS:09d}Z"


class Renderer:
    """Renders lines; `host` is the same in each."""

    def __init__(self, host: Mapping[str, str]) -> None:
        self._host = _object((key, quote(value)) for key, value in host.items())

    def body(self, event: Event, context: Context, unix_ns: int, sha256: str = "") -> str:
        """Render a line except for the rule, because several rules can match one event."""
        return (
            f'"time":"{timestamp(unix_ns)}","event":{_event(event, sha256)},'
            f'"process":{_process_cached(context, event)},"container":{_container(context.container)},'
            f'"host":{self._host}}}'
        )

    def own(self, kind: str, unix_ns: int, members: Mapping[str, Any]) -> bytes:
        """Render an event of the agent itself, which has the member `agent` and no `event`."""
        own = json.dumps(dict(members), separators=(",", ":")).replace("\x7f", "\\u007f")
        return self.line(kind, f'"time":"{timestamp(unix_ns)}","agent":{own},"host":{self._host}}}')

    @staticmethod
    def line(rule: str, body: str) -> bytes:
        """Render one match, without a newline."""
        return f'{{"rule":{_rule(rule)},{body}'.encode("ascii")


def this_host() -> dict[str, str]:
    """Return name, kernel and boot id of this host."""
    system = os.uname()
    host = {"name": system.nodename, "kernel": system.release}
    try:
        return {**host, "boot_id": _BOOT_ID.read_text("ascii").strip()}
    except OSError:
        return host


def _object(pairs: Iterable[tuple[str, str]]) -> str:
    return "{" + ",".join(f'"{key}":{value}' for key, value in pairs) + "}"


def _file(file: File) -> str:
    marks = f',"path_marks":{_marks(file.flags)}' if file.flags else ""
    return (
        f'"path":{quote_name(file.path)},"inode":{file.inode},"device":{file.device},"mode":"{file.mode:o}",'
        f'"uid":{file.uid},"gid":{file.gid}{marks}'
    )


def _event(event: Event, sha256: str) -> str:
    more = "".join([f',"{name}":{render(event)}' for name, render in _DETAILS.get(event.type, ())])
    digest = f',"sha256":{quote(sha256)}' if sha256 else ""
    return (
        f'{{"type":"{event.type.label}",{_file(event.file)}{more}{digest},"retval":{event.retval},'
        f'"mount_ns":{event.mount_ns}}}'
    )


class _Processes:
    """Renders the process of an event; events of a thread mostly have the same one."""

    def __init__(self) -> None:
        # By identity; a text keeps its objects from reuse.
        self._known: dict[tuple[object, ...], tuple[Process, Live, str]] = {}

    def __call__(self, context: Context, event: Event) -> str:
        process, live = context.process, context.live
        key = (id(process), id(live), context.root, event.cgroup_id)
        known = self._known.get(key)
        if known is not None:
            return known[2]
        text = _process(context, event)
        if len(self._known) >= _MAX_JOINED:
            self._known.clear()
        self._known[key] = process, live, text
        return text


_process_cached = _Processes()


def _process(context: Context, event: Event) -> str:
    process = context.process
    root = _quote_cached(context.root) if context.root else "null"
    cut = ',"args_truncated":true' if process.args_truncated else ""
    late = ',"incomplete":true' if process.incomplete else ""
    manager = quote_name(process.package_manager) if process.package_manager else "null"
    return (
        f'{{"pid":{process.pid},"ppid":{process.ppid},"tid":{process.tid},"comm":{_quote_cached(process.comm)},'
        f'"exe":{_quote_cached(process.exe)},"args":[{_args(process.args)}]{cut},"uid":{process.uid},"gid":{process.gid},'
        f'"auid":{process.auid},"user":{_quote_cached(process.user)},"group":{_quote_cached(process.group)},'
        f'"root":{root},{_live(context.live)},"package_manager":{manager},"cgroup_id":{event.cgroup_id},'
        f'"ancestors":[{_ancestors(process.ancestors)}]{late}}}'
    )


def _live(live: Live) -> str:
    if live == NOT_LIVE:
        return '"euid":null,"egid":null,"session":null,"tty":null,"cwd":null'
    tty = quote_name(live.tty) if live.tty else "null"
    return (
        f'"euid":{live.euid},"egid":{live.egid},"session":{live.session},"tty":{tty},'
        f'"cwd":{quote_name(live.cwd)}'
    )


def _ancestor(process: Process) -> str:
    return f'{{"pid":{process.pid},"comm":{_quote_cached(process.comm)},"exe":{_quote_cached(process.exe)}}}'


_args = _Joined(quote_name)
_ancestors = _Joined(_ancestor)


def _container(container: Container) -> str:
    if container == HOST:
        return "null"
    return (
        f'{{"id":{_quote_cached(container.id)},"runtime":{_quote_cached(container.runtime)},'
        f'"rootless_id":{_quote_cached(container.rootless_id)}}}'
    )


@lru_cache(maxsize=256)
def _marks(flags: FileFlags) -> str:
    return "[" + ",".join(f'"{flag.name}"'.lower() for flag in FileFlags if flag and flag in flags) + "]"


_ACCESS_MODES = {os.O_RDONLY: "O_RDONLY", os.O_WRONLY: "O_WRONLY", os.O_RDWR: "O_RDWR"}
_OPEN_FLAGS = (
    *("O_CREAT", "O_EXCL", "O_NOCTTY", "O_TRUNC", "O_APPEND", "O_NONBLOCK", "O_SYNC", "O_DSYNC"),
    *("O_ASYNC", "O_DIRECT", "O_TMPFILE", "O_DIRECTORY", "O_NOFOLLOW", "O_NOATIME", "O_CLOEXEC", "O_PATH"),
)


@lru_cache(maxsize=1024)
def _open_flags(flags: int) -> str:
    """Return flags by name, combinations before their parts; unnamed bits as one number."""
    rest = flags & ~os.O_ACCMODE
    names = [_ACCESS_MODES.get(flags & os.O_ACCMODE, "O_ACCMODE")]
    for name in _OPEN_FLAGS:
        value = getattr(os, name)
        if rest & value == value:
            names.append(name)
            rest &= ~value
    if rest:
        names.append(f"{rest:#x}")
    return "[" + ",".join(f'"{name}"' for name in names) + "]"


def _destination(event: Event) -> str:
    return "{" + _file(event.file2) + "}" if event.file2 else "null"


def _script(event: Event) -> str:
    return quote_name(event.file2.path) if event.file2 else "null"


_Detail = tuple[str, Callable[[Event], str]]
_FLAGS: _Detail = ("flags", lambda event: str(event.flags))
_MODE: _Detail = ("requested_mode", lambda event: f'"{event.mode:o}"')
_XATTR: _Detail = ("xattr", lambda event: quote_name(event.name))

# The members that an event type has in addition to its file.
_DETAILS: dict[EventType, tuple[_Detail, ...]] = {
    EventType.OPEN: (("flags", lambda event: _open_flags(event.flags)), _MODE),
    EventType.UNLINK: (_FLAGS,),
    EventType.MKDIR: (_MODE,),
    EventType.RENAME: (("destination", _destination), _FLAGS),
    EventType.LINK: (("destination", _destination),),
    EventType.SYMLINK: (("target", lambda event: quote_name(event.name)),),
    EventType.MKNOD: (_MODE,),
    EventType.CHMOD: (_MODE,),
    EventType.CHOWN: (("new_uid", lambda e: str(e.new_uid)), ("new_gid", lambda e: str(e.new_gid))),
    EventType.SETXATTR: (_XATTR,),
    EventType.REMOVEXATTR: (_XATTR,),
    EventType.MOUNT: (
        ("fs_type", lambda event: quote_name(event.name)),
        ("source", lambda event: quote_name(event.source)),
        _FLAGS,
    ),
    EventType.UMOUNT: (_FLAGS,),
    EventType.CHATTR: (_FLAGS,),
    EventType.EXEC: (("script", _script),),
    EventType.EXIT: (("exit_code", lambda event: str(event.exit_code)),),
}
