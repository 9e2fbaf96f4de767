"""Series that are new in the repositories are added to a matrix, if their kernel can be a guest."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import cli
from harness.errors import ConfigError, InfrastructureError, UnsuitableKernelError
from harness.host.cache import Cache
from harness.kernels import FetchedKernel, ResolvedKernel, adopt, preflight
from harness.plan import checked
from tests.harness.kernels.test_lock import kernel

MATRIX = """# The matrix.

kernels:
  - name: "6.1"
    series: "6.1"
    tags: [nightly]
  # the newest
  - {name: "7.3", series: "7.3"}

# What follows has nothing to do with kernels.
hooksets: [auto]
"""


def test_entries_are_added_at_the_end_of_the_list() -> None:
    """Everything else stays as it is, comments included."""
    changed = adopt.added(MATRIX, "matrix.yaml", [kernel("7.4"), kernel("7.5")], "cloud")
    new = [line for line in changed.splitlines() if line not in MATRIX.splitlines()]
    assert [line.partition(",")[0] for line in new] == ['  - {name: "7.4"', '  - {name: "7.5"']
    lines = changed.splitlines()
    assert lines[lines.index(new[0]) - 1] == '  - {name: "7.3", series: "7.3"}'
    assert "\n".join(line for line in lines if line not in new) + "\n" == MATRIX


@pytest.mark.parametrize(
    "text",
    [
        "kernels:\n- '6.1'\nhooksets: [auto]\n",
        "kernels:  # mine\n- '6.1'\n- name: a\n  series: '6.12'\n",
        "---\nkernels:\n-   '6.1'\n...\n",
        "kernels:\n- '6.1'",
        "kernels:\r\n  - '6.1'\r\nhooksets: [auto]\r\n",
        "kernels:\n- {name: a, series: '6.1', why: 'x\x85y'}\n",
    ],
)
def test_every_list_of_lines_is_one(text: str) -> None:
    """Entries may begin their line; other lines keep their ends."""
    changed = adopt.added(text, "matrix.yaml", [kernel("7.4")], "cloud")
    kept = [line for line in changed.split("\n") if '"7.4"' not in line]
    assert "\n".join(kept).removesuffix("\n") == text.removesuffix("\n")
    assert len(kept) + 1 == len(changed.split("\n"))


def test_a_comment_that_is_none_is_no_end_of_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of a text in several lines may begin like comments; an entry never cuts such a text."""
    monkeypatch.setattr(checked, "check", lambda _document: None)
    text = "kernels:\n- name: a\n  series: '6.1'\n  why: |\n    text\n    # more\n"
    with pytest.raises(ConfigError, match="kernels: is not a list of lines"):
        adopt.added(text, "matrix.yaml", [kernel("7.4")], "cloud")


def test_a_link_to_the_matrix_stays_one(repositories: dict[str, Exception | None], tmp_path: Path) -> None:
    """The file keeps its permissions."""
    repositories["7.4"] = None
    (tmp_path / "own").mkdir()
    path = tmp_path / "own/real.yaml"
    path.write_text(MATRIX)
    path.chmod(0o600)
    (tmp_path / "matrix.yaml").symlink_to("own/real.yaml")
    assert cli.main(["kernels", "adopt", "--matrix", str(tmp_path / "matrix.yaml")]) == 0
    assert (tmp_path / "matrix.yaml").is_symlink()
    assert '"7.4"' in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ['kernels: ["6.1"]\n', "kernels:\n", "arch: [amd64]\n"])
def test_another_form_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"matrix.yaml: kernels: is not a list of lines"):
        adopt.added(text, "matrix.yaml", [kernel("7.4")], "cloud")


def test_a_name_that_is_taken_is_refused() -> None:
    """The matrix would not load."""
    with pytest.raises(ConfigError, match="duplicate"):
        adopt.added(MATRIX, "matrix.yaml", [kernel("7.3")], "cloud")


@pytest.fixture
def repositories(monkeypatch: pytest.MonkeyPatch) -> dict[str, Exception | None]:
    """Series that are available, each with the error of its fetch or of its preflight."""
    known: dict[str, Exception | None] = {"6.1": None, "7.3": None}

    def fetch(resolved: ResolvedKernel, _store: Cache, _progress: object) -> ResolvedKernel:
        if isinstance(error := known[resolved.series], InfrastructureError):
            raise error
        return resolved

    def check(fetched: FetchedKernel) -> None:
        if error := known[fetched.release.rpartition(".0-")[0]]:
            raise error

    monkeypatch.setattr("harness.kernels.available", lambda *_, **__: [kernel(name) for name in known])
    monkeypatch.setattr(adopt, "fetch", fetch)
    monkeypatch.setattr(preflight, "check", check)
    return known


def run(tmp_path: Path) -> tuple[int, str]:
    path = tmp_path / "matrix.yaml"
    path.write_text(MATRIX)
    return cli.main(["kernels", "adopt", "--matrix", str(path)]), path.read_text()


def test_a_new_series_that_can_be_a_guest_runs_at_night(
    repositories: dict[str, Exception | None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repositories["7.4"] = None
    code, text = run(tmp_path)
    assert code == 0
    assert "adopted 7.4: 7.4.0-1-cloud-amd64" in capsys.readouterr().out
    entry = checked.load(tmp_path / "matrix.yaml").kernels[-1]
    assert (entry.name, entry.flavour, entry.tests, entry.tags) == ("7.4", "cloud", ("@short",), ("nightly",))
    assert text.startswith(MATRIX[:60])


def test_one_that_cannot_is_named_and_left_out(
    repositories: dict[str, Exception | None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are added all the same."""
    repositories["7.4"] = UnsuitableKernelError("kernel 7.4 cannot be a guest here; it lacks CONFIG_TMPFS")
    repositories["7.5"] = InfrastructureError("7.5: the archive no longer has the package")
    repositories["7.6"] = None
    code, text = run(tmp_path)
    printed = capsys.readouterr()
    assert code == 0
    assert "not adopted: kernel 7.4 cannot be a guest here; it lacks CONFIG_TMPFS" in printed.err
    assert "not adopted: 7.5: the archive" in printed.err
    assert [line for line in ("7.4", "7.5", "7.6") if f'"{line}"' in text] == ["7.6"]


def test_without_a_new_series_the_matrix_stays(
    repositories: dict[str, Exception | None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path) == (0, MATRIX)
    assert capsys.readouterr().out == "no new series\n"
