"""`flowgression completion`: a script that teaches a shell the commands, their flags and the names that they take."""

import io
import re
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout, suppress

from flowgression.cli._parser import CommandParser
from flowgression.errors import InputError, did_you_mean
from flowgression.registry import FAMILIES

SUMMARY = "print a script for completion in bash, zsh or fish"

DESCRIPTION = """Print a script that completes commands, flags, and names of models and configurations.

  bash   flowgression completion bash > ~/.local/share/bash-completion/completions/flowgression
  zsh    echo 'source <(flowgression completion zsh)' >> ~/.zshrc
  fish   flowgression completion fish > ~/.config/fish/completions/flowgression.fish

It is written from the help of the commands: print it anew after an update."""

SHELLS = ("bash", "zsh", "fish")
FLAG = re.compile(r"^ +(?:-\w, )?(--[\w.-]+)", re.MULTILINE)


def run(argv: list[str]) -> int:
    """Run the command. Returns the exit status."""
    parser = CommandParser("completion", DESCRIPTION)
    parser.add_argument("shell", metavar="SHELL", help=", ".join(SHELLS))
    args = parser.parse(argv)
    if args.shell not in SHELLS:
        raise InputError(f"unknown shell {args.shell!r}: {did_you_mean(args.shell, SHELLS)}")
    flags, names = command_flags(), known_names()
    if args.shell == "fish":
        print(fish_script(flags, names))
    else:
        zsh = "autoload -U +X bashcompinit && bashcompinit\n" if args.shell == "zsh" else ""
        print(zsh + bash_script(flags, names))
    return 0


def command_flags() -> dict[str, list[str]]:
    """The flags of every command, as its help lists them."""
    from importlib import import_module

    from flowgression.cli.main import commands

    found = {}
    for name in commands():
        text = io.StringIO()
        with redirect_stdout(text), suppress(SystemExit):
            import_module(f"flowgression.cli.{name.replace('-', '_')}").run(["--help"])
        found[name] = sorted(set(FLAG.findall(text.getvalue())))
    return found


def known_names() -> dict[str, list[str]]:
    """What flags with names of this package as values take."""
    from flowgression.cli.train import shipped_configs
    from flowgression.sampling.folders import builtin_models

    models = list(builtin_models())
    configs = list(shipped_configs())
    families = list(FAMILIES)
    return {"--model": models, "--model.pretrained": models, "--config": configs, "--model.family": families}


def bash_script(flags: Mapping[str, Iterable[str]], names: Mapping[str, Iterable[str]]) -> str:
    """For bash; zsh understands it by bashcompinit. Where no name fits, files are completed."""
    values = "\n".join(f'    {flag}) words="{" ".join(known)}" ;;' for flag, known in names.items())
    cases = "\n".join(f'      {name}) words="{" ".join(known)}" ;;' for name, known in flags.items())
    return f"""_flowgression() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" words=""
  if [ "$COMP_CWORD" -eq 1 ]; then
    words="{" ".join(flags)} --help --version"
  else
    case "${{COMP_WORDS[COMP_CWORD-1]}}" in
{values}
    esac
    case "$current" in -*)
      case "${{COMP_WORDS[1]}}" in
{cases}
      esac
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _flowgression flowgression"""


def fish_script(flags: Mapping[str, Iterable[str]], names: Mapping[str, Iterable[str]]) -> str:
    """For fish."""
    lines = [f"complete -c flowgression -n __fish_use_subcommand -f -a '{' '.join(flags)}'"]
    for name, known in flags.items():
        for flag in known:
            values = f" -x -a '{' '.join(names[flag])}'" if flag in names else ""
            lines.append(f"complete -c flowgression -n '__fish_seen_subcommand_from {name}' -l {flag[2:]}{values}")
    return "\n".join(lines)
