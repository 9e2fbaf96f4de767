"""The kernel rejects events that no rule asks for, and passes events that a rule asks for."""

from __future__ import annotations

import os
import signal
from collections import Counter
from contextlib import closing
from pathlib import Path

from agent.events.model import EventType, FileFlags
from agent.selftest.bench import Bench, Round
from agent.selftest.scenarios import proves

NOISE = 1009  # opens that no rule asks for
WANTED = 13
CONTROL = 11
FEW = 101  # noise where the number does not matter
NOBODY = 65534
LONGEST = 255  # bytes of a name
COMPONENTS = 256  # of a path that an event has


def _opens(count: int, path: str, flags: str) -> str:
    """Return a script that opens a path so often."""
    return f"repeat {count}\nopen {path} {flags} 0600 -> $0\nclose $0\nend\n"


def _check_silence(bench: Bench, noise: Round) -> None:
    bench.equal("noise that reaches the agent", 0, len(noise.of(EventType.OPEN)))
    bench.equal("noise rejected by approvers", NOISE, noise.counted[EventType.OPEN].approver_rejected)


@proves("approvers.path")
def approvers_path(bench: Bench) -> None:
    """Open a thousand files beside the one that the rule names."""
    wanted, others = bench.path("wanted"), bench.path("other%d")
    bench.rules(wanted=f'open.file.path == "{wanted}"')
    _check_silence(bench, bench.play(_opens(NOISE, others, "O_RDWR|O_CREAT")))
    passed = bench.play(_opens(WANTED, wanted, "O_RDWR|O_CREAT"))
    bench.equal("opens of the wanted path", WANTED, len(passed.matches("wanted")))

    bench.rules(wanted=f'open.file.path == "{wanted}"', anything=f'open.file.path != "{wanted}"')
    control = bench.play(_opens(CONTROL, others, "O_RDWR"))
    bench.equal("the same noise, once a rule asks for it", CONTROL, len(control.matches("anything")))


@proves("approvers.flags")
def approvers_flags(bench: Bench) -> None:
    """Read a file a thousand times where the rule asks for writing."""
    path = bench.path("file")
    bench.rules(written="open.flags & (O_WRONLY|O_RDWR) > 0")
    created = bench.play(_opens(1, path, "O_WRONLY|O_CREAT"))
    bench.equal("the open that created it", 1, len(created.matches("written")))
    _check_silence(bench, bench.play(_opens(NOISE, path, "O_RDONLY")))
    for flags in ("O_WRONLY", "O_RDWR"):
        passed = bench.play(_opens(WANTED, path, flags))
        bench.equal(f"opens with {flags}", WANTED, len(passed.matches("written")))

    bench.rules(read="open.flags & O_ACCMODE == O_RDONLY")
    control = bench.play(_opens(CONTROL, path, "O_RDONLY"))
    bench.equal("the same noise, once a rule asks for it", CONTROL, len(control.matches("read")))


def _check_rejected(bench: Bench, noise: Round, count: int) -> None:
    bench.equal("noise that reaches the agent", 0, len(noise.of(EventType.OPEN)))
    bench.equal("noise rejected by approvers", count, noise.counted[EventType.OPEN].approver_rejected)


def _check_kind(
    bench: Bench, expression: str, wanted: str, noise: str, flags: str = "O_RDWR|O_CREAT"
) -> None:
    """Check that opens of `wanted` pass, and that opens of `noise` pass only if a rule asks for them."""
    bench.rules(wanted=expression)
    _check_rejected(bench, bench.play(_opens(FEW, noise, flags)), FEW)
    passed = bench.play(_opens(WANTED, wanted, flags))
    bench.equal("opens that the rule matches", WANTED, len(passed.matches("wanted")))
    bench.rules(wanted=expression, anything="open.retval <= 0")
    control = bench.play(_opens(CONTROL, noise, flags))
    bench.equal("the same noise, once a rule asks for it", CONTROL, len(control.matches("anything")))


@proves("approvers.basename")
def approvers_basename(bench: Bench) -> None:
    """Open files with the base name in another directory, and files whose names only begin with it."""
    Path(bench.path("below")).mkdir()
    _check_kind(bench, 'open.file.name == "wanted"', bench.path("below/wanted"), bench.path("below/wanted%d"))


@proves("approvers.prefix")
def approvers_prefix(bench: Bench) -> None:
    """Open files at any depth below a directory, and in a directory whose name begins alike."""
    for name in ("tree/deep/deeper", "tree2"):
        Path(bench.path(name)).mkdir(parents=True)
    rule = f'open.file.path =~ "{bench.path("tree")}/**"'
    _check_kind(bench, rule, bench.path("tree/deep/deeper/f%d"), bench.path("tree2/f%d"))


@proves("approvers.names")
def approvers_names(bench: Bench) -> None:
    """Open files with short and long names that differ only in the last byte."""
    for size in (1, 7, 8, 9, LONGEST):
        name, other = "n" * size, "n" * (size - 1) + "m"
        bench.rules(wanted=f'open.file.name == "{name}"')
        noise = bench.play(_opens(1, bench.path(other), "O_RDWR|O_CREAT"))
        _check_rejected(bench, noise, 1)
        passed = bench.play(_opens(1, bench.path(name), "O_RDWR|O_CREAT"))
        bench.equal(f"a name of {size} bytes", 1, len(passed.matches("wanted")))


@proves("approvers.deep_path")
def approvers_deep_path(bench: Bench) -> None:
    """Create a file with set-user-ID below as many directories as a path can have, and below one more."""
    bench.rules(
        created=f'open.file.path =~ "{bench.folder}/**" && open.flags & O_CREAT > 0',
        privileged=f'chmod.file.path =~ "{bench.folder}/**" && chmod.file.destination.mode & S_ISUID > 0',
        elsewhere='open.file.path =~ "/elsewhere/**"',
        beside=f'open.file.path =~ "{bench.folder}/**/other"',
    )
    leaf = "open leaf O_RDWR|O_CREAT 0600 -> $0\nclose $0\nchmod leaf 04755\nunlink leaf\n"
    most = COMPONENTS - bench.depth  # directories between the scenario's folder and the file
    for depth, counts in ((most, [1, 1, 0, 0]), (most + 1, [1, 1, 1, 0])):
        down = f"chdir {bench.folder}\nrepeat {depth}\nmkdir d 0700\nchdir d\nend\n"
        played = bench.play(f"{down}{leaf}repeat {depth}\nchdir ..\nrmdir d\nend\nchdir /\n")
        names = ("created", "privileged", "elsewhere", "beside")
        found = [len(played.matches(name)) for name in names]
        bench.equal(f"matches of {', '.join(names)} below {depth} directories", counts, found)
        marks = {bool(event.file.flags & FileFlags.TRUNCATED) for event in played.matches("created")}
        bench.equal(f"marked as truncated below {depth} directories", {depth > most}, marks)


@proves("approvers.rdonly")
def approvers_rdonly(bench: Bench) -> None:
    """Open a file for reading, where a rule asks for that; O_RDONLY is no bit of the flags."""
    path = bench.file("file")
    bench.rules(read="open.flags & O_ACCMODE == O_RDONLY")
    for flags in ("O_WRONLY", "O_RDWR", "O_RDWR|O_APPEND"):
        _check_rejected(bench, bench.play(_opens(FEW, path, flags)), FEW)
    passed = bench.play(_opens(WANTED, path, "O_RDONLY|O_CLOEXEC"))
    bench.equal("opens for reading", WANTED, len(passed.matches("read")))
    bench.rules(written="open.flags & O_ACCMODE != O_RDONLY")
    control = bench.play(_opens(CONTROL, path, "O_WRONLY"))
    bench.equal("the same noise, once a rule asks for it", CONTROL, len(control.matches("written")))


@proves("approvers.flags_combined")
def approvers_flags_combined(bench: Bench) -> None:
    """Open a file with both, one and none of two flags."""
    path = bench.file("file")
    bench.rules(
        both="open.flags & (O_TRUNC|O_APPEND) == O_TRUNC|O_APPEND", either="open.flags & (O_TRUNC|O_SYNC) > 0"
    )
    for flags, both, either in (
        ("O_WRONLY|O_TRUNC|O_APPEND", 1, 1),
        ("O_WRONLY|O_TRUNC", 0, 1),
        ("O_WRONLY|O_SYNC", 0, 1),
        ("O_WRONLY|O_APPEND", 0, 0),
        ("O_RDWR", 0, 0),
    ):
        played = bench.play(_opens(WANTED, path, flags))
        counts = [WANTED * both, WANTED * either]
        bench.equal(f"opens with {flags}", counts, [len(played.matches(rule)) for rule in ("both", "either")])
    bench.equal("opens with O_RDWR rejected", WANTED, played.counted[EventType.OPEN].approver_rejected)


def _by(user: int, path: str) -> str:
    """Return a child process that opens a file as a user."""
    body = f"open {path} O_RDONLY -> $0\nclose $0\n"
    return f"fork -> $1\nsetuid {user}\nrepeat {WANTED}\n{body}end\nend\nwait $1\n"


@proves("approvers.uid")
def approvers_uid(bench: Bench) -> None:
    """Open a file as two users; the rule names one."""
    path = bench.file("file")
    Path(path).chmod(0o644)
    bench.rules(wanted=f"open.retval <= 0 && process.uid == {NOBODY}")
    passed = bench.play(_by(NOBODY, path))
    bench.equal("opens by that user", WANTED, len(passed.matches("wanted")))
    _check_rejected(bench, bench.play(_by(NOBODY - 1, path)), WANTED)
    bench.rules(wanted=f"open.retval <= 0 && process.uid == {NOBODY - 1}")
    control = bench.play(_by(NOBODY - 1, path))
    bench.equal("opens by the other, once a rule asks for them", WANTED, len(control.matches("wanted")))


@proves("approvers.auid")
def approvers_auid(bench: Bench) -> None:
    """Open a file after a change of the user id; the rule names the login user."""
    path = bench.file("file")
    Path(path).chmod(0o644)
    own = int(Path("/proc/self/loginuid").read_text())
    bench.rules(wanted=f"open.retval <= 0 && process.auid == {own}")
    passed = bench.play(_by(NOBODY, path))
    bench.equal("opens of this login", WANTED, len(passed.matches("wanted")))
    bench.rules(wanted="open.retval <= 0 && process.auid == 4242")
    _check_rejected(bench, bench.play(_opens(WANTED, path, "O_RDONLY")), WANTED)


@proves("approvers.change")
def approvers_change(bench: Bench) -> None:
    """Change the rules between events; the next event is filtered by the new rules."""
    one, two = bench.file("one"), bench.file("two")
    both = _opens(1, one, "O_RDONLY") + _opens(1, two, "O_RDONLY")
    rules = {"first": f'open.file.path == "{one}"', "second": f'open.file.path == "{two}"'}
    for names in (("first",), ("first", "second"), ("second",), (), ("first", "second")):
        bench.rules(**{name: rules[name] for name in names})
        played = bench.play(both)
        matched = [name for name in rules if played.matches(name)]
        bench.equal("rules that matched", list(names), matched)
        rejected = played.counted[EventType.OPEN].approver_rejected
        bench.equal("rejected opens", 2 - len(names), rejected)


@proves("approvers.none")
def approvers_none(bench: Bench) -> None:
    """Add a rule that the kernel cannot filter for: only its event type is forwarded completely."""
    path = bench.file("file")
    script = f"{_opens(WANTED, path, 'O_RDONLY')}repeat {WANTED}\nmkdir {bench.path('d%d')} 0700\nend\n"
    wanted = {"wanted": f'open.file.path == "{path}.not"', "made": 'mkdir.file.name == "nothing"'}
    bench.rules(**wanted)
    filtered = bench.play(script)
    bench.equal("opens that arrive", 0, len(filtered.of(EventType.OPEN)))
    bench.rules(**wanted, unserved="open.file.path.length > 4095")
    forwarded = bench.play(script.replace("mkdir", "rmdir").replace(" 0700", ""))
    bench.equal("opens that arrive then", True, 0 < len(forwarded.of(EventType.OPEN)) <= WANTED)
    kinds = (EventType.OPEN, EventType.MKDIR, EventType.RMDIR)
    bench.equal("rejected", [0, 0, WANTED], [forwarded.counted[kind].approver_rejected for kind in kinds])


@proves("approvers.other_types")
def approvers_other_types(bench: Bench) -> None:
    """Make events of several types on one file; rules name the file for some of the types."""
    path = bench.path("file")
    bench.rules(gone=f'unlink.file.path == "{path}"', named='rename.file.destination.name == "file"')
    script = f"{_opens(1, path, 'O_RDWR|O_CREAT')}rename {path}.no {path}\nunlink {path}\n"
    Path(f"{path}.no").touch()
    played = bench.play(script)
    arrived = [judged.event.type.label for judged in played.judged]
    bench.equal("types that arrive", ["rename", "unlink"], arrived)
    kinds = (EventType.OPEN, EventType.CLOSE)
    bench.equal("rejected", [1, 1], [played.counted[kind].approver_rejected for kind in kinds])
    bench.rules(opened=f'open.file.path == "{path}"', closed=f'close.file.path == "{path}"')
    asked = bench.play(_opens(1, path, "O_RDWR|O_CREAT"))
    bench.equal("events once rules ask for them", [1, 1], [len(asked.of(kind)) for kind in kinds])


@proves("approvers.unasked_reads")
def approvers_unasked_reads(bench: Bench) -> None:
    """Read and write a file beside an agent whose only rule asks for writing: the kernel begins no read."""
    path = bench.file("file")
    bench.rules()
    with closing(
        bench.resident(written=f'open.file.path == "{path}" && open.flags & O_WRONLY > 0')
    ) as resident:
        for flags in ("O_RDONLY", "O_WRONLY", "O_RDONLY|O_SYNC", "O_WRONLY|O_SYNC"):
            bench.play(_opens(WANTED, path, flags))
        resident.signal(signal.SIGTERM)
        bench.equal("exit status", 0, resident.wait())
        bench.equal("opens for writing", 2 * WANTED, len(resident.matches("written")))


def _remember(bench: Bench, path: str) -> None:
    """Open files that no rule names, so that the kernel remembers their directory."""
    _check_rejected(bench, bench.play(_opens(FEW, path, "O_RDWR|O_CREAT")), FEW)


def _check_seen(bench: Bench, script: str, count: int, why: str) -> None:
    bench.equal(f"events after {why}", count, len(bench.play(script).matches("wanted")))


@proves("approvers.moved_directory")
def approvers_moved_directory(bench: Bench) -> None:
    """Rename a directory above files that no rule names, one to three levels, to where a rule names them."""
    names = ["one", "two", "three"]
    old = bench.path("/".join(names))
    Path(old).mkdir(parents=True)
    moves = [
        (bench.path("/".join(names[:level])), bench.path("/".join([*names[: level - 1], "moved"])))
        for level in (1, 2, 3)
    ]
    rule = ", ".join(f'~"{new}/**"' for _, new in moves)
    bench.rules(wanted=f"open.file.path in [{rule}]")
    for source, target in moves:
        _remember(bench, f"{old}/file%d")
        script = f"rename {source} {target}\n{_opens(1, old.replace(source, target) + '/file0', 'O_RDWR')}"
        _check_seen(bench, f"{script}rename {target} {source}\n", 1, f"{source} moved")
    _remember(bench, f"{old}/file%d")


@proves("approvers.link_above")
def approvers_link_above(bench: Bench) -> None:
    """Put symbolic links above a path that a rule names and remove them, then the same beside that path."""
    bench.rules(wanted=f'fim.write.file.path == "{bench.path("above")}/watched"')
    kinds = [EventType.SYMLINK, EventType.UNLINK, EventType.LINK, EventType.UNLINK, *[EventType.RENAME] * 2]
    for name, expected in (("above", kinds), ("beside", [])):
        path, link, file = bench.path(name), bench.path("link"), bench.file("file")
        Path(link).symlink_to(".")
        second = f"symlink . {path}\nunlink {path}\nlink {link} {path}\nunlink {path}\n"
        played = bench.play(f"{second}rename {link} {path}\nrename {file} {path}\n")
        bench.equal(f"events of links {name}", expected, [event.type for event in played.matches("wanted")])
    rejected = {kind: played.counted[kind].approver_rejected for kind in kinds}
    bench.equal("rejected by approvers", Counter(kinds), rejected)


@proves("approvers.moved_mount")
def approvers_moved_mount(bench: Bench) -> None:
    """Mount a directory a second time, and move a mount, to where a rule names the files in them."""
    ignored, wanted = bench.path("ignored"), bench.path("wanted")
    for folder in (ignored, wanted):
        Path(folder).mkdir()
    bench.rules(wanted=f'open.file.path =~ "{wanted}/**"')
    _remember(bench, f"{ignored}/file%d")
    opened = _opens(1, f"{wanted}/file0", "O_RDWR")
    script = f"mount {ignored} {wanted} none MS_BIND\n{opened}umount {wanted}\n"
    _check_seen(bench, script, 1, "the directory was mounted elsewhere")

    bench.play(f"mount none {ignored} tmpfs 0\nmkdir {ignored}/folder 0700\n")
    _remember(bench, f"{ignored}/folder/file%d")
    opened = _opens(1, f"{wanted}/folder/file0", "O_RDWR")
    script = f"mount {ignored} {wanted} none MS_MOVE\n{opened}umount {wanted}\n"
    _check_seen(bench, script, 1, "the mount moved")


@proves("approvers.changed_directory")
def approvers_changed_directory(bench: Bench) -> None:
    """Open files that no rule names, then set rules that name one of them, and their directory."""
    folder = bench.path("folder")
    Path(folder).mkdir()
    wanted = {f'open.file.path == "{folder}/file1"': 1, f'open.file.path =~ "{folder}/**"': FEW}
    for rule, count in wanted.items():
        bench.rules(wanted=f'open.file.path == "{bench.path("other")}"')
        _remember(bench, f"{folder}/file%d")
        bench.rules(wanted=rule)
        _check_seen(bench, _opens(FEW, f"{folder}/file%d", "O_RDWR"), count, rule)


@proves("approvers.evicted_directory")
def approvers_evicted_directory(bench: Bench) -> None:
    """Drop the kernel's inode cache; directories that a rule names get the memory of others."""
    with bench.mounted("fs", "ext4") as folder:
        for number in range(FEW):
            for kind in ("ignored", "wanted"):
                Path(f"{folder}/{kind}{number}").mkdir()
                Path(f"{folder}/{kind}{number}/file").touch()
        paths = ", ".join(f'"{folder}/wanted{number}/file"' for number in range(FEW))
        bench.rules(wanted=f"open.file.path in [{paths}]")
        os.sync()  # a dirty inode stays in the cache
        caches = Path("/proc/sys/vm/drop_caches")
        for _ in range(2):
            caches.write_text("2")
            _check_rejected(bench, bench.play(_opens(FEW, f"{folder}/ignored%d/file", "O_RDWR")), FEW)
            caches.write_text("2")
            script = _opens(FEW, f"{folder}/wanted%d/file", "O_RDWR")
            _check_seen(bench, script, FEW, "their directories got the memory of others")


@proves("approvers.exchanged_directory")
def approvers_exchanged_directory(bench: Bench) -> None:
    """Move a file out of a directory that no rule names, then exchange that with one that a rule names."""
    ignored, wanted = bench.path("ignored"), bench.path("wanted")
    for folder in (ignored, wanted):
        Path(folder).mkdir()
    bench.rules(wanted=f'open.file.path == "{wanted}/file0"')
    _remember(bench, f"{ignored}/file%d")
    opened = _opens(1, f"{wanted}/file0", "O_RDWR")
    _check_seen(bench, f"rename {ignored}/file0 {wanted}/file0\n{opened}", 1, "the file moved")
    _remember(bench, f"{ignored}/file%d")
    exchanged = f"renameat2 AT_FDCWD {ignored} AT_FDCWD {wanted} EXCHANGE\n"
    _check_seen(bench, f"{exchanged}{opened}", 1, "both directories were exchanged")
