"""An interval for a median that covers it as often as it says, whatever the distribution.

Each of n independent values lies below the median with chance 1/2, like a tossed coin. So how often the k-th
lowest or the k-th highest lies on the wrong side of it is known exactly: the range of five values misses the
median only if all five lie on one side, in 2 of 32 cases. Lesson B8 measures what other intervals cover, and
recommends this one for five seeds; the generated tables use it.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

Samples = Float[np.ndarray, "*R n"]
Ends = Float[np.ndarray, "2 *R"]


# same-as: B8.median_ranks
def median_ranks(n: int, confidence: float = 0.95) -> tuple[int, float]:
    """(k, coverage): of the intervals from k-th lowest to k-th highest the narrowest that covers enough.

    If none does, it is the range, k = 1, with the coverage that it has.
    """
    rank, outside = 1, 0.5**n
    while rank < n // 2:
        more = outside + math.comb(n, rank) * 0.5**n
        if 1 - 2 * more < confidence:
            break
        rank, outside = rank + 1, more
    return rank, 1 - 2 * outside


# same-as: B8.median_interval
def median_interval(values: Samples, confidence: float = 0.95) -> Ends:
    """Both ends of the interval for the median, along the last axis."""
    rank, _ = median_ranks(values.shape[-1], confidence)
    ordered = np.sort(values, axis=-1)
    return np.stack([ordered[..., rank - 1], ordered[..., -rank]])
