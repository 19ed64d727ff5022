"""A picture drawn step by step: before every step of the solver its point, slope and predicted end.

The samplers of the library do the work. What is shown is seen by a solver that is wrapped: it calls the real one with
a velocity that looks at what goes by.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from flowgression.flow.solvers import Solver, get_solver
from flowgression.sampling.noise import image_seeds
from flowgression.web.arrays import encode
from flowgression.web.request import Request

TOGETHER = 8  # pictures that are drawn and sent together
Emit = Callable[[dict[str, Any]], None]
See = Callable[[int, float, Tensor, Tensor, Any], None]
"""see(step, t, x, velocity, new state) at the first evaluation of every step, and at the end with step = n."""
Past = Callable[[int, Any], Any]
"""past(step, state left by the step before) -> the state that the step reads."""


@torch.no_grad()
def draw(request: Request, emit: Emit) -> None:
    """Draw the picture; `emit` gets each frame of backend.js as it comes, and stops the drawing by an exception."""
    if request.class_labels:
        return _draw_like(request, emit)
    (_draw_scales if "scales" in request.model.about else _draw_velocity)(request, emit)


def _draw_like(request: Request, emit: Emit) -> None:
    """Pictures of several classes in view of examples, as the page's engine/examples.js draws them."""
    pipe, labels = request.model.pipe, request.class_labels
    seeds = image_seeds(torch.Generator().manual_seed(request.seed), len(labels))
    given: dict[str, Any] = {**request.options, "history": "none", "output_type": "pt"}
    if request.examples:
        given |= {"examples": (torch.stack(request.examples).clamp(-1, 1) + 1) / 2, "example_times": [1.0]}
        given["example_labels"] = request.example_labels
    for first in range(0, len(labels), TOGETHER):
        some = labels[first : first + TOGETHER]
        generators = [torch.Generator().manual_seed(seed) for seed in seeds[first : first + len(some)]]
        images = pipe(class_labels=some, generator=generators, **given).images
        pictures = [encode(2 * image - 1) for image in images]
        done = first + len(some) == len(labels)
        emit({"first": first, "pictures": pictures, "index": first, "total": len(labels), "done": done})


def watched(solver: Solver, see: See, past: Past = lambda step, state: state) -> Solver:
    """`solver`, seen at work."""

    def integrate(velocity: Any, x: Tensor, times: Tensor, state: Any = None, *, callback: Any = None, **options: Any):
        step, fresh = 0, True
        last: Any = None

        def watching(x: Tensor, t: Tensor, state: Any) -> tuple[Tensor, Any]:
            nonlocal fresh, last
            v, new = velocity(x, t, past(step, state))
            if fresh:
                see(step, float(t), x, v, new)
                fresh, last = False, v
            return v, new

        def after(done: int, t: float, x: Tensor) -> None:
            nonlocal step, fresh
            step, fresh = done + 1, True
            if callback is not None:
                callback(done, t, x)

        found = solver.integrate(watching, x, times, state, callback=after, **options)
        see(step, float(times[-1]), found.sample, last, found.state)
        return found

    return replace(solver, integrate=integrate)


def _draw_velocity(request: Request, emit: Emit) -> None:
    served, pipe = request.model, request.model.pipe
    stateful = "state" in served.about["abilities"]
    solver, total = get_solver(request.options["solver"]), request.options["num_inference_steps"] + 1
    decays: list[Tensor] = []

    def see(step: int, t: float, x: Tensor, v: Tensor, state: Any) -> None:
        frame = _frame(pipe, t, x, v) | {"index": step, "total": total, "done": step == total - 1}
        if stateful:
            frame["state"] = _shown_state(state, decays)
        emit(frame)

    with log_decays(pipe.transformer, decays) if stateful else nullcontext():
        _walk(request, request.class_label, watched(solver, see, _past(request)))


def _walk(request: Request, class_label: int, solver: Solver) -> None:
    pipe, start = request.model.pipe, request.start
    z = pipe.starting_noise(_generators(request), None)
    times = None
    if start is not None:
        t = request.start_time
        z = (1 - t) * z + t * start.to(z.device)
        times = torch.linspace(t, 1, request.options["num_inference_steps"] + 1, dtype=torch.float64)
    options = pipe.sampling_options({**request.options, "times": times})
    type(pipe).walk_function(pipe.transformer, z, pipe.request([class_label], options, method=solver))


def _past(request: Request) -> Past:
    """The state that each step reads, as `history` says."""
    forget, others = request.forget_from, []
    if request.other_class is not None:

        def keep(step: int, state: Any) -> Any:
            others.append(state)
            return state

        _walk(request, request.other_class, watched(get_solver("euler"), lambda *seen: None, keep))

    def past(step: int, state: Any) -> Any:
        if forget is not None and step >= forget:
            return None
        return others[step] if others else state

    return past


def _shown_state(state: Any, decays: list[Tensor]) -> dict[str, Any]:
    """The state of the class half, [L,A,d,d], and log-decay [L,A], its mean over tokens."""
    values = torch.stack([each[0] for each in state])
    return {"values": encode(values), "shape": list(values.shape), "decay": encode(torch.stack(decays))}


@contextmanager
def log_decays(model: Any, found: list[Tensor]) -> Iterator[None]:
    """Within it `found` holds the mean log-decay [A] of every block in the newest call, of its first row."""

    def see(attention: Any, given: tuple[Any, ...]) -> None:
        if attention is model.blocks[0].attn:
            found.clear()
        found.append(attention.log_decay(*given[:2])[0, 0].mean(0))

    hooks = [block.attn.register_forward_pre_hook(see) for block in model.blocks]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _draw_scales(request: Request, emit: Emit) -> None:
    pipe = request.model.pipe
    model, steps, given = pipe.transformer, request.options["num_inference_steps"], len(request.maps)
    total = (len(model.scales) - given) * (steps + 1)
    index = 0

    def see(step: int, t: float, x: Tensor, v: Tensor, state: Any) -> None:
        nonlocal index
        maps = [pipe.as_map(tokens.float()) for tokens in (x, v)]
        place = {"index": index, "total": total, "scale": given + index // (steps + 1), "done": index == total - 1}
        emit(_frame(pipe, t, *maps) | place)
        index += 1

    solver = watched(get_solver(request.options["solver"]), see)
    type(pipe).walk_function(
        model,
        pipe.request([request.class_label], pipe.sampling_options(request.options), method=solver),
        generators=_generators(request),
        coarse_maps=[each[None].to(pipe._execution_device) for each in request.maps],
    )


def _generators(request: Request) -> list[torch.Generator]:
    """That of the first picture of `flowgression sample --seed`."""
    return [torch.Generator().manual_seed(image_seeds(torch.Generator().manual_seed(request.seed), 1)[0])]


def _frame(pipe: Any, t: float, x: Tensor, v: Tensor) -> dict[str, Any]:
    """What every frame shows of x and v [1,C,H,W]: decoded where there is an autoencoder, v as the way to the end."""
    x, v = x.float(), v.float()
    predicted = x + (1 - t) * v
    if pipe.vae is not None:
        x, predicted = pipe._decode(x).float(), pipe._decode(predicted).float()
        v = predicted - x
    return {"t": t, "x": encode(x[0]), "velocity": encode(v[0]), "predicted": encode(predicted[0])}
