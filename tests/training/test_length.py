"""Runs of given minutes: as many steps as fit, the learning rate over the time, previews and checkpoints by time."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from flowgression import InputError, TrainConfig, train
from flowgression.training import PreviewConfig
from flowgression.training import length as length_module
from flowgression.training.length import RunLength
from flowgression.training.run_folder import RunFolder

MakeConfig = Callable[..., TrainConfig]


class Clock:
    """A clock that moves by `step` whenever it is read."""

    def __init__(self, step: float = 0.0) -> None:
        self.now, self.step = 1000.0, step

    def __call__(self, config: TrainConfig) -> float:
        self.now += self.step
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(length_module, "read_clock", clock)
    monkeypatch.setattr("flowgression.training.loop.read_clock", clock)
    return clock


def test_a_run_ends_with_its_time_and_its_learning_rate_at_zero(
    clock: Clock, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    clock.step = 1.0
    result = train(tiny_config(minutes=1.0, max_steps=3, preview=PreviewConfig(every=0)))
    assert result.pipeline is not None
    assert 54 <= clock.now - 1000 <= 66  # within a tenth
    rates = [line["lr"] for line in RunFolder(Path(result.pipeline.parent)).read_metrics()]
    assert len(rates) > 20
    assert max(rates) == pytest.approx(1e-2, rel=0.05)
    assert rates[-1] < 1e-4
    assert all(late <= early for early, late in pairwise(rates[4:]))


def test_an_interrupted_run_uses_the_time_that_is_left(clock: Clock, tiny_config: MakeConfig, tmp_path: Path) -> None:
    clock.step = 1.0
    settings = tiny_config(minutes=0.5)
    whole = train(settings).step
    folder = Path(settings.out) / "checkpoints"
    newest = max(folder.iterdir())
    for path in folder.iterdir():
        if path != newest:
            continue
        path.rename(path.with_name("gone"))
    resumed = train(settings, resume=True)
    assert abs(resumed.step - whole) <= 6  # the steps after the last checkpoint and the start are done again


def test_pictures_come_within_a_minute_and_take_a_twentieth_of_the_time(clock: Clock, tiny_config: MakeConfig) -> None:
    length = RunLength(tiny_config(minutes=100.0, preview=PreviewConfig(every=1)))
    drawn = []
    for step in range(1, 60_000):
        clock.now += 0.1
        length.update(length.now())
        if length.is_over(step):
            break
        if length.due("preview", step):
            drawn.append(length.seconds)
            clock.now += 60.0
            length.took("preview", 60.0)
    assert drawn[0] < 60
    assert len(drawn) <= 6
    assert all(late - early >= 1200 - 1 for early, late in pairwise(drawn))


def test_checkpoints_come_ten_times(clock: Clock, tiny_config: MakeConfig) -> None:
    length = RunLength(tiny_config(minutes=10.0), seconds=125.0)  # a resumed run
    saved = 0
    for step in range(1, 10_000):
        clock.now += 1.0
        length.update(length.now())
        saved += length.due("checkpoint", step)
        if length.is_over(step):
            break
    assert saved == 7  # at 180, 240, ..., 540


def test_steps_decide_where_no_minutes_are_given(tiny_config: MakeConfig) -> None:
    length = RunLength(tiny_config(max_steps=7, checkpoint_every=3))
    assert not length.timed
    assert [length.total_steps(step) for step in (0, 6)] == [7, 7]
    assert [length.is_over(step) for step in (6, 7)] == [False, True]
    assert [length.due("checkpoint", step) for step in range(1, 7)] == [False, False, True, False, False, True]


def test_the_processors_clock_is_one_of_two(tiny_config: MakeConfig) -> None:
    assert yaml.safe_load("clock: processor")["clock"] == tiny_config(clock="processor").clock
    for fields in ({"minutes": 0.0}, {"clock": "sundial"}):
        with pytest.raises(InputError, match=next(iter(fields))):
            tiny_config(**fields)
