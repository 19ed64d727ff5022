"""The scripts of `flowgression completion`, tried in the shells themselves."""

import shutil
import subprocess
from pathlib import Path

import pytest

from flowgression.cli.completion import SHELLS, command_flags
from flowgression.cli.main import commands, main

TRY = """source {script}
COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_flowgression; printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The script for each shell, in a file."""
    from contextlib import redirect_stdout

    found = {shell: tmp_path_factory.mktemp("scripts") / shell for shell in SHELLS}
    for shell, path in found.items():
        with path.open("w") as file, redirect_stdout(file):
            assert main(["completion", shell]) == 0
    return found


def test_every_command_has_flags() -> None:
    flags = command_flags()
    assert list(flags) == commands()
    assert all("--help" in known for known in flags.values())
    assert {"--model", "--class-labels", "--out", "--scale"} <= set(flags["sample"])
    assert {"--lora.rank", "--optimizer.lr", "--resume"} <= set(flags["train"])


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("flowgression sa", {"sample"}),
        ("flowgression c", {"cache-latents", "circuit", "compare", "completion", "complexity", "convert", "criterion"}),
        ("flowgression sample --class", {"--class-labels"}),
        ("flowgression sample --model fast", {"fastflowar-mnist"}),
        ("flowgression train --config qu", {"quick"}),
        ("flowgression train --lora.r", {"--lora.rank"}),
        ("flowgression sample --nothing-like-that", {""}),
    ],
)
def test_bash_completes(scripts: dict[str, Path], words: str, expected: set[str]) -> None:
    shell = subprocess.run(
        ["bash", "-c", TRY.format(script=scripts["bash"], words=words)], capture_output=True, text=True, check=True
    )
    assert set(shell.stdout.rstrip("\n").split("\n")) == expected
    assert shell.stderr == ""


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_accept_their_script(scripts: dict[str, Path], shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    subprocess.run([shell, "-n", str(scripts[shell])], check=True)


def test_an_unknown_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bsh"]) == 2
    assert "did you mean 'bash'" in capsys.readouterr().err
