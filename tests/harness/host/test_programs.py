"""Running programs: a failure is one line with the cause, and one line to paste."""

from __future__ import annotations

import pytest

from harness.errors import InfrastructureError
from harness.host.programs import ProgramError, run


def test_output_is_returned() -> None:
    assert run(["printf", "%s", "a b"]) == "a b"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo first >&2; echo last >&2; exit 3", "sh ended with status 3: last"),
        ("echo 'E: why' >&2; echo last >&2; exit 1", "sh ended with status 1: E: why"),
        ("exit 1", "sh ended with status 1: it printed no error"),
        ("kill -9 $$", "sh was killed by signal 9: it printed no error"),
    ],
)
def test_a_failure_is_one_line_with_the_reason(script: str, message: str) -> None:
    with pytest.raises(ProgramError) as caught:
        run(["sh", "-c", script])
    assert caught.value.message == message
    assert caught.value.exit_code == 3


def test_a_failure_has_a_line_to_paste() -> None:
    with pytest.raises(ProgramError) as caught:
        run(["sh", "-c", "exit 1"], environment={"SOME": "a b"})
    assert "SOME='a b' sh -c 'exit 1'" in caught.value.hint


def test_programs_in_sbin_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert run(["sh", "-c", "echo $PATH"]) == "/usr/bin:/bin:/usr/sbin:/sbin\n"


def test_the_error_of_a_missing_program_names_its_package() -> None:
    with pytest.raises(InfrastructureError, match="no-such-program is not installed") as caught:
        run(["no-such-program"], package="some-package")
    assert caught.value.hint == "install the package some-package"
