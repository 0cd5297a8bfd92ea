"""Which lengths share forward passes, so that all that waits takes the least time together."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def cut(
    rows: Mapping[int, int], *, batch_rows: int, batch_tokens: int, per_token: float, per_pass: float
) -> dict[int, int]:
    """Stretches of lengths whose rows are padded to the longest of them.

    A stretch of R rows padded to length L costs ``R * L`` tokens and as many passes as that takes. The shortest lengths
    are cut best first, then those with one length more, and so on, so all ways to cut are compared in G^2 / 2 steps.

    Args:
        rows: length -> how many rows have it; G lengths.
        batch_rows, batch_tokens: most of one pass, padding included; a longer row has a pass of its own.
        per_token: seconds of a padded token.
        per_pass: seconds of a pass beside its tokens.

    Returns:
        length -> the longest of its stretch.
    """
    lengths = sorted(rows)
    total = np.cumsum([0, *(rows[length] for length in lengths)])  # [i]: rows of the i shortest lengths
    least = np.zeros(len(lengths) + 1)
    begins = [0] * (len(lengths) + 1)
    for end, longest in enumerate(lengths, start=1):
        inside = total[end] - total[:end]
        passes = -(-inside // max(1, min(batch_rows, batch_tokens // longest)))
        seconds = least[:end] + per_pass * passes + per_token * inside * longest
        begins[end] = int(seconds.argmin())
        least[end] = seconds[begins[end]]
    found, end = dict[int, int](), len(lengths)
    while end:
        found |= dict.fromkeys(lengths[begins[end] : end], lengths[end - 1])
        end = begins[end]
    return found
