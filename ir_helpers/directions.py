"""What happens along each singular direction of A = U S Vᵀ: to a perturbation, and in a reconstruction of any kind.

Everything is in *ascending* order of S, the order of ``A.singular_values()`` and of the filters in ``theory``.
"""

from dataclasses import dataclass

import torch
from torch.autograd import forward_ad

from ir_helpers.checks import check_batch, check_callable
from ir_helpers.linear_operator import check_operator
from ir_helpers.per_sample import in_range, powers_of_two

__all__ = ["Basis", "Response", "energy", "response"]


@dataclass(frozen=True)
class Basis:
    """The singular value decomposition A = U S Vᵀ, with k = min(m, n) directions.

    Attributes
    ----------
    left, right : torch.Tensor
        U, (m, k), and V, (n, k): columns are directions of the data and of the image.
    values : torch.Tensor
        S, (k,), ascending.
    """

    left: torch.Tensor
    right: torch.Tensor
    values: torch.Tensor

    @classmethod
    def of(cls, A):
        """Return the basis of a ``LinearOperator`` with a stored matrix, by an SVD in double precision, in A's own dtype."""
        check_operator(A)
        U, S, Vh = torch.linalg.svd(A.matrix().to_dense().double(), full_matrices=False)
        return cls(*(t.to(A.dtype).contiguous() for t in (U.flip(1), Vh.T.flip(1), S.flip(0))))


@dataclass(frozen=True)
class Response:
    """What f makes of a small change of the data along each left singular vector; see ``response``.

    Attributes
    ----------
    gains : torch.Tensor
        g, (B, k): the part of f's answer along the matching right singular vector.
    lengths : torch.Tensor
        (B, k): the length of the whole answer, never below the size of the gain.
    """

    gains: torch.Tensor
    lengths: torch.Tensor


def energy(basis, delta):
    """Return (uᵢᵀδ)² for each sample and direction, shape (B, k); the sum over i is ‖δ‖² if A has full row rank.

    Parameters
    ----------
    basis : Basis
        Of A.
    delta : torch.Tensor
        (B, \\*A.data_shape).
    """
    _check("delta", delta, basis)
    unit = powers_of_two(delta)
    squares, area = ((delta / unit).flatten(1) @ basis.left).square(), unit.reshape(-1, 1).double() ** 2
    return in_range("energy of delta", squares * area, delta.dtype, area)


def response(reconstruct, basis, y):
    """Return how f answers, to first order, to a change of y along each left singular vector.

    With the Jacobian J of f at y, the answer to uᵢ is the image J uᵢ. Its part along vᵢ is the *effective gain*

        gᵢ = vᵢᵀ J uᵢ,

    and its length ‖J uᵢ‖. For the linear f(y) = V Q Uᵀ y both are qᵢ, at any y. A network may answer along other
    directions too, so its lengths exceed its gains. One pass through f in forward mode for each direction.

    Parameters
    ----------
    reconstruct : callable
        f, from data to images, each sample independent of the others in its batch: a network in evaluation mode.
    basis : Basis
        Of A.
    y : torch.Tensor
        (B, \\*A.data_shape), where J is taken.

    Returns
    -------
    Response

    Notes
    -----
    It is a statement about infinitesimal changes. Under a large δ a network's Jacobian is another one.

    Examples
    --------
    >>> from ir_helpers import operators
    >>> A = operators.with_spectrum([1.0, 2.0], (1, 2, 2))
    >>> response(A.T, Basis.of(A), torch.zeros(1, 2)).gains.round(decimals=4)
    tensor([[1., 2.]])
    """
    check_callable("reconstruct", reconstruct)
    _check("y", y, basis)
    answers = [_along(reconstruct, y, direction.reshape(y.shape[1:])) for direction in basis.left.T]
    gains = [answer @ v for answer, v in zip(answers, basis.right.T, strict=True)]
    return Response(torch.stack(gains, 1), torch.stack([answer.norm(dim=1) for answer in answers], 1))


def _check(name, values, basis):
    if not isinstance(basis, Basis):
        raise TypeError(f"basis must be a Basis, made by Basis.of(A), got {type(basis).__name__}")
    check_batch(name, values)
    if values[0].numel() != len(basis.left):
        raise ValueError(f"{name} must have {len(basis.left)} data a sample, got shape {tuple(values.shape)}")
    if values.dtype != basis.left.dtype or values.device != basis.left.device:
        raise TypeError(
            f"{name} is {values.dtype} on {values.device}, basis {basis.left.dtype} on {basis.left.device}: "
            f"pass {name}.to(basis.left)"
        )


def _along(reconstruct, y, direction):
    """Return J · direction for each sample, flattened."""
    with torch.no_grad(), forward_ad.dual_level():
        dual = forward_ad.make_dual(y.detach(), direction.expand_as(y).contiguous())
        estimate, change = forward_ad.unpack_dual(reconstruct(dual))
    # No tangent means that f does not depend on y.
    return (torch.zeros_like(estimate) if change is None else change).flatten(1)
