"""Softmax attention replaced by a polynomial of bounded logits: almost quadratic time in the side of a feature map.

`lowrank_attention` is the operation; `softmax_attention` takes the same arguments, so models choose by configuration.
"""

from flowgression.ops.lowrank.error_bounds import (
    ErrorCertificate,
    LogitBounds,
    error_certificate,
    logit_bounds,
    truncation_factor,
)
from flowgression.ops.lowrank.exact import softmax_attention
from flowgression.ops.lowrank.features import rank
from flowgression.ops.lowrank.minimax import MAX_BOUND, MinimaxPolynomial, degree_for, minimax_exp, size_rule
from flowgression.ops.lowrank.naive import naive_polynomial_attention
from flowgression.ops.lowrank.polynomial import check_memory, lowrank_attention
from flowgression.ops.lowrank.types import AttentionResult
from flowgression.ops.softmax import KeyValueCache

__all__ = [
    "MAX_BOUND",
    "AttentionResult",
    "ErrorCertificate",
    "KeyValueCache",
    "LogitBounds",
    "MinimaxPolynomial",
    "check_memory",
    "degree_for",
    "error_certificate",
    "logit_bounds",
    "lowrank_attention",
    "minimax_exp",
    "naive_polynomial_attention",
    "rank",
    "size_rule",
    "softmax_attention",
    "truncation_factor",
]
