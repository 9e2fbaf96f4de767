"""Decides what a nightly run has to report, and keeps one issue for it: `python packaging/nightly.py --help`.

It needs only Python and `gh`, so that a failed set-up is reported like any other failure. The rules:

- A job that failed or did not run, results that are missing or damaged, and each verdict that is not as
  expected are findings. So is an exit code of the run that the verdicts of its cells do not explain, and a
  failure of the harness itself.
- Each kind of difference that a campaign of random programs or rules found is a finding.
- A cell that the infrastructure lost is a finding unless it was as expected the night before.
- A night in which no test had a result is a finding. So is a cell or a test that is no longer planned, and
  a cell that skips more than half of the tests that had a result the night before.
- If the results of the night before are missing or damaged, this night is judged without them.
- With a finding there is an open issue afterwards. It gets a comment when a finding is new.
- A night without findings closes the issue.
- Only the default branch has an issue, and only its nightly runs are compared with.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from harness.results.verdict import RUN_EXIT_CODES, Verdict, run_exit_code
from harness.text import one_line

WORKFLOW = "nightly.yml"
TITLE = "The nightly is not as expected"
LABEL = "nightly"
DECISION = "decision"  # the artifact that keeps what a night found
MACHINERY = (Verdict.INFRA, Verdict.BOOT_FAIL)
UNKNOWN = tuple(verdict for verdict in Verdict if verdict.unknown)
BODY_LIMIT = 60_000  # characters; GitHub refuses more than 65,536
LISTED = 100  # findings
SILENT = (*UNKNOWN, Verdict.SKIP)  # verdicts that prove nothing about the agent
FINE = ("success", "neutral", "")  # conclusions of jobs; a job that still runs has none
SHARDS = ("shard", "arm64")  # jobs that also fail because of verdicts of their cells, which results.json has
NAMED = 3  # cells in the text of one finding
INFRASTRUCTURE = 3  # exit code


class Finding(NamedTuple):
    """Something to report. `key` is the same on each night on which it is found."""

    key: str
    text: str


@dataclass(frozen=True)
class Night:
    """What a nightly run left: its jobs by name with their conclusions, and its results, None without any.

    `incomparable` is why its results prove nothing beside those of the night before, "" where they do.
    `law` has for each PART of the jobs `law (PART)` the kinds of differences with their counts.
    """

    jobs: Mapping[str, str]
    results: Mapping[str, Any] | None = None
    incomparable: str = ""
    law: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


class Test(NamedTuple):
    """A test of a cell in results.json."""

    name: str
    verdict: Verdict
    reason: str


class Cell(NamedTuple):
    """A cell in results.json."""

    id: str
    verdict: Verdict
    reason: str
    tests: tuple[Test, ...]


class Results(NamedTuple):
    """The part of results.json that decides."""

    exit_code: int
    notes: tuple[str, ...]
    cells: tuple[Cell, ...]
    failures: tuple[str, ...] = ()  # of the harness itself

    @property
    def cells_exit_code(self) -> int:
        """The exit code that the verdicts of the cells alone would give."""
        return run_exit_code(cell.verdict for cell in self.cells)


class DamagedError(Exception):
    """A file or an answer of GitHub does not have the content that it should have."""


def parsed(content: Mapping[str, Any]) -> Results:
    """The results in the content of results.json. Raises DamagedError."""
    try:
        if (schema := content.get("schema", 1)) != 1:
            raise ValueError(f"its schema is {schema!r}, and this program knows schema 1")
        run = content["run"]
        code = run["exit_code"]
        if type(code) is not int or code not in RUN_EXIT_CODES:
            raise ValueError(f"no run ends with the exit code {code!r}")
        notes = tuple(map(_text, run.get("notes") or ()))
        failures = tuple(_text(failure["what"]) for failure in run.get("failures") or ())
        return Results(code, notes, tuple(_cell(cell) for cell in content["cells"]), failures)
    except LookupError as error:
        raise DamagedError(f"no {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise DamagedError(str(error)) from error


def _cell(content: Mapping[str, Any]) -> Cell:
    tests = tuple(
        Test(_text(test["name"]), Verdict(test["verdict"]), _text(test.get("reason") or ""))
        for test in content["tests"]
    )
    reason = _text(content.get("reason") or "")
    return Cell(_text(content["id"]), Verdict(content["verdict"]), reason, tests)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def damage(content: Mapping[str, Any] | None) -> str:
    """Why results cannot be read; "" if they can, or if there are none."""
    try:
        if content is not None:
            parsed(content)
    except DamagedError as error:
        return _plain(one_line(str(error), 300))
    return ""


def findings(night: Night, before: Mapping[str, Any] | None) -> list[Finding]:
    """All there is to report; `before` are the results of the night before, None on a first night."""
    if night.results is None or (why := damage(night.results)):
        text = "there are no results" if night.results is None else f"results.json is damaged: {why}"
        return [*_of_jobs(night, None), *_of_law(night), Finding("results", text)]
    now = parsed(night.results)
    last = None if before is None or damage(before) else parsed(before)
    found = [*_of_jobs(night, now), *_of_law(night), *_of_results(now, last), *_of_run(now)]
    if last:
        found += [*_of_plan(now, last), *_skipped(now, last)]
    if night.incomparable:
        text = f"not comparable with the night before: {_plain(one_line(night.incomparable, 300))}"
        found.append(Finding("comparison", text))
    return found


def _of_jobs(night: Night, now: Results | None) -> Iterator[Finding]:
    if not night.jobs:
        yield Finding("jobs", "the run has no jobs")
    failed = {name: word for name, word in night.jobs.items() if word not in (*FINE, "skipped")}
    explained = _explained(failed, now, night.incomparable)
    for name, conclusion in night.jobs.items():
        if conclusion in FINE or name in explained:
            continue
        if conclusion == "skipped" and failed:  # it needs a job that failed
            continue
        if conclusion == "failure" and night.law.get(_part(name)):
            continue
        yield Finding(f"job {name}", f"the job `{_plain(name)}` ended with {conclusion}")


def _explained(failed: Mapping[str, str], now: Results | None, incomparable: str) -> set[str]:
    """The jobs that failed for nothing but verdicts, which are findings of their own or forgiven."""
    if now is None:
        return set()
    names = [name for name, word in failed.items() if word == "failure"]
    jobs = {name for name in names if name == "report" and (now.exit_code or incomparable)}
    shards = {name for name in names if name.split(" ")[0] in SHARDS}
    wrong = [cell for cell in now.cells if not cell.verdict.expected]
    # A cell belongs to one shard: if more shards failed than cells, one of them failed for another reason.
    return jobs | shards if len(shards) <= len(wrong) else jobs


def _part(job: str) -> str:
    """`6.1` of the job `law (6.1)`, "" for other jobs."""
    return job.removeprefix("law (").removesuffix(")") if job.startswith("law (") else ""


def _of_law(night: Night) -> Iterator[Finding]:
    for part, kinds in night.law.items():
        for kind, count in kinds.items():
            name = f"law {part}: {one_line(kind, 200)}"
            yield Finding(
                name, f"`{_plain(name)}`, {count} times; the artifact `law-{part}` has seeds and scripts"
            )


def _of_results(now: Results, before: Results | None) -> Iterator[Finding]:
    last = {cell.id: cell.verdict for cell in before.cells} if before else {}
    for cell in now.cells:
        wrong = [test for test in cell.tests if not test.verdict.expected]
        if cell.verdict in UNKNOWN:
            forgiven = cell.verdict in MACHINERY and cell.id in last and last[cell.id].expected
            wrong = [test for test in wrong if not test.verdict.unknown]
        else:
            forgiven = any(test.verdict is cell.verdict for test in wrong)  # the tests are the findings
        if not cell.verdict.expected and not forgiven:
            yield _finding(cell.id, cell.verdict, cell.reason)
        for test in wrong:
            yield _finding(f"{cell.id} {test.name}", test.verdict, test.reason)


def _of_run(now: Results) -> Iterator[Finding]:
    """What no single cell shows: a run that failed for another reason, or that proved nothing."""
    if now.exit_code != now.cells_exit_code:
        notes = _plain(one_line("; ".join(now.notes), 500)) or "no note says why"
        cells = f"its cells alone would give {now.cells_exit_code}"
        yield Finding("run", f"the run exits with {now.exit_code}, and {cells}: {notes}")
    elif now.failures:
        what = _plain(one_line("; ".join(now.failures), 500))
        yield Finding("run", f"the harness itself failed: {what}")
    if all(test.verdict in SILENT for cell in now.cells for test in cell.tests):
        yield Finding("nothing", f"no test of the {len(now.cells)} cells had a result that proves something")


def _of_plan(now: Results, before: Results) -> Iterator[Finding]:
    """Cells and tests of the night before that are no longer planned."""
    planned = {cell.id: {test.name for test in cell.tests} for cell in now.cells}
    gone: dict[str, list[str]] = {}  # by test, the cells that no longer have it
    for cell in before.cells:
        if cell.id not in planned:
            text = f"`{_plain(cell.id)}` is no longer planned; the night before it ended with {cell.verdict}"
            yield Finding(f"{cell.id} gone", text)
            continue
        for test in cell.tests:
            if test.name not in planned[cell.id]:
                gone.setdefault(test.name, []).append(cell.id)
    for name, cells in gone.items():
        more = f" and {len(cells) - NAMED} more" if len(cells) > NAMED else ""
        where = _plain(", ".join(cells[:NAMED]))
        yield Finding(f"{name} gone", f"`{_plain(name)}` is no longer planned in `{where}`{more}")


def _skipped(now: Results, before: Results) -> Iterator[Finding]:
    """Cells that skip more than half of the tests that had a result the night before."""
    last = {
        cell.id: {test.name for test in cell.tests if test.verdict not in SILENT} for cell in before.cells
    }
    for cell in now.cells:
        proved = last.get(cell.id, set())
        skipped = [test for test in cell.tests if test.verdict is Verdict.SKIP and test.name in proved]
        if 2 * len(skipped) > len(proved):
            share = f"skips {len(skipped)} of {len(proved)} tests that had a result the night before"
            why = _plain(one_line(skipped[0].reason, 300)) or "-"
            yield Finding(f"{cell.id} SKIP", f"`{_plain(cell.id)}` {share}: `{why}`")


def _finding(name: str, verdict: Verdict, reason: str) -> Finding:
    return Finding(
        f"{name} {verdict}", f"`{_plain(name)}` {verdict}: `{_plain(one_line(reason, 300)) or '-'}`"
    )


def _plain(text: str) -> str:
    """Text of a guest, as it can stand between backticks."""
    return text.replace("`", "'")


def body(found: Sequence[Finding], known: Iterable[str], run_url: str, compared: str) -> str:
    """The issue in Markdown: first what is new, then what was known, then the comparison of both nights."""
    old = set(known)
    parts = [f"Nightly run: {run_url}\n"]
    for title, rows in (
        ("New", [one for one in found if one.key not in old]),
        ("Known from the night before", [one for one in found if one.key in old]),
    ):
        if rows:
            more = [f"- and {len(rows) - LISTED} more"] if len(rows) > LISTED else []
            parts.append(
                "\n".join([f"**{title}**\n", *(f"- {one.text}" for one in rows[:LISTED]), *more]) + "\n"
            )
    text = "\n".join([*parts, compared])
    return text if len(text) <= BODY_LIMIT else f"{text[:BODY_LIMIT]}\n\n(cut here; the run has the whole)\n"


def gh(*words: str, check: bool = True) -> str:
    """What `gh` prints; raises CalledProcessError where it fails and `check` is set."""
    done = subprocess.run(["gh", *words], stdout=subprocess.PIPE, text=True, check=check)
    return done.stdout.strip() if done.returncode == 0 else ""


def default_branch() -> str:
    """The branch that nightly runs are compared with."""
    return gh("repo", "view", "--json", "defaultBranchRef", "--jq", ".defaultBranchRef.name")


def last(artifact: str, folder: Path) -> str:
    """Download an artifact of the default branch's newest nightly run that has it; that run's id, or "".

    An artifact with a JSON file that is damaged is passed over, or each later night would fail because of it.
    """
    query = ("--workflow", WORKFLOW, "--branch", default_branch(), "--status", "completed", "--limit", "10")
    for run in gh("run", "list", *query, "--json", "databaseId", "--jq", ".[].databaseId").split():
        with tempfile.TemporaryDirectory() as kept:
            if not downloaded(run, artifact, Path(kept)):
                continue
            if damaged := [path.name for path in sorted(Path(kept).glob("*.json")) if not read(path)]:
                sys.stderr.write(f"{artifact} of run {run} is passed over: {', '.join(damaged)} is damaged\n")
                continue
            shutil.copytree(kept, folder, dirs_exist_ok=True)
            return run
    return ""


def downloaded(run: str, artifact: str, folder: Path) -> bool:
    """Whether a run has an artifact, which then is in `folder`.

    Each attempt of a run keeps an artifact of its own under the same name; the newest one counts.
    """
    newest = "[.artifacts[] | select(.expired | not) | .id] | max // empty"
    path = f"repos/{{owner}}/{{repo}}/actions/runs/{run}/artifacts"
    query = ("--method", "GET", path, "-f", f"name={artifact}", "-F", "per_page=100", "--jq", newest)
    number = gh("api", *query, check=False)
    return bool(number) and fetched(number, folder)


def fetched(number: str, folder: Path) -> bool:
    """Whether the artifact with this number could be downloaded; its files then are in `folder`."""
    with tempfile.TemporaryFile() as archive:
        path = f"repos/{{owner}}/{{repo}}/actions/artifacts/{number}/zip"
        if subprocess.run(["gh", "api", path], stdout=archive, check=False).returncode:
            return False
        try:
            with zipfile.ZipFile(archive) as packed:
                packed.extractall(folder)
        except zipfile.BadZipFile as error:
            sys.stderr.write(f"artifact {number} is damaged: {error}\n")
            return False
    return True


def read(path: Path) -> dict[str, Any] | None:
    """A JSON object from a file; None if the file does not exist, and {} if it is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def law(run: str, names: Iterable[str], folder: Path) -> dict[str, dict[str, int]]:
    """Kinds of differences with their counts, by the part of the campaign whose artifact this run has."""
    found: dict[str, dict[str, int]] = {}
    for part in filter(None, map(_part, names)):
        if downloaded(run, f"law-{part}", folder / part):
            counts = found.setdefault(part, {})
            for path in sorted((folder / part).rglob("*.jsonl")):
                for kind, count in _kinds(path):
                    counts[kind] = counts.get(kind, 0) + count
    return found


def _kinds(log: Path) -> Iterator[tuple[str, int]]:
    """Kind and count of each difference, from the last line of a campaign's log."""
    try:
        summary = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])["summary"]
        yield from [(str(row["kind"]), int(row["count"])) for row in summary["kinds"]]
    except (OSError, ValueError, LookupError, TypeError):
        yield f"{log.name} ends without a summary", 1


def jobs(run: str) -> dict[str, str]:
    """Job -> conclusion of a workflow run. Raises DamagedError."""
    try:
        listed = json.loads(gh("run", "view", run, "--json", "jobs"))["jobs"]
        return {job["name"]: job["conclusion"] for job in listed}
    except (ValueError, LookupError, TypeError) as error:
        raise DamagedError(f"`gh run view {run} --json jobs` printed no list of jobs ({error!r})") from error


def conclude(folder: Path, run: str, run_url: str, branch: str, results: str | None) -> int:
    """Look at a whole nightly run and keep the issue; what was decided is left in `folder`.

    `results` is the number of the artifact that the job `report` made in this attempt, "" if it made none. If
    it is None, the newest artifact of that name counts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if results is None:
        downloaded(run, "results", folder / "now")
    elif results:
        fetched(results, folder / "now")
    last("results", folder / "before")
    last(DECISION, folder / "known")
    before = read(folder / "before/results.json")
    comparison = read(folder / "now/compare.json") or {}
    ended = jobs(run)
    night = Night(
        ended,
        read(folder / "now/results.json"),
        str(comparison.get("incomparable", "")),
        law(run, ended, folder / "law"),
    )
    found = findings(night, before)
    keys = (read(folder / "known/decision.json") or {}).get("keys")
    known = [key for key in keys if isinstance(key, str)] if isinstance(keys, list) else []
    text = body(found, known, run_url, _compared(folder / "now/compare.md", damage(before)))
    (folder / "issue.md").write_text(text, encoding="utf-8")
    (folder / "decision.json").write_text(json.dumps({"keys": [one.key for one in found]}), encoding="utf-8")
    sys.stdout.write(text)
    if branch != default_branch():
        sys.stdout.write(f"\n{branch} is not the default branch: the issue stays as it is\n")
        return 0
    keep_issue(found, any(one.key not in known for one in found), folder / "issue.md")
    return 0


def _compared(path: Path, damaged: str) -> str:
    """The comparison of both nights in Markdown; `damaged` is why the results of the night before are."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    why = f"The results of the night before are damaged ({damaged}): this night is judged without them.\n\n"
    return why + text if damaged else text


def keep_issue(found: Sequence[Finding], news: bool, text: Path) -> None:
    """Open, comment or close the one issue."""
    query = ("--label", LABEL, "--state", "open", "--limit", "1", "--json", "number", "--jq", ".[].number")
    number = gh("issue", "list", *query)
    if not found:
        if number:
            gh("issue", "close", number, "--comment", "The nightly is as expected again.")
    elif not number:
        gh("label", "create", LABEL, "--description", "what the nightly run found", check=False)
        gh("issue", "create", "--title", TITLE, "--label", LABEL, "--body-file", str(text))
    elif news:
        gh("issue", "comment", number, "--body-file", str(text))


def main(words: Sequence[str]) -> int:
    """Run one subcommand; the exit code."""
    parser = argparse.ArgumentParser(prog="nightly.py", description=(__doc__ or "").splitlines()[0])
    actions = parser.add_subparsers(dest="action", required=True)
    getting = actions.add_parser("last", help="download an artifact of the last nightly run that has it")
    getting.add_argument("artifact")
    getting.add_argument("folder", type=Path)
    ending = actions.add_parser(
        "conclude", help="decide what this nightly run has to report, and keep the issue"
    )
    ending.add_argument("folder", type=Path, help="for what was decided")
    arguments = parser.parse_args(words)
    if arguments.action == "last":
        run = last(arguments.artifact, arguments.folder)
        name = arguments.artifact
        sys.stdout.write(f"{name}: of run {run}\n" if run else f"no earlier nightly run has {name}\n")
        return 0
    if lacking := [name for name in ("GITHUB_RUN_ID", "GITHUB_REF_NAME") if not os.environ.get(name)]:
        parser.error(f"{' and '.join(lacking)} not set: `conclude` is a step of the workflow {WORKFLOW}")
    run, server = os.environ["GITHUB_RUN_ID"], os.environ.get("GITHUB_SERVER_URL", "")
    url = f"{server}/{os.environ.get('GITHUB_REPOSITORY', '')}/actions/runs/{run}"
    branch, results = os.environ["GITHUB_REF_NAME"], os.environ.get("RESULTS")
    return conclude(arguments.folder, run, url, branch, results)


def guarded(words: Sequence[str]) -> int:
    """The exit code of `main`; 3 with one line if `gh` or a file fails."""
    try:
        return main(words)
    except subprocess.CalledProcessError as error:
        why = f"`{' '.join(error.cmd)}` failed with {error.returncode}"
    except OSError as error:
        why = str(error)
    except DamagedError as error:
        why = str(error)
    sys.stderr.write(f"nightly.py: {one_line(why, 500)}; the issue may not be up to date\n")
    return INFRASTRUCTURE


if __name__ == "__main__":
    sys.exit(guarded(sys.argv[1:]))
