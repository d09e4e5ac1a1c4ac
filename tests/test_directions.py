"""Gains and energies by singular direction, against linear filters, a dense Jacobian and Parseval's identity."""

import numpy as np
import pytest
import torch
from toys import normal, small_net_problem

from ir_helpers import directions, networks, operators, theory

SPECTRA = {
    "geometric": operators.with_spectrum(np.geomspace(0.05, 3, 20), (1, 6, 6)),
    "gaussian": operators.gaussian(20, (1, 6, 6)),
    "tall": operators.from_matrix(normal(50, 36, dtype=torch.float32), (1, 6, 6)),
}


@pytest.fixture(params=SPECTRA)
def A(request):
    return SPECTRA[request.param].to(torch.float64)


def test_the_basis_is_the_svd_in_ascending_order(A):
    basis = directions.Basis.of(A)
    assert torch.allclose((basis.left * basis.values) @ basis.right.T, A.matrix(), atol=1e-12)
    assert torch.allclose(basis.values, A.singular_values(), rtol=1e-10)
    for side in (basis.left, basis.right):
        assert torch.allclose(side.T @ side, torch.eye(len(basis.values), dtype=side.dtype), atol=1e-12)


def test_the_energies_add_up_to_the_norm_in_the_range(A):
    basis, delta = directions.Basis.of(A), normal(5, *A.data_shape)
    inside = delta @ torch.linalg.pinv(A.matrix()).T @ A.matrix().T  # the projection on Range(A)
    assert torch.allclose(directions.energy(basis, delta).sum(1), inside.square().sum(1))


def test_a_direction_has_its_energy_to_itself(A):
    basis = directions.Basis.of(A)
    found = directions.energy(basis, 3 * basis.left.T)
    assert torch.allclose(found, 9 * torch.eye(len(found), dtype=found.dtype), atol=1e-12)


def test_gains_of_a_linear_filter_are_its_own(A):
    q = theory.per_sample_gains(A.singular_values().numpy(), 0.5)
    f = networks.LinearReconstructor(A)
    with torch.no_grad():
        f.matrix.copy_(torch.from_numpy(theory.robust_inverse(A.matrix().numpy(), q)))
    answer = directions.response(f, directions.Basis.of(A), normal(3, *A.data_shape))
    expected = torch.from_numpy(q).expand(3, -1)
    assert torch.allclose(answer.gains, expected, atol=1e-10)
    assert torch.allclose(answer.lengths, expected, atol=1e-10)


def test_the_adjoint_has_the_singular_values_as_gains():
    A = operators.parallel_beam(8, 6).to(
        torch.float64
    )  # data of three axes, a sparse matrix, singular values of zero
    basis = directions.Basis.of(A)
    answer = directions.response(A.T, basis, normal(2, *A.data_shape))
    assert torch.allclose(answer.gains, basis.values.expand(2, -1), atol=1e-10)


def test_response_of_a_network_is_that_of_its_dense_jacobian():
    f, A, x = small_net_problem(dtype=torch.float64, count=3)
    basis, y = directions.Basis.of(A), A(x)
    answer = directions.response(f, basis, y)
    for k in range(len(y)):
        J = torch.autograd.functional.jacobian(lambda data: f(data[None])[0].flatten(), y[k])
        images = J @ basis.left
        assert torch.allclose(answer.gains[k], (images * basis.right).sum(0), atol=1e-10)
        assert torch.allclose(answer.lengths[k], images.norm(dim=0), atol=1e-10)
    assert (answer.lengths > 1.01 * answer.gains.abs()).any()  # a network that answers elsewhere too


def test_response_leaves_gradients_and_parameters_alone():
    f, A, x = small_net_problem(count=2)
    y = A(x).requires_grad_()
    answer = directions.response(f, directions.Basis.of(A), y)
    assert not answer.gains.requires_grad and y.grad is None and y.requires_grad


def test_what_ignores_the_data_has_no_gain():
    A = SPECTRA["gaussian"]
    answer = directions.response(
        lambda y: torch.ones(len(y), 1, 6, 6), directions.Basis.of(A), torch.ones(2, 20)
    )
    assert (answer.gains == 0).all() and (answer.lengths == 0).all()


@pytest.mark.parametrize(
    "call", [directions.energy, lambda basis, y: directions.response(lambda v: v, basis, y)]
)
def test_data_of_another_operator_are_refused(call):
    with pytest.raises(ValueError, match=r"must have 20 data a sample, got shape \(2, 19\)"):
        call(directions.Basis.of(SPECTRA["gaussian"]), torch.ones(2, 19))
