"""Euler, Heun and dopri5 against the exact flow of Gaussian data, and what they promise about state and calls."""

import weakref

import pytest
import torch

from flowgression import InputError
from flowgression.flow import SOLVERS, dopri5, euler, get_solver, heun, midpoint, shifted_times, taylor, uniform_times

X = torch.linspace(-2, 2, 9, dtype=torch.float64)
GRIDS = {
    "uniform": lambda n: uniform_times(n, dtype=torch.float64),
    "shifted": lambda n: shifted_times(n, 2.0, dtype=torch.float64),
}


@pytest.mark.parametrize(("solver", "order"), [(euler, 1), (heun, 2)])
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("direction", ["rising", "falling"])
def test_order_of_convergence(gaussian, solver, order, grid, direction, observed_order):
    errors = []
    for n in (512, 1024):
        times = GRIDS[grid](n)
        times = times if direction == "rising" else times.flip(0)
        exact = gaussian.flow(X, float(times[0]), float(times[-1]))
        errors.append(float((solver(gaussian.velocity, X, times).sample - exact).abs().max()))
    assert observed_order(errors) == pytest.approx(order, abs=0.12)


@pytest.mark.parametrize("times", [(0.0, 1.0), (1.0, 0.0), (0.2, 0.9)])
def test_dopri5_reaches_its_tolerance(gaussian, times):
    output = dopri5(gaussian.velocity, X, times, rtol=1e-9, atol=1e-9)
    start, end = torch.tensor(times).tolist()
    torch.testing.assert_close(output.sample, gaussian.flow(X, start, end), rtol=1e-7, atol=1e-7)
    assert torch.equal(dopri5(gaussian.velocity, X, [start, 0.5, end], rtol=1e-9, atol=1e-9).sample, output.sample)
    loose = dopri5(gaussian.velocity, X, times, rtol=1e-3, atol=1e-3)
    assert loose.num_calls < output.num_calls


@pytest.mark.parametrize("solver", [euler, heun, midpoint])
def test_straight_lines_are_exact_in_one_step(solver):
    x0, x1 = torch.randn(2, 3, 4, dtype=torch.float64)
    output = solver(lambda x, t, state: (x1 - x0, state), x0, uniform_times(1, dtype=torch.float64))
    torch.testing.assert_close(output.sample, x1, rtol=1e-14, atol=1e-14)


def reader(log):
    """A velocity that writes down (time, state) and whose state is the list of the times that were read before."""

    def velocity(x, t, state):
        log.append((float(t), state))
        return torch.ones_like(x), (*(state or ()), float(t))

    return velocity


def test_euler_hands_the_state_on():
    log = []
    output = euler(reader(log), torch.zeros(2), [0.0, 0.25, 1.0], state=("given",))
    assert log == [(0.0, ("given",)), (0.25, ("given", 0.0))]
    assert output.state == ("given", 0.0, 0.25)
    assert output.num_calls == 2


def test_heun_reads_one_state_twice_and_advances_it_once():
    log = []
    output = heun(reader(log), torch.zeros(2), [0.0, 0.25, 1.0])
    assert log == [(0.0, None), (0.25, None), (0.25, (0.0,))]  # the last step is Euler's: no slope at the data end
    assert output.state == (0.0, 0.25)
    assert output.num_calls == SOLVERS["heun"].nfe(2, {}) == 3
    log.clear()
    output = heun(reader(log), torch.zeros(2), [0.0, 0.25, 1.0], last_step="heun")
    assert log == [(0.0, None), (0.25, None), (0.25, (0.0,)), (1.0, (0.0,))]
    assert output.state == (0.0, 0.25)
    assert output.num_calls == SOLVERS["heun"].nfe(2, {"last_step": "heun"}) == 4


def test_midpoint_reads_one_state_twice_and_never_the_end():
    log = []
    output = midpoint(reader(log), torch.zeros(2), [0.0, 0.5, 1.0])
    assert log == [(0.0, None), (0.25, None), (0.5, (0.0,)), (0.75, (0.0,))]
    assert output.state == (0.0, 0.5)
    assert output.num_calls == 4


@pytest.mark.parametrize("direction", ["rising", "falling"])
def test_midpoint_has_order_two(gaussian, direction, observed_order):
    """Its leading error has the factor V''', V the variance of x_t: 0 on the linear path, where the order is three."""
    errors = []
    for n in (512, 1024):
        times = uniform_times(n, dtype=torch.float64)
        times = times if direction == "rising" else times.flip(0)
        exact = gaussian.flow(X, float(times[0]), float(times[-1]))
        errors.append(float((midpoint(gaussian.velocity, X, times).sample - exact).abs().max()))
    assert observed_order(errors) == pytest.approx(3 if gaussian.path == "linear" else 2, abs=0.12)


@pytest.mark.parametrize("steps", [1, 3])
def test_midpoint_is_exact_on_parabolas(steps):
    """x' = 2 t: the slope in the middle is the mean slope, whatever the length of a step."""
    output = midpoint(
        lambda x, t, state: (2 * t.expand_as(x), state),
        torch.zeros(2, dtype=torch.float64),
        uniform_times(steps, dtype=torch.float64),
    )
    torch.testing.assert_close(output.sample, torch.ones(2, dtype=torch.float64), rtol=1e-14, atol=1e-14)


def test_taylor_has_order_two_with_the_true_acceleration(gaussian, observed_order):
    """a = dv/dt along the flow, by differences of the exact velocity."""

    def derivatives(x, t, state):
        v, h = gaussian.velocity(x, t, None)[0], 1e-5
        later, earlier = (gaussian.velocity(x + s * h * v, t + s * h, None)[0] for s in (1, -1))
        return (v, (later - earlier) / (2 * h)), state

    errors = []
    for n in (256, 512):
        times = uniform_times(n, dtype=torch.float64) * 0.8 + 0.1
        exact = gaussian.flow(X, 0.1, float(times[-1]))
        errors.append(float((taylor(derivatives, X, times).sample - exact).abs().max()))
    assert observed_order(errors) == pytest.approx(2, abs=0.12)


def test_solvers_describe_themselves():
    """What a description says of evaluations and steps is what a walk does."""

    def velocity(x, t, state):
        return x.clone(), None

    def derivatives(x, t, state):
        return (x.clone(), x.clone()), None

    for solver in SOLVERS.values():
        seen = []
        grid = solver.grid(5, None, {})
        extra = {"noise": lambda step: torch.zeros(2)} if solver.needs_noise else {}
        if not solver.adaptive:
            extra["callback"] = lambda *a, seen=seen: seen.append(a)
        output = solver.integrate(derivatives if solver.derivatives == 2 else velocity, torch.ones(2), grid, **extra)
        assert len(seen) == solver.num_steps(grid, {})
        if solver.nfe is not None:
            assert output.num_calls == solver.nfe(5, {})
        assert all(get_solver(alias) is solver for alias in (solver.name, solver.short_name, *solver.aliases))
        with pytest.raises(InputError, match="has no option 'nonsense'"):
            solver.check_options({"nonsense": 1})


@pytest.mark.parametrize("solver", [euler, heun, midpoint])
def test_callback_sees_every_step(solver):
    seen = []
    solver(
        lambda x, t, state: (torch.ones_like(x), None), torch.zeros(1), [0, 0.5, 1], callback=lambda *a: seen.append(a)
    )
    assert [(step, t, float(x)) for step, t, x in seen] == [(0, 0.5, 0.5), (1, 1.0, 1.0)]


@pytest.mark.parametrize("solver", [euler, heun, midpoint])
def test_input_is_untouched_and_steps_share_no_memory(solver):
    x, steps = torch.ones(3), []
    solver(lambda x, t, state: (x, None), x, uniform_times(4), callback=lambda step, t, x: steps.append(x))
    assert torch.equal(x, torch.ones(3))
    assert len({y.data_ptr() for y in [x, *steps]}) == 5


@pytest.mark.parametrize("solver", [euler, heun, midpoint])
def test_memory_does_not_grow_with_the_steps(solver):
    samples, alive = [], []

    def velocity(x, t, state):
        samples.append(weakref.ref(x))
        alive.append(sum(ref() is not None for ref in samples))
        return torch.zeros_like(x), state

    solver(velocity, torch.zeros(4), uniform_times(40))
    assert max(alive) <= 3


@pytest.mark.parametrize("solver", [euler, heun, midpoint, dopri5])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_sample_keeps_its_dtype_and_time_is_a_number_on_the_cpu(solver, dtype):
    def velocity(x, t, state):
        assert x.dtype == dtype
        assert t.ndim == 0
        assert t.device.type == "cpu"
        return x.float(), None

    output = solver(velocity, torch.ones(3, dtype=dtype), uniform_times(2, dtype=torch.float64))
    assert output.sample.dtype == dtype


@pytest.mark.parametrize("solver", [euler, heun, midpoint])
def test_half_precision_samples_stay_so(solver):
    output = solver(lambda x, t, s: (x.float(), s), torch.ones(3, dtype=torch.bfloat16), uniform_times(2))
    assert output.sample.dtype == torch.bfloat16


@pytest.mark.parametrize("solver", [euler, heun, midpoint, dopri5])
def test_gradients_flow_through(solver):
    x = torch.ones(2, dtype=torch.float64, requires_grad=True)
    sample = solver(lambda x, t, state: (0.5 * x, None), x, uniform_times(100, dtype=torch.float64)).sample
    (gradient,) = torch.autograd.grad(sample.sum(), x)
    torch.testing.assert_close(gradient, sample.detach())  # linear in x, and x is 1


def test_wrong_input():
    def velocity(x, t, state):
        return x, state

    with pytest.raises(InputError, match="did you mean 'heun'"):
        heun(velocity, torch.zeros(2), [0.0, 1.0], last_step="hein")
    with pytest.raises(InputError, match=r"acceleration has shape \[1\]"):
        taylor(lambda x, t, state: ((x, x[:1]), None), torch.zeros(2), [0.0, 1.0])
    with pytest.raises(InputError, match="did you mean 'euler'"):
        get_solver("eulr")
    assert all(get_solver(name) is SOLVERS[name] for name in SOLVERS)
    for solver in (euler, heun, dopri5):
        with pytest.raises(InputError, match="strictly rising"):
            solver(velocity, torch.zeros(2), [0.0, 0.0])
        with pytest.raises(InputError, match="floating"):
            solver(velocity, torch.zeros(2, dtype=torch.int64), [0.0, 1.0])
        with pytest.raises(InputError, match=r"velocity has shape \[1, 2\]"):
            solver(lambda x, t, state: (x[None], None), torch.zeros(2), [0.0, 1.0])
        with pytest.raises(TypeError, match="nonsense"):
            solver(velocity, torch.zeros(2), [0.0, 1.0], nonsense=1)
    with pytest.raises(InputError, match="without state"):
        dopri5(lambda x, t, state: (x, 1), torch.zeros(2))
    with pytest.raises(InputError, match="rtol and atol"):
        dopri5(velocity, torch.zeros(2), rtol=0.0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("solver", [euler, heun, midpoint, dopri5])
def test_time_stays_on_the_cpu_for_samples_on_a_gpu(solver):
    def velocity(x, t, state):
        assert (t.device.type, x.device.type) == ("cpu", "cuda")
        return x * t, None

    times = uniform_times(50)
    there = solver(velocity, torch.ones(3, device="cuda"), times.cuda()).sample
    here = solver(lambda x, t, state: (x * t, None), torch.ones(3), times).sample
    torch.testing.assert_close(there.cpu(), here)
