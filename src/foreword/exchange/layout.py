"""Keys and values as one matrix: the layout that P-Tuning v2, Li & Liang's code and HF PEFT have in common.

A row per prompt position; in it, layer after layer, the keys and then the values of all heads:
column ``((2 * layer + kv) * H + head) * E + d``.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from foreword.injection import KeyValue, Prefix, Site, SiteShape


def prefix_of(matrix: Tensor, sites: Mapping[Site, SiteShape]) -> Prefix:
    """Keys and values ``(H, P, E)`` of a matrix ``(P, columns)``.

    Args:
        matrix: as foreign files have it.
        sites: of one stack, in the order of its layers.
    """
    widths = [shape.heads * shape.head_size for shape in sites.values() for _ in range(2)]
    pieces = iter(torch.split(matrix, widths, dim=1))
    return {
        site: KeyValue(
            *(
                next(pieces).reshape(-1, shape.heads, shape.head_size).transpose(0, 1).contiguous()  # (H, P, E)
                for _ in range(2)
            )
        )
        for site, shape in sites.items()
    }


def matrix_of(prefix: Prefix) -> Tensor:
    """The matrix ``(P, columns)`` of keys and values, layer after layer."""
    parts = [part for site in sorted(prefix) for part in (prefix[site].key, prefix[site].value)]
    return torch.cat([part.transpose(0, 1).flatten(1) for part in parts], dim=1).contiguous()


def sites_of(sites: Mapping[Site, SiteShape], stack: str) -> dict[Site, SiteShape]:
    """Those of one stack."""
    return {site: shape for site, shape in sites.items() if site.stack == stack}
