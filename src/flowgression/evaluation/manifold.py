"""Precision and recall of arXiv 1904.06991: which images lie among the nearest neighbours of the other set's.

Letters: m, n images, D features.
"""

import torch
from torch import Tensor

CHUNK = 500
NEIGHBOURS = 3


def covered(points: Tensor, centres: Tensor, k: int = NEIGHBOURS) -> Tensor:
    """Whether each of points [m,D] lies in a ball around one of centres [n,D], n > k; bool [m].

    The ball of a centre reaches to its k-th nearest neighbour among the centres. Precision is the share of generated
    points covered by real centres, recall the share of real points covered by generated centres. Distances are
    float64.
    """
    points, centres = points.double(), centres.double()
    # The nearest of all is the centre itself, hence k + 1.
    radii = torch.cat([torch.cdist(rows, centres).kthvalue(k + 1).values for rows in centres.split(CHUNK)])
    return torch.cat([(torch.cdist(rows, centres) <= radii).any(1) for rows in points.split(CHUNK)])
