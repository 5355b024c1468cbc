"""Whole numbers."""

from __future__ import annotations

import torch
from torch import Tensor


def straight_through_round(x: Tensor) -> Tensor:
    """The nearest whole numbers, of two the even one, with the gradient of x.

    As in Bengio, Leonard & Courville, 2013, arXiv 1308.3432.
    """
    # What is infinite is as far from itself as NaN.
    return x + (torch.round(x) - x).detach().nan_to_num()
