"""The simulated GPU itself: it sees what CUDA would refuse or wait for, and computes the right numbers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from tests.simulated_gpu.device import GPU, DeviceMismatch, DeviceTensor, SimulatedGpu


def ones(*shape: int) -> Tensor:
    return torch.ones(*shape, device="cuda:0")


def test_it_looks_like_cuda_to_python(gpu: SimulatedGpu) -> None:
    x = torch.arange(6.0).reshape(2, 3).to("cuda")
    assert isinstance(x, DeviceTensor)
    assert (x.device, x.is_cuda, x[:, None].device, x.new_zeros(2).device) == (GPU, True, GPU, GPU)
    assert (x.T @ x).cpu().tolist() == [[9, 12, 15], [12, 17, 22], [15, 22, 29]]
    x[0] = 7
    x[1, 1:] *= 2
    assert x.tolist() == [[7, 7, 7], [3, 8, 10]]


def test_a_network_learns_on_it_as_on_the_processor(gpu: SimulatedGpu) -> None:
    def learn(device: str) -> list[Tensor]:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.GELU(), nn.Linear(4, 2)).to(device)
        optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, fused=True)
        inputs = torch.randn(5, 3).to(device)
        for _ in range(3):
            net(inputs).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        return [parameter.detach().cpu() for parameter in net.parameters()]

    for here, there in zip(learn("cpu"), learn("cuda"), strict=True):
        torch.testing.assert_close(there, here)


MIXED: list[Callable[[], Any]] = [
    lambda: ones(2) + torch.ones(2),
    lambda: ones(2, 2) @ torch.ones(2, 2),
    lambda: torch.cat([ones(2), torch.ones(2)]),
    lambda: ones(2).add_(torch.ones(2)),
    lambda: torch.where(ones(2) > 0, ones(2), torch.ones(2)),
    lambda: nn.functional.embedding(torch.tensor([0]), ones(2, 2)),
    lambda: nn.Linear(2, 2)(ones(1, 2)),
    lambda: torch.stack([ones(()), torch.ones(())]),
]


@pytest.mark.parametrize("case", range(len(MIXED)))
def test_two_devices_in_one_operation_are_refused(gpu: SimulatedGpu, case: int) -> None:
    with pytest.raises(DeviceMismatch):
        MIXED[case]()


WAITING: list[Callable[[], Any]] = [
    lambda: ones(1).item(),
    lambda: float(ones(())),
    lambda: bool(ones(2).any()),
    lambda: ones(2).tolist(),
    lambda: ones(2).cpu(),
    lambda: ones(2).to("cpu", non_blocking=True),
    lambda: ones(3)[ones(3) > 0],
    lambda: ones(3).nonzero(),
    lambda: torch.equal(ones(3), ones(3)),
    lambda: ones(2).repeat_interleave(torch.ones(2, dtype=torch.int64, device=GPU)),
    lambda: torch.tensor([1.0, 2.0], device=GPU),
    lambda: torch.ones(2).to(GPU),
    lambda: torch.ones(2).to(GPU, non_blocking=True),  # not page-locked
    lambda: torch.ones(2).pin_memory().to(GPU),
    lambda: ones(2).copy_(torch.ones(2)),
    lambda: torch.ones(2).copy_(ones(2)),
    lambda: ones(4)[torch.tensor([0, 1])],
    lambda: torch.cuda.synchronize(),
]


@pytest.mark.parametrize("case", range(len(WAITING)))
def test_waits_are_written_down(gpu: SimulatedGpu, case: int) -> None:
    WAITING[case]()
    assert gpu.waits.total() == 1


def test_what_does_not_wait(gpu: SimulatedGpu) -> None:
    torch.ones(2).pin_memory().to(GPU, non_blocking=True)
    torch.empty(2, pin_memory=True).to(GPU, non_blocking=True)
    x = ones(2) + torch.tensor(1.0)  # a number in a tensor of the processor goes along as an argument
    x[0] = 3.0
    torch.full((2,), 5.0, device=GPU).masked_fill_(x > 2, 0)
    torch.randn(3, generator=torch.Generator(GPU).manual_seed(0), device=GPU)
    x.repeat_interleave(torch.ones(2, dtype=torch.int64).to(GPU), output_size=2)
    del gpu.waits["copy to the device", "elsewhere"]
    assert not gpu.waits


def test_launches_are_counted_and_views_are_not(gpu: SimulatedGpu) -> None:
    x = ones(4, 4)
    gpu.reset()
    (x.T[1:].unflatten(0, (1, 3))[..., None] + 1).square()
    torch._foreach_mul_([x, x], 2.0)
    assert dict(gpu.launches) == {"add": 1, "pow": 1, "_foreach_mul_": 1}


def test_autocast_casts_as_on_cuda_where_no_gradients_are_recorded(gpu: SimulatedGpu) -> None:
    linear, x = nn.Linear(4, 4).to(GPU), ones(2, 4)
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
        assert linear(x).dtype == (x @ x.T).dtype == torch.bfloat16
        assert layer_norm(linear(x), (4,)).dtype == linear(x).softmax(-1).dtype == torch.float32
        with torch.autocast("cuda", enabled=False):
            assert linear(x)[:, None].dtype == torch.float32
    assert linear(x).dtype == torch.float32
