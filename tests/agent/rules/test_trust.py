"""A rule file is read only if no other user can change or replace it."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from agent.errors import RuleErrors, UsageError
from agent.rules.load import load
from agent.rules.source import MAX_BYTES
from agent.rules.trust import MAX_LINKS, mounts, read_only, read_trusted, visited
from tests import ROOT

MOUNTS = """\
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
30 22 0:26 / /rules ro,nosuid - tmpfs tmpfs rw
31 22 254:1 /var/lib/kubelet/pods/p/volumes/c /etc/fim ro,relatime - ext4 /dev/vda1 rw
32 22 0:27 / /a\\040b rw - tmpfs tmpfs ro
"""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    path = tmp_path / "a.yaml"
    path.write_text("rules: []\n")
    path.chmod(0o644)
    return path


def test_a_file_that_cannot_be_read_is_one_line() -> None:
    """As on a damaged disk: it opens, and each read fails."""
    with pytest.raises(UsageError, match="cannot read /proc/self/mem: Input/output error"):
        read_trusted(Path("/proc/self/mem"), MAX_BYTES)


def test_no_more_than_the_limit_is_read(rules: Path) -> None:
    """A file of any size does not fill the memory before its size is an error."""
    with rules.open("r+b") as file:
        file.truncate(MAX_BYTES * 1000)
    tracemalloc.start()
    with pytest.raises(RuleErrors) as caught:
        load([rules])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert f"the limit is {MAX_BYTES}" in caught.value.detail
    assert peak < 10 * MAX_BYTES


def test_own_file_is_read(rules: Path) -> None:
    assert read_trusted(rules, MAX_BYTES) == b"rules: []\n"


@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_a_directory_that_others_can_write_is_named_in_reason_and_remedy(rules: Path, mode: int) -> None:
    rules.parent.chmod(mode)
    with pytest.raises(UsageError, match=f"other users can write to {rules.parent}") as raised:
        read_trusted(rules, MAX_BYTES)
    assert f"chmod go-w {rules.parent}" in raised.value.hint


def test_every_file_and_directory_at_fault_is_named_at_once(rules: Path) -> None:
    """As in a checkout with the umask 002, where one remedy after the other would need a call each."""
    rules.chmod(0o664)
    rules.parent.chmod(0o775)
    with pytest.raises(
        UsageError, match=rf"\(mode 0664\); other users can write to {rules.parent}$"
    ) as raised:
        read_trusted(rules, MAX_BYTES)
    assert raised.value.hint.endswith(f", or chmod go-w {rules} {rules.parent}")


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_a_checkout_of_another_user_is_named_whole(tmp_path: Path) -> None:
    """Root, for which `sudo agent run` reads them, learns the owner of the file and of each directory."""
    tree = tmp_path / "home user" / "tree"
    tree.mkdir(parents=True)
    rules = tree / "default.yaml"
    rules.touch()
    for path, mode in ((tmp_path, 0o755), (tree.parent, 0o755), (tree, 0o775), (rules, 0o644)):
        path.chmod(mode)
        os.chown(path, 0 if path == tmp_path else 65534, 0)
    with pytest.raises(UsageError, match=r"it belongs to uid 65534; .*home user belongs to uid") as raised:
        read_trusted(rules, MAX_BYTES)
    commands = raised.value.hint.partition(", or ")[2]
    assert commands == f"chown root '{rules}' '{tree.parent}' '{tree}'; chmod go-w '{tree}'"


def test_a_special_file_has_no_remedy(tmp_path: Path) -> None:
    """To give away a device or to close it would do harm."""
    os.mkfifo(tmp_path / "fifo", 0o666)
    with pytest.raises(UsageError, match="it is not a regular file") as raised:
        read_trusted(tmp_path / "fifo", MAX_BYTES)
    assert raised.value.hint == ""


def test_every_directory_on_the_way_through_links_counts(rules: Path, tmp_path: Path) -> None:
    """A user who can replace a link can replace the rules."""
    (open_to_all := tmp_path / "open").mkdir()
    open_to_all.chmod(0o777)
    link = open_to_all / "link.yaml"
    link.symlink_to(rules)
    with pytest.raises(UsageError, match=f"other users can write to {open_to_all}"):
        read_trusted(link, MAX_BYTES)
    outer = tmp_path / "outer.yaml"
    outer.symlink_to("open/link.yaml")
    with pytest.raises(UsageError, match=f"other users can write to {open_to_all}"):
        read_trusted(outer, MAX_BYTES)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a link away")
def test_a_link_of_another_user_is_refused_also_in_a_sticky_directory(rules: Path, tmp_path: Path) -> None:
    (sticky := tmp_path / "sticky").mkdir()
    sticky.chmod(0o1777)
    link = sticky / "link.yaml"
    link.symlink_to(rules)
    assert read_trusted(link, MAX_BYTES)
    os.lchown(link, 65534, 65534)
    with pytest.raises(UsageError, match=f"refusing {link}: .* belongs to uid 65534") as raised:
        read_trusted(link, MAX_BYTES)
    assert raised.value.hint == f"chown -h root {link}"


def test_a_cycle_of_links_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        list(visited(tmp_path / "a"))
    assert MAX_LINKS == 40


def test_a_directory_is_read_only_where_no_mount_shows_it_writable() -> None:
    table = mounts(MOUNTS)
    assert read_only(Path("/rules"), table)
    assert not read_only(Path("/etc"), table)
    assert not read_only(Path("/etc/fim"), table)  # the root mount shows the same directory writable
    assert read_only(Path("/etc/fim"), table[1:])
    assert read_only(Path("/a b/c"), table)


CONFIG_MAP = """
import subprocess, sys
from pathlib import Path
from agent.rules.load import load
at = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", at], check=True)
(at / "..2026_11_29").mkdir()
(at / "..2026_11_29/fim.yaml").write_text("rules:\\n  - {id: a, expression: open.flags == 1}\\n")
(at / "..data").symlink_to("..2026_11_29")
(at / "fim.yaml").symlink_to("..data/fim.yaml")
at.chmod(0o777)
for options in ("ro", "rw"):
    subprocess.run(["mount", "-o", f"remount,{options}", at], check=True)
    try:
        print(list(load([at]).rules))
    except Exception as error:
        print(error, error.hint)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts, in a mount namespace of its own")
def test_rules_of_a_config_map_load_where_they_are_mounted_read_only(tmp_path: Path) -> None:
    command = ["unshare", "--mount", sys.executable, "-c", CONFIG_MAP, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    loaded, refused = done.stdout.splitlines()
    assert loaded == "['a']"
    assert f"other users can write to {tmp_path}" in refused
    assert "mount it read-only" in refused
