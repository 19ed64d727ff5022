# Written by tools/stubs.py: the names that are loaded on first use, for editors and type checkers.

from flowgression.ops.hybrid_linear import hybrid_attention as hybrid_attention
from flowgression.ops.hybrid_linear import hybrid_attention_chunk as hybrid_attention_chunk
from flowgression.ops.hybrid_linear import hybrid_attention_naive as hybrid_attention_naive
from flowgression.ops.hybrid_linear import hybrid_attention_recurrent as hybrid_attention_recurrent
from flowgression.ops.lowrank import degree_for as degree_for
from flowgression.ops.lowrank import error_certificate as error_certificate
from flowgression.ops.lowrank import logit_bounds as logit_bounds
from flowgression.ops.lowrank import lowrank_attention as lowrank_attention
from flowgression.ops.lowrank import minimax_exp as minimax_exp
from flowgression.ops.lowrank import rank as rank
from flowgression.ops.lowrank import softmax_attention as softmax_attention
