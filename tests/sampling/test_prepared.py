"""What is made of the times of a walk at once: the same as one by one, in groups that fit the memory set aside."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from flowgression import InputError
from flowgression.flow import SOLVERS, Solver
from flowgression.sampling import prepared
from flowgression.sampling.prepared import PreparedTimes


@pytest.mark.parametrize(("most_bytes", "groups"), [(2**28, [5]), (64, [2, 2, 1]), (1, [1] * 5)])
def test_groups(monkeypatch: pytest.MonkeyPatch, most_bytes: int, groups: list[int]) -> None:
    monkeypatch.setattr(prepared, "MOST_BYTES", most_bytes)
    made = []

    def prepare(t: Tensor) -> Tensor:
        made.append(len(t))
        return t[:, None] * torch.arange(4)

    times = torch.linspace(0, 1, 6)
    each = PreparedTimes(prepare, times[:-1], 32, torch.device("cpu"))
    for t in times[:-1].tolist():
        for _ in range(2):
            torch.testing.assert_close(each.at(t), t * torch.arange(4, dtype=torch.float64))
    assert made == groups
    unknown = each.at(0.123)
    torch.testing.assert_close(unknown, 0.123 * torch.arange(4, dtype=torch.float64))
    assert made == [*groups, 1]


@pytest.mark.parametrize("family", ["sit", "arflow"])
def test_prepared_conditions_are_those_of_times_and_labels(make_model: Callable[..., Any], family: str) -> None:
    """Of many times at once, and of two rows of conditions for each image."""
    model = make_model(family)
    x, times, labels = torch.randn(2, 1, 6, 4), torch.tensor([0.1, 0.7]), torch.tensor([3, 1, 8, 8])
    if family == "arflow":
        x = x[:, None]
    doubled = torch.cat([x, x])
    with torch.no_grad():
        made = model.prepare(times, labels)
        for step, t in enumerate(times):
            expected = model(doubled, t.expand(doubled.shape[:-3]), labels).velocity
            torch.testing.assert_close(model(x, prepared=made[step]).velocity, expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(InputError, match="cannot be combined"):
        model(x, times, prepared=made[0])
    with pytest.raises(InputError, match="prepared must be"):
        model(x, prepared=made[0][:3])


@pytest.mark.parametrize("solver", [each for each in SOLVERS.values() if not each.adaptive], ids=lambda each: each.name)
def test_every_time_of_a_walk_is_known_before_it(solver: Solver) -> None:
    grid, seen = solver.grid(5, None, {}), []

    def velocity(x: Tensor, t: Tensor, state: None) -> tuple[Any, None]:
        seen.append(float(t))
        return (x if solver.derivatives == 1 else (x,) * solver.derivatives), state

    solver.integrate(
        velocity, torch.ones(1), grid, **({"noise": lambda step: torch.ones(1)} if solver.needs_noise else {})
    )
    known = solver.evaluated_at(grid).tolist()
    assert set(seen) <= set(known)
    assert known == sorted(known)
