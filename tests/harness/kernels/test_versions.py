"""The versions of python-debian sort as dpkg sorts them."""

from __future__ import annotations

import subprocess

import pytest
from debian.debian_support import Version
from hypothesis import given, settings
from hypothesis import strategies as st

ASCENDING = [
    "0~",
    "0",
    "5.10.9-1",
    "5.10.10-1",
    "5.10.262-1",
    "6.12.117-1~bpo12+1",
    "6.12.117-1~deb12u1",
    "6.12.117-1",
    "6.12.117-1+b1",
    "7.3~rc7-1~exp1",
    "7.3-1",
    "7.3.4-1~bpo13+1",
    "7.3.4-1a",
    "7.3.4-1+",
    "1:0.1",
]

UPSTREAM = st.text("0123456789.~+abz", max_size=6).map(lambda text: "1" + text)
VERSIONS = st.builds(
    lambda epoch, upstream, revision: f"{epoch}{upstream}{revision}",
    st.sampled_from(["", "0:", "1:"]),
    UPSTREAM,
    st.one_of(st.just(""), st.text("0123456789.~+ab", min_size=1, max_size=4).map(lambda text: "-" + text)),
)


def test_known_order() -> None:
    shuffled = sorted(ASCENDING)
    assert shuffled != ASCENDING
    assert sorted(shuffled, key=Version) == ASCENDING


@pytest.mark.parametrize(("one", "other"), [("1.0", "1.00"), ("0:1", "1"), ("1-0", "1"), ("1.a0", "1.a")])
def test_different_texts_of_one_version(one: str, other: str) -> None:
    assert Version(one) == Version(other)


@given(VERSIONS, VERSIONS, VERSIONS)
def test_it_is_a_total_order(first: str, second: str, third: str) -> None:
    one, two, three = Version(first), Version(second), Version(third)
    assert (one < two) + (one == two) + (two < one) == 1
    assert not (one < two and two < three) or one < three


@settings(max_examples=40, deadline=None)
@given(VERSIONS, VERSIONS)
def test_dpkg_agrees(first: str, second: str) -> None:
    for relation, ours in (
        ("lt", Version(first) < Version(second)),
        ("eq", Version(first) == Version(second)),
    ):
        done = subprocess.run(["dpkg", "--compare-versions", first, relation, second], check=False)
        assert (done.returncode == 0) == ours
