"""The command itself: overview, versions, mistakes, exit statuses."""

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

import flowgression
from flowgression import InputError
from flowgression.cli import main as main_module
from flowgression.cli.main import commands
from tests.onnx_export import needs_onnx

MAIN = [sys.executable, "-c", "import sys; from flowgression.cli.main import main; sys.exit(main())"]


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_overview_lists_every_command(command: Callable[..., Any], arguments: tuple[str, ...]) -> None:
    result = command(*arguments)
    assert result.status == 0
    listed = [line.split()[0] for line in result.out.split("commands:")[1].split("options:")[0].splitlines() if line]
    assert listed == commands()
    assert {"convert", "info", "sample", "train"} <= set(listed)


@pytest.mark.parametrize("name", ["--version", "-V"])
def test_version(command: Callable[..., Any], name: str) -> None:
    assert command(name).out == f"flowgression {flowgression.__version__}\n"


@pytest.mark.parametrize("name", commands())
def test_help_of_every_command(command: Callable[..., Any], name: str) -> None:
    result = command(name, "--help")
    assert result.status == 0
    assert f"flowgression {name}" in result.out


@pytest.mark.parametrize("name", [None, *commands()])
def test_help_loads_nothing_slow(name: str | None) -> None:
    """torch and diffusers take seconds to import; help must come in well under one."""
    arguments = [name, "--help"] if name else ["--help"]
    code = (
        "import sys; from flowgression.cli.main import main\n"
        f"try: main({arguments!r})\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'diffusers', 'transformers', 'matplotlib', 'numpy', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", [None, *commands()])
def test_help_takes_less_than_a_second(name: str | None) -> None:
    """Measured in seconds of this process's children on the processor, which other work on the machine leaves alone."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*MAIN, *([name] if name else []), "--help"], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1


def test_unknown_command_in_a_process_of_its_own() -> None:
    done = subprocess.run([*MAIN, "smaple"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("flowgression: unknown command 'smaple': did you mean 'sample'?")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--help"], ["models", "--json"], ["train", "--help"], ["sample", "--help"]])
def test_a_reader_that_stops_early(arguments: list[str]) -> None:
    """As `| head` does: no traceback."""
    process = subprocess.Popen([*MAIN, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() in (0, 1)  # argparse itself takes no notice of a closed pipe
    process.stderr.close()


def test_unknown_option(command: Callable[..., Any]) -> None:
    result = command("--vrsion")
    assert result.status == 2
    assert "unknown option '--vrsion': did you mean '--version'" in result.err


@pytest.mark.parametrize("name", ["convert", "info", "sample"])
def test_unknown_flag(command: Callable[..., Any], name: str) -> None:
    extra = {"convert": ["w.pt", "--family", "sit", "--out", "x"], "info": [], "sample": []}[name]
    result = command(name, *extra, "--hlp")
    assert result.status == 2
    assert f"flowgression {name}: unknown argument '--hlp': did you mean '--help'" in result.err
    assert result.err.count("\n") == 1


class Failing(ModuleType):
    SUMMARY = "fails"

    def __init__(self, error: BaseException):
        super().__init__("failing")
        self.error = error

    def run(self, argv: list[str]) -> int:
        raise self.error


def run_failing(monkeypatch: pytest.MonkeyPatch, command: Callable[..., Any], error: BaseException) -> Any:
    monkeypatch.setattr(main_module, "commands", lambda: ["failing"])
    monkeypatch.setattr(main_module, "import_module", lambda name: Failing(error))
    return command("failing")


def test_wrong_input_is_one_line_and_status_2(monkeypatch: pytest.MonkeyPatch, command: Callable[..., Any]) -> None:
    result = run_failing(monkeypatch, command, InputError("no such\n  thing"))
    assert (result.status, result.out, result.err) == (2, "", "flowgression failing: no such thing\n")


def test_ctrl_c(monkeypatch: pytest.MonkeyPatch, command: Callable[..., Any]) -> None:
    result = run_failing(monkeypatch, command, KeyboardInterrupt())
    assert (result.status, result.err) == (130, "flowgression failing: interrupted\n")


def test_defects_keep_their_traceback(monkeypatch: pytest.MonkeyPatch, command: Callable[..., Any]) -> None:
    with pytest.raises(ZeroDivisionError):
        run_failing(monkeypatch, command, ZeroDivisionError())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sample", "--num-images", "1" + "0" * 30], "is too large a number"),
        (["sample", "--guidance-scale", "nan"], "'nan' is not a finite number"),
        (["plan", "--config", "quick", "--price", "inf"], "'inf' is not a finite number"),
        (["sample", "--seed", "two"], "invalid int value: 'two'"),
    ],
)
def test_numbers_are_finite_and_countable(command: Callable[..., Any], arguments: list[str], message: str) -> None:
    result = command(*arguments)
    assert result.status == 2
    assert message in result.err


def test_a_file_that_cannot_be_used_is_one_line(command: Callable[..., Any]) -> None:
    result = command("info", "x" * 300)
    assert result.status == 1
    assert result.err.startswith("flowgression info: File name too long: xxx")
    assert result.err.count("\n") == 1


def test_train_asks_for_a_model(command: Callable[..., Any]) -> None:
    """The default is a model of 700 million parameters, which would fill the memory of most machines."""
    result = command("train", "--out", "runs/a")
    assert result.status == 2
    assert "nothing says what to train" in result.err
    assert "--config quick" in result.err


@pytest.mark.parametrize("name", ["sample", "criterion", "approximate"])
def test_negative_seed(command: Callable[..., Any], name: str) -> None:
    result = command(name, "--seed", "-1", "--model", "sit-mnist")
    assert result.status == 2
    assert "--seed is -1" in result.err


def test_home_folder_in_flags(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: Callable[..., Any]) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    arguments = ("--num-images", 1, "--num-inference-steps", 1, "--out=~/new/a.png")
    assert command("sample", "--model", "sit-mnist", *arguments).status == 0
    assert (tmp_path / "new" / "a.png").is_file()
    assert not (tmp_path / "~").exists()


FULL = """
import resource, signal, sys
import torch.distributed.nn  # torch 2.6 writes a file as it imports this
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
from flowgression.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("kind", ["png", "npz", "json", pytest.param("onnx", marks=needs_onnx), "torch"])
def test_a_full_disk_is_one_line_and_leaves_nothing_behind(tmp_path: Path, kind: str) -> None:
    """Files end at 500 bytes here, as on a disk that has no more room."""
    quick = ["--model", "sit-mnist", "--num-inference-steps", "1", "--num-images", "100", "--out"]
    arguments = {
        "png": ["sample", *quick, str(tmp_path / "a.png")],
        "npz": ["sample", *quick, str(tmp_path / "a.npz")],
        "json": ["evaluate", "--samples", "mnist:test[:40]", "--reference", "mnist:test[40:80]", "--bootstrap", "0",
                 "--json", str(tmp_path / "a.json")],
        "onnx": ["export", "--model", "sit-mnist", "--out", str(tmp_path / "a")],
        "torch": ["export", "--model", "sit-mnist", "--out", str(tmp_path / "a"), "--format", "torch"],
    }[kind]  # fmt: skip
    done = subprocess.run([sys.executable, "-c", FULL, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "cannot write the images" in done.stderr or "File too large" in done.stderr
    assert str(tmp_path) in done.stderr
    assert [path.name for path in tmp_path.iterdir() if path.name != "a.npz.parts"] == []


def test_warnings_are_one_line_without_code(tmp_path: Path) -> None:
    """Of a folder without pictures; in a process of its own, since pytest keeps warnings."""
    for name in ("full", "empty"):
        (tmp_path / "data" / name).mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "data" / "full" / "0.png")
    options = {"--data": tmp_path / "data", "--autoencoder": "identity", "--out": tmp_path / "cache"}
    argv = ["cache-latents", *(str(word) for pair in options.items() for word in pair)]
    result = subprocess.run([*MAIN, *argv], capture_output=True, text=True)
    assert "flowgression cache-latents: warning: " in result.stderr, result.stderr
    assert "UserWarning" not in result.stderr
    assert ".py:" not in result.stderr
