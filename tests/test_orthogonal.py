"""Three ways to keep bases orthonormal: two exact ones, and a penalty."""

import pytest
import torch
from torch import Tensor

from ermoe_ba.model.experts import EigenExperts
from ermoe_ba.model.orthogonal import (
    ORTHOGONAL_MAPS,
    cayley_columns,
    cayley_weights,
    complement_columns,
    orthonormal_columns,
    orthonormality_penalty,
)

pytestmark = pytest.mark.usefixtures("one_torch_thread")

# num_experts, hidden_size, rank, num_tokens: all different.
E, D, R, T = 3, 12, 5, 7


def _error(basis_edr: Tensor) -> float:
    return (basis_edr.mT @ basis_edr - torch.eye(basis_edr.shape[-1])).abs().max().item()


def _trained(orthogonal: str, *, with_penalty: bool = True) -> EigenExperts:
    """Fifty large steps after targets that the experts cannot reach."""
    torch.manual_seed(1)
    experts = EigenExperts(E, D, R, T, 0.1, orthogonal=orthogonal)
    optimiser = torch.optim.AdamW(experts.parameters(), lr=0.05, weight_decay=0.1)
    for _ in range(50):
        x, target = torch.randn(4, T, D), torch.randn(4, T, E)
        u, v = experts.bases()
        says = experts(torch.einsum("btd,edr->bter", x, v), u)
        loss = (says - target).square().mean()
        if with_penalty:
            loss = loss + experts.penalty()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return experts


def test_cayley_of_one_column_by_hand() -> None:
    """b = 1/2: M = 1 + 1/4, so (1 - 1/4) / M = .6 and -2 (1/2) / M = -.8; the corner is unused."""
    for corner in (0.0, 3.0):
        basis = cayley_columns(torch.tensor([[[corner], [0.5]]]))
        torch.testing.assert_close(basis, torch.tensor([[[0.6], [-0.8]]]))


def test_cayley_of_a_square_is_a_rotation_by_hand() -> None:
    """(I - A)(I + A)^-1 with A = [0 1/2; -1/2 0] is [.6 -.8; .8 .6]."""
    basis = cayley_columns(torch.tensor([[[0.0, 0.5], [0.0, 0.0]]]))
    torch.testing.assert_close(basis, torch.tensor([[[0.6, -0.8], [0.8, 0.6]]]))


def test_cayley_weights_give_back_their_basis() -> None:
    torch.manual_seed(0)
    basis = orthonormal_columns(torch.randn(E, D, R))
    weights = cayley_weights(basis)
    torch.testing.assert_close(cayley_columns(weights), basis, atol=1e-5, rtol=0)
    torch.testing.assert_close(weights[:, :R], -weights[:, :R].mT)


def test_the_gradient_of_cayley_is_that_of_its_differences() -> None:
    torch.manual_seed(0)
    raw = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(cayley_columns, (raw,))


def test_the_complement_of_two_axes_is_the_third() -> None:
    (outside,) = complement_columns(torch.eye(3)[None, :, :2])
    torch.testing.assert_close(outside.abs(), torch.tensor([[0.0], [0.0], [1.0]]))


def test_a_complement_is_orthonormal_and_completes_its_basis() -> None:
    torch.manual_seed(0)
    basis = orthonormal_columns(torch.randn(E, D, R))
    outside = complement_columns(basis)
    assert outside.shape == (E, D, D - R)
    whole = torch.cat([basis, outside], dim=-1)
    assert _error(whole) < 1e-5
    torch.testing.assert_close(whole @ whole.mT, torch.eye(D).expand(E, D, D), atol=1e-5, rtol=0)


def test_the_gradient_of_a_complement_is_that_of_its_differences() -> None:
    """Of its projector, which is the same whichever columns span it."""
    torch.manual_seed(0)
    raw = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)

    def projector(raw_edr: Tensor) -> Tensor:
        outside = complement_columns(orthonormal_columns(raw_edr))
        return outside @ outside.mT

    assert torch.autograd.gradcheck(projector, (raw,))


@pytest.mark.parametrize("orthogonal", ["qr", "cayley"])
def test_exact_maps_stay_orthonormal_through_training(orthogonal: str) -> None:
    experts = _trained(orthogonal)
    for basis in experts.bases():
        assert _error(basis.detach()) < 1e-5
    # What the optimiser moves is far from orthonormal: the bases are so by construction.
    assert _error(experts.raw_v_edr.detach()) > 0.1
    assert experts.penalty().item() == 0.0


@pytest.mark.parametrize("size", [1.0, 30.0, 300.0, 3000.0])
def test_large_weights_do_not_spoil_cayley(size: float) -> None:
    """Of the shape that is shipped: 16 rows beside 48 leave the square part singular."""
    torch.manual_seed(0)
    raw = (size * torch.randn(2, 64, 48)).requires_grad_()
    basis = cayley_columns(raw)
    assert basis.dtype == torch.float32
    # A rounding of 2^-23 in each of the 64 products that a scalar product of columns sums.
    assert _error(basis.detach()) < 64 * 2**-23
    basis.square().cumsum(dim=1).sum().backward()
    assert raw.grad is not None
    assert torch.isfinite(raw.grad).all()


@pytest.mark.parametrize("orthogonal", list(ORTHOGONAL_MAPS))
def test_all_maps_start_from_orthonormal_bases_that_differ(orthogonal: str) -> None:
    torch.manual_seed(3)
    u, v = EigenExperts(E, D, R, T, 0.1, orthogonal=orthogonal).bases()
    assert _error(v.detach()) < 1e-5
    torch.testing.assert_close(u, v)
    assert (v[0] - v[1]).abs().max() > 0.1


def test_the_penalty_by_hand() -> None:
    """One expert is orthonormal; of the other, twice that, V^T V - I = 3 I, squares 9 + 9."""
    identity = torch.eye(4)[:, :2]
    basis = torch.stack([identity, 2.0 * identity])
    assert orthonormality_penalty(basis).item() == pytest.approx(18 / 2)


def test_the_penalty_keeps_bases_near_orthonormal_and_only_near() -> None:
    kept = _error(_trained("penalty").raw_v_edr.detach())
    left = _error(_trained("penalty", with_penalty=False).raw_v_edr.detach())
    assert 1e-5 < kept < 0.3 < left
