"""Sampling from ARFlow (arXiv 2501.16085, section 3.3): an NFE of one per step on one image per sample.

The context of all earlier denoising steps is in the state that each call hands to the next. It is a local value
here, of constant size (it grows only with context="full", which keeps every earlier image).

Letters: B images, C H W channels and size of a latent.
"""

from functools import cache
from logging import getLogger
from typing import Any

import torch
from torch import Tensor

from flowgression.errors import InputError
from flowgression.families.arflow.examples import (
    check_example_labels,
    check_examples,
    check_no_examples,
    state_after,
    times_of,
)
from flowgression.families.arflow.history import calls_with, unwrapped, wrapped
from flowgression.families.arflow.model import ARFlow
from flowgression.flow.solvers import Callback, Noise, Solver
from flowgression.sampling.between import network_labels
from flowgression.sampling.common import SampleOutput, denoise
from flowgression.sampling.options import (
    ALL,
    NONE,
    ContextOptions,
    History,
    make_options,
    parse_history,
    split_settings,
    takes,
)
from flowgression.sampling.request import Sampling, ids_of, settle


@takes(ContextOptions)
def sample(
    model: ARFlow,
    z: Tensor,
    class_labels: Tensor,
    *,
    noise: Noise | None = None,
    examples: Tensor | None = None,
    example_noise: Tensor | None = None,
    example_labels: Tensor | None = None,
    callback: Callback | None = None,
    method: Solver | None = None,
    guide: Any = None,
    **settings: Any,
) -> SampleOutput:
    """Images of given classes from given noise.

    Args:
        model: on the device of z, in any floating dtype.
        z: [B,C,H,W] ~ N(0, I), the images at t = 0.
        class_labels: [B] int64 in 0 .. num_classes; the last is the null label (no class).
        noise: for the SDE, one tensor [B,C,H,W] ~ N(0, I) a step, or a function of the step's index.
        examples: [B,K,C,H,W], images without noise that are read before the first step; see `families.arflow.examples`.
        example_noise: like examples, ~ N(0, I): what they are noised with.
        example_labels: [B,K] int64 in 0 .. num_classes, what the examples show; None: what the images are to show.
        callback: callback(step, t, x) after each step.
        method: a solver of the caller's own instead of the named one.
        guide: the model of `guidance_model`, of this class.
        settings: sampling options; any other keyword is an option of the solver.

    With guidance one call has 2B rows of the same images, the class half first; each half reads and advances its own
    state, outside of the guidance interval too, where the class velocity is taken. Every solver advances the state
    once a step, whatever its number of calls; `history` says which steps are read. A model that was trained on single
    images, and any with history="none", is sampled without a state. Examples are read by the class half alone, so that
    guidance strengthens what they and the label say; with an `example_guidance_scale` of its own there are rows that
    read the label and no examples, too. `history` counts the steps after them, and with "none" every step reads the
    examples and nothing else.

    Returns:
        sample [B,C,H,W] (float32; float64 if z is), the state after the last step (2B rows under guidance; with
        history="last:K", which folds anew at each step, that before the first), and the number of network calls.

    Raises:
        InputError: whatever cannot work, before the network is called.
    """
    options = make_options(ContextOptions, split_settings(settings))
    request = settle(
        model,
        ids_of(class_labels, len(z)),
        options,
        past=read_history(model, options),
        method=method,
        noise=noise,
        callback=callback,
        guide=guide,
    )
    return walk(model, z, request, examples=examples, example_noise=example_noise, example_labels=example_labels)


@torch.no_grad()
def walk(
    model: ARFlow,
    z: Tensor,
    request: Sampling,
    *,
    examples: Tensor | None = None,
    example_noise: Tensor | None = None,
    example_labels: Tensor | None = None,
) -> SampleOutput:
    """`sample` of a request that is settled."""
    options, history = request.options, request.past
    if examples is not None:
        if request.guide is not None:
            raise InputError("guidance_model and examples cannot be combined; leave one of them out.")
        check_examples(model, z, examples, example_noise, request.guidance)
        shown = (
            network_labels(request.class_ids, model.config.num_classes, z.device)
            if example_labels is None
            else example_labels
        )
        labels = check_example_labels(model, examples, shown)
        if request.solver.adaptive:
            raise InputError(f"solver {options.solver!r} hands on no state, which holds the examples; use 'euler'.")
        times = times_of(options.example_times, examples.shape[1], clean=model.config.clean > 0)
    else:
        check_no_examples(options, example_noise=example_noise, example_labels=example_labels)

    def start(network: ARFlow, rows: int) -> Any:
        state = network.new_state(rows)
        if examples is not None and example_noise is not None:
            state = state_after(model, examples, example_noise, times, labels, rows)
        return wrapped(history, state)

    stateful = history.reads_steps or examples is not None
    output = denoise(
        lambda network: calls_with(network, history), model, z, request, new_state=start if stateful else None
    )
    return output._replace(state=unwrapped(output.state))


def read_history(model: Any, options: ContextOptions) -> History:
    """Which steps before a step reads: those that the options say, and none by a model that never saw two images.

    Raises:
        InputError: an unknown history, or one of some steps for a model that reads none.
    """
    history = parse_history(options.history)
    return history if keeps_state(model, history) else NONE


def keeps_state(model: Any, past: History = ALL) -> bool:
    """Whether sampling hands a state from step to step: not for a model that never saw two images in training.

    Raises:
        InputError: a history `past` of some steps, for a model that reads none.
    """
    single = getattr(model.config, "sequence_length", None) == 1
    if past.kind in ("every", "last") and (single or model.config.context == "none"):
        why = "was trained on single images (sequence_length=1)" if single else "has context='none'"
        raise InputError(f"history={past} reads earlier steps, but this ARFlow {why} and reads none; leave it out.")
    if single:
        _say_once("this ARFlow was trained on single images (sequence_length=1): it is sampled without a state.")
    return past.reads_steps and not single


@cache
def _say_once(message: str) -> None:
    getLogger("flowgression").warning(message)
