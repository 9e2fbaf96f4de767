"""From a matrix and a command line to cells and tests."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.selftest.catalogue import CATALOGUE
from harness.errors import ConfigError
from harness.plan import checked as config
from harness.plan import plan
from harness.plan.plan import Plan, Selectors, events_of
from tests import ROOT
from tests.harness.conftest import matrix_of

NAMES = [scenario.name for scenario in CATALOGUE]
_words = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,7}", fullmatch=True)
_axes = {
    "hooksets": st.lists(st.sampled_from(["auto", "lsm", "fentry"]), min_size=1, max_size=3, unique=True),
    "btf": st.lists(st.sampled_from(["kernel", "external"]), min_size=1, max_size=2, unique=True),
    "transport": st.lists(st.sampled_from(["ringbuf", "perf"]), min_size=1, max_size=2, unique=True),
    "arch": st.lists(st.sampled_from(["amd64", "arm64"]), min_size=1, max_size=2, unique=True),
}
_matrices = st.builds(
    lambda kernels, axes: matrix_of(*kernels, **axes),
    st.lists(_words, min_size=1, max_size=4, unique=True),
    st.fixed_dictionaries({}, optional=_axes),
)


def _plan(matrix: Any, **selectors: tuple[str, ...]) -> Plan:
    return plan.make(matrix, Selectors(**selectors))


def _ids(made: Plan) -> list[str]:
    return [cell.id for cell in made.cells]


def test_the_default_is_one_cell_for_each_kernel_with_every_test() -> None:
    made = _plan(matrix_of("5.10", "6.1"))
    assert _ids(made) == ["5.10-auto", "6.1-auto"]
    by_day = [scenario.name for scenario in CATALOGUE if "nightly" not in scenario.tags]
    assert list(made.cells[0].tests) == by_day
    assert [*made.nightly, *by_day] == sorted(NAMES, key=lambda name: name in by_day)


def test_a_world_makes_a_cell_of_its_own_on_the_same_machine() -> None:
    include = [{"world": ["btrfs", "neighbour"], "tests": "truth.open"}]
    made = _plan(matrix_of("6.1", include=include))
    assert _ids(made) == ["6.1-auto", "6.1-auto-btrfs", "6.1-auto-neighbour"]
    assert [cell.world for cell in made.cells] == ["", "btrfs", "neighbour"]
    assert len(made.machines()) == 1


def test_a_test_of_all_hook_sets_is_planned_with_auto_alone() -> None:
    """Also with another command line, but with no other BTF source or transport."""
    include = [
        {"hookset": ["auto", "kprobe"], "btf": ["kernel", "external"], "tests": ["shapes.*", "truth.open"]},
        {"hookset": "auto", "transport": "perf", "tests": ["shapes.*", "truth.open"]},
        {"cmdline": {"name": "jit", "args": "x=1"}, "tests": "shapes.*"},
    ]
    made = _plan(matrix_of("6.1", include=include), tag=("nightly",))
    has = {cell.id for cell in made.cells if "shapes.lsm" in cell.tests}
    assert has == {"6.1-auto", "6.1-auto-jit"}
    assert {cell.tests for cell in made.cells if cell.id not in has} == {("truth.open",)}


def test_a_kernel_may_name_the_tests_of_its_cells() -> None:
    """An `include` adds those that it names, and the user may name any."""
    include = [{"kernel": "6.16", "tests": "loss.unread"}, {"kernel": "6.16", "hookset": "lsm"}]
    matrix = matrix_of("6.1", {"name": "6.16", "series": "6.16", "tests": "truth.o*"}, include=include)
    made = _plan(matrix)
    assert made.cell("6.16-auto").tests == ("truth.open", "loss.unread")
    assert made.cell("6.16-lsm").tests == made.cell("6.1-auto").tests
    named = _plan(matrix, test=("loss.steady",))
    assert named.cell("6.16-auto").tests == ("loss.steady",)
    with pytest.raises(ConfigError, match=r"kernels: tests: trut\.\*: no such test"):
        _plan(matrix_of({"name": "6.16", "series": "6.16", "tests": "trut.*"}))


def test_each_cell_has_its_reasons() -> None:
    """Those of the entries of the matrix that this run selects, or the entries' names."""
    include = [
        {"hookset": "lsm", "tests": "truth.open", "why": "the short way"},
        {"hookset": "lsm", "tags": ["nightly"], "why": "the long way"},
        {"hookset": "kprobe"},
    ]
    matrix = matrix_of("6.1", {"name": "6.16", "series": "6.16", "tests": "truth.*"}, include=include)
    selectors = Selectors(kernel=("6.*",))
    made = plan.make(matrix, selectors)
    why = plan.reasons(matrix, made, selectors)
    assert why["6.1-auto"] == "kernel 6.1"
    assert why["6.16-auto"] == "kernel 6.16, truth.*"
    assert why["6.1-lsm"] == "the short way"
    assert why["6.1-kprobe"] == "include 3"
    by_night = Selectors(tag=("nightly",))
    assert plan.reasons(matrix, made, by_night)["6.1-lsm"] == "the short way; the long way"


def test_a_nightly_test_runs_with_its_tag_or_by_name() -> None:
    """A matching glob does not select it; its full name, its tag and a matrix that names it do."""
    assert "loss.rate" not in _plan(matrix_of("6.1"), test=("loss.*",)).cells[0].tests
    assert set(NAMES) == set(_plan(matrix_of("6.1"), tag=("nightly",)).cells[0].tests)
    assert _plan(matrix_of("6.1"), tag=("nightly",)).nightly == ()
    for asked in ("loss.rate", "@nightly"):
        assert "loss.rate" in _plan(matrix_of("6.1"), test=("truth.open", asked)).cells[0].tests
    named = matrix_of("6.1", include=[{"hookset": "lsm", "tests": ["loss.*", "loss.rate"]}])
    wanted = ("loss.steady", "loss.small_ring", "loss.unread", "loss.rate")
    assert _plan(named).cell("6.1-lsm").tests == wanted


def test_an_empty_plan_names_the_tag_that_selects_tests() -> None:
    with pytest.raises(ConfigError) as caught:
        _plan(matrix_of("6.1"), test=("loss.bur*",))
    assert caught.value.hint == "loss.burst: only with --tag nightly, or by name"


def test_a_kernel_is_selected_by_its_whole_name() -> None:
    assert _ids(_plan(matrix_of("6.1", "6.12"), kernel=("6.1",))) == ["6.1-auto"]


def test_a_kernel_is_selected_by_release() -> None:
    made = plan.make(matrix_of("6.1", "6.12"), Selectors(kernel=("6.12.9*",)), {"6.12": "6.12.94-amd64"})
    assert _ids(made) == ["6.12-auto"]


def test_a_test_can_be_left_out() -> None:
    made = _plan(matrix_of("6.1"), test=("truth.*", "!truth.open"))
    wanted = [name for name in NAMES if name.startswith("truth.") and name != "truth.open"]
    assert list(made.cells[0].tests) == wanted


@pytest.mark.parametrize(
    ("selectors", "message"),
    [
        ({"kernel": ("6.2",)}, "--kernel 6.2: no such kernel in the matrix (did you mean '6.12'?)"),
        ({"kernel": ("x",)}, "--kernel x: no such kernel in the matrix (choose from 6.1, 6.12)"),
        ({"test": ("truth.opn",)}, "--test truth.opn: no such test (did you mean 'truth.open'?)"),
        ({"hookset": ("lsm",)}, "--hookset lsm: not in the matrix (choose from auto)"),
        ({"arch": ("arm64",)}, "--arch arm64: not in the matrix (did you mean 'amd64'?)"),
        ({"tag": ("nightli",)}, "--tag nightli: not in the matrix (did you mean 'nightly'?)"),
        ({"test": ("",)}, "--test is empty"),
        ({"kernel": ("6.1", "")}, "--kernel is empty"),
        ({"test": ("!*",)}, "the plan is empty: no test of a cell matches all selectors"),
    ],
)
def test_a_selector_that_selects_nothing_is_an_error(
    selectors: dict[str, tuple[str, ...]], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        _plan(matrix_of("6.1", "6.12"), **selectors)
    assert caught.value.message == message


def test_an_error_lists_a_few_names() -> None:
    """And the number of the others, because all names are kilobytes."""
    with pytest.raises(ConfigError) as caught:
        _plan(matrix_of("6.1"), test=("s",))
    listed = ", ".join(NAMES[:12])
    assert caught.value.message == (
        f"--test s: no such test (choose from {listed} and {len(NAMES) - 12} more)"
    )


def test_entries_of_one_cell_add_their_tests() -> None:
    """With the tag a cell runs its ordinary tests and those of the tagged entry, in the catalogue's order."""
    include = [
        {"hookset": "lsm", "tests": ["truth.rename", "truth.open"]},
        {"hookset": "lsm", "tests": "truth.unlink", "tags": ["nightly"]},
    ]
    matrix = matrix_of("6.1", include=include)
    assert _plan(matrix).cell("6.1-lsm").tests == ("truth.open", "truth.rename")
    assert _plan(matrix, test=("truth.o*",)).cell("6.1-lsm").tests == ("truth.open",)
    by_night = _plan(matrix, tag=("nightly",)).cell("6.1-lsm").tests
    assert by_night == ("truth.open", "truth.unlink", "truth.rename")


def test_an_entry_with_an_unknown_test_is_an_error() -> None:
    """A misspelt name would leave a cell without its tests."""
    with pytest.raises(ConfigError, match=r"include: tests: truth\.opn: no such test"):
        _plan(matrix_of("6.1", include=[{"tests": ["truth.opn"]}]))


def test_the_projects_matrix_has_the_documented_cells() -> None:
    """By default `auto` on every kernel, hook sets on the oldest and the newest; the night has all."""
    matrix = config.load(ROOT / "matrix.yaml")
    by_day, by_night = _plan(matrix), _plan(matrix, tag=("nightly",))
    plain = [kernel.name for kernel in matrix.kernels if not kernel.tags]
    assert len({cell.kernel.name for cell in by_night.cells if cell.arch == "amd64"}) >= 24
    forced = {"lsm", "fentry", "kprobe", "kprobe-multi", "tracepoint"}
    assert {f"{name}-auto" for name in plain} <= set(_ids(by_day))
    assert {f"{plain[-1]}-{hookset}" for hookset in forced} <= set(_ids(by_day))
    assert {f"{plain[0]}-{hookset}" for hookset in forced - {"lsm", "kprobe-multi"}} <= set(_ids(by_day))
    for name in (plain[0], plain[-1]):
        assert set(NAMES) - set(by_day.cell(f"{name}-auto").tests) == plan.NIGHTLY_TESTS
    assert {f"{name}-{hookset}" for name in plain for hookset in forced} <= set(_ids(by_night))
    for cell in by_day.cells:
        assert set(cell.tests) <= set(by_night.cell(cell.id).tests)
    assert {f"{name}-bcc" for name in plain} <= set(_ids(by_night))
    assert {cell.btf for cell in by_night.cells} == {"kernel", "external", "none"}
    assert {cell.transport for cell in by_night.cells} == {"ringbuf", "perf"}
    assert any(cell.cmdline and cell.hookset == "lsm" for cell in by_night.cells)


def test_tagged_cells_run_only_with_their_tag_and_the_plan_names_them() -> None:
    include = [{"kernel": "6.1", "hookset": ["lsm", "kprobe"], "tags": ["nightly"]}]
    matrix = matrix_of("5.10", "6.1", include=include)
    made = _plan(matrix)
    assert _ids(made) == ["5.10-auto", "6.1-auto"]
    assert [(cell.id, cell.reason) for cell in made.omitted] == [
        ("6.1-lsm", "runs only with --tag nightly"),
        ("6.1-kprobe", "runs only with --tag nightly"),
    ]
    assert _ids(_plan(matrix, tag=("nightly",))) == ["5.10-auto", "6.1-auto", "6.1-lsm", "6.1-kprobe"]


def test_an_excluded_cell_has_its_reason_in_the_plan() -> None:
    exclude = [{"kernel": "5.*", "hookset": "fentry", "reason": "no BTF there"}]
    made = _plan(matrix_of("5.10", "6.1", hooksets=["auto", "fentry"], exclude=exclude))
    assert _ids(made) == ["5.10-auto", "6.1-auto", "6.1-fentry"]
    assert made.omitted[0].reason == "excluded by the matrix: no BTF there"


def test_a_command_line_is_a_machine_of_its_own() -> None:
    made = _plan(matrix_of("5.10", hooksets=["auto", "lsm"], cmdline=[{"name": "bpf", "args": "lsm=bpf"}]))
    machines = {name: [cell.id for cell in cells] for name, cells in made.machines().items()}
    assert machines == {
        "5.10-amd64": ["5.10-auto", "5.10-lsm"],
        "5.10-amd64-bpf": ["5.10-auto-bpf", "5.10-lsm-bpf"],
    }


@given(_matrices)
def test_ids_are_unique_and_are_file_names(matrix: Any) -> None:
    ids = _ids(_plan(matrix))
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", cell_id) for cell_id in ids)


@given(_matrices)
def test_a_plan_survives_json(matrix: Any) -> None:
    made = _plan(matrix)
    assert Plan.model_validate_json(made.to_json()) == made


@given(_matrices)
def test_the_cells_of_a_machine_follow_each_other(matrix: Any) -> None:
    machines = [cell.machine for cell in _plan(matrix).cells]
    changes = [name for name, before in zip(machines, [None, *machines], strict=False) if name != before]
    assert len(changes) == len(set(machines))


@given(_matrices, st.data())
def test_narrowing_keeps_exactly_the_named_tests(matrix: Any, data: st.DataObject) -> None:
    made = _plan(matrix)
    kept = data.draw(st.lists(st.sampled_from(made.pairs()), unique=True))
    assert sorted(made.narrowed(kept).pairs()) == sorted(kept)


@pytest.mark.parametrize(
    ("selectors", "exercise"),
    [
        ({}, ("auto", "lsm")),
        ({"tag": ("nightly",)}, ("auto", "lsm", "kprobe")),
        ({"kernel": ("6.1",)}, ()),
        ({"test": ("truth.*",)}, ()),
    ],
)
def test_a_whole_run_must_exercise_what_the_matrix_declares(
    selectors: dict[str, tuple[str, ...]], exercise: tuple[str, ...]
) -> None:
    include = [{"hookset": "kprobe", "tags": ["nightly"]}]
    exclude = [{"hookset": "lsm", "reason": "another day"}]
    matrix = matrix_of("6.1", "6.12", hooksets=["auto", "lsm"], include=include, exclude=exclude)
    made = _plan(matrix, **selectors)
    assert made.exercise == exercise
    assert made.narrowed(made.pairs()[1:]).exercise == ()


def test_events_that_tests_need() -> None:
    """Each event type occurs once, in the order of the tests; a suite's program needs none."""
    assert events_of(["truth.open", "command.a", "truth.rename", "approvers.path"]) == ("open", "rename")
