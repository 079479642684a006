"""Batch normalisation after a convolution -> part of the convolution. For prediction: half as many passes over memory.

A block names its convolutions and the normalisations that directly follow them in the class attribute `normalised`.
"""

from __future__ import annotations

import copy

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def folded(network: nn.Module) -> nn.Module:
    """Return a copy of a network in evaluation mode, with batch normalisation folded into convolutions.

    It is the same function, up to rounding. Normalisation that follows a sum or a concatenation stays.
    """
    result = copy.deepcopy(network).eval()
    for module in list(result.modules()):
        for convolution, norm in getattr(module, "normalised", {}).items():
            following = getattr(module, norm)
            if isinstance(following, nn.BatchNorm3d):
                setattr(module, convolution, fuse_conv_bn_eval(getattr(module, convolution), following))
                setattr(module, norm, nn.Identity())
    return result
