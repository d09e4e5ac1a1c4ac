"""Keep the layers of a network short of amplifying: Parseval networks."""

from dataclasses import dataclass

import torch
from torch import nn

from ir_helpers.checks import positive

__all__ = ["Parseval"]


@dataclass(frozen=True)
class Parseval:
    """Draw the singular values of every layer's matrix to one number, by W ← (1 + β) W − (β / σ²) W Wᵀ W after each step.

    The matrix of a k × k convolution has shape (out, in · k²), and the layer's Lipschitz constant is at most k σ, see
    ``networks.conv_norm``. The step of the gradient pulls away from this, so the values end near σ, not at it.

    Parameters
    ----------
    beta : float
        β > 0. Singular values below σ·√(1 + 2/β) come closer to σ or change sides; β ≤ 0.5 never overshoots for long.
    gain : float
        σ, 1 in the paper.

    References
    ----------
    M. Cisse et al., "Parseval networks", ICML 2017, arXiv:1704.08847.
    """

    beta: float
    gain: float = 1.0

    def __post_init__(self):
        for name in ("beta", "gain"):
            object.__setattr__(self, name, positive(name, getattr(self, name)))

    @torch.no_grad()
    def retract(self, network, share=1.0):
        """Apply one retraction, with ``share`` · β, to the weights of all convolutions and linear layers, in place.

        Raises
        ------
        ValueError
            If the network has no such layer.
        """
        layers = [layer for layer in network.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
        if not layers:
            raise ValueError("network has no convolution or linear layer that Parseval could retract")
        beta = share * self.beta
        for layer in layers:
            w = layer.weight.flatten(1)
            # The smaller of the two Gram matrices: (W Wᵀ) W = W (Wᵀ W).
            cube = (w @ w.T) @ w if len(w) <= w.shape[1] else w @ (w.T @ w)
            layer.weight.copy_(((1 + beta) * w - beta / self.gain**2 * cube).view_as(layer.weight))
