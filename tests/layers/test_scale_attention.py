"""Attention over scales against a dense mask, and rotary positions against rotations by complex numbers."""

import pytest
import torch

from flowgression.layers.rotary import Rotation, ScaleRotary, apply_rotary, rotary_angles
from flowgression.layers.scale_attention import ScaleAttention
from flowgression.ops.softmax import KeyValueCache, block_softmax


def dense_attention(q, k, v, lengths, causal):  # type: ignore[no-untyped-def]
    """The obvious form: softmax over all pairs with a mask of minus infinity."""
    past = k.shape[2] - q.shape[2]
    scale_of_query = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    scale_of_key = torch.cat([torch.full((past,), -1), scale_of_query])
    allowed = scale_of_key <= scale_of_query[:, None] if causal else scale_of_key == scale_of_query[:, None]
    logits = q @ k.mT / q.shape[-1] ** 0.5
    return logits.masked_fill(~allowed, -torch.inf).softmax(-1) @ v


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("past", "lengths"), [(0, (1, 4, 9)), (0, (7,)), (5, (16,)), (3, (2, 5))])
def test_against_a_dense_mask(past: int, lengths: tuple[int, ...], causal: bool) -> None:
    torch.manual_seed(0)
    tokens = sum(lengths)
    q = torch.randn(2, 3, tokens, 8, dtype=torch.float64, requires_grad=True)
    k, v = (torch.randn(2, 3, past + tokens, 8, dtype=torch.float64, requires_grad=True) for _ in range(2))
    out, expected = block_softmax(q, k, v, lengths, causal=causal), dense_attention(q, k, v, lengths, causal)
    torch.testing.assert_close(out, expected)
    probe = torch.randn_like(out)
    for a, b in zip(
        torch.autograd.grad(out, (q, k, v), probe), torch.autograd.grad(expected, (q, k, v), probe), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_the_module_is_the_projections_each_turned_alone() -> None:
    """Queries and keys are turned in one go; here one after the other, in outputs and gradients."""
    torch.manual_seed(0)
    lengths, (heads, width) = (4, 9), (3, 24)
    module = ScaleAttention(width, heads, causal=True, qkv_bias=True).double()
    rotation = Rotation(*(x.double() for x in ScaleRotary((2, 3), width // heads)((2, 3))[:2]))
    x = torch.randn(2, 13, width, dtype=torch.float64, requires_grad=True)
    q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in module.qkv(x).chunk(3, dim=-1))
    attended = dense_attention(apply_rotary(q, rotation), apply_rotary(k, rotation), v, lengths, True)
    expected, out = module.proj(attended.transpose(1, 2).flatten(2)), module(x, rotation, lengths)[0]
    torch.testing.assert_close(out, expected)
    leaves, probe = [x, *module.parameters()], torch.randn_like(out)
    for a, b in zip(*(torch.autograd.grad(y, leaves, probe) for y in (out, expected)), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_softmax_of_half_precision_is_taken_in_float32(dtype: torch.dtype) -> None:
    # 1000 equal logits of 200: exp overflows float16, and a bfloat16 sum of 1000 equal weights loses a third of them.
    q = torch.full((1, 1, 1000, 4), 10.0, dtype=dtype)
    v = torch.ones(1, 1, 1000, 4, dtype=dtype)
    out = block_softmax(q, q, v, (1000,), causal=True)
    assert out.dtype == dtype
    torch.testing.assert_close(out, v, rtol=0, atol=2e-3)


def test_rotation_against_complex_numbers() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 9, 8, dtype=torch.float64)
    angles = rotary_angles(3, 12, 8)
    out = apply_rotary(x, Rotation(angles.cos(), angles.sin()))
    # Positions 0, 1, 2 of a side of 3, stretched to a side of 12; frequencies 1 and 1/100 on each axis.
    rows, columns = torch.tensor([0.0, 4.0, 8.0]).double().repeat_interleave(3), torch.tensor([0.0, 4.0, 8.0]).repeat(3)
    turns = torch.stack([rows, rows / 100, columns.double(), columns.double() / 100], dim=-1)
    expected = torch.view_as_complex(x.unflatten(-1, (4, 2))) * torch.polar(torch.ones_like(turns), turns)
    torch.testing.assert_close(out, torch.view_as_real(expected).flatten(-2))


def test_inner_products_depend_on_distance_only() -> None:
    torch.manual_seed(0)
    q, k = torch.randn(2, 16, dtype=torch.float64)
    angles = rotary_angles(4, 4, 16)
    rotation = Rotation(angles.cos(), angles.sin())
    turned_q, turned_k = (apply_rotary(x.expand(16, 16), rotation).reshape(4, 4, 16) for x in (q, k))
    products = torch.einsum("ijd,kld->ijkl", turned_q, turned_k)
    torch.testing.assert_close(products[1, 2, 0, 3], products[3, 0, 2, 1])
    assert (products[0, 0, 1, 0] - products[0, 0, 0, 1]).abs() > 1e-3


def test_the_same_corner_has_the_same_angle_at_every_scale() -> None:
    rotary = ScaleRotary((1, 2, 4), 8)
    for side in rotary.sides:
        assert rotary([side]).sin[0].abs().max() == 0
    coarse, fine = rotary([2]), rotary([4])
    torch.testing.assert_close(coarse.cos[3], fine.cos[10])  # the middle of both maps
    torch.testing.assert_close(rotary([2, 4]).cos, torch.cat([coarse.cos, fine.cos]))


def test_cache_keeps_what_it_was_given_in_its_own_precision() -> None:
    empty = KeyValueCache.empty((2, 1, 5, 4), torch.bfloat16)
    first, second = torch.randn(2, 1, 2, 4), torch.randn(2, 1, 3, 4)
    keys, values = empty.extend(first, -first).extend(second, -second).filled()
    assert torch.equal(keys, torch.cat([first, second], dim=2).bfloat16())
    assert torch.equal(values, -keys)


@pytest.mark.parametrize("leading", [(3,), (2, 3), (2, 1, 3)])
def test_any_number_of_leading_dimensions(leading: tuple[int, ...]) -> None:
    q, k = (torch.randn(*leading, 5, 4, dtype=torch.float64) for _ in range(2))
    v = torch.randn(*leading, 5, 6, dtype=torch.float64)
    out = block_softmax(q, k, v, (2, 3), causal=True)
    first = (q[..., :2, :] @ k[..., :2, :].mT / 2).softmax(-1) @ v[..., :2, :]
    second = (q[..., 2:, :] @ k.mT / 2).softmax(-1) @ v
    torch.testing.assert_close(out, torch.cat([first, second], -2))


def test_appending_leaves_the_older_cache_as_it_was_and_has_a_gradient() -> None:
    keys = torch.randn(2, 1, 2, 4, requires_grad=True)
    older = KeyValueCache.full(keys, 2 * keys)
    newer = older.append(keys + 1, keys)
    assert (older.length, newer.length) == (2, 4)
    assert torch.equal(older.filled()[0], keys)
    assert torch.equal(newer.filled()[0], torch.cat([keys, keys + 1], -2))
    newer.filled()[1].sum().backward()
    assert torch.equal(keys.grad, torch.full_like(keys, 3.0))  # 2 of the older values and 1 of the newer


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_rotation_by_complex_numbers_is_the_formula(dtype: torch.dtype) -> None:
    """With its gradient, on queries as they are cut from a projection."""
    rotation = ScaleRotary((1, 2, 3), 8)((2, 3))
    joint = torch.randn(2, 13, 3 * 4 * 8, dtype=dtype, requires_grad=True)
    x = joint.unflatten(-1, (3, 4, 8)).permute(2, 0, 3, 1, 4)[1]
    found, expected = (apply_rotary(x, each) for each in (rotation, rotation._replace(turn=None)))
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(y.sin().sum(), joint, retain_graph=True)[0] for y in (found, expected)]
    torch.testing.assert_close(*gradients)
