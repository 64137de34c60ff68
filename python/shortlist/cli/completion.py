"""`shortlist completion`: a script that completes commands, flags and their values in a shell."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from shortlist.cli._common import BUDGETS, PRESETS, new_parser
from shortlist.cli._output import show

if TYPE_CHECKING:
    from shortlist.cli._common import SubParsers

# Values that the parser does not check itself.
_VALUES = {
    "--preset": (*BUDGETS, *PRESETS),
    "--data": ("movielens-100k", "movielens-1m"),
}
_FILES_TOO = ("--data",)


@dataclass(frozen=True)
class Flag:
    """One flag of a command: its spellings, help, and what stands behind it.

    ``values`` are its words; ``takes_value`` and no values: a file or free text.
    """

    names: tuple[str, ...]
    help: str
    takes_value: bool
    repeats: bool
    values: tuple[str, ...]


def add_parser(subparsers: SubParsers) -> None:
    """Declare the subcommand's flags."""
    parser = new_parser(
        subparsers,
        "completion",
        "Print a script that completes commands and flags in a shell.",
        "shortlist completion bash > ~/.local/share/bash-completion/completions/shortlist\n"
        "  shortlist completion zsh > ~/.zfunc/_shortlist      # a folder of your fpath\n"
        "  shortlist completion fish > ~/.config/fish/completions/shortlist.fish",
    )
    parser.add_argument("shell", choices=sorted(_SHELLS), help="the shell that is to read it")
    parser.set_defaults(run=partial(run, subparsers))


def run(subparsers: SubParsers, args: argparse.Namespace) -> int:
    """Print the script for one shell."""
    summaries = {action.dest: action.help or "" for action in subparsers._choices_actions}
    flags = {name: _all_flags(parser) for name, parser in subparsers.choices.items()}
    show(_SHELLS[args.shell](summaries, flags))
    return 0


def _all_flags(parser: argparse.ArgumentParser) -> list[Flag]:
    """Return the flags of a command, and those of its verbs, each name once."""
    found = {flag.names: flag for flag in _flags(parser)}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                found |= {flag.names: flag for flag in _flags(verb)}
    return list(found.values())


def _flags(parser: argparse.ArgumentParser) -> Iterator[Flag]:
    formatter = parser._get_formatter()
    for action in parser._actions:
        if not action.option_strings or action.help == argparse.SUPPRESS:
            continue
        values = [*map(str, action.choices or ()), *_VALUES.get(action.option_strings[-1], ())]
        yield Flag(
            tuple(action.option_strings),
            formatter._expand_help(action) if action.help else "",
            action.nargs != 0,
            isinstance(action, argparse._AppendAction),
            tuple(values),
        )


def _bash(summaries: Mapping[str, str], flags: Mapping[str, list[Flag]]) -> str:
    values, words = [], []
    for command, options in flags.items():
        names = " ".join(name for flag in options for name in flag.names)
        words.append(f"    {command}) words={shlex.quote(names)} ;;")
        for flag in options:
            if flag.values:
                patterns = "|".join(f'"{command} {name}"' for name in flag.names)
                files = flag.names[-1] in _FILES_TOO
                more = ' $(compgen -f -- "$current")' if files else ""
                values.append(
                    f"    {patterns}) COMPREPLY=($(compgen -W {shlex.quote(' '.join(flag.values))} "
                    f'-- "$current"){more}); return ;;'
                )
    commands = shlex.quote(f"{' '.join(summaries)} --help --version --verbose --traceback")
    return "\n".join(
        [
            "# bash completion of shortlist: `shortlist completion bash` printed it.",
            "_shortlist() {",
            '  local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}"',
            "  local command= words= word",
            '  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do',
            '    if [[ $word != -* ]]; then command="$word"; break; fi',
            "  done",
            '  case "$command $previous" in',
            *values,
            "  esac",
            '  case "$command" in',
            f'    "") words={commands} ;;',
            *words,
            "  esac",
            "  if [[ -z $command || $current == -* ]]; then",
            '    COMPREPLY=($(compgen -W "$words" -- "$current"))',
            "  fi",
            "}",
            "complete -o bashdefault -o default -F _shortlist shortlist",
        ]
    )


def _zsh(summaries: Mapping[str, str], flags: Mapping[str, list[Flag]]) -> str:
    lines = [
        "#compdef shortlist",
        "# zsh completion of shortlist: `shortlist completion zsh` printed it.",
        "_shortlist_words_or_files() { compadd -- $@; _files }",
        "_shortlist() {",
        "  local -a commands",
        "  local state line",
        "  _arguments -C '--help[show help]' '--version[say what this installation is]' \\",
        "    '--verbose[show what TensorFlow prints]' '--traceback[show the traceback]' \\",
        "    '1:command:->command' '*::argument:->argument'",
        "  case $state in",
        "    command)",
        "      commands=(",
        *(f"        {shlex.quote(f'{name}:{text}')}" for name, text in summaries.items()),
        "      )",
        "      _describe command commands ;;",
        "    argument)",
        "      case $words[1] in",
    ]
    for command, options in flags.items():
        specs = [spec for flag in options for spec in _zsh_specs(flag)]
        lines += [f"        {command}) _arguments \\"]
        lines += [f"          {shlex.quote(spec)} \\" for spec in specs]
        lines += ["          '*:file:_files' ;;"]
    return "\n".join([*lines, "      esac ;;", "  esac", "}", '_shortlist "$@"'])


def _zsh_specs(flag: Flag) -> Iterator[str]:
    text = flag.help
    for character in "\\[]:":
        text = text.replace(character, f"\\{character}")
    for name in flag.names:
        behind = ""
        if flag.values and flag.names[-1] in _FILES_TOO:
            # The blank in front: called with these words alone.
            behind = f":value: _shortlist_words_or_files {' '.join(flag.values)}"
        elif flag.values:
            behind = f":value:({' '.join(flag.values)})"
        elif flag.takes_value:
            behind = ":value:_files"
        yield f"{'*' if flag.repeats else ''}{name}[{text}]{behind}"


def _fish(summaries: Mapping[str, str], flags: Mapping[str, list[Flag]]) -> str:
    lines = ["# fish completion of shortlist: `shortlist completion fish` printed it."]
    top = "complete -c shortlist -n __fish_use_subcommand"
    for name, text in summaries.items():
        lines.append(f"{top} -f -a {name} -d {_fish_quote(text)}")
    for name in ("help", "version", "verbose", "traceback"):
        lines.append(f"{top} -f -l {name}")
    for command, options in flags.items():
        seen = f"complete -c shortlist -n '__fish_seen_subcommand_from {command}'"
        for flag in options:
            names = [f"-l {n[2:]}" if n.startswith("--") else f"-s {n[1:]}" for n in flag.names]
            behind = ""
            if flag.takes_value:
                files = not flag.values or flag.names[-1] in _FILES_TOO
                behind = " -r -F" if files else " -x"
                behind += f" -a {_fish_quote(' '.join(flag.values))}" if flag.values else ""
            lines.append(f"{seen} {' '.join(names)}{behind} -d {_fish_quote(flag.help)}")
    return "\n".join(lines)


def _fish_quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


_SHELLS: dict[str, Callable[[Mapping[str, str], Mapping[str, list[Flag]]], str]] = {
    "bash": _bash,
    "fish": _fish,
    "zsh": _zsh,
}
