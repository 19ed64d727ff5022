"""The Inception Score (arXiv 1606.03498) from sums, so that no image's prediction has to be kept.

Letters: B images of a batch, L classes of the extractor, G groups.
"""

import torch
from torch import Tensor

SPLITS = 10


class ScoreSums:
    """Sums of p and of p log p over the images of each group, p = softmax(logits)."""

    def __init__(self, num_groups: int, num_classes: int) -> None:
        self.counts = torch.zeros(num_groups, dtype=torch.float64)
        self.probabilities = torch.zeros(num_groups, num_classes, dtype=torch.float64)
        self.negative_entropies = torch.zeros(num_groups, dtype=torch.float64)

    def update(self, logits: Tensor, groups: Tensor) -> None:
        """Add images with logits [B,L] in groups [B]."""
        log_p = logits.double().log_softmax(1)
        p = log_p.exp()
        self.counts.index_add_(0, groups, torch.ones(len(groups), dtype=torch.float64))
        self.probabilities.index_add_(0, groups, p)
        self.negative_entropies.index_add_(0, groups, (p * log_p).sum(1))

    def score(self, chosen: Tensor | None = None) -> float:
        """Mean over splits of exp(E_x KL(p(y|x) || p(y))), each split made of several groups.

        Ten splits, as usual, or as many as there are groups. Splits with few images give smaller scores.

        Args:
            chosen: which groups to use, with repetitions; all by default.
        """
        chosen = torch.arange(len(self.counts)) if chosen is None else chosen
        splits = torch.arange(len(chosen)) % min(SPLITS, len(chosen))
        counts = _sum_by(splits, self.counts[chosen])
        mean_p = _sum_by(splits, self.probabilities[chosen]) / counts[:, None]
        negative_entropy = _sum_by(splits, self.negative_entropies[chosen]) / counts
        divergence = negative_entropy - torch.xlogy(mean_p, mean_p).sum(1)
        return divergence.exp().mean().item()


def _sum_by(splits: Tensor, values: Tensor) -> Tensor:
    return values.new_zeros(int(splits.max()) + 1, *values.shape[1:]).index_add_(0, splits, values)
