"""The systemd unit agrees with the code."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.service import control, privileges
from tests import ROOT

UNIT = ROOT / "packaging" / "fim-agent.service"


@pytest.fixture
def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(UNIT)
    return parser


def test_capabilities_are_those_of_the_oldest_kernel(unit: configparser.ConfigParser) -> None:
    named = {getattr(privileges, name) for name in unit["Service"]["CapabilityBoundingSet"].split()}
    assert named == privileges.needed("5.10.0")


def test_the_control_socket_lies_in_the_runtime_folder(unit: configparser.ConfigParser) -> None:
    assert control.DEFAULT_PATH.parent == Path("/run") / unit["Service"]["RuntimeDirectory"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd on this host")
def test_systemd_rates_the_exposure_as_low() -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", str(UNIT)],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"exposure level .*: (\d+\.\d)", done.stdout)
    assert found is not None, done.stderr
    assert float(found[1]) < 5.0
