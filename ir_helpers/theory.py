"""The robust linear reconstructions B = V Q Uᵀ of an operator A = U S Vᵀ, and what they cost. NumPy only.

Singular values S and gains q = diag Q are in *ascending* order of S, the order of ``A.singular_values()``, wherever they
belong to a matrix; the functions that map S to gains take any order and return the gains in the same order. Values are
used as given: a singular value is zero only if it is exactly 0, so round first what a computation left near zero.
"""

import numpy as np

from ir_helpers.arrays import not_negative, real_array, spectrum


def common_gains(singular_values, radius, lam, *, variances=None):
    """Return the gains of the best linear reconstruction against one δ common to all x, and how many are clipped.

    The gains minimise (1+λ) Σ σᵢ² (1 − Sᵢqᵢ)² + λε² max qᵢ². They are qᵢ = min(t, 1/Sᵢ): a clipped inverse, with

        t = Σ_{i≤m} σᵢ²Sᵢ / (Σ_{i≤m} σᵢ²Sᵢ² + w),   w = ε² λ/(1+λ),   m = #{k : Σ_{i<k} σᵢ²Sᵢ(S_k − Sᵢ) < w},

    for S ascending and σᵢ = 1 unless variances are given. The sums of the last condition never decrease with k, so m is
    found by comparing cumulative sums with w: no search, no tolerance, and equal values share a side.

    Parameters
    ----------
    singular_values : array_like
        S ≥ 0, shape (n,), any order. A mode with S = 0 costs the same for every gain up to t; it gets 0, the choice of
        least norm.
    radius : float
        ε ≥ 0, the bound on ‖δ‖₂. For 0 the gains are those of the pseudo-inverse: 1/S, and 0 where S = 0.
    lam : float
        λ ≥ 0, the weight of the adversarial term. 0 gives the pseudo-inverse too.
    variances : array_like, optional
        σ² ≥ 0, shape (n,), in the order of S, if Cov(x) = V diag(σ²) Vᵀ. None: all 1.

    Returns
    -------
    gains : numpy.ndarray
        q, shape (n,), float64, in the order of S.
    multiplicity : int
        m, the number of modes that are not inverted exactly (qᵢSᵢ < 1), modes with S = 0 among them. Without such
        modes it is the multiplicity of the largest singular value of B; it is 0 for ε = 0 or λ = 0.

    Raises
    ------
    TypeError, ValueError
        If an argument is not a real number or array, is negative or not finite, or shapes differ.

    References
    ----------
    A. Raj, Y. Bresler and B. Li, ICML 2020, arXiv:2002.11821. Derived in the chapter on the filtered SVD.

    Examples
    --------
    >>> common_gains([0.1, 1.0], radius=0.1, lam=1.0)
    (array([6.66666667, 1.        ]), 1)
    """
    values, variances = spectrum(singular_values, variances)
    radius, lam = not_negative("radius", radius), not_negative("lam", lam)
    order = np.argsort(values, kind="stable")
    scale = values.max() or 1.0  # sums of squares of values near the ends of the number range stay inside it
    s, weights = values[order] / scale, variances[order]
    with np.errstate(over="ignore"):
        threshold = lam / (1 + lam) * (radius / scale) ** 2
        # Σ_{i<k} σᵢ²Sᵢ(S_k − Sᵢ), summed by its steps in k: ascending, and without cancellation
        above = np.cumsum(np.append(0.0, np.diff(s) * np.cumsum(weights * s)[:-1]))
    zeros = np.count_nonzero(s == 0)
    m = max(zeros, int(np.searchsorted(above, threshold, side="left")))
    gains = _reciprocal(values)
    if m > zeros:
        moments = np.sum(weights[:m] * s[:m]), np.sum(weights[:m] * s[:m] ** 2)
        # Variances of 0 leave the clipped gains free (0/0): they then get 0, the least norm.
        top = moments[0] / (moments[1] + threshold) / scale if moments[0] > 0 else 0.0
        gains[order[zeros:m]] = np.minimum(top, gains[order[zeros:m]])
    return gains, m


def per_sample_gains(singular_values, radius, variances=None):
    """Return the gains that minimise this book's bound R(B) on the error under the worst δ of each x.

    qᵢ = min(τSᵢ, 1/Sᵢ), where τ minimises τε² + Σ σᵢ² max(0, 1 − τSᵢ²). That sum is convex in τ with corners at
    τ = 1/S_k²; for S ascending

        τ = 1/S_k²,   k the smallest index with Σ_{i≤k} σᵢ²Sᵢ² ≥ ε²;   q = 0 where ε² exceeds the whole sum.

    Modes whose total measured energy lies within the attacker's budget ε² are not inverted but matched (qᵢ ∝ Sᵢ).

    Parameters
    ----------
    singular_values, radius, variances
        As in ``common_gains``. The gain is 0 where S = 0, and 1/S elsewhere for ε = 0.

    Returns
    -------
    numpy.ndarray
        q, shape (n,), float64, in the order of S.

    Notes
    -----
    R(B) is an upper bound of the expected error, so these gains need not minimise the error itself. Derived in the
    chapter on the per-sample filter; the result is the book's own.
    """
    values, variances = spectrum(singular_values, variances)
    radius = not_negative("radius", radius)
    order = np.argsort(values, kind="stable")
    scale = values.max() or 1.0
    energy = np.cumsum(variances[order] * (values[order] / scale) ** 2)
    with np.errstate(over="ignore"):
        k = int(np.searchsorted(energy, (radius / scale) ** 2, side="left"))
    if radius == 0:
        return _reciprocal(values)
    if k == len(values):
        return np.zeros_like(values)
    corner = values[order[k]]
    return np.where(values < corner, values / corner / corner, _reciprocal(values))


def tikhonov_gains(singular_values, weight, *, variances=None):
    """Return the gains qᵢ = Sᵢ / (Sᵢ² + weight/σᵢ²) of the minimiser of ‖Ax − y‖² + weight · ‖x‖² (all σᵢ = 1).

    Training with random noise of covariance s²I in place of an adversary gives this filter, with
    weight = s² λ/(1+λ). The weight is that of ``classical.tikhonov``.

    Parameters
    ----------
    singular_values, variances
        As in ``common_gains``. With variances it is the Wiener filter. The gain is 0 where S = 0.
    weight : float
        ≥ 0, in units of S². 0 gives the pseudo-inverse.

    Returns
    -------
    numpy.ndarray
        q, shape (n,), float64, in the order of S.
    """
    values, variances = spectrum(singular_values, variances)
    weight = not_negative("weight", weight)
    gains = _reciprocal(values)
    if weight > 0:
        with np.errstate(divide="ignore", over="ignore"):
            # 1/(S + w/(σ²S)): no square of S to underflow; infinite where S or σ is 0, hence the gain 0.
            gains = 1 / (values + weight / (variances * values))
    return gains


def robust_inverse(matrix, gains):
    """Return the linear reconstruction B = V Q Uᵀ, shape (n, m), for a matrix A = U S Vᵀ of shape (m, n).

    Parameters
    ----------
    matrix : array_like
        A, shape (m, n), m ≤ n or m > n.
    gains : array_like
        diag Q, shape (min(m, n),), **in ascending order of S**, as ``A.singular_values()`` gives them;
        ``numpy.linalg.svd`` gives the reverse. 1/S makes B the pseudo-inverse.

    Returns
    -------
    numpy.ndarray
        B, float64. It maps to 0 what no image explains (the complement of U).

    Raises
    ------
    TypeError, ValueError
        If an argument is not a real array, has the wrong shape, or is not finite.
    """
    matrix = real_array("matrix", matrix, 2)
    gains = real_array("gains", gains, 1)
    if len(gains) != min(matrix.shape):
        raise ValueError(
            f"gains must have shape ({min(matrix.shape)},), one for each singular value of the "
            f"{matrix.shape[0]} × {matrix.shape[1]} matrix, got {gains.shape}"
        )
    U, _, Vt = np.linalg.svd(matrix, full_matrices=False)
    return (Vt.T * gains[::-1]) @ U.T


def common_cost(B, matrix, radius, lam, *, covariance=None):
    """Return (1+λ) ‖(BA − I) C^½‖_F² + λε² ‖B‖₂², what B costs under the worst δ common to all x of covariance C.

    Parameters
    ----------
    B : array_like
        The reconstruction, shape (n, m).
    matrix : array_like
        A, shape (m, n).
    radius, lam : float
        ε ≥ 0 and λ ≥ 0.
    covariance : array_like, optional
        C, shape (n, n). None: the identity.

    Raises
    ------
    TypeError, ValueError
        If an argument is not real, negative or not finite, or shapes do not match.
    """
    B, residual, moment = _residual(B, matrix, covariance)
    radius, lam = not_negative("radius", radius), not_negative("lam", lam)
    norm = np.linalg.norm(B, 2)
    return float((1 + lam) * np.sum((residual @ moment) * residual) + lam * (radius * norm) ** 2)


def per_sample_bound(B, matrix, radius, *, covariance=None):
    """Return R(B) = inf_τ τε² + tr[C (BA−I)ᵀ(I − BBᵀ/τ)⁻¹(BA−I)] ≥ E_x max_{‖δ‖≤ε} ‖B(Ax + δ) − x‖².

    The infimum is over τ > ‖B‖₂². It bounds the mean over any set of x with E[x xᵀ] = C, and is exact if the best τ is
    the same for all x. With B = Σ qⱼ mⱼpⱼᵀ and aⱼ = mⱼᵀ(BA−I) C (BA−I)ᵀmⱼ it is Σ aⱼ + τε² + Σ aⱼqⱼ²/(τ − qⱼ²), convex
    in τ; the zero of its derivative is found by bisection to rounding.

    Parameters
    ----------
    B, matrix, radius, covariance
        As in ``common_cost``.
    """
    B, residual, moment = _residual(B, matrix, covariance)
    radius = not_negative("radius", radius)
    M, q, _ = np.linalg.svd(B, full_matrices=False)
    rotated = M.T @ residual
    along = np.maximum(np.sum((rotated @ moment) * rotated, axis=1), 0.0) * q**2  # aⱼqⱼ²
    total = float(np.sum((residual @ moment) * residual))
    gap = q[0] ** 2 - q**2
    high = np.sqrt(np.sum(along)) / radius if radius > 0 else 0.0
    if high == 0:  # no adversary, or an error that δ cannot add to: τ = ‖B‖²
        return total + float(radius * q[0]) ** 2
    low = high * 1e-30  # σ = τ − ‖B‖² on a logarithmic scale: τ itself would round it away
    for _ in range(120):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if np.sum(along / (middle + gap) ** 2) > radius**2 else (low, middle)
    return float(total + (q[0] ** 2 + high) * radius**2 + np.sum(along / (high + gap)))


def _residual(B, matrix, covariance):
    B, matrix = real_array("B", B, 2), real_array("matrix", matrix, 2)
    if B.shape != matrix.shape[::-1]:
        raise ValueError(f"B must have shape {matrix.shape[::-1]}, that of matrixᵀ, got {B.shape}")
    n = matrix.shape[1]
    moment = np.eye(n) if covariance is None else real_array("covariance", covariance, 2)
    if moment.shape != (n, n):
        raise ValueError(f"covariance must have shape ({n}, {n}), got {moment.shape}")
    return B, B @ matrix - np.eye(n), moment


def _reciprocal(values):
    return np.divide(1.0, values, out=np.zeros_like(values), where=values > 0)
