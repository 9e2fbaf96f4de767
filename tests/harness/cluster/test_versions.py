"""Hosts with other versions are refused before anything runs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from harness.cluster import connect, facts
from harness.errors import InfrastructureError


class Answers:
    """A client of a cluster as far as versions go."""

    def __init__(self, worker: Any, distributed: str = "") -> None:
        self._worker = worker
        ours = facts.versions()
        packages = {
            "distributed": distributed or ours["distributed"],
            "python": f"{ours['Python']}.1.final.0",
        }
        self._packages = packages
        self.scheduler = self

    def sync(self, call: Any, callback_timeout: float) -> Any:
        assert callback_timeout > 0
        return asyncio.run(call())

    async def versions(self) -> Any:
        return {"packages": self._packages}

    async def run(self, _function: Any, on_error: str) -> Any:
        assert on_error == "return"
        return {"tls://10.0.0.2:1": self._worker}


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (
            Answers({**facts.versions(), "name": "a", "harness": "0.0.9 (abc)"}),
            "worker a has harness 0.0.9 (abc), this",
        ),
        (Answers(AttributeError("versions")), "worker tls://10.0.0.2:1 has harness none, this host has 0"),
        (
            Answers({**facts.versions(), "name": "a"}, "1.0"),
            "the scheduler has distributed 1.0, this host has 2",
        ),
    ],
)
def test_another_version_is_refused_with_both_numbers(answers: Answers, message: str) -> None:
    with pytest.raises(InfrastructureError) as raised:
        connect._refuse_other_versions(answers)
    assert raised.value.message.startswith(message)
    assert raised.value.exit_code == 3


def test_equal_versions_are_accepted() -> None:
    connect._refuse_other_versions(Answers({**facts.versions(), "name": "a"}))


def test_a_worker_that_dies_before_it_answers_is_no_other_version() -> None:
    connect._refuse_other_versions(Answers(OSError("the connection was closed")))
