"""Actions of tests in a guest, with the kernel's results. Runs there, as `python3 guest_actions.py NAME`.

Each action prints one JSON object. This module imports nothing of the project.
"""

import ctypes
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

BASE = "/w"
USER = 1000
LIBC = ctypes.CDLL(None, use_errno=True)
MS_BIND = 4096
MS_REC_PRIVATE = 0x44000
CLONE_NEWNS = 0x20000
STRANGE = b'new\nline "quoted" \\ \x1b[31m \xff\xfe \xe2\x80\xa8 end'


def errno_of(call: Callable[[], object]) -> int:
    """Make a call and return 0, or the negative errno of its failure."""
    try:
        call()
    except OSError as error:
        return -(error.errno or 0)
    return 0


def mount(source: str, target: str, kind: str | None, flags: int = 0, data: str = "") -> None:
    words = [word.encode() if word else None for word in (source, target, kind)]
    if LIBC.mount(*words, flags, data.encode() or None):
        raise OSError(ctypes.get_errno(), target)


def umount(target: str) -> None:
    if LIBC.umount2(target.encode(), 0):
        raise OSError(ctypes.get_errno(), target)


def touch(path: str, flags: int = os.O_CREAT | os.O_WRONLY, mode: int = 0o640) -> None:
    os.close(os.open(path, flags, mode))


def apart(call: Callable[[], object], *, uid: int = 0) -> tuple[int, Any]:
    """Run a call in a child, as another user if `uid` is set; return the child's pid and the result."""
    back, out = os.pipe()
    pid = os.fork()
    if not pid:
        if uid:
            os.setgid(uid)
            os.setuid(uid)
        os.write(out, json.dumps(call()).encode())
        os._exit(0)
    os.close(out)
    with os.fdopen(back) as answer:
        result = json.load(answer)
    os.waitpid(pid, 0)
    return pid, result


def fresh(*names: str) -> str:
    folder = os.path.join(BASE, *names)
    os.makedirs(folder, exist_ok=True)
    return folder


def calls(at: str, made: str) -> dict[str, Callable[[], object]]:
    """One call for each event type with a result, on objects below `at` that `prepare` created."""
    return {
        "open": lambda: touch(f"{made}/opened"),
        "truncate": lambda: os.truncate(f"{at}/file", 7),
        "chmod": lambda: os.chmod(f"{at}/file", 0o4711),
        "chown": lambda: os.chown(f"{at}/file", 12, 34),
        "utimes": lambda: os.utime(f"{at}/file", (1, 2)),
        "setxattr": lambda: os.setxattr(f"{at}/file", "trusted.deed", b"1"),
        "removexattr": lambda: os.removexattr(f"{at}/file", "trusted.deed"),
        "mkdir": lambda: os.mkdir(f"{made}/folder", 0o750),
        "rmdir": lambda: os.rmdir(f"{at}/empty"),
        "link": lambda: os.link(f"{at}/file", f"{made}/linked"),
        "symlink": lambda: os.symlink("some/where", f"{made}/symlinked"),
        "mknod": lambda: os.mknod(f"{made}/fifo", 0o10644),
        "rename": lambda: os.rename(f"{at}/moving", f"{made}/moved"),
        "unlink": lambda: os.unlink(f"{at}/doomed"),
        "mount": lambda: mount("tmpfs", f"{at}/mountpoint", "tmpfs"),
        "umount": lambda: umount(f"{at}/mountpoint"),
    }


def prepare(*names: str) -> str:
    at = fresh(*names)
    for name in ("empty", "mountpoint"):
        os.makedirs(f"{at}/{name}", exist_ok=True)
    for name in ("file", "moving", "doomed"):
        touch(f"{at}/{name}")
    os.chmod(f"{at}/file", 0o644)
    return at


def every_type() -> dict[str, Any]:
    """Make each call successfully, then again as a user without permission."""
    at, refused = prepare("allowed"), prepare("refused")
    allowed = {kind: errno_of(call) for kind, call in calls(at, at).items()}
    denied = {}
    for kind, call in calls(refused, refused).items():
        pid, denied[kind] = apart(partial(errno_of, call), uid=USER)
    return {"allowed": allowed, "refused": denied, "pid": os.getpid(), "last": pid}


def hidden() -> dict[str, int]:
    """Make each call as a user who may not search the directory of the file."""
    at = prepare("hidden", "inside")
    os.setxattr(f"{at}/file", "trusted.deed", b"1")
    os.chmod(f"{BASE}/hidden", 0o700)
    return {kind: apart(partial(errno_of, call), uid=USER)[1] for kind, call in calls(at, at).items()}


def identity() -> dict[str, int]:
    """Touch a file in a process with its own login, group, cgroup and namespace; return its `/proc` data."""
    folder = "/sys/fs/cgroup/actions-identity"
    os.makedirs(folder, exist_ok=True)

    def itself() -> dict[str, int]:
        for path, text in ((f"{folder}/cgroup.procs", os.getpid()), ("/proc/self/loginuid", 4242)):
            with open(path, "w") as file:
                file.write(str(text))
        LIBC.unshare(CLONE_NEWNS)
        mount("none", "/", None, MS_REC_PRIVATE)
        os.setgid(1234)
        os.setuid(USER)
        touch(f"{BASE}/common/identity")
        with open("/proc/self/loginuid") as file:
            login = int(file.read())
        with open("/proc/self/status") as lines:
            ids = {key: value.split() for key, value in (line.split(":", 1) for line in lines if ":" in line)}
        return {
            "pid": os.getpid(),
            "ppid": os.getppid(),
            "auid": login,
            "uid": int(ids["Uid"][0]),
            "gid": int(ids["Gid"][0]),
            "cgroup_id": os.stat(folder).st_ino,
            "mount_ns": os.stat("/proc/self/ns/mnt").st_ino,
        }

    os.chmod(fresh("common"), 0o777)
    return dict(apart(itself)[1])


def script() -> dict[str, str]:
    """Run a script by a relative path; return the process's data of `/proc`."""
    folder = fresh("scripts")
    with open(f"{folder}/hello", "w") as file:
        file.write("#!/bin/sh\nexit 0\n")
    os.chmod(f"{folder}/hello", 0o755)

    def run() -> None:
        os.chdir(folder)
        os.execv("./hello", ["hello", "you"])

    child = os.fork()
    if not child:
        run()
    os.waitpid(child, 0)
    return {"interpreter": os.path.realpath("/bin/sh"), "script": f"{folder}/hello"}


def brief_jail() -> dict[str, str]:
    """Touch a file in a chroot, by a process that ends at once."""
    jail = fresh("brief", "jail")

    def inside() -> None:
        os.chroot(jail)
        os.chdir("/")
        touch("/brief")

    apart(inside)
    return {"jail": jail}


def places() -> dict[str, Any]:
    """Touch files where the path in the event differs from the path of the call."""
    fresh("jail", "inner")
    jail = fresh("jail")
    bound, target = fresh("bound"), fresh("bind")
    mount(bound, target, None, MS_BIND)
    touch(f"{target}/through")
    umount(target)

    def in_jail() -> None:
        for stream in range(3):  # so that the reader of the output does not wait for the child
            os.close(stream)
        os.chroot(jail)
        os.chdir("/")
        touch("/inner/jailed")
        os.chdir("/inner")
        touch("relative")
        signal.sigwait([signal.SIGUSR1])

    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    jailed = os.fork()
    if not jailed:
        in_jail()
        os._exit(0)

    def deleted() -> None:
        os.chdir(fresh("gone"))
        os.rmdir(f"{BASE}/gone")
        touch(".", os.O_RDONLY)

    apart(deleted)

    def own_namespace() -> int:
        LIBC.unshare(CLONE_NEWNS)
        mount("none", "/", None, MS_REC_PRIVATE)
        mount("tmpfs", fresh("private"), "tmpfs")
        touch(f"{BASE}/private/seen")
        return os.stat("/proc/self/ns/mnt").st_ino

    _, namespace = apart(own_namespace)
    with open(os.fsencode(BASE) + b"/" + STRANGE, "wb"):
        pass
    return {
        "jail": jail,
        "jailed": jailed,
        "namespace": namespace,
        "host_namespace": os.stat("/proc/self/ns/mnt").st_ino,
    }


def overlay() -> dict[str, Any]:
    """Read a file of the lower layer, copy one up, and create one."""
    layers = fresh("layers")
    mount("tmpfs", layers, "tmpfs")
    for name in ("lower", "upper", "work", "merged"):
        os.mkdir(f"{layers}/{name}")
    for name in ("read", "written"):
        touch(f"{layers}/lower/{name}")
    merged = f"{layers}/merged"
    options = f"lowerdir={layers}/lower,upperdir={layers}/upper,workdir={layers}/work"
    mount("overlay", merged, "overlay", 0, options)
    touch(f"{merged}/read", os.O_RDONLY)
    touch(f"{merged}/written", os.O_RDWR)
    touch(f"{merged}/written", os.O_RDONLY)
    touch(f"{merged}/made")
    umount(merged)
    umount(layers)
    return {}


def contained() -> dict[str, Any]:
    """Touch a file in a cgroup with a name like those of docker's containers."""
    name = "c" * 63 + "7"
    folder = f"/sys/fs/cgroup/system.slice/docker-{name}.scope"
    os.makedirs(folder, exist_ok=True)

    def inside() -> None:
        with open(f"{folder}/cgroup.procs", "w") as procs:
            procs.write(str(os.getpid()))
        touch(f"{BASE}/contained")

    apart(inside)
    return {"id": name}


def threads() -> list[dict[str, str]]:
    """The capabilities of each thread of the process with this pid."""
    wanted = ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb", "NoNewPrivs")
    found = []
    for tid in os.listdir(f"/proc/{sys.argv[2]}/task"):
        with open(f"/proc/{sys.argv[2]}/task/{tid}/status") as lines:
            pairs = dict(line.split(":", 1) for line in lines if ":" in line)
        found.append({key: pairs[key].strip() for key in wanted})
    return found


def programs_left() -> dict[str, int]:
    """Like `programs`, once none exists or after ten seconds, because the kernel frees them later."""
    deadline = time.monotonic() + 10
    while any((found := programs()).values()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def programs() -> dict[str, int]:
    """Count the BPF programs, maps and links in the kernel, by their ids."""
    numbers = {}
    for name, command in (("programs", 11), ("maps", 12), ("links", 31)):
        attributes = (ctypes.c_uint32 * 32)()
        numbers[name] = 0
        while not LIBC.syscall(321, command, attributes, 128):
            numbers[name] += 1
            attributes[0] = attributes[1]
    return numbers


def weight() -> dict[str, int]:
    """Bytes of the private memory and of the BPF maps of the process with this pid."""
    maps = {}
    for fd in os.listdir(f"/proc/{sys.argv[2]}/fdinfo"):
        with open(f"/proc/{sys.argv[2]}/fdinfo/{fd}") as lines:
            pairs = dict(line.split(":", 1) for line in lines)
        if "map_id" in pairs:
            maps[pairs["map_id"].strip()] = int(pairs["memlock"])
    with open(f"/proc/{sys.argv[2]}/status") as lines:
        own = next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS:"))
    return {"own": own, "maps": sum(maps.values())}


def many() -> dict[str, Any]:
    """Touch the files `from` to `to`, in order."""
    folder = fresh("many")
    for number in range(int(sys.argv[2]), int(sys.argv[3])):
        touch(f"{folder}/{number}")
    return {}


def steadily() -> int:
    """Touch numbered files, a few hundred a second, until a line arrives on stdin."""
    folder = fresh("many")
    number = 0
    while not select.select([sys.stdin], [], [], 0.002)[0]:
        touch(f"{folder}/{number}")
        number += 1
    return number


if __name__ == "__main__":
    json.dump(globals()[sys.argv[1]](), sys.stdout)
