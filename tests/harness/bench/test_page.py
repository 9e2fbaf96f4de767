"""Tables, page and chart say what was measured, and what was not; hostile text forges nothing."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from harness.bench import changes, chart, model, page, table
from harness.bench.model import Bench, Trial
from harness.errors import ConfigError
from tests.harness.bench.made import bench, measured, trial


def compared() -> Bench:
    return bench(
        trial(1, "none", open=measured(1000, 100)),
        trial(1, "x", open=measured(2000, 300, seen=10)),
        Trial(round=1, monitor="y", unable="no <tracefs> | here"),
    )


def test_a_table_has_a_line_for_each_monitor() -> None:
    lines = table.plain(table.costs(compared(), "open")).splitlines()
    assert [line.split()[0] for line in lines] == ["monitor", "none", "x", "y"]
    assert lines[2].split()[1:] == ["100", "2.00", "10", "2.09", "2.00", "0", "of", "10", "-"]
    assert lines[3] == "y        does not run: no <tracefs> | here"


def test_a_cell_cannot_add_a_column_to_markdown() -> None:
    text = table.markdown(table.costs(compared(), "open"))
    rows = [line.replace("\\|", "").count("|") for line in text.splitlines()]
    assert len(set(rows)) == 1


def test_the_chart_is_xml_whatever_a_monitor_is_called() -> None:
    hostile = bench(trial(1, "none", open=measured(1)), trial(1, "<b>&", open=measured(9)))
    texts = [node.text for node in ElementTree.fromstring(chart.svg(hostile)).iter() if node.text]
    assert "<b>&" in texts


def test_a_bench_is_written_and_read_again(tmp_path: Path) -> None:
    page.save(compared(), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(page.FILES)
    assert model.load(tmp_path) == compared()


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    """Before anything is measured; the folder of an earlier bench is used again."""
    page.save(compared(), page.folder(tmp_path / "new" / "bench"))
    assert page.folder(tmp_path / "new" / "bench")
    with pytest.raises(ConfigError, match="has other files, such as bench"):
        page.folder(tmp_path / "new")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="File exists"):
        page.folder(tmp_path / "file")


@pytest.mark.parametrize("content", ["", "[]", '{"schema_number": 1}', '{"kernel": "\\u001b[2J"}'])
def test_a_file_that_is_no_bench_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / model.NAME
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        model.load(path)
    assert "\x1b" not in caught.value.message
    with pytest.raises(ConfigError, match="No such file"):
        model.load(tmp_path / "other.json")


def test_benches_of_one_kernel_are_joined_as_further_rounds() -> None:
    first = bench(trial(1, "none", open=measured(1000)), trial(1, "x", open=measured(2000)))
    second = bench(trial(1, "none", open=measured(1000)), trial(1, "z", open=measured(3000)))
    (joined,) = page.joined([first, second])
    assert list(joined.monitors) == ["none", "x", "z"]
    assert joined.rounds == 2
    assert [row[2] for row in table.costs(joined, "open")[1:]] == ["1.00", "2.00", "3.00"]


def test_agents_of_different_commits_are_not_joined() -> None:
    """Their figures differ for other reasons than the monitor."""
    first = bench(trial(1, "agent", open=measured(1)))
    with pytest.raises(ConfigError, match="differ in commit of the agent"):
        page.joined([first, first.model_copy(update={"commit": "f" * 40})])


@pytest.mark.parametrize("order", [1, -1])
def test_other_monitors_may_be_of_another_commit(order: int) -> None:
    """The page names the agent's, in whatever order the files are given."""
    agent = bench(trial(1, "agent", open=measured(1)))
    others = bench(trial(1, "auditd", open=measured(1))).model_copy(update={"commit": "f" * 40})
    (joined,) = page.joined([agent, others][::order])
    assert joined.commit == agent.commit


def test_benches_with_other_workloads_of_the_same_name_are_not_joined() -> None:
    """Figures are divided by the number of operations."""
    first = bench(trial(1, "none", open=measured(1)))
    changed = {name: one.model_copy(update={"operations": 1}) for name, one in first.workloads.items()}
    with pytest.raises(ConfigError, match="differ in workload open"):
        page.joined([first, first.model_copy(update={"workloads": changed})])


def test_the_page_has_a_chapter_for_each_kernel(tmp_path: Path) -> None:
    other = compared().model_copy(update={"kernel": "7.3"})
    page.write([compared(), other], tmp_path / "cost.md")
    text = (tmp_path / "cost.md").read_text()
    assert "## 6.1\n" in text
    assert "## 7.3\n" in text
    assert {path.name for path in tmp_path.iterdir()} == {"cost.md", "cost-6.1.svg", "cost-7.3.svg"}


def test_the_page_ends_with_what_changes_did(tmp_path: Path) -> None:
    """The file of one bench does not: it is of one commit."""
    page.write([compared()], tmp_path / "page.md")
    page.save(compared(), page.folder(tmp_path / "bench"))
    *_, last = table.markdown(changes.rows()).splitlines()
    assert (tmp_path / "page.md").read_text().splitlines()[-1] == last
    assert last not in (tmp_path / "bench/cost.md").read_text()
