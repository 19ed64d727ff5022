"""Making the tables of constants that are cached: the same tensors whatever the caller is doing at that moment."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import _disable_current_modes


@contextmanager
def outside_of_modes() -> Iterator[None]:
    """Without inference mode, gradients, a default device, and modes that make fake tensors or count operations: what
    is made inside outlives them.
    """
    with _disable_current_modes(), torch.inference_mode(False), torch.no_grad(), torch.device("cpu"):
        yield
