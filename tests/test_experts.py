"""Experts stay orthonormal through training and compute what their formula says."""

import pytest
import torch
from torch import Tensor

from ermoe_ba.model.experts import EigenExperts
from ermoe_ba.model.orthogonal import orthonormal_columns

pytestmark = pytest.mark.usefixtures("one_torch_thread")

# num_experts, hidden_size, rank, num_tokens: all different.
E, D, R, T = 3, 12, 5, 7


def _experts() -> EigenExperts:
    """Experts that no longer stand at their start: U is not V, s is not 1, read-outs are not 0."""
    torch.manual_seed(1)
    experts = EigenExperts(E, D, R, T, 0.1)
    with torch.no_grad():
        for parameter in experts.parameters():
            parameter.add_(torch.randn_like(parameter))
    return experts


def _orthonormality_error(basis_edr: Tensor) -> float:
    return (basis_edr.mT @ basis_edr - torch.eye(R)).abs().max().item()


def test_bases_stay_orthonormal_through_training() -> None:
    experts = _experts()
    optimiser = torch.optim.AdamW(experts.parameters(), lr=0.05, weight_decay=0.1)
    for _ in range(50):
        x, target = torch.randn(4, T, D), torch.randn(4, T, E)
        u, v = experts.bases()
        says = experts(torch.einsum("btd,edr->bter", x, v), u)
        optimiser.zero_grad()
        (says - target).square().mean().backward()
        optimiser.step()
    for basis in experts.bases():
        assert _orthonormality_error(basis) < 1e-5
    # What the optimiser moved is far from orthonormal: the bases are so by construction.
    assert _orthonormality_error(experts.raw_v_edr.detach()) > 0.1


def test_gram_schmidt_by_hand() -> None:
    """(3, 4) becomes (.6, .8); (0, 1) less its share .8 (.6, .8) is (-.48, .36), length .6."""
    basis = orthonormal_columns(torch.tensor([[[3.0, 0.0], [4.0, 1.0]]]))
    torch.testing.assert_close(basis, torch.tensor([[[0.6, -0.8], [0.8, 0.6]]]))


def test_orthonormal_columns_are_returned_as_they_are() -> None:
    """Householder QR alone would turn signs: the identity into minus the identity, for one."""
    identity = torch.eye(D)[None, :, :R]
    torch.testing.assert_close(orthonormal_columns(identity), identity)
    torch.testing.assert_close(orthonormal_columns(-identity), -identity)
    torch.manual_seed(2)
    basis = orthonormal_columns(torch.randn(E, D, R))
    torch.testing.assert_close(orthonormal_columns(basis), basis)


def test_the_length_of_a_column_does_not_matter() -> None:
    torch.manual_seed(3)
    raw = torch.randn(E, D, R)
    longer = raw.clone()
    longer[:, :, 2] *= 3.0
    torch.testing.assert_close(
        orthonormal_columns(longer), orthonormal_columns(raw), atol=1e-5, rtol=0
    )


def test_columns_span_what_was_given() -> None:
    torch.manual_seed(4)
    raw = torch.randn(E, D, R)
    basis = orthonormal_columns(raw)
    torch.testing.assert_close(basis @ (basis.mT @ raw), raw, atol=1e-4, rtol=0)


def test_an_expert_says_what_its_dense_matrix_says() -> None:
    """(w_e + q_t)^T (U_e diag(s_e) V_e^T x_t + U_e m_e), one expert and token at a time."""
    experts = _experts()
    x = torch.randn(2, T, D)
    with torch.no_grad():
        u, v = experts.bases()
        says = experts(torch.einsum("btd,edr->bter", x, v), u)
        assert says.shape == (2, T, E)
        for e in range(E):
            dense = u[e] @ torch.diag(experts.s_er[e]) @ v[e].T
            offset = u[e] @ experts.offset_er[e]
            for t in range(T):
                read = experts.expert_readout_ed[e] + experts.position_readout_td[t]
                torch.testing.assert_close(
                    says[:, t, e], (x[:, t] @ dense.T + offset) @ read, atol=1e-4, rtol=1e-4
                )


def test_reading_tokens_is_reading_their_projections() -> None:
    """The same sum in another order, gradients included; in double precision."""
    experts = _experts().double()
    x, upstream = torch.randn(4, T, D).double(), torch.randn(4, T, E).double()
    gradients = []
    for projected in (True, False):
        u, v = experts.bases()
        own = x.clone().requires_grad_()
        z = torch.einsum("btd,edr->bter", own, v)
        says = experts(z, u) if projected else experts.read(own, u, v)
        found = torch.autograd.grad(says, [own, *experts.parameters()], upstream)
        gradients.append([says.detach(), *found])
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected)


def test_gradient_reaches_bases_singular_values_and_readouts() -> None:
    experts = _experts()
    u, v = experts.bases()
    experts(torch.einsum("btd,edr->bter", torch.randn(2, T, D), v), u).square().sum().backward()
    for name, parameter in experts.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().amax(dim=tuple(range(1, parameter.ndim))).min() > 0, name


def test_new_experts_say_nothing_yet() -> None:
    """The read-outs start at zero, so the first age is the baseline."""
    experts = EigenExperts(E, D, R, T, 0.1)
    u, v = experts.bases()
    says = experts(torch.einsum("btd,edr->bter", torch.randn(2, T, D), v), u)
    assert (says == 0).all()
