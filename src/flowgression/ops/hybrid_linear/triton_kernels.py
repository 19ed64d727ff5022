"""The state of hybrid attention in Triton: read by the tokens of each image, and updated, without leaving registers.

B: sequences, S: images, N: tokens of an image, A: heads, d: head width. A program has one head of one sequence and
COLUMNS of the state's columns, and goes through all images in turn. Tensors are read where they lie, [B, S, N, A, d].
"""

# Triton's compiler reads these functions, and knows less of Python than Python does.
# mypy: ignore-errors

import triton
import triton.language as tl


@triton.jit
def forward_kernel(
    q,  # [B, S, N, A, d]
    k,
    v,
    gate,  # [B, S, N, A] float32
    start,  # [B, A, d, d] float32; not read if ZERO
    out,  # [B, S, N, A, d], written: (q exp(cumsum gate)) M
    found,  # [B, A, S, d, d] float32, written if KEEP: M as each image finds it
    final,  # [B, A, d, d] float32, written: what the last image leaves
    images,
    tokens,
    heads,
    D: tl.constexpr,
    WIDTH: tl.constexpr,  # D, or the next power of 2 from 16 on
    COLUMNS: tl.constexpr,
    TOKENS: tl.constexpr,
    ZERO: tl.constexpr,
    KEEP: tl.constexpr,
):
    """M <- exp(mean gate) M + k^T v over the images of one head, and what the tokens of each read from M."""
    program = tl.program_id(0).to(tl.int64)
    batch, head = program // heads, program % heads
    row = tl.arange(0, WIDTH)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    entry = row[:, None] * D + column[None, :]
    inside = (row < D)[:, None] & (column < D)[None, :]
    if ZERO:
        state = tl.zeros([WIDTH, COLUMNS], tl.float32)
    else:
        state = tl.load(start + program * D * D + entry, mask=inside, other=0.0)
    for image in range(images):
        if KEEP:
            tl.store(found + (program * images + image) * D * D + entry, state, mask=inside)
        update = tl.zeros([WIDTH, COLUMNS], tl.float32)
        decay = 0.0
        read = state.to(v.dtype.element_ty)
        for first in range(0, tokens, TOKENS):
            n = first + tl.arange(0, TOKENS)
            place = ((batch * images + image) * tokens + n) * heads + head
            rows = place[:, None] * D + row[None, :]
            columns = place[:, None] * D + column[None, :]
            real_rows = (n < tokens)[:, None] & (row < D)[None, :]
            real_columns = (n < tokens)[:, None] & (column < D)[None, :]
            a = tl.load(gate + place, mask=n < tokens, other=0.0)
            reach = tl.exp(decay + tl.cumsum(a, 0))
            decay += tl.sum(a, 0)
            queries = tl.load(q + rows, mask=real_rows, other=0.0).to(tl.float32) * reach[:, None]
            answer = tl.dot(queries.to(read.dtype), read, input_precision="ieee")
            tl.store(out + columns, answer.to(out.dtype.element_ty), mask=real_columns)
            keys = tl.load(k + rows, mask=real_rows, other=0.0)
            values = tl.load(v + columns, mask=real_columns, other=0.0)
            update += tl.dot(tl.trans(keys), values, input_precision="ieee")
        state = tl.exp(decay / tokens) * state + update
    tl.store(final + program * D * D + entry, state, mask=inside)


@triton.jit
def backward_kernel(
    q,  # [B, S, N, A, d]
    k,
    v,
    gate,  # [B, S, N, A] float32
    found,  # [B, A, S, d, d] float32
    grad_out,  # [B, S, N, A, d]
    grad_final,  # [B, A, d, d] float32; not read if ZERO
    grad_q,  # [P, B, S, N, A, d] float32, written: the share of these columns
    grad_k,  # the same
    grad_v,  # [B, S, N, A, d] float32, written
    grad_reach,  # [P, B, S, N, A] float32, written: by the sum of the gates up to a token
    grad_mean,  # [P, B, A, S] float32, written: by the mean of an image's gates
    grad_start,  # [B, A, d, d] float32, written
    images,
    tokens,
    heads,
    numbers,  # B S N A d
    D: tl.constexpr,
    WIDTH: tl.constexpr,
    COLUMNS: tl.constexpr,
    TOKENS: tl.constexpr,
    ZERO: tl.constexpr,
):
    """Gradients of `forward_kernel`, image by image from the last to the first."""
    program = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1).to(tl.int64)
    batch, head = program // heads, program % heads
    row = tl.arange(0, WIDTH)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    entry = row[:, None] * D + column[None, :]
    inside = (row < D)[:, None] & (column < D)[None, :]
    if ZERO:
        after = tl.zeros([WIDTH, COLUMNS], tl.float32)
    else:
        after = tl.load(grad_final + program * D * D + entry, mask=inside, other=0.0)
    for back in range(images):
        image = images - 1 - back
        state = tl.load(found + (program * images + image) * D * D + entry, mask=inside, other=0.0)
        before = tl.zeros([WIDTH, COLUMNS], tl.float32)
        decay = 0.0
        kind = v.dtype.element_ty
        for first in range(0, tokens, TOKENS):
            n = first + tl.arange(0, TOKENS)
            place = ((batch * images + image) * tokens + n) * heads + head
            rows = place[:, None] * D + row[None, :]
            columns = place[:, None] * D + column[None, :]
            real_rows = (n < tokens)[:, None] & (row < D)[None, :]
            real_columns = (n < tokens)[:, None] & (column < D)[None, :]
            a = tl.load(gate + place, mask=n < tokens, other=0.0)
            reach = tl.exp(decay + tl.cumsum(a, 0))
            decay += tl.sum(a, 0)
            by_answer = tl.load(grad_out + columns, mask=real_columns, other=0.0).to(kind)
            queries = tl.load(q + rows, mask=real_rows, other=0.0).to(tl.float32) * reach[:, None]
            by_query = tl.dot(by_answer, tl.trans(state.to(kind)), input_precision="ieee")
            tl.store(grad_q + part * numbers + rows, by_query * reach[:, None], mask=real_rows)
            tl.store(grad_reach + part * (numbers // D) + place, tl.sum(by_query * queries, 1), mask=n < tokens)
            before += tl.dot(tl.trans(queries.to(kind)), by_answer, input_precision="ieee")
            values = tl.load(v + columns, mask=real_columns, other=0.0)
            by_key = tl.dot(values, tl.trans(after.to(kind)), input_precision="ieee")
            tl.store(grad_k + part * numbers + rows, by_key, mask=real_rows)
            keys = tl.load(k + rows, mask=real_rows, other=0.0)
            by_value = tl.dot(keys, after.to(kind), input_precision="ieee")
            tl.store(grad_v + columns, by_value, mask=real_columns)
        kept = tl.exp(decay / tokens)
        by_mean = kept * tl.sum(tl.sum(state * after, 1), 0)
        tl.store(grad_mean + (part * tl.num_programs(0) + program) * images + image, by_mean)
        after = kept * after + before
    tl.store(grad_start + program * D * D + entry, after, mask=inside)
