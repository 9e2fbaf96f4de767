"""The generator's reports become records, with lines counted over the whole script."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.campaigns.law import records
from tests.campaigns.law.played import Record


def played(generator: Path, script: str) -> list[Record]:
    text = "go\n".join([*records.blocks(script), ""])
    done = subprocess.run([generator], input=text.encode(), capture_output=True, check=False)
    return records.read(done.stdout, script)


def test_a_record_has_the_kernels_data(generator: Path, tmp_path: Path) -> None:
    """The path before the call, with links followed and not, and the target of the new descriptor."""
    (tmp_path / "real\n").write_text("x")
    (tmp_path / "link").symlink_to("real\n")
    script = f"witness on\nprogram one\n# a comment\nopen {tmp_path}/link O_RDONLY -> $0\nend\n"
    opened, program = played(generator, script)
    assert (opened.program, opened.line, opened.call) == ("one", 4, "open")
    assert opened.words == ("open", f"{tmp_path}/link", "O_RDONLY")
    seen = opened.at(0)
    assert seen
    assert (seen.resolved, seen.followed) == (f"{tmp_path}/link", f"{tmp_path}/real\n")
    assert opened.fd
    assert opened.fd.path == f"{tmp_path}/real\n"
    assert opened.fd.st == seen.followed_st
    assert seen.st != seen.followed_st
    assert program.ret == opened.pid


def test_a_missing_name_has_the_path_of_its_directory(generator: Path, tmp_path: Path) -> None:
    (record, _) = played(generator, f"witness on\nprogram p\nmkdir {tmp_path}/new 0755\nend\n")
    seen = record.at(0)
    assert seen
    assert (seen.resolved, seen.st, seen.error) == (f"{tmp_path}/new", None, 2)


def test_an_exec_that_fails_is_one_record(generator: Path, tmp_path: Path) -> None:
    (tmp_path / "junk").write_text("x")
    script = f"witness on\nprogram p\nexec {tmp_path}/junk a\nexec {generator} exit 7\nend\n"
    failed, done, program = played(generator, script)
    assert (failed.call, failed.ok, failed.ret) == ("exec", 0, -13)
    assert (done.call, done.ok) == ("exec", 1)
    assert program.status >> 8 == 7


def test_blocks_end_between_programs_and_lines_are_those_of_the_script(
    generator: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "BLOCK", 3)
    script = "".join(f"program p{n}\nclose 90\nclose 91\nend\n" for n in range(5))
    assert len(records.blocks(script)) == 5
    assert [(r.line, r.words) for r in played(generator, script) if r.call == "close"] == [
        (4 * n + k, ("close", word)) for n in range(5) for k, word in ((2, "90"), (3, "91"))
    ]


def test_a_script_that_the_generator_refuses_is_an_error_with_its_line(generator: Path) -> None:
    with pytest.raises(ValueError, match="line 2 of the script: unknown call 'dance'"):
        played(generator, "close 90\ndance\n")


@pytest.mark.parametrize(
    ("escaped", "right"), [(r"a\x0ab", "a\nb"), (r"\\x41", r"\x41"), (r"\xff", "\udcff")]
)
def test_escapes_are_decoded(escaped: str, right: str) -> None:
    assert records.text(escaped) == right
