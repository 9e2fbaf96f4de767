"""Failures that random programs found once do not come back: each entry of the corpus is played again."""

from __future__ import annotations

from agent.selftest import corpus
from agent.selftest.bench import Bench
from agent.selftest.scenarios import proves


def _replay(bench: Bench, name: str) -> None:
    """Play an entry in the scenario's folder; each of its rules must match the one event that it names."""
    entry = corpus.load(name, str(bench.folder))
    bench.unwatched(entry.setup)
    bench.rules(**entry.rules)
    played = bench.play(entry.script, refused=entry.refused)
    for rule, event in entry.arrives.items():
        expected = {"file.path": event["path"].encode(), "retval": event["retval"]}
        bench.arrives_once(played, rule, expected)


@proves("law.refused_by_link")
def law_refused_by_link(bench: Bench) -> None:
    """An open through a link."""
    _replay(bench, "refused_by_link")


@proves("law.refused_by_proc")
def law_refused_by_proc(bench: Bench) -> None:
    """An open by /proc/self/root."""
    _replay(bench, "refused_by_proc")


@proves("law.directory_by_link")
def law_directory_by_link(bench: Bench) -> None:
    """An open of a directory for writing."""
    _replay(bench, "directory_by_link")


@proves("law.created_directory_by_link")
def law_created_directory_by_link(bench: Bench) -> None:
    """An open of a directory that would create a file."""
    _replay(bench, "created_directory_by_link")


@proves("law.truncated_read_only")
def law_truncated_read_only(bench: Bench) -> None:
    """An open with O_TRUNC through a link."""
    _replay(bench, "truncated_read_only")


@proves("law.changed_read_only")
def law_changed_read_only(bench: Bench) -> None:
    """Another owner, and an attribute that is set and removed, through a linked directory."""
    _replay(bench, "changed_read_only")


@proves("law.created_read_only")
def law_created_read_only(bench: Bench) -> None:
    """An open with O_CREAT by /proc/self/root."""
    _replay(bench, "created_read_only")


@proves("law.created_with_slash")
def law_created_with_slash(bench: Bench) -> None:
    """A mkdir of a folder that exists, by a link and with a slash behind its name."""
    _replay(bench, "created_with_slash")


@proves("law.created_exclusively_by_proc")
def law_created_exclusively_by_proc(bench: Bench) -> None:
    """An open with O_EXCL by /proc/self/root."""
    _replay(bench, "created_exclusively_by_proc")


@proves("law.created_refused_by_proc")
def law_created_refused_by_proc(bench: Bench) -> None:
    """An open with O_CREAT in a directory of another user, by /proc/self/root."""
    _replay(bench, "created_refused_by_proc")


@proves("law.rename_by_proc")
def law_rename_by_proc(bench: Bench) -> None:
    """A rename to another file system."""
    _replay(bench, "rename_by_proc")


@proves("law.link_by_proc")
def law_link_by_proc(bench: Bench) -> None:
    """A link whose new name exists."""
    _replay(bench, "link_by_proc")


@proves("law.created_by_proc")
def law_created_by_proc(bench: Bench) -> None:
    """A directory whose name exists."""
    _replay(bench, "created_by_proc")


@proves("law.exec_refused")
def law_exec_refused(bench: Bench) -> None:
    """A program without the permission to execute it."""
    _replay(bench, "exec_refused")


@proves("law.refused_mode")
def law_refused_mode(bench: Bench) -> None:
    """A directory that exists."""
    _replay(bench, "refused_mode")


@proves("law.refused_by_owner")
def law_refused_by_owner(bench: Bench) -> None:
    """An open of a file of another owner."""
    _replay(bench, "refused_by_owner")


@proves("law.changed_in_detached_tree")
def law_changed_in_detached_tree(bench: Bench) -> None:
    """A file that is opened below a copy of its tree that is attached nowhere."""
    _replay(bench, "changed_in_detached_tree")
