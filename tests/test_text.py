"""Names of others in terminals, reports and plots."""

import io
import re
from pathlib import Path

import pytest
from rich.table import Table

import flowgression
from flowgression.classes import Classes
from flowgression.terminal import Terminal, progress_bar
from flowgression.text import markdown, one_line, plain, say, without_formulas

PACKAGE = Path(flowgression.__file__).parent
NAMES = ["\x1b[2J\x1b]0;title\x07", "a\rb", "\x9b31m", "\u202egnp.exe", "x\x00y", "\ud800", "\u2028"]
CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\ud800-\udfff]")


@pytest.mark.parametrize("name", NAMES)
def test_control_characters_are_written_out(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    say("class", name)
    table = Table(title=name)
    table.add_column(name)
    table.add_row(name)
    Terminal(force_terminal=False).print(name, table)
    shown = capsys.readouterr().out
    assert CONTROL.search(shown) is None
    assert plain(name) in shown
    assert plain("ünïcode 数字 🙂\n\tz") == "ünïcode 数字 🙂\n\tz"


def test_colours_of_our_own_stay_while_those_of_names_do_not() -> None:
    file = io.StringIO()
    Terminal(file=file, force_terminal=True, color_system="standard").print(
        "\x1b[31mred", style="green", highlight=False
    )
    assert file.getvalue() == "\x1b[32m\\x1b[31mred\x1b[0m\n"


def test_brackets_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(title="[/x]")
    table.add_row("[bold]a[/bold] :smile:")
    Terminal().print(table, "[/nothing]")
    assert "[bold]a[/bold] :smile:" in (shown := capsys.readouterr().out)
    assert "[/nothing]" in shown
    bar = progress_bar()
    bar.add_task("Reading images[/x]", total=1)
    file = io.StringIO()
    Terminal(file=file).print(bar.get_renderable())
    assert "images[/x]" in file.getvalue()


def test_names_of_classes_are_one_line() -> None:
    assert Classes.named(["a\nb", "\x1b[1m"]).titles == ["a\\nb", "\\x1b[1m"]
    assert one_line("a\nb\tc") == "a\\nb\\tc"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("<img src=x onerror=alert(1)>", "&lt;img src=x onerror=alert(1)&gt;"),
        ("[a](javascript:b)", r"\[a\](javascript:b)"),
        ("![a](http://b)", r"\!\[a\](http:&#47;/b)"),
        ("a | b", r"a \| b"),
        ("a\n# b", r"a\\n\# b"),
        ("`a` *b* __c__", r"\`a\` \*b\* \_\_c\_\_"),
        ("&lt;", "&amp;lt;"),
        ("$x$", r"\$x\$"),
        ("ARFlow, S = 3, learn_sigma -1.5 ± 2", "ARFlow, S = 3, learn_sigma -1.5 ± 2"),
    ],
)
def test_markdown_is_text(name: str, shown: str) -> None:
    assert markdown(name) == shown


def test_formulas_are_text(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    panel = figure.subplots()
    panel.plot([1, 2], label=without_formulas(r"$\frac{$"))
    panel.set(title=without_formulas("$"))
    panel.legend()
    figure.savefig(tmp_path / "x.png")


def test_commands_print_names_as_text() -> None:
    """No console of rich's own and no print with values in it, but where what is printed is ours alone."""
    ours = {"cli/completion.py", "cli/models.py", "cli/_parser.py", "cli/main.py"}
    for path in sorted([*PACKAGE.glob("cli/*.py"), *PACKAGE.glob("study/*.py")]):
        name, content = path.relative_to(PACKAGE).as_posix(), path.read_text()
        if name not in ours:
            printed = re.search(r"(?<![\w.`])print\(|from rich import print", content)
            assert not printed, f"{name}: use say or Terminal"
            assert not re.search(r"(?<!\w)Console\([^)]*\)\.print|= Console\(", content), f"{name}: use Terminal"
