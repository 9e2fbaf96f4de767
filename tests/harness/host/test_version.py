"""The digest that says whether two hosts run the same harness."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.host import version


def tree(folder: Path) -> Path:
    for name in ("judge.py", "vm/domain.xml.j2"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return folder


def renamed(folder: Path) -> None:
    (folder / "judge.py").rename(folder / "judged.py")


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "judge.py").write_text("other"),
        lambda folder: (folder / "vm/domain.xml.j2").write_text("other"),
        lambda folder: (folder / "more.py").touch(),
        renamed,
    ],
)
def test_every_change_of_a_file_makes_another_digest(
    change: Callable[[Path], object], tmp_path: Path
) -> None:
    before = version.digest_of(tree(tmp_path), "**/*")
    change(tmp_path)
    assert version.digest_of(tmp_path, "**/*") != before


def test_what_python_and_editors_leave_makes_none(tmp_path: Path) -> None:
    before = version.digest_of(tree(tmp_path / "one"), "**/*")
    (tree(tmp_path / "two") / "judge.cpython-311.pyc").touch()
    (tmp_path / "two/.judge.py.swp").touch()
    assert version.digest_of(tmp_path / "two", "**/*") == before


def test_code_and_the_sources_of_guests_are_the_harness(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = {version.digest_of_harness()}
    for name in ("_CODE", "FOLDER"):
        with monkeypatch.context() as patch:
            patch.setattr(version, name, tmp_path)
            version.digest_of_harness.cache_clear()
            found.add(version.digest_of_harness())
    version.digest_of_harness.cache_clear()
    assert len(found) == 3
