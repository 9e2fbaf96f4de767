"""Writes the shell completion of both programs: `python packaging/completion.py FOLDER`.

It follows from their own parsers. One file a program, for bash and for zsh (through its bashcompinit).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from agent import cli as agent_cli
from agent.selftest.catalogue import CATALOGUE
from harness import cli as harness_cli
from harness.plan import matrix

# What options of these names take, where their parser leaves it open.
VALUES = {
    "--test": " ".join(dict.fromkeys(f"{scenario.family}.*" for scenario in CATALOGUE)),
    "--hookset": " ".join(get_args(matrix.Hookset)),
    "--arch": " ".join(get_args(matrix.Arch)),
    "--kernel": '$(sed -n \'s/^ *- name: *"\\{0,1\\}\\([^"]*\\)"\\{0,1\\}$/\\1/p\' matrix.yaml 2>/dev/null)',
}

_TEMPLATE = """\
# Completion of `{name}` for bash and zsh, made from its own arguments by `make docs`. Source this file, or
# put it where bash-completion looks for a file of the program's name.
if [ -n "${{ZSH_VERSION:-}}" ]; then autoload -U +X bashcompinit && bashcompinit; fi
_{name}() {{
	local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}} command=. words= at
	for ((at = 1; at < COMP_CWORD; at++)); do
		case "$command ${{COMP_WORDS[at]}}" in
{paths}
		esac
	done
	case "$command $before" in
{values}
	*)
		case $command in
{words}
		esac
		;;
	esac
	# shellcheck disable=SC2207 # words have no blanks
	COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _{name} {name}
"""


def script(name: str, parser: argparse.ArgumentParser) -> str:
    """The completion of the program `name`."""
    found = list(_walk(parser, "."))
    paths = [path for path, _ in found if path != "."]
    values: dict[str, list[str]] = {}
    for path, one in found:
        for word, known in _values(one):
            values.setdefault(known, []).append(_quoted(f"{path} {word}"))
    words = [f'\t\t{_quoted(path)}) words="{_words(one)}" ;;' for path, one in found]
    return _TEMPLATE.format(
        name=name,
        paths="\n".join(f'\t\t{_quoted(path)}) command="{path}" ;;' for path in paths),
        values="\n".join(f'\t{"|".join(where)}) words="{known}" ;;' for known, where in values.items()),
        words="\n".join(words),
    )


def _walk(parser: argparse.ArgumentParser, path: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Each command with its parser, by the words that lead to it."""
    yield path, parser
    for name, one in _commands(parser).items():
        yield from _walk(one, f"{path} {name}")


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _words(parser: argparse.ArgumentParser) -> str:
    options = [word for action in parser._actions for word in action.option_strings]
    return " ".join([*_commands(parser), *options])


def _values(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """Each option that takes a value, with what there is to choose; with nothing, files are offered."""
    for action in parser._actions:
        if action.option_strings and action.nargs != 0:
            known = " ".join(map(str, action.choices)) if action.choices else ""
            for word in action.option_strings:
                yield word, known or VALUES.get(word, "")


def _quoted(text: str) -> str:
    return f'"{text}"'


def main(arguments: list[str]) -> int:
    """Write the files of both programs into the folder named on the command line."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python packaging/completion.py FOLDER\n")
        return 2
    folder = Path(arguments[0])
    (folder / "harness").write_text(script("harness", harness_cli.parser()))
    every = [command.name for command in agent_cli.COMMANDS]
    (folder / "agent").write_text(script("agent", agent_cli._parser(every)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
