"""Sampling from FlowAR: the released samples, and what each option promises."""

from typing import Any

import pytest
import torch
from torch import Tensor

from flowgression import FlowAR, InputError
from flowgression.families.flowar.released import load_released
from flowgression.families.flowar.sampling import coarse_maps_of, noise_shapes, sample
from flowgression.families.flowar.schedules import annealed_steps, guidance_ramp, scale_times
from flowgression.flow import SOLVERS
from tests.families.flowar.cases import small_model
from tests.families.golden import Golden


def labels_and_noise(model: FlowAR, batch_size: int = 2) -> tuple[Tensor, list[Tensor]]:
    generator = torch.Generator().manual_seed(5)
    noise = [torch.randn(shape, generator=generator) for shape in noise_shapes(model, batch_size)]
    return torch.arange(batch_size), noise


class Calls:
    """Records what the flow head of a model is called with."""

    def __init__(self, model: FlowAR):
        self.rows: list[int] = []
        self.prepared: list[Tensor] = []
        model.flow_head.register_forward_pre_hook(self._record, with_kwargs=True)

    def _record(self, module: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        self.rows.append(len(args[2].condition))
        self.prepared.append(named["prepared"])

    def check_times(self, model: FlowAR, times: list[float]) -> None:
        """Each call was at one of these, in this order."""
        assert len(self.prepared) == len(times)
        expected = model.flow_head.prepare(torch.tensor(times, dtype=torch.float64))
        torch.testing.assert_close(torch.stack(self.prepared), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["flowar_dev", "flowar_cross_dev"])
@pytest.mark.parametrize("kind", ["nocfg", "cfg"])
def test_released_samples(name: str, kind: str) -> None:
    golden = Golden(name)
    config = golden.json("config")
    out = sample(
        load_released(golden.weights()),
        golden["y"],
        num_inference_steps=config["steps"],
        guidance_scale=config["cfg"] if kind == "cfg" else 1.0,
        guidance_interval=(1 - config["guidance_high"], 1.0),  # there t = 1 is noise
        noise=[golden[f"sample_noise_{kind}/{k}"][:2] for k in range(5)],  # guided halves share the first half's
        time_grid="released",
    )
    torch.testing.assert_close(out.sample, golden[f"sample_{kind}"], rtol=0, atol=2e-5)
    assert out.num_calls == 5 * config["steps"]


def test_released_grid_keeps_its_quirks() -> None:
    grid = scale_times(SOLVERS["euler"], 25, "released")
    assert len(grid) == 25  # 24 steps
    torch.testing.assert_close((1 - grid)[[0, 11, 12, 24]].float(), torch.tensor([1.0, 0.3, 0.25, 0.0]))
    torch.testing.assert_close(
        scale_times(SOLVERS["euler"], 50, "released"), scale_times(SOLVERS["euler"], 50, "uniform")
    )


@pytest.mark.parametrize("n", [25, 30, 31, 51, 60, 61, 90, 91, 100])
def test_the_released_grid_is_of_double_precision(n: int) -> None:
    """Its levels are made in float64 and rounded for the head; made in float32, these n have other thousandths."""
    model = small_model("six")
    seen: list[float] = []
    model.flow_head.time_embed.register_forward_pre_hook(lambda module, args: seen.extend(args[0].flatten().tolist()))
    sample(model, torch.tensor([0]), num_inference_steps=n, num_scales=1, time_grid="released")
    ends = ((1, 0.3, n // 2), (0.25, 0, n // 2 + 1))
    levels = torch.cat([torch.linspace(*each, dtype=torch.float64) for each in ends])
    assert seen == (levels[:-1].float() * 1000).long().tolist()


def test_the_head_sees_the_thousandths_of_the_released_sampler() -> None:
    """In float32 1000 times 0.65 is 650, in float64 649.99...; on the way through 1 - t no step may fall below."""
    model = small_model("six")
    seen: list[float] = []
    model.flow_head.time_embed.register_forward_pre_hook(lambda module, args: seen.extend(args[0].flatten().tolist()))
    for n in (1, 2, 5, 10, 20, 25, 40, 50, 100, 200):
        seen.clear()
        sample(model, torch.tensor([0]), num_inference_steps=n, num_scales=1)
        falling = torch.linspace(1, 0, n + 1, dtype=torch.float64)[:-1]
        assert seen == torch.floor(1000 * falling.float()).tolist()
    for times in ([0.0, 0.6, 1.0], torch.tensor([0.0, 0.6, 1.0])):
        seen.clear()
        sample(model, torch.tensor([0]), times=times, num_scales=1)
        assert seen == [1000.0, 400.0]


@pytest.mark.parametrize("n", [1, 2, 25, 50])
def test_own_grid_makes_n_equal_steps(n: int) -> None:
    steps = scale_times(SOLVERS["euler"], n, "uniform").diff()
    assert len(steps) == n
    torch.testing.assert_close(steps, torch.full((n,), 1 / n, dtype=torch.float64))


def test_guidance_ramp_and_annealing() -> None:
    assert guidance_ramp(4.0, 4) == [1.0, 2.0, 3.0, 4.0]
    assert guidance_ramp(4.0, 1) == [4.0]
    assert annealed_steps(50, 10, 5) == [50, 40, 30, 20, 10]
    assert annealed_steps(50, 15, 5) == [50, 41, 32, 23, 15]  # truncated, as by the authors
    assert annealed_steps(15, 50, 5) == [15, 23, 32, 41, 50]
    assert annealed_steps(25, None, 3) == [25, 25, 25]
    assert annealed_steps(10, 4, 1) == [4]


@pytest.mark.parametrize("case", ["six", "seven", "patches", "first scale of several tokens", "one scale"])
def test_cache_equals_recomputation(case: str) -> None:
    model = small_model(case)
    labels, noise = labels_and_noise(model)
    options: dict[str, Any] = {"noise": noise, "num_inference_steps": 3, "guidance_scale": 3.0}
    cached = sample(model, labels, **options)
    recomputed = sample(model, labels, use_cache=False, **options)
    assert cached.sample.std() > 0.1
    torch.testing.assert_close(cached.sample, recomputed.sample, rtol=0, atol=1e-5)


def test_the_transformer_runs_once_per_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model("six")
    runs = []
    step = model.next_semantics
    monkeypatch.setattr(model, "next_semantics", lambda *args: runs.append(1) or step(*args))
    calls = Calls(model)
    out = sample(model, labels_and_noise(model)[0], num_inference_steps=5, solver="heun")
    assert len(runs) == 4
    assert out.num_calls == len(calls.rows) == 4 * (2 * 5 - 1)


def test_only_guided_times_run_the_null_half() -> None:
    model = small_model("powers")
    calls = Calls(model)
    sample(model, torch.tensor([0, 1]), num_inference_steps=4, guidance_scale=2.0, guidance_interval=(0.5, 0.75))
    calls.check_times(model, [0.0, 0.25, 0.5, 0.75] * 3)
    # The ramp starts at 1, so the first scale is not guided at all.
    assert calls.rows == [2, 2, 2, 2] + [2, 2, 4, 4] * 2


def test_guidance_combines_both_halves() -> None:
    # One step from noise to data at the last of two scales: x = e + (v_null + s (v_class - v_null)).
    model = small_model("first scale of several tokens")
    labels, noise = labels_and_noise(model)
    maps = sample(model, labels, noise=noise, num_inference_steps=1).maps
    null = torch.full_like(labels, model.config.num_classes)
    time = torch.zeros(2)
    with torch.no_grad():
        v, v_null = (model.flow_head(noise[1], time, model.semantics(maps[:1], y)[1]) for y in (labels, null))
    expected = noise[1] + (v_null + 3.0 * (v - v_null))
    guided = sample(model, labels, noise=noise, num_inference_steps=1, guidance_scale=3.0)
    torch.testing.assert_close(guided.maps[0], maps[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(guided.sample.flatten(2).mT, expected, rtol=0, atol=1e-5)


def test_every_solver_draws_every_scale() -> None:
    """All come near each other with many steps, and the SDE needs and gets its noise."""
    model = small_model("six").double()
    labels, noise = labels_and_noise(model)
    noise = [each.double() for each in noise]

    def draw(solver: str, n: int, **options: Any) -> Any:
        generator = torch.Generator().manual_seed(9)
        return sample(model, labels, noise=noise, generator=generator, solver=solver, num_inference_steps=n, **options)

    fine = draw("heun", 100).sample
    # Eight times the steps of a first-order method are an eighth of its error, less what 1/1000 of a time hides.
    few, many = ((draw("euler", n).sample - fine).abs().max() for n in (10, 80))
    assert many < few / 3
    assert (draw("dopri5", 1).sample - fine).abs().max() < few
    with pytest.raises(InputError, match="rtol=1e-05: FlowAR's flow head sees time in thousandths"):
        draw("dopri5", 1, rtol=1e-5)
    # Without diffusion the SDE is Euler on its own grid, whatever its noise.
    still = draw("sde", 50, diffusion_norm=0.0, last_step="euler").sample
    times = [*torch.linspace(0, 0.96, 50, dtype=torch.float64).tolist(), 1.0]
    torch.testing.assert_close(still, draw("euler", 1, times=times).sample, rtol=0, atol=1e-4)
    noisy = [draw("sde", 20).sample for _ in range(2)]
    assert torch.equal(*noisy)
    assert (noisy[0] - still).abs().max() > 1e-2
    assert draw("sde", 20).num_calls == 20 * 4


def test_step_annealing_changes_the_number_of_calls() -> None:
    model = small_model("six")
    out = sample(model, torch.tensor([1]), num_inference_steps=10, steps_last_scale=1)
    assert out.num_calls == 10 + 7 + 4 + 1


def test_given_times_are_walked() -> None:
    model = small_model("powers")
    labels, noise = labels_and_noise(model)
    calls = Calls(model)
    out = sample(model, labels, noise=noise, times=[0.0, 0.4, 0.9, 1.0])
    calls.check_times(model, [0.0, 0.4, 0.9] * 3)
    uniform = sample(model, labels, noise=noise, num_inference_steps=4)
    given = sample(model, labels, noise=noise, times=[0.0, 0.25, 0.5, 0.75, 1.0])
    assert torch.equal(given.sample, uniform.sample)
    with pytest.raises(InputError, match="must rise from 0"):
        sample(model, labels, noise=noise, times=[1.0, 0.75, 0.5, 0.25, 0.0])
    assert (out.sample - uniform.sample).abs().max() > 1e-4


@pytest.mark.parametrize("guidance_scale", [1.0, 2.5])
@pytest.mark.parametrize("use_cache", [True, False])
def test_given_coarse_maps_are_continued(guidance_scale: float, use_cache: bool) -> None:
    model = small_model("patches")
    labels, noise = labels_and_noise(model)
    options: dict[str, Any] = {"noise": noise, "num_inference_steps": 2, "guidance_scale": guidance_scale}
    whole = sample(model, labels, **options)
    continued = sample(model, labels, coarse_maps=whole.maps[:2], use_cache=use_cache, **options)
    torch.testing.assert_close(continued.sample, whole.sample, rtol=0, atol=1e-5)
    assert continued.num_calls == 2


def test_coarse_maps_of_an_image_are_its_area_means() -> None:
    model = small_model("six")
    image = torch.randn(2, 3, 12, 12)
    maps = coarse_maps_of(model, image, 3)
    assert [each.shape[-1] for each in maps] == [1, 2, 3]
    torch.testing.assert_close(maps[2], image.unflatten(3, (3, 4)).unflatten(2, (3, 4)).mean((3, 5)))


def test_stopping_early_gives_the_same_coarse_map() -> None:
    model = small_model("patches")
    labels, noise = labels_and_noise(model)
    whole = sample(model, labels, noise=noise, num_inference_steps=2)
    early = sample(model, labels, noise=noise, num_inference_steps=2, num_scales=2)
    assert early.sample.shape == (2, 1, 6, 6)
    torch.testing.assert_close(early.sample, whole.maps[1], rtol=0, atol=1e-6)


def test_an_image_depends_on_its_own_generator_only() -> None:
    model = small_model("six")
    labels = torch.tensor([3, 1, 4])
    options: dict[str, Any] = {"num_inference_steps": 3, "guidance_scale": 2.0}
    batch = sample(model, labels, generator=[torch.Generator().manual_seed(i) for i in range(3)], **options).sample
    alone = sample(model, labels[1:2], generator=[torch.Generator().manual_seed(1)], **options).sample
    torch.testing.assert_close(batch[1:2], alone, rtol=0, atol=1e-5)
    assert (batch[0] - batch[1]).abs().max() > 1e-2


def test_a_cache_of_the_caller_is_used_again() -> None:
    model = small_model("six")
    labels, noise = labels_and_noise(model)
    cache = model.new_cache(4)
    options: dict[str, Any] = {"noise": noise, "num_inference_steps": 2, "guidance_scale": 2.0}
    first = sample(model, labels, cache=cache, **options).sample
    assert cache.scale == 0
    assert torch.equal(sample(model, labels, cache=cache, **options).sample, first)
    with pytest.raises(InputError, match="made for a batch of 2 but got 4"):
        sample(model, labels, cache=model.new_cache(2), **options)
    _, used = model.next_semantics(None, torch.cat([labels, labels]), cache)
    with pytest.raises(InputError, match="already holds 1 scales"):
        sample(model, labels, cache=used, **options)


def test_half_precision_model_keeps_the_flow_wide() -> None:
    model = small_model("patches").to(torch.bfloat16)
    out = sample(model, torch.tensor([1, 2]), num_inference_steps=4, guidance_scale=2.0)
    assert out.sample.dtype == torch.float32
    assert out.sample.isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_inference_steps": 0}, "num_inference_steps must be an integer >= 1"),
        ({"steps_last_scale": 0}, "steps_last_scale must be an integer >= 1"),
        ({"time_grid": "realesed"}, "did you mean 'released'"),
        ({"time_grid": "released", "num_inference_steps": 1}, "at least 2 steps"),
        ({"times": [0.1, 0.5, 1.0]}, "must rise from 0"),
        ({"times": [0.0, 1.0], "steps_last_scale": 3}, "give one of both"),
        ({"solver": "sdee"}, "did you mean 'sde'"),
        ({"solver": "taylor"}, "reads 2 derivatives of the flow, but this model predicts 1; use 'euler'"),
        ({"solver": "sde", "time_grid": "released"}, "cannot be combined"),
        ({"solver": "dopri5", "time_grid": "released"}, "cannot be combined"),
        ({"diffusion": "sigma"}, "solver 'euler' has no option 'diffusion'"),
        ({"num_scales": 5}, "num_scales must be 1 to 4"),
        ({"noise": [torch.zeros(1, 1, 3)]}, "one tensor per scale"),
        ({"coarse_maps": [torch.zeros(1, 3, 2, 2)]}, r"coarse map 1 must be \[1, 3, 1, 1\]"),
        ({"coarse_maps": [torch.zeros(1, 3, 1, 1)], "num_scales": 1}, "nothing is left to draw"),
        ({"guidance_scale": -1.0}, "guidance_scale"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        sample(small_model("six"), torch.tensor([0]), **options)


def test_wrong_labels_and_images() -> None:
    model = small_model("six")
    with pytest.raises(InputError, match="class label 8 is out of range"):
        sample(model, torch.tensor([8]))
    with pytest.raises(InputError, match="trained without a null label"):
        sample(small_model("six", class_dropout_prob=0.0), torch.tensor([0]), guidance_scale=2.0)
    with pytest.raises(InputError, match="expected 1 to 3"):
        coarse_maps_of(model, torch.zeros(1, 3, 6, 6), 4)
    with pytest.raises(InputError, match="with h >= 3"):
        coarse_maps_of(model, torch.zeros(1, 3, 2, 2), 3)
