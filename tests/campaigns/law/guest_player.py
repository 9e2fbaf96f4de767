"""Runs in the guest: makes the places of a world, runs agents, and plays scripts.

It reads one JSON object a line from stdin and answers each with one line. What a play brought back is in a
file, because it may be megabytes: compressed, a JSON object with the lengths of the parts that follow it.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.campaigns.law.guest_fanotify import Watch
    from tests.campaigns.law.guest_neighbours import NEIGHBOUR, Neighbours
else:  # beside this file in the guest
    from guest_fanotify import Watch
    from guest_neighbours import NEIGHBOUR, Neighbours

sys.path.insert(0, "/opt/fim")

from agent.ledger import Account, identities

GENERATOR = "/opt/fim/agent/bin/fim-gen"
FOLDER = "/run/law"
MARKS = "/law_marks"  # on the root: a fault in the walk across mounts must not hide them
MARK = "law_mark"
REPLY = f"{FOLDER}/reply"
REPORTS = f"{FOLDER}/reports"
SETTLE_S = 300.0
START_S = 300.0
PLAY_S = 1200.0
POLL_S = 0.004
ASKED = 5  # times that a ledger may be in flight
BLOCK = 1 << 16
MS_BIND, MS_REMOUNT = 0x1000, 0x20
MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8

_libc = ctypes.CDLL(None, use_errno=True)


class Image:
    """A file system in a file on a loop device, and the content to which it is reset."""

    def __init__(self, path: str, size: int, make: str) -> None:
        with open(path, "wb") as file:
            file.write(b"" if make else fat12(size))
            file.truncate(size)
        if make:
            _shell(make.format(image=path))
        self.size = size
        with open(path, "rb", buffering=0) as file:
            blocks = ((number, file.read(BLOCK)) for number in range((size + BLOCK - 1) // BLOCK))
            self.blocks = [(number * BLOCK, data) for number, data in blocks if any(data)]
        self.fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self.device = _shell(f"modprobe -q loop; losetup -f --show {path}").strip()

    def restore(self) -> None:
        """Write the first content."""
        os.ftruncate(self.fd, 0)
        os.ftruncate(self.fd, self.size)
        for offset, data in self.blocks:
            os.pwrite(self.fd, data, offset)


def fat12(size: int) -> bytes:
    """Return the beginning of an empty FAT12 file system: its boot sector and two tables of 8 sectors."""
    sectors = size // 512
    boot = struct.pack(
        "<3s8sHBHBHHBHHHII", b"\xeb\x3c\x90", b"law     ", 512, 4, 1, 2, 512, sectors, 0xF8, 8, 32, 2, 0, 0
    )
    boot += struct.pack("<BBBI11s8s", 0x80, 0, 0x29, 0x1A3, b"LAW        ", b"FAT12   ")
    table = b"\xf8\xff\xff".ljust(8 * 512, b"\0")
    return boot.ljust(510, b"\0") + b"\x55\xaa" + table * 2


class World:
    """The places, made by steps; places that this kernel cannot make are left out with the reason."""

    def __init__(self, places: list[dict[str, Any]]) -> None:
        self.places = places
        self.images: dict[str, Image] = {}
        self.missing: dict[str, str] = {}
        self.used: set[str] = set()  # places that were used since they were made

    def build(self) -> dict[str, str]:
        """Make all places; return the reasons for those that are missing."""
        for place in self.places:
            needs = [name for name in place["after"] if name in self.missing]
            try:
                if needs:
                    raise OSError(f"it needs {needs[0]}, which is missing")
                for path, size, make in place["images"]:
                    self.images[path] = Image(path, size, make)
                self.make(place)
            except OSError as error:
                self.missing[place["name"]] = str(error)
        self.places = [place for place in self.places if place["name"] not in self.missing]
        return self.missing

    def reset(self, names: list[str]) -> None:
        """Make these places again as they were at first, as far as they were used since."""
        again = [place for place in self.places if place["name"] in self.used.intersection(names)]
        known = {os.fsencode(path) for place in self.places for path in _folders(place)}
        used = [os.fsencode(path) for place in again for path in _folders(place)]
        strange = [entry.path for entry in os.scandir(b"/w") if entry.path not in known]
        unmount([*used, *strange])
        _remove([*strange, *(path for path in used if path.count(b"/") == 2)])
        for path in dict.fromkeys(path for place in again for path, *_ in place["images"]):
            self.images[path].restore()
        for place in again:
            self.make(place)
        self.used.update(names)

    def make(self, place: dict[str, Any]) -> None:
        """Take the steps of one place."""
        for step in place["steps"]:
            if step[0] == "mkdir":
                _, path, mode, uid = step
                os.makedirs(path, exist_ok=True)
                os.chown(path, uid, uid)
                os.chmod(path, mode)
            elif step[0] == "file":
                os.close(os.open(step[1], os.O_CREAT | os.O_WRONLY, 0o644))
            else:
                _, source, target, kind, flags, data = step
                device = self.images[source].device if source in self.images else source
                mount(device, target, kind, flags, data)


def mount(source: str, target: str, kind: str, flags: int, data: str) -> None:
    """Mount, and remount where flags of a bind mount need that. Raises OSError."""
    words = (source.encode(), target.encode(), kind.encode() or None)
    if _libc.mount(*words, ctypes.c_ulong(flags), data.encode() or None):
        raise OSError(f"mount {kind} {source} at {target}: {os.strerror(ctypes.get_errno())}")
    if flags & MS_BIND and flags & ~MS_BIND and not flags & MS_REMOUNT:
        mount(source, target, kind, flags | MS_REMOUNT, data)


def unmount(bases: list[bytes]) -> None:
    """Unmount these directories and everything below them, the newest first."""
    with open("/proc/self/mountinfo", "rb") as file:
        points = [line.split()[4] for line in file]
    for point in reversed(points):
        path = re.sub(rb"\\(\d{3})", lambda match: bytes([int(match[1], 8)]), point)
        if any(path == base or path.startswith(base + b"/") for base in bases):
            _libc.umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW)


def _folders(place: dict[str, Any]) -> list[str]:
    return [step[1] for step in place["steps"] if step[0] == "mkdir"]


def _remove(paths: list[bytes]) -> None:
    """Remove files and trees, also what a program made immutable."""
    for path in paths:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
    left = [path for path in paths if os.path.lexists(path)]
    if left:
        subprocess.run([b"chattr", b"-R", b"-f", b"-ia", b"--", *left], check=False)
        subprocess.run([b"rm", b"-rf", b"--", *left], check=True)


class Agent:
    """A running agent: its matches as they arrive in its output file, its control socket, its log."""

    def __init__(self, name: str, program: list[str], options: list[str]) -> None:
        base = f"{FOLDER}/{name}"
        self.control, self.output = f"{base}.sock", f"{base}.jsonl"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.control)
        with open(self.output, "wb"), open(f"{base}.log", "wb") as log:
            words = [*program, "run", "--rules", f"{FOLDER}/rules.yaml", f"{FOLDER}/marks.yaml"]
            words += ["--output", self.output, "--control", self.control, *options]
            self.process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=patient if name == "off" else None,
                cwd="/opt/fim", env={"PYTHONPATH": "/opt/fim", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            )  # fmt: skip
        self.log = f"{base}.log"
        self.read = os.open(self.output, os.O_RDWR | os.O_CLOEXEC)
        self.data, self.searched = b"", 0

    def await_start(self) -> None:
        """Return once it watches. Raises OSError if it does not."""
        deadline = time.monotonic() + START_S
        while "watching" not in self.said():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise OSError(f"the agent did not start: {self.said()}")
            time.sleep(0.2)

    def said(self) -> str:
        """Return the end of its log."""
        with open(self.log, "rb") as file:
            return file.read()[-4000:].decode(errors="replace")

    def take(self) -> None:
        """Read the matches that it has written."""
        while data := os.read(self.read, 1 << 20):
            self.data += data

    def has(self, needle: bytes) -> bool:
        """Return whether its matches have this text; earlier searched bytes are not searched again."""
        begin = max(0, self.searched - len(needle))
        self.take()
        self.searched = len(self.data)
        return needle in self.data[begin:]

    def forget(self) -> bytes:
        """Return the matches, and empty the file."""
        self.take()
        data, self.data, self.searched = self.data, b"", 0
        os.ftruncate(self.read, 0)
        os.lseek(self.read, 0, os.SEEK_SET)
        return data

    def ask(self, word: str) -> dict[str, Any]:
        """Return its answer to `status` or `reload`."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(120)
            client.connect(self.control)
            client.sendall(word.encode() + b"\n")
            with client.makefile("rb") as answer:
                reply: dict[str, Any] = json.loads(answer.readline())
        return reply

    def status(self) -> dict[str, Any]:
        """Return its state; it is requested again while operations in flight keep its ledger open."""
        for _ in range(ASKED):
            found = self.ask("status")
            rows = [Account(**row) for row in found["ledger"].values()]
            found["open"] = [str(one) for row in rows for one in identities(row) if not one.holds]
            if not found["open"]:
                break
        found["dropped"] = sum(sink["dropped"] for sink in found["sinks"].values())
        found["lost_to_neighbour"] = found["lost_by_user"].get(str(NEIGHBOUR), 0)
        keep = ("ledger", "lost", "lost_to_neighbour", "open", "dropped")
        return {name: found[name] for name in keep}


def patient() -> None:
    """Let an agent read several events at once: it does not preempt the program that makes them."""
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


class Player:
    """The state of a guest: its world and its agents."""

    def __init__(self) -> None:
        self.world = World([])
        self.agents: dict[str, Agent] = {}
        self.marks = 0
        self.policies = b""

    def build(self, request: dict[str, Any]) -> dict[str, Any]:
        """Make the world."""
        os.umask(0)
        self.world = World(request["places"])
        for group in request["cgroups"]:
            os.makedirs(group, exist_ok=True)
            for path in (group, f"{group}/cgroup.procs"):
                os.chown(path, NEIGHBOUR, NEIGHBOUR)
        os.makedirs("/w", exist_ok=True)
        with open("/proc/sys/kernel/modprobe") as file:
            helper = os.path.realpath(file.read().strip())
        return {"missing": self.world.build(), "helper": helper}

    def start(self, request: dict[str, Any]) -> dict[str, Any]:
        """Start the agents, side by side, in place of those that were started before."""
        for agent in self.agents.values():
            agent.process.kill()
            agent.process.wait()
        self.agents.clear()
        os.makedirs(MARKS, exist_ok=True)
        marks = {"path": f'open.file.path =~ "{MARKS}/**"', "name": f'open.file.name == "{MARK}"'}
        _write(f"{FOLDER}/marks.yaml", _policy({f"law_mark_{name}": text for name, text in marks.items()}))
        _write(f"{FOLDER}/rules.yaml", _policy({"law_none": 'open.file.path == "/w/none"'}))
        self.policies = b""  # agents that start again do not have those of the last play
        for name, program in request["agents"].items():
            self.agents[name] = Agent(name, program, request["options"])
        for agent in self.agents.values():
            agent.await_start()
        return {"pids": [os.getpid(), *(agent.process.pid for agent in self.agents.values())]}

    def reload(self, path: str) -> list[str]:
        """Activate rules; return the agents' errors about them."""
        with open(path, "rb") as file:
            policies = file.read()
        if policies == self.policies:
            return []
        _write(f"{FOLDER}/rules.yaml", policies)
        answers = {name: agent.ask("reload") for name, agent in self.agents.items()}
        wrong = [
            f"{name}: {one['error']}: {one.get('detail', '')}"
            for name, one in answers.items()
            if "error" in one
        ]
        self.policies = b"" if wrong else policies
        return wrong

    def mark(self) -> bytes:
        """Open a file that both agents must report, and wait until they have; return its name."""
        self.marks += 1
        folder = f"{MARKS}/{self.marks}"
        name = f"{folder}/{MARK}"
        os.mkdir(folder)
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o600))
        needle = f'"path":"{name}"'.encode()
        deadline = time.monotonic() + SETTLE_S
        for title, agent in self.agents.items():
            while not agent.has(needle):
                if agent.process.poll() is not None:
                    raise OSError(f"the agent with filters {title} ended: {agent.said()}")
                if time.monotonic() > deadline:
                    raise OSError(
                        f"the agent with filters {title} did not report {name} within {SETTLE_S:.0f} s"
                    )
                time.sleep(POLL_S)
        os.unlink(name)
        os.rmdir(folder)
        return needle

    def statuses(self) -> dict[str, dict[str, Any]]:
        """Return the state of each agent, while the others stand still.

        Under a rule that every open matches, two agents make events for each other without an end: each
        reads /proc about the other's opens, so that records are always in flight.
        """
        found = {}
        for name, agent in self.agents.items():
            others = [other for other in self.agents.values() if other is not agent]
            with contextlib.ExitStack() as stack:
                for other in others:
                    other.process.send_signal(signal.SIGSTOP)
                    stack.callback(other.process.send_signal, signal.SIGCONT)
                found[name] = agent.status()
        return found

    def play(self, request: dict[str, Any]) -> dict[str, Any]:
        """Reset the world and play the parts of a script, each under its rules."""
        began = [time.monotonic()]
        self.world.reset(request["reset"])
        watched = [place["path"] for place in self.world.places if place["name"] in request["reset"]]
        wrong, parts, problems, devices = [], [], [], []
        began.append(time.monotonic())
        for part in request["parts"]:
            wrong += self.reload(part["rules"])
            for agent in self.agents.values():
                agent.forget()
            reloaded = list(self.agents.values()) if part["reloads"] else []
            # The marks are outside of what the neighbours do: they may blind an agent while they run.
            first = self.mark()
            with Watch(watched) as watch:
                with Neighbours(GENERATOR, part["neighbours"], request["ready"], reloaded):
                    with open(part["script"], "rb") as file:
                        reports, problem = generate(file.read())
                    problems += [problem] if problem else []
                    began.append(time.monotonic())
                last = self.mark()
                devices.append(sorted(watch.devices))
                matches = (_between(agent.forget(), first, last) for agent in self.agents.values())
                parts.append((reports, watch.read(), *matches))
            began.append(time.monotonic())
        header = {
            "lengths": [[len(one) for one in part] for part in parts],
            "devices": devices,
            "unwatched": watch.missing,
            "status": self.statuses(),
        }
        body = b"".join([json.dumps(header).encode(), b"\n", *(one for part in parts for one in part)])
        _write(REPLY, zlib.compress(body, 1))
        began.append(time.monotonic())
        steps = [round(later - earlier, 3) for earlier, later in itertools.pairwise(began)]
        return {"wrong": wrong, "problems": problems, "seconds": steps}


def generate(script: bytes) -> tuple[bytes, str]:
    """Return the report of fim-gen, and the error if it did not end normally."""
    with open(REPORTS, "w+b", buffering=0) as file:
        out = os.open(REPORTS, os.O_WRONLY | os.O_APPEND)  # several processes write whole lines
        process = subprocess.Popen(
            [GENERATOR], stdin=subprocess.PIPE, stdout=out, start_new_session=True, cwd="/"
        )
        os.close(out)
        problem = ""
        try:
            process.communicate(script, timeout=PLAY_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            problem = f"the script did not end within {PLAY_S:.0f} s"
        reports = file.read()
    if process.returncode and not problem and b'{"error":' not in reports[-4096:]:
        problem = f"fim-gen ended with status {process.returncode}"
    return reports, problem


def _between(data: bytes, first: bytes, last: bytes) -> bytes:
    """Return the matches between the first mark's and the last mark's."""
    begin = data.index(b"\n", data.index(first)) + 1
    return data[begin : data.rindex(b"\n", begin - 1, data.index(last, begin)) + 1]


def _policy(rules: dict[str, str]) -> bytes:
    return json.dumps({"rules": [{"id": name, "expression": text} for name, text in rules.items()]}).encode()


def _write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, 0o600)


def _shell(script: str, *, may_fail: bool = False) -> str:
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    if done.returncode and not may_fail:
        raise OSError(f"{script}: {done.stderr.strip()}")
    return done.stdout


def requests() -> Iterator[dict[str, Any]]:
    """Yield the requests of the host."""
    for line in sys.stdin.buffer:
        yield json.loads(line)


def main() -> None:
    """Answer until the host closes the channel."""
    os.makedirs(FOLDER, mode=0o755, exist_ok=True)
    player = Player()
    for request in requests():
        try:
            reply = getattr(player, request["do"])(request)
        except (OSError, ValueError) as error:
            reply = {"error": str(error)}
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
