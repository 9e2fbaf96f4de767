"""The filter law under well-known programs: two agents watch, with the filters and without."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.guest.agent import machines, pair, workloads
from tests.guest.agent.pair import Kinds, Pair

if TYPE_CHECKING:
    from harness.vm.connection import Connection

pytestmark = pytest.mark.guest

_WRITES = "open.flags & (O_WRONLY|O_RDWR|O_CREAT|O_TRUNC) > 0"
# They match a part of each workload, and leave something to the approvers and to the discarders.
RULES = {
    "digit": f'open.file.path =~ "/srv/work/**/*1*" && {_WRITES}',
    "created": f'open.file.path =~ "/srv/work/*" && {_WRITES}',
    "reads": 'open.file.path =~ r"^/srv/[a-z]+/[a-z]*[0-9]*[02468]$"',
    "refused": 'open.file.path =~ "/srv/**" && open.retval < 0',
    "config": 'open.file.name in ["config", "HEAD", "copyright", "list.c", "changelog.Debian.gz"]',
    "unlinked": 'unlink.file.path =~ "/srv/work/**" && unlink.retval == 0',
    "removed": 'rmdir.file.path =~ "/srv/**"',
    "made": 'mkdir.file.path =~ "/srv/**/*[0-9]*" || mkdir.file.path =~ r"^/srv/.*[0-9]$"',
    "moved": 'rename.file.path =~ "/srv/**" || rename.file.destination.path =~ "/var/lib/dpkg/**"',
    "linked": 'link.file.destination.path =~ "/srv/**" || link.file.path =~ "/usr/bin/**"',
    "symlinked": 'symlink.file.path =~ "/srv/**"',
    "special": 'mknod.file.path =~ "/srv/**"',
    "cut": 'truncate.file.path =~ "/srv/work/**"',
    "mode": 'chmod.file.path =~ "/srv/**" && chmod.file.destination.mode & S_IXUSR > 0',
    "owner": 'chown.file.path =~ "/srv/**"',
    "times": 'utimes.file.path =~ "/srv/**/*.c" || utimes.file.path =~ "/usr/share/doc/**"',
    "attribute": 'setxattr.file.path =~ "/srv/**"',
    "no_attribute": 'removexattr.file.path =~ "/srv/**"',
    "closed": 'close.file.path =~ "/srv/work/**/*0"',
    "installed": 'fim.write.file.path =~ "/usr/bin/**" || fim.write.file.path =~ "/etc/**"',
    # Names that only the workloads have, because the test runs programs as well.
    "program": 'exec.file.name in ["postmark", "git", "dpkg-deb", "cc1", "as", "tar", "fio", "stress-ng"]',
    "of_root": 'process.uid == 0 && mkdir.file.path =~ "/usr/share/**"',
}
SHOWN = 20


@pytest.fixture(scope="module", params=["5.10", "6.1", "7.3"])
def agents(
    request: pytest.FixtureRequest, connection: Connection, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """A larger machine with the disk of the workloads, and both agents."""
    folder = tmp_path_factory.mktemp("programs")
    memory, disks = workloads.MEMORY_MIB, (workloads.image(*workloads.EXERCISES),)
    with machines.booted(connection, request.param, folder, memory_mib=memory, disks=disks) as guest:
        workloads.mount(guest)
        with pair.running(guest, RULES) as both:
            yield both


@pytest.mark.parametrize("name", workloads.PROGRAMS)
def test_filters_hide_nothing(agents: Pair, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Matches are the same with filters and without, there are some, the ledgers close, nothing is lost."""
    agents.settled()
    before = agents.status("on")["ledger"]
    script = f"set -e\nmkdir -p /srv/work\n{workloads.PROGRAMS[name]}\ncd /; rm -rf /srv/work"
    output = workloads.perform(agents.guest, script, idle=True)
    found = agents.settled()
    after = agents.status("on")["ledger"]
    sums = {
        key: sum(row[key] - before.get(kind, {}).get(key, 0) for kind, row in after.items())
        for key in ("seen", "approver_rejected", "discarded", "delivered")
    }
    with capsys.disabled():
        release = agents.guest.run(["uname", "-r"]).stdout.decode().strip()
        rules = Counter(str(key[0]) for key in found["on"].elements())
        sys.stdout.write(f"\n{release}: {name}: {sums}, matches {found['on'].total()}: {dict(rules)}\n")
        sys.stdout.write("".join(f"  {line}\n" for line in output.splitlines()[-3:]))
    assert agents.faults() == []
    assert differences(found) == []
    assert found["on"]


def differences(found: dict[str, Kinds]) -> list[str]:
    """Return the matches that only one agent has, at most `SHOWN` of each."""
    listed = []
    for name, other in (("on", "off"), ("off", "on")):
        only = found[name] - found[other]
        listed += [
            f"only with filters {name}, {count} times: {key}" for key, count in only.most_common(SHOWN)
        ]
    return listed
