"""The kernels of a package index, read from stanzas of real indexes."""

from __future__ import annotations

from harness.kernels import catalogue, deb822
from harness.kernels.index import Candidate, parse
from tests.harness.kernels.conftest import DATA


def candidates(suite: str, flavour: str) -> list[Candidate]:
    stanzas = deb822.stanzas((DATA / f"{suite}.txt").read_text())
    return parse(stanzas, catalogue.flavour(flavour), "amd64")


def releases(suite: str, flavour: str) -> list[str]:
    return [candidate.release for candidate in candidates(suite, flavour) if not candidate.missing]


def test_kernels_of_a_flavour_newest_first_without_meta_packages_and_unsigned_ones() -> None:
    assert releases("bullseye-security", "cloud") == [
        "6.1.0-0.deb11.52-cloud-amd64",
        "5.10.0-46-cloud-amd64",
        "5.10.0-45-cloud-amd64",
    ]


def test_a_flavour_has_only_its_own_kernels() -> None:
    assert releases("bullseye-security", "generic") == ["5.10.0-46-amd64"]
    assert releases("bullseye-security", "rt") == ["5.10.0-46-rt-amd64"]
    assert releases("trixie-backports", "rt") == ["7.3.4+deb13-rt-amd64"]


def test_6_10_is_not_6_1() -> None:
    assert {candidate.series for candidate in candidates("trixie-backports", "cloud")} == {
        "6.16",
        "6.18",
        "6.19",
        "7.3",
    }


def test_an_empty_package_brings_the_packages_that_it_depends_on() -> None:
    newest = candidates("trixie-backports", "cloud")[0]
    assert [package.name for package in newest.packages] == [
        f"linux-{part}-7.3.4+deb13-cloud-amd64" for part in ("image", "base", "binary", "modules")
    ]
    assert all(len(package.sha256) == 64 and package.size > 1000 for package in newest.packages)


def test_a_kernel_whose_modules_are_gone_is_unavailable_with_the_reason() -> None:
    broken = [
        candidate for candidate in candidates("trixie-backports", "cloud") if candidate.series == "6.19"
    ]
    assert [candidate.missing for candidate in broken] == [
        ("linux-base-6.19.14+deb13-cloud-amd64", "linux-modules-6.19.14+deb13-cloud-amd64")
    ]


def test_a_whole_image_is_complete_without_its_base_package() -> None:
    assert "6.18.15+deb13-cloud-amd64" in releases("trixie-backports", "cloud")
