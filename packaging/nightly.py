"""Decides what a nightly run has to report, and keeps one issue for it: `python packaging/nightly.py --help`.

It needs only Python and `gh`, so that a failed set-up is reported like any other failure. The rules:

- A job that failed, results that are missing, and each verdict that is not as expected are findings.
- Each kind of difference that a campaign of random programs or rules found is a finding.
- A cell that the infrastructure lost is a finding unless it had a result the night before.
- With a finding there is an open issue afterwards. It gets a comment when a finding is new.
- A night without findings closes the issue.
- Only the default branch has an issue, and only its nightly runs are compared with.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from harness.results.verdict import Verdict
from harness.text import one_line

WORKFLOW = "nightly.yml"
TITLE = "The nightly is not as expected"
LABEL = "nightly"
DECISION = "decision"  # the artifact that keeps what a night found
MACHINERY = (Verdict.INFRA, Verdict.BOOT_FAIL)
UNKNOWN = tuple(verdict for verdict in Verdict if verdict.unknown)
BODY_LIMIT = 60_000  # characters; GitHub refuses more than 65,536
LISTED = 100  # findings
FINE = ("success", "skipped", "neutral", "")  # conclusions of jobs; a job that still runs has none
EXPLAINED = ("shard", "arm64", "report")  # jobs that also fail because of verdicts, which results.json has


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


def findings(night: Night, before: Mapping[str, Any] | None) -> list[Finding]:
    """All there is to report; `before` are the results of the night before, None on a first night."""
    found = [*_of_jobs(night), *_of_law(night)]
    if night.results is None:
        return [*found, Finding("results", "there are no results")]
    found += _of_results(night.results, before)
    run = night.results["run"]
    if run["exit_code"] and not found and not _forgiven(night.results, before):
        notes = "; ".join(run.get("notes", [])) or "no note says why"
        found.append(Finding("run", f"the run exits with {run['exit_code']}: {one_line(notes, 500)}"))
    if night.incomparable:
        text = f"not comparable with the night before: {_plain(one_line(night.incomparable, 300))}"
        found.append(Finding("comparison", text))
    return found


def _of_jobs(night: Night) -> Iterator[Finding]:
    verdicts_say_why = night.results is not None and night.results["run"]["exit_code"] != 0
    explained = EXPLAINED if verdicts_say_why else ("report",) if night.incomparable else ()
    for name, conclusion in night.jobs.items():
        if conclusion in FINE or name.split(" ")[0] in explained:
            continue
        if conclusion == "failure" and night.law.get(_part(name)):
            continue
        yield Finding(f"job {name}", f"the job `{_plain(name)}` ended with {conclusion}")


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


def _of_results(results: Mapping[str, Any], before: Mapping[str, Any] | None) -> Iterator[Finding]:
    last = _verdicts(before)
    for cell in results["cells"]:
        verdict = Verdict(cell["verdict"])
        if verdict in MACHINERY and last.get(cell["id"], verdict) not in UNKNOWN:
            continue
        tests = [test for test in cell["tests"] if not Verdict(test["verdict"]).expected]
        if verdict in UNKNOWN or not tests:
            tests = []
            if not verdict.expected:
                yield _finding(cell["id"], verdict, cell.get("reason", ""))
        for test in tests:
            name = f"{cell['id']} {test['name']}"
            yield _finding(name, Verdict(test["verdict"]), test.get("reason", ""))


def _forgiven(results: Mapping[str, Any], before: Mapping[str, Any] | None) -> bool:
    """Whether nothing but cells that were lost for one night makes the run fail."""
    wrong = [cell for cell in results["cells"] if not Verdict(cell["verdict"]).expected]
    return bool(wrong) and not list(_of_results(results, before))


def _verdicts(results: Mapping[str, Any] | None) -> dict[str, Verdict]:
    return {cell["id"]: Verdict(cell["verdict"]) for cell in results["cells"]} if results else {}


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
    """Download an artifact of the default branch's newest nightly run that has it; that run's id, or ""."""
    query = ("--workflow", WORKFLOW, "--branch", default_branch(), "--status", "completed", "--limit", "10")
    for run in gh("run", "list", *query, "--json", "databaseId", "--jq", ".[].databaseId").split():
        if downloaded(run, artifact, folder):
            return run
    return ""


def downloaded(run: str, artifact: str, folder: Path) -> bool:
    """Whether a run has an artifact, which then is in `folder`."""
    done = subprocess.run(
        ["gh", "run", "download", run, "--name", artifact, "--dir", str(folder)], check=False
    )
    return done.returncode == 0


def read(path: Path) -> dict[str, Any] | None:
    """A JSON object from a file; None where there is none or it is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


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
    """Job -> conclusion of a workflow run."""
    listed = json.loads(gh("run", "view", run, "--json", "jobs"))["jobs"]
    return {job["name"]: job["conclusion"] for job in listed}


def conclude(folder: Path, run: str, run_url: str, branch: str) -> int:
    """Look at a whole nightly run and keep the issue; what was decided is left in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    downloaded(run, "results", folder / "now")
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
    known = (read(folder / "known/decision.json") or {}).get("keys", [])
    compared = folder / "now/compare.md"
    text = body(found, known, run_url, compared.read_text(encoding="utf-8") if compared.exists() else "")
    (folder / "issue.md").write_text(text, encoding="utf-8")
    (folder / "decision.json").write_text(json.dumps({"keys": [one.key for one in found]}), encoding="utf-8")
    sys.stdout.write(text)
    if branch != default_branch():
        sys.stdout.write(f"\n{branch} is not the default branch: the issue stays as it is\n")
        return 0
    keep_issue(found, any(one.key not in known for one in found), folder / "issue.md")
    return 0


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
    run, server = os.environ["GITHUB_RUN_ID"], os.environ.get("GITHUB_SERVER_URL", "")
    url = f"{server}/{os.environ.get('GITHUB_REPOSITORY', '')}/actions/runs/{run}"
    return conclude(arguments.folder, run, url, os.environ["GITHUB_REF_NAME"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
