"""Low-rank attention in Triton: monomials are made in registers, one after the other, and never written to memory.

A monomial of degree <= G is a product of G of the numbers x_1, ..., x_d, 1. `codes` holds the places of these
factors, eight bits each; the place d stands for 1. docs/theory-reference.md counts the roundings of sums: at most BLOCK
products in float32, in turn, and the blocks in float64. tests/kernels runs these functions by Triton's interpreter.

Letters as in polynomial.py; f = e + 1 columns, the last on its own, as e is a power of 2 more often than f.
"""

# Triton's compiler reads these functions, and knows less of Python than Python does.
# ruff: noqa: RUF005, SIM108
# mypy: ignore-errors

import triton
import triton.language as tl


@triton.jit
def _zeros(SIZE: tl.constexpr, COUNT: tl.constexpr, dtype: tl.constexpr):
    """COUNT vectors, one for each column: a thread has all columns of its rows, and a feature stays where it is."""
    made = ()
    for _ in tl.static_range(COUNT):
        made = made + (tl.zeros([SIZE], dtype),)
    return made


@triton.jit
def _added(sums, parts, COUNT: tl.constexpr):
    made = ()
    for c in tl.static_range(COUNT):
        made = made + (sums[c] + parts[c],)
    return made


@triton.jit
def fold_kernel(
    x,  # [H, T, d] float32
    values,  # [H, T, e] float32
    last,  # [H, T] float32; not read if ONES
    codes,  # [r] int64
    pieces,  # [P, 3] int32: scale, first token, end
    sums,  # [P, H, r, e + 1] float64, written
    tokens,
    rank,
    D: tl.constexpr,
    E: tl.constexpr,
    G: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    ONES: tl.constexpr,
):
    """phi(x)^T [values, last] of one piece of the tokens, for ROWS monomials of one head."""
    piece = tl.program_id(2)
    head = tl.program_id(0).to(tl.int64)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    code = tl.load(codes + row, mask=row < rank, other=0)
    x += head * tokens * D
    values += head * tokens * E
    last += head * tokens
    start = tl.load(pieces + 3 * piece + 1)
    stop = tl.load(pieces + 3 * piece + 2)
    total = _zeros(ROWS, E + 1, tl.float64)
    for begin in range(start, stop, BLOCK):
        part = _zeros(ROWS, E + 1, tl.float32)
        for token in range(begin, min(begin + BLOCK, stop)):
            feature = tl.full([ROWS], 1.0, tl.float32)
            for factor in tl.static_range(G):
                place = (code >> (8 * factor)) & 255
                feature *= tl.load(x + token * D + place, mask=(row < rank) & (place < D), other=1.0)
            after = ()
            for c in tl.static_range(E):
                after = after + (part[c] + feature * tl.load(values + token * E + c),)
            if ONES:
                part = after + (part[E] + feature,)
            else:
                part = after + (part[E] + feature * tl.load(last + token),)
        total = _added(total, part, E + 1)
    sums += (piece.to(tl.int64) * tl.num_programs(0) + head) * rank * (E + 1)
    for c in tl.static_range(E + 1):
        tl.store(sums + row * (E + 1) + c, total[c], mask=row < rank)


@triton.jit
def read_kernel(
    x,  # [H, d, T] float32
    states,  # [L, H, r, e + 1] float32
    codes,  # [r] int64
    pieces,  # [P, 3] int32: scale, first token, end; at most TOKENS tokens
    output,  # [H, T, e] float32, written
    normaliser,  # [H, T] float32, written if DIVIDE
    tokens,
    rank,
    D: tl.constexpr,
    E: tl.constexpr,
    G: tl.constexpr,
    TOKENS: tl.constexpr,
    BLOCK: tl.constexpr,
    DIVIDE: tl.constexpr,
):
    """U / D of [U, D] = phi(x) S, and D; or U alone. S is the state of the tokens' scale."""
    piece = tl.program_id(1)
    head = tl.program_id(0).to(tl.int64)
    scale = tl.load(pieces + 3 * piece).to(tl.int64)
    token = tl.load(pieces + 3 * piece + 1) + tl.arange(0, TOKENS)
    inside = token < tl.load(pieces + 3 * piece + 2)
    x += head * tokens * D
    states += (scale * tl.num_programs(0) + head) * rank * (E + 1)
    columns: tl.constexpr = E + DIVIDE
    total = _zeros(TOKENS, columns, tl.float64)
    for begin in range(0, rank, BLOCK):
        part = _zeros(TOKENS, columns, tl.float32)
        for row in range(begin, min(begin + BLOCK, rank)):
            code = tl.load(codes + row)
            feature = tl.full([TOKENS], 1.0, tl.float32)
            for factor in tl.static_range(G):
                place = ((code >> (8 * factor)) & 255).to(tl.int32)
                if place < D:
                    feature *= tl.load(x + place * tokens + token, mask=inside, other=1.0)
            after = ()
            for c in tl.static_range(columns):
                after = after + (part[c] + feature * tl.load(states + row * (E + 1) + c),)
            part = after
        total = _added(total, part, columns)
    output += head * tokens * E
    for c in tl.static_range(E):
        result = total[c]
        if DIVIDE:
            result = result / total[E]
        tl.store(output + token * E + c, result.to(tl.float32), mask=inside)
    if DIVIDE:
        tl.store(normaliser + head * tokens + token, total[E].to(tl.float32), mask=inside)


@triton.jit
def differentiate_kernel(
    x,  # [H, d, T] float32
    states,  # [L, H, r, e + 1] float32
    values,  # [H, e, T] float32
    last,  # [H, T] float32; not read if ONES
    codes,  # [r] int64
    index,  # [r', d] int64, of `derivatives` in features.py
    factors,  # [r', d] float32
    pieces,  # [P, 3] int32: scale, first token, end; at most TOKENS tokens
    grad,  # [H, d, T] float32, written
    tokens,
    rank,
    lower,  # r' = C(d+g-1, g-1)
    D: tl.constexpr,
    E: tl.constexpr,
    G: tl.constexpr,  # one less than the degree
    TOKENS: tl.constexpr,
    BLOCK: tl.constexpr,
    ONES: tl.constexpr,
):
    """The derivative of phi(x) S [values, last]^T by one variable: the state is differentiated, not the monomials."""
    piece = tl.program_id(1)
    variable = tl.program_id(2)
    head = tl.program_id(0).to(tl.int64)
    scale = tl.load(pieces + 3 * piece).to(tl.int64)
    token = tl.load(pieces + 3 * piece + 1) + tl.arange(0, TOKENS)
    inside = token < tl.load(pieces + 3 * piece + 2)
    x += head * tokens * D
    values += head * tokens * E
    states += (scale * tl.num_programs(0) + head) * rank * (E + 1)
    row = ()
    for c in tl.static_range(E):
        row = row + (tl.load(values + c * tokens + token, mask=inside, other=0.0),)
    if ONES:
        row = row + (tl.full([TOKENS], 1.0, tl.float32),)
    else:
        row = row + (tl.load(last + head * tokens + token, mask=inside, other=0.0),)
    total = tl.zeros([TOKENS], tl.float64)
    for begin in range(0, lower, BLOCK):
        part = tl.zeros([TOKENS], tl.float32)
        for monomial in range(begin, min(begin + BLOCK, lower)):
            code = tl.load(codes + monomial)
            feature = tl.zeros([TOKENS], tl.float32) + tl.load(factors + monomial * D + variable)
            for factor in tl.static_range(G):
                place = ((code >> (8 * factor)) & 255).to(tl.int32)
                if place < D:
                    feature *= tl.load(x + place * tokens + token, mask=inside, other=1.0)
            slope = tl.zeros([TOKENS], tl.float32)
            state = states + tl.load(index + monomial * D + variable) * (E + 1)
            for c in tl.static_range(E + 1):
                slope += row[c] * tl.load(state + c)
            part += feature * slope
        total += part
    tl.store(grad + (head * D + variable) * tokens + token, total.to(tl.float32), mask=inside)
