"""Reading the folders of shards, and writing that of their merge."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import cli, report
from harness.errors import ConfigError
from harness.results import shard_folders
from tests.harness.report.made_up import a_cell, a_run
from tests.harness.results.test_merge import on_disk


def test_the_evidence_of_a_lost_machine_is_kept(tmp_path: Path) -> None:
    """A cell whose first machine was lost has its console in a folder of its own."""
    here = on_disk(tmp_path / "here", a_run(a_cell("6.1")))
    (here / "cells/6.1-auto/attempt-1").mkdir()
    (here / "cells/6.1-auto/attempt-1/console.log").write_text("panic")
    found = shard_folders.read(here)
    shard_folders.write(found.results, found.plan, [found], tmp_path / "m", report.write_all)
    assert (tmp_path / "m/cells/6.1-auto/attempt-1/console.log").read_text() == "panic"


def test_links_in_a_shard_are_not_followed(tmp_path: Path) -> None:
    """A shard comes from another host: a link in it could name any file of this one."""
    here = on_disk(tmp_path / "here", a_run(a_cell("6.1")))
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "key").write_text("secret")
    (here / "cells" / "6.1-auto" / "agent.log").symlink_to(tmp_path / "secret")
    (here / "cells" / "6.1-auto" / "attempt-1").symlink_to(tmp_path / "secrets")
    found = shard_folders.read(here)
    shard_folders.write(found.results, found.plan, [found], tmp_path / "m", report.write_all)
    assert sorted(path.name for path in (tmp_path / "m" / "cells" / "6.1-auto").iterdir()) == ["console.log"]


def test_a_shard_whose_cells_folder_is_a_link_has_no_cells(tmp_path: Path) -> None:
    """The folder above the cells can be a link as well."""
    here = on_disk(tmp_path / "here", a_run(a_cell("6.1")))
    (here / "cells").rename(tmp_path / "elsewhere")
    (here / "cells").symlink_to(tmp_path / "elsewhere")
    found = shard_folders.read(here)
    shard_folders.write(found.results, found.plan, [found], tmp_path / "m", report.write_all)
    assert list((tmp_path / "m" / "cells").iterdir()) == []


def test_a_full_disk_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = shard_folders.read(on_disk(tmp_path / "here", a_run(a_cell("6.1"))))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(ConfigError, match="No space left"):
        shard_folders.write(found.results, found.plan, [found], tmp_path / "m", report.write_all)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here"]


@pytest.mark.parametrize("place", [".", "here"])
def test_a_shard_that_others_can_replace_is_refused(
    tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    here = on_disk(tmp_path / "here", a_run(a_cell("6.1")))
    (tmp_path / place).chmod(0o777)
    for words in (["merge", str(here), "--output", "m"], ["report", str(here)]):
        assert cli.main(words) == 2
        printed = capsys.readouterr().err
        assert "every user of this host can replace" in printed
        assert "copy the results to a folder of this user" in printed
    assert not (here / "summary.md").exists()
