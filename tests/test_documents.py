"""JSON and YAML that are too deep or too large, and what is no file."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from flowgression.documents import check_regular, parse_json, parse_yaml, read_json

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
SELF = "a: &a [*a]\n"
DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize("text", [DEEP, '{"a":' * 100_000 + "1" + "}" * 100_000, "[" * 101 + "]" * 101])
def test_deep_json(text: str) -> None:
    with pytest.raises(ValueError, match="nested deeper than 100"):
        parse_json(text)


def test_json_within_bounds() -> None:
    for text in ("[" * 100 + "]" * 100, "{}", "1", '{"a": [1, {"b": null}]}', json.dumps(list(range(10**5)))):
        assert parse_json(text) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (LAUGHS, "more than 100,000 values"),
        (SELF, "inside of what it names"),
        ("a: *b\n", "names nothing"),
        ("[" * 5000, "nested deeper than 100"),
        ("".join(f"{' ' * n}a:\n" for n in range(200)), "nested deeper than 100"),
    ],
)
def test_yaml_out_of_bounds(text: str, fault: str) -> None:
    began = time.process_time()
    with pytest.raises(yaml.YAMLError, match=fault):
        parse_yaml(text)
    assert time.process_time() - began < 2


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 3\n", "a: {b: 1, b: 1}\n", "- a\n- {1: x, 1: y}\n"])
def test_a_key_twice(text: str) -> None:
    with pytest.raises(yaml.YAMLError, match=r"the key '\w' stands twice, again in line \d"):
        parse_yaml(text)


def test_keys_that_override_those_of_an_alias() -> None:
    text = "a: &a {x: 1, y: 2}\nb: &b {<<: *a, x: 3}\nc: {<<: *b, y: 4}\nd: {x: 1}\n"
    assert parse_yaml(text)["b"] == {"x": 3, "y": 2}
    assert parse_yaml(text) == yaml.safe_load(text)


def test_yaml_within_bounds() -> None:
    for text in ("", "a: &x {b: 1}\nc: *x\nd: [*x, *x]\n", "- 1\n- &y two\n- *y\n"):
        assert parse_yaml(text) == yaml.safe_load(text)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/null"), Path("/dev/zero")):
        with pytest.raises(OSError, match="no regular file"):
            read_json(path)
    with pytest.raises(FileNotFoundError):
        check_regular(tmp_path / "nothing")


DEPTH = {"model": {"family": "sit", "args": {"depth": 10**9, "patch_size": 2, "hidden_size": 16, "num_heads": 2}}}


def test_configurations_that_would_hang(command: Callable[..., Any], tmp_path: Path) -> None:
    """Refused within two seconds of processor time, once the commands' modules are there."""
    import flowgression.study.run
    import flowgression.training.loop  # noqa: F401

    file, out = tmp_path / "x.yaml", str(tmp_path / "out")
    train = {"data": {"path": "mnist", "image_size": 8}, "sequence_length": 1, **DEPTH}
    deep = {
        "train": {**train, "out": out},
        "plan": {**train, "out": out},
        "study": {"models": {"a": train}, "out": out},
    }
    lines = {"train": ("--config", file), "plan": ("--config", file), "study": (file, "--plan")}
    for name, line in lines.items():
        for text, word in ((yaml.safe_dump(deep[name]), "depth=1000000000 is beyond"), (LAUGHS, "more than 100,000")):
            file.write_text(text)
            began = time.process_time()
            result = command(name, *line)
            assert time.process_time() - began < 2, (name, word)
            assert (result.status, result.err.count("\n")) == (2, 1), (name, result.err)
            assert word in result.err
