"""Values against declared types: what fits, and what the error says."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from flowgression import InputError
from flowgression.errors import reading
from flowgression.typed import check_arguments, check_fields


@dataclass
class Sample:
    number: int = 1
    share: float | None = None
    name: str = "a"
    on: bool = False
    kind: Literal["one", "three"] = "one"
    sides: list[int] = field(default_factory=list)
    pair: int | tuple[int, int] = 1
    many: tuple[float, ...] = ()
    table: dict[str, list[int]] = field(default_factory=dict)
    free: dict[str, Any] = field(default_factory=dict)


RIGHT: list[dict[str, Any]] = [
    {}, {"share": 1}, {"share": 0.5}, {"pair": [1, 2]}, {"pair": (1, 2)}, {"many": [1, 2.5]}, {"sides": []},
    {"table": {"a": [1]}}, {"free": {"a": ...}}, {"number": 2**63 - 1},
]  # fmt: skip
WRONG = [
    ({"number": "1"}, "number='1' must be a whole number"),
    ({"number": True}, "number=True must be a whole number"),
    ({"number": 2**63}, "must be a whole number"),
    ({"number": None}, "number=None must be a whole number"),
    ({"share": float("nan")}, "share=nan must be a finite number or null"),
    ({"share": "1e-4"}, r"share='1e-4' must be .* \(YAML takes it for text: write 1.0e-04\)"),
    ({"name": 3}, "name=3 must be text"),
    ({"on": 1}, "on=1 must be true or false"),
    ({"kind": "thre"}, "kind='thre' is unknown; did you mean 'three'"),
    ({"sides": [1, "2"]}, "sides=.* must be a list of a whole number"),
    ({"pair": [1, 2, 3]}, "must be a whole number or a list of a whole number"),
    ({"many": 1.0}, "must be a list of a finite number"),
    ({"table": {"a": 1}}, "must be keys with a list of a whole number"),
    ({"table": {1: [1]}}, "table="),
    ({"free": []}, "free=.* must be keys and values"),
]


@pytest.mark.parametrize("values", RIGHT, ids=str)
def test_values_that_fit(values: dict[str, Any]) -> None:
    check_fields(Sample(**values))
    check_arguments(Sample.__init__, values)


@pytest.mark.parametrize(("values", "message"), WRONG, ids=lambda value: str(value)[:40])
def test_values_that_do_not(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"section.{message}" if message[0] != "m" else message):
        check_fields(Sample(**values), "section.")
    with pytest.raises(InputError, match=message):
        check_arguments(Sample.__init__, values)


def test_reading_turns_every_error_into_one_but_lets_interrupts_pass() -> None:
    message = r"x.json is damaged or holds something else \(KeyError\); copy it"
    with pytest.raises(InputError, match=message), reading("x.json", "copy it"):
        raise KeyError
    with pytest.raises(InputError, match=r"^as it was$"), reading("x.json", "copy it"):
        raise InputError("as it was")
    with pytest.raises(KeyboardInterrupt), reading("x.json", "copy it"):
        raise KeyboardInterrupt


def test_a_file_that_is_not_there_is_not_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    message = r"^--image \S+x.png does not exist; give a picture$"
    with pytest.raises(InputError, match=message), reading(f"--image {path}", "give a picture"):
        path.read_bytes()
    with (
        pytest.raises(InputError, match=r"^the folder: \S+x.png does not exist; copy"),
        reading("the folder", "copy it"),
    ):
        path.read_bytes()
