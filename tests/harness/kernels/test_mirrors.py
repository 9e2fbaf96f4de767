"""Mirrors are read from any apt configuration, and have defaults if there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import InfrastructureError
from harness.host.programs import ProgramError
from harness.kernels import deb822, mirrors
from harness.kernels.mirrors import Source, parse_deb822, parse_one_line

DEFAULTS = (
    "deb http://d.example/debian bookworm main\ndeb http://s.example/sec bookworm-security main\nE: stopped\n"
)

STANZAS = """\
# a comment
Types: deb deb-src
URIs: http://one.example/debian/
  https://two.example/debian
Suites: bookworm
 bookworm-updates
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEY865UxYJKwYBBAHaRw8BAQdAd7Z0srwuhlB6JKFkcf4HU4SSS/xcRfwEQWzr
 -----END PGP PUBLIC KEY BLOCK-----

types: deb
uris: http://sec.example/debian-security
suites: bookworm-security
components: main

Types: deb
Enabled: no
URIs: http://off.example
Suites: trixie

Types: deb-src
URIs: http://source.example
Suites: trixie
"""

ONE_LINE = """\
# deb http://commented.example bookworm main
deb-src http://source.example bookworm main
deb [ arch=amd64 signed-by=/k.gpg ] http://one.example/debian/ bookworm main contrib # why
deb\tcopy:/srv/mirror  sid   main
deb cdrom:[Debian GNU/Linux 12]/ bookworm main
deb mirror+file:/etc/apt/mirrors/debian.list trixie main
deb
"""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host's /etc/apt, empty; mmdebstrap answers with DEFAULTS."""

    def answer(argv: list[str], **options: str) -> str:
        raise ProgramError("stopped", hint="", status=1, stderr=DEFAULTS)

    (tmp_path / "sources.list.d").mkdir()
    monkeypatch.setattr(mirrors, "run", answer)
    monkeypatch.setattr(mirrors, "KEYRING", tmp_path)
    monkeypatch.setattr(mirrors, "LISTS", tmp_path / "lists")
    return tmp_path


def test_deb822() -> None:
    assert list(parse_deb822(STANZAS)) == [
        Source("http://one.example/debian", "bookworm"),
        Source("https://two.example/debian", "bookworm"),
        Source("http://one.example/debian", "bookworm-updates"),
        Source("https://two.example/debian", "bookworm-updates"),
        Source("http://sec.example/debian-security", "bookworm-security"),
    ]


def test_one_line() -> None:
    assert list(parse_one_line(ONE_LINE)) == [
        Source("http://one.example/debian", "bookworm", ("main", "contrib"), ("k.gpg",)),
        Source("copy:/srv/mirror", "sid"),
        Source("mirror+file:/etc/apt/mirrors/debian.list", "trixie"),
    ]


def test_archives_are_distinguished_by_their_suite(host: Path) -> None:
    (host / "sources.list.d/debian.sources").write_text(STANZAS)
    found = mirrors.find(folder=host)
    assert (found.main, found.security) == ("http://one.example/debian", "http://sec.example/debian-security")
    assert found.of("bullseye-security") == found.security
    assert {found.of(suite) for suite in ("sid", "trixie-backports", "bookworm-updates")} == {found.main}


def test_the_archive_of_another_vendor_is_ignored(host: Path) -> None:
    (host / "sources.list").write_text(
        "deb http://u.example/ubuntu noble main\ndeb http://u.example noble-security main\n"
    )
    assert mirrors.find(folder=host).main == "http://d.example/debian"


OTHERS = {
    "other components": "deb http://vendor.example/debian bookworm stable\n",
    "another key": "deb [signed-by=/usr/share/vendor.gpg] http://vendor.example/debian bookworm main\n",
    "two keys": "deb [arch=amd64 signed-by=/a/v.gpg,/a/w.gpg] http://vendor.example/debian bookworm main\n",
}


@pytest.mark.parametrize("source", OTHERS.values(), ids=OTHERS)
def test_a_vendor_with_debians_suite_names_is_ignored(host: Path, source: str) -> None:
    """Its source comes first, and it has no kernels."""
    (host / "sources.list").write_text(source)
    (host / "sources.list.d/z.list").write_text("deb http://own.example/debian bookworm main\n")
    assert mirrors.find(folder=host).main == "http://own.example/debian"


@pytest.mark.parametrize(
    ("origin", "main"), [("Debian", "http://a.example/x"), ("Vendor", "http://b.example")]
)
def test_the_fetched_release_file_names_the_vendor(host: Path, origin: str, main: str) -> None:
    """That counts, whatever the source looks like."""
    key = "[signed-by=/etc/apt/keyrings/k.gpg] " if origin == "Debian" else ""
    (host / "sources.list").write_text(
        f"deb http://b.example bookworm main\ndeb {key}http://a.example/x/ bookworm main\n"
        if origin == "Debian"
        else "deb http://a.example/x bookworm main\ndeb http://b.example bookworm main\n"
    )
    (host / "lists").mkdir()
    (host / "lists/a.example_x_dists_bookworm_InRelease").write_text(f"Hash: x\nOrigin: {origin}\nLabel: y\n")
    assert mirrors.find(folder=host).main == main


def test_a_host_without_the_security_archive_gets_it_from_mmdebstrap(host: Path) -> None:
    (host / "sources.list").write_text("deb http://own.example/debian trixie main\n")
    found = mirrors.find(folder=host)
    assert (found.main, found.security) == ("http://own.example/debian", "http://s.example/sec")


def test_the_mirror_option_comes_first(host: Path) -> None:
    (host / "sources.list.d/debian.sources").write_text(STANZAS)
    assert mirrors.find("http://mine.example", folder=host).main == "http://mine.example"


def test_no_keyring_is_one_clear_error(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirrors, "KEYRING", host / "missing.gpg")
    with pytest.raises(InfrastructureError, match=r"missing.gpg") as caught:
        mirrors.find(folder=host)
    assert "debian-archive-keyring" in caught.value.hint


@given(st.text())
def test_any_text_can_be_parsed(text: str) -> None:
    for source in (*parse_deb822(text), *parse_one_line(text)):
        assert source.uri
        assert source.suite


FIELDS = st.dictionaries(
    st.text("abcdefgh-", min_size=1).map(str.lower),
    st.text("xyz:# ", max_size=8).map(str.strip),
    min_size=1,
    max_size=4,
)


@given(st.lists(FIELDS, max_size=4))
def test_stanzas_come_back_as_they_were_written(written: list[dict[str, str]]) -> None:
    text = "\n\n".join("\n".join(f"{name}: {value}" for name, value in stanza.items()) for stanza in written)
    assert list(deb822.stanzas(text)) == written
