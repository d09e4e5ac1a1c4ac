"""The exact worst perturbation of a linear reconstruction: a trust-region problem."""

import torch

from ir_helpers.checks import check_attack_inputs, check_batch


def exact_worst_case(matrix, y, target, radius):
    """Return the exact worst δ for a *linear* reconstruction f(y) = M y: the maximiser of ‖M(y + δ) − x‖₂² on ‖δ‖₂ ≤ ε.

    This is a trust-region problem. With e = My − x and M = U S Vᵀ the maximiser has the components
    vᵢᵀδ = sᵢ uᵢᵀe / (τ − sᵢ²) with the multiplier τ ≥ s₁² for which ‖δ‖ = ε (the secular equation, solved by bisection
    in double precision). If e has no component along u₁ and the others do not fill the ball (the *hard case*), v₁
    fills it.

    Parameters
    ----------
    matrix : torch.Tensor
        M, shape (number of pixels, number of data).
    y, target : torch.Tensor
        (B, \\*data_shape) and (B, \\*image_shape).
    radius : float or torch.Tensor
        ε ≥ 0, or one for each sample.

    Returns
    -------
    torch.Tensor
        δ, of the shape of y, ‖δ‖ = ε.

    References
    ----------
    J. J. Moré and D. C. Sorensen, SIAM J. Sci. Stat. Comput. 4 (1983), doi:10.1137/0904038.
    """
    radius = check_attack_inputs(y, target, radius)[:, None].double()
    sizes = target[0].numel(), y[0].numel()
    if not isinstance(matrix, torch.Tensor) or tuple(matrix.shape) != sizes:
        raise ValueError(
            f"matrix must be a tensor of shape {sizes} (pixels, data), got {getattr(matrix, 'shape', matrix)}"
        )
    check_batch("matrix", matrix)
    M = matrix.detach().double()
    U, s, Vh = torch.linalg.svd(M, full_matrices=False)
    e = y.detach().flatten(1).double() @ M.T - target.flatten(1).double()
    numerator, gap = s * (e @ U), s[0] ** 2 - s**2
    # σ = τ − s₁² is what is searched, on a logarithmic scale: τ itself would round σ away when it is small.
    high = numerator.norm(dim=1, keepdim=True) / radius.clamp_min(1e-300) + 1e-200
    low = high * 1e-30
    for _ in range(120):
        middle = low.sqrt() * high.sqrt()  # the product itself may leave the range of double precision
        outside = (numerator / (middle + gap)).norm(dim=1, keepdim=True) > radius
        low, high = torch.where(outside, middle, low), torch.where(outside, high, middle)
    components = numerator / (high + gap)
    missing = (radius**2 - components[:, 1:].square().sum(1, keepdim=True)).clamp_min(0).sqrt()
    components[:, :1] = torch.where(components[:, :1] < 0, -missing, missing)
    return (components @ Vh).reshape(y.shape).to(y.dtype)
