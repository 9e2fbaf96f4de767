"""Reading matrix.yaml: valid files, and the error for each mistake."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.hooks import sets
from harness.errors import ConfigError
from harness.plan import checked as config
from harness.plan import yaml
from harness.plan.matrix import Hookset
from tests import ROOT

MISTAKES = {
    "unknown_key": (
        "kernls: [a]\nkernels: [6.1]",
        "m.yaml:1: unknown key 'kernls' (did you mean 'kernels'?)",
    ),
    "unknown_key_inside": (
        "kernels:\n  - name: a\n    series: '6.1'\n    serie: b",
        "m.yaml:4: unknown key 'serie' (did you mean 'series'?)",
    ),
    "unknown_word": (
        "kernels: [6.1]\nhooksets:\n  - fentri",
        "m.yaml:3: hooksets: unknown value 'fentri' (did you mean 'fentry'?)",
    ),
    "missing_key": ("kernels:\n  - series: '6.1'", "m.yaml:2: kernels.name: is required"),
    "wrong_shape": ("kernels: {a: b}", "m.yaml:1: kernels: must be a list"),
    "not_a_mapping": ("- a", "m.yaml:1: the file: must be keys and values"),
    "a_list_for_a_word": ("kernels:\n  - name: [a]\n    series: b", "m.yaml:2: kernels.name: must be a word"),
    "no_kernels": ("kernels: []", "m.yaml:1: kernels: must not be empty"),
    "twice": (
        "kernels:\n  - 6.1\n  - 6.1",
        "m.yaml:3: duplicate kernel '6.1' (first in line 2)",
    ),
    "no_processors": (
        "kernels:\n  - name: a\n    series: b\n    vcpus: 0",
        "m.yaml:4: kernels.vcpus: invalid number '0' (use 1, 2, 3 ...)",
    ),
    "path_as_name": (
        "kernels:\n  - ../../etc",
        "m.yaml:2: kernels.name: '../../etc' has characters that are not allowed here",
    ),
    "same_key_twice": (
        "kernels: [a]\nkernels: [b]",
        "m.yaml:2: duplicate key 'kernels' (first in line 1)",
    ),
    "two_arguments_of_one_cmdline": (
        "kernels: [6.1]\ncmdline:\n  - {name: quiet, args: a}\ninclude:\n"
        "  - hookset: lsm\n    cmdline: {name: quiet, args: b}",
        "m.yaml:6: cmdline 'quiet' is defined twice with different arguments (first in line 3)",
    ),
    "a_list_for_a_setting": (
        "kernels: [6.1]\nsysctl:\n  - {name: a, values: {kernel.x: [1]}}",
        "m.yaml:3: sysctl.values: kernel.x: not a number or a text",
    ),
    "cmdline_twice": (
        "kernels: [6.1]\ncmdline:\n  - {name: a, args: a}\n  - {name: a, args: a}",
        "m.yaml:4: duplicate cmdline 'a' (first in line 3)",
    ),
    "cmdline_named_like_a_transport": (
        "kernels: [6.1]\ntransport: [ringbuf, perf]\ncmdline:\n  - {name: perf, args: a}",
        "m.yaml:1: two cells would be named '6.1-auto-perf': kernel 6.1 amd64 auto btf kernel ringbuf "
        "cmdline 'perf'; kernel 6.1 amd64 auto btf kernel perf (first in line 1)",
    ),
    "cmdline_named_like_a_btf": (
        "kernels: [6.1]\nbtf: [kernel, external]\ncmdline:\n  - {name: btf_external, args: a}",
        "two cells would be named '6.1-auto-btf_external'",
    ),
    "cmdline_named_like_a_machine": (
        "kernels: [6.1]\ncmdline: [{name: bcc, args: a}]\ninclude:\n  - hookset: bcc",
        "m.yaml:4: two machines would be named '6.1-amd64-bcc': kernel 6.1 amd64 auto btf kernel ringbuf "
        "cmdline 'bcc'; kernel 6.1 amd64 bcc btf kernel ringbuf (first in line 1)",
    ),
    "kernel_named_like_another_on_arm64": (
        "kernels:\n  - 6.1\n  - 6.1-arm64\narch: [amd64, arm64]",
        "two cells would be named '6.1-arm64-auto'",
    ),
    "suite_named_like_a_cmdline": (
        "kernels: [6.1]\nhooksets: [auto]\ncmdline: [{name: x, args: a}]\nsuites:\n"
        "  - {name: auto-x, command: [a]}",
        "two cells would be named '6.1-auto-x'",
    ),
    "hookset_twice": (
        "kernels: [6.1]\nhooksets: [auto, lsm, auto]",
        "m.yaml:2: hooksets: duplicate value 'auto'",
    ),
    "arch_twice_in_include": (
        "kernels: [6.1]\ninclude:\n  - arch: [amd64, amd64]",
        "m.yaml:3: include.arch: duplicate value 'amd64'",
    ),
    "too_many_cells": (
        f"kernels: [{', '.join(f'k{number}' for number in range(9000))}]\n"
        "hooksets: [lsm, fentry, kprobe]\ntransport: [ringbuf, perf]",
        "m.yaml:1: more than 50,000 cells",
    ),
    "unknown_kernel_in_include": (
        "kernels: ['6.1', '6.12']\ninclude:\n  - kernel: ['6.1', '6.2']\n    hookset: lsm",
        "m.yaml:3: include: kernel: '6.2' matches nothing (did you mean '6.12'?)",
    ),
    "unknown_kernel_in_suites": (
        "kernels: ['6.1']\nsuites:\n  - name: a\n    kernel: 6.l\n    command: x",
        "m.yaml:4: suites: kernel: '6.l' matches nothing (did you mean '6.1'?)",
    ),
    "unknown_kernel_in_exclude": (
        "kernels: ['6.1']\nexclude:\n  - kernel: 5.*\n    reason: x",
        "m.yaml:3: exclude: kernel: '5.*' matches nothing (choose from 6.1)",
    ),
    "unknown_hookset_in_exclude": (
        "kernels: ['6.1']\nexclude:\n  - hookset: lmsm\n    reason: x",
        "m.yaml:3: exclude: hookset: 'lmsm' matches nothing (did you mean 'lsm'?)",
    ),
    "unknown_cmdline_in_exclude": (
        "kernels: ['6.1']\ncmdline: [{name: quiet, args: a}]\nexclude:\n  - cmdline: quite\n    reason: x",
        "m.yaml:4: exclude: cmdline: 'quite' matches nothing (did you mean 'quiet'?)",
    ),
    "unknown_test_in_include": (
        "kernels: ['6.1']\ninclude:\n  - tests: truth.opn",
        "m.yaml:3: include: tests: 'truth.opn' matches no test (did you mean 'truth.open'?)",
    ),
    "unknown_world": (
        "kernels: ['6.1']\ninclude:\n  - world: nowhere",
        "m.yaml:3: include.world: unknown value 'nowhere' (choose from btrfs, xfs, ",
    ),
    "no_test_in_include": (
        "kernels: ['6.1']\ninclude:\n  - tests: ['!*']",
        "m.yaml:3: include: tests: leaves out every test",
    ),
    **{
        f"empty_{key}": (
            f"kernels: ['6.1']\ninclude:\n  - kernel: '6.1'\n    {key}: []",
            f"m.yaml:4: include.{key}: must not be empty",
        )
        for key in ("tests", "hookset", "arch", "btf", "transport")
    },
    "empty_arch_of_a_suite": (
        "kernels: ['6.1']\nsuites:\n  - name: a\n    arch: []\n    command: x",
        "m.yaml:4: suites.arch: must not be empty",
    ),
    "syntax": ("a: b: c", "m.yaml:1: mapping values are not allowed here"),
    "alias": (
        "kernels: &a [x]\ntags: *a",
        "m.yaml:1: anchors and aliases are not supported; write the value out",
    ),
    "tag": ("kernels: !!python/name:os.system x", "m.yaml:1: tags (`!name`) are not supported"),
    "deep": ("a: " + "[" * 40, "m.yaml:1: nested deeper than 16 levels"),
    "empty": ("# nothing", "m.yaml: the file is empty"),
    "two_documents": ("a: b\n---\nc: d", "m.yaml:2: a second document (one file is one document)"),
    "control_character": ("a: b\nc: \x01", "m.yaml:2: character U+0001 is not allowed"),
    "complex_key": ("? [a]\n: b", "m.yaml:1: a key must be a word"),
}


def _error(text: str | bytes) -> str:
    content = text.encode() if isinstance(text, str) else text
    with pytest.raises(ConfigError) as caught:
        config.check(yaml.parse(content, "m.yaml"))
    return caught.value.message


def test_a_long_value_is_quoted_in_part() -> None:
    for key in ("world", "arch", "tests", "kernel", "cmdline"):
        for line in _error(f"kernels: ['6.1']\ninclude:\n  - {key}: {'x' * 5000}").splitlines():
            assert len(line) <= 400


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_with_file_and_line(name: str) -> None:
    text, expected = MISTAKES[name]
    assert any(expected in line for line in _error(text).splitlines()), _error(text)


def test_every_mistake_is_reported_at_once() -> None:
    assert len(_error("kernls: [a]\nhooksets: [x]").splitlines()) == 3


def test_a_file_that_is_not_utf_8_is_refused() -> None:
    assert _error(b"kernels: [a]\nx: \xff") == "m.yaml:2: not UTF-8 (byte 0xff)"


def test_a_large_file_is_refused() -> None:
    assert _error(b"#" * (yaml.MAX_BYTES + 1)) == "m.yaml: larger than 256 KiB"


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        config.load(tmp_path / "m.yaml")


def test_scalars_stay_strings() -> None:
    matrix = config.check(yaml.parse(b"kernels: [6.10, 5.10, no]", "m.yaml"))
    assert [kernel.series for kernel in matrix.kernels] == ["6.10", "5.10", "no"]


def test_a_kernel_may_ask_for_processors() -> None:
    """A kernel without `vcpus` has the default number."""
    text = b"kernels:\n  - 6.1\n  - name: rt\n    series: '6.12'\n    vcpus: 2"
    matrix = config.check(yaml.parse(text, "m.yaml"))
    assert [kernel.vcpus for kernel in matrix.kernels] == [1, 2]


def test_the_projects_own_matrix_asks_for_four_series() -> None:
    matrix = config.load(ROOT / "matrix.yaml")
    assert [kernel.series for kernel in matrix.kernels if not kernel.tags] == ["5.10", "6.1", "6.12", "7.3"]


@given(st.binary(max_size=200) | st.text("[]{}:,-&*!? \n\tab'\"#|>%@", max_size=60).map(str.encode))
def test_any_bytes_are_a_matrix_or_a_config_error(content: bytes) -> None:
    with contextlib.suppress(ConfigError):
        config.check(yaml.parse(content, "m.yaml"))


def test_a_matrix_may_name_every_hook_set_that_the_agent_has() -> None:
    """A name that the agent does not know is an error, because no cell could exercise it."""
    assert set(get_args(Hookset)) == set(sets.HOOKSETS)
