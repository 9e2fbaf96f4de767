"""Report formats: html/, compare/, and one module for each other format; all are made from results.json."""

from __future__ import annotations

from pathlib import Path

from harness.host import garbage
from harness.host.files import write_atomic
from harness.results.model import Results

SCHEMA_PATH = Path(__file__).with_name("results.schema.json")


def write_all(results: Results, folder: Path, artifact: str = "") -> None:
    """Write junit.xml, summary.md and report.html into `folder`.

    A history.json in the folder adds how tests ended in the last runs. `artifact` is the address of an
    archive of the folder, for a summary that is read without the folder.
    """
    # slow to import; most commands write no report
    from harness.report import history, html, junit, summary

    with garbage.paused():
        write_atomic(folder / "junit.xml", junit.render(results, folder))
        write_atomic(folder / "summary.md", summary.render(results, artifact, history.beside(folder)))
        write_atomic(folder / "report.html", html.render(results, folder))
