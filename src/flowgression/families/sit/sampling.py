"""Sampling from SiT (arXiv 2401.08740): the same solvers as for ARFlow, on a model without a state.

Letters: B images, C H W channels and size of a latent.
"""

from typing import Any

import torch
from torch import Tensor

from flowgression.families.sit.model import SiT
from flowgression.flow.solvers import Callback, Noise, Solver
from flowgression.sampling.common import Call, SampleOutput, denoise
from flowgression.sampling.options import VelocityOptions, make_options, split_settings, takes
from flowgression.sampling.request import Sampling, ids_of, settle


@takes(VelocityOptions)
def sample(
    model: SiT,
    z: Tensor,
    class_labels: Tensor,
    *,
    noise: Noise | None = None,
    callback: Callback | None = None,
    method: Solver | None = None,
    guide: Any = None,
    **settings: Any,
) -> SampleOutput:
    """Images of given classes from given noise; arguments, result and errors as in `families.arflow.sampling.sample`.

    Outside of the guidance interval only the class half runs. Adaptive solvers choose their own steps between the first
    and the last of `times`, and call no callback.
    """
    options = make_options(VelocityOptions, split_settings(settings))
    ids = ids_of(class_labels, len(z))
    return walk(model, z, settle(model, ids, options, method=method, noise=noise, callback=callback, guide=guide))


@torch.no_grad()
def walk(model: SiT, z: Tensor, request: Sampling) -> SampleOutput:
    """`sample` of a request that is settled."""

    def make_call(network: Any) -> Call:
        return lambda x, prepared, state: (network(x, prepared=prepared).velocity, state)

    return denoise(make_call, model, z, request)
