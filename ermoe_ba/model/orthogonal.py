"""Maps from free weights to orthonormal columns.

Shapes: E experts, D hidden_size, R rank.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


def orthonormal_columns(raw_edr: Tensor) -> Tensor:
    """Return orthonormal columns that span what the given columns span.

    Thin QR with the signs fixed so that the diagonal of R is positive, which makes the factor
    unique and smooth in the input (Gram-Schmidt in effect; max |Q^T Q - I| below 1e-5).

    Parameters
    ----------
    raw_edr : Tensor
        Any matrices of full column rank, R <= D.

    Returns
    -------
    Tensor, shape (E, D, R)
        Matrices Q with Q^T Q = I.
    """
    q, r = torch.linalg.qr(raw_edr)
    sign_er = torch.sign(torch.diagonal(r, dim1=-2, dim2=-1))
    sign_er = torch.where(sign_er == 0, torch.ones_like(sign_er), sign_er)
    return q * sign_er[:, None, :]


def complement_columns(basis_edr: Tensor) -> Tensor:
    """Return orthonormal columns that span what orthonormal columns leave out.

    They are one of many such bases, so that only what is the same for all of them means anything:
    lengths of projections and products of two. The gradient of those is exact.

    Parameters
    ----------
    basis_edr : Tensor
        Orthonormal columns, R < D.

    Returns
    -------
    Tensor, shape (E, D, D - R)
        Matrices W with W^T W = I and V^T W = 0, on the device of V, with gradients to V.
    """
    with torch.no_grad():
        # Apple's GPUs: as in `OrthogonalMap.bases`.
        near = basis_edr.cpu() if basis_edr.device.type == "mps" else basis_edr
        outside = torch.linalg.qr(near, mode="complete").Q[..., basis_edr.shape[-1] :]
        outside = outside.to(basis_edr.device)
    # The complement turns as V does, dW = -V dV^T W. What is subtracted is 0 and has that gradient;
    # that of a whole QR, torch does not know.
    return outside - basis_edr @ (basis_edr.mT @ outside)


def cayley_columns(raw_edr: Tensor) -> Tensor:
    """Return the orthonormal columns that the Cayley transform makes of free weights.

    With X the first R rows of the weights, B the others, A = X - X^T and C = B^T B,
    ``Q = [(I - A - C) M^-1 ; -2 B M^-1]`` where ``M = I + A + C``: the first R columns of the
    Cayley transform of a skew-symmetric D x D matrix (Trockman & Kolter 2021, arXiv 2104.07167).
    The symmetric part of M is at least I, so M can always be inverted. In double precision,
    max |Q^T Q - I| stays below 1e-5 for weights of size 3000 and less; training starts near 1.

    Parameters
    ----------
    raw_edr : Tensor
        Any matrices, R <= D.

    Returns
    -------
    Tensor, shape (E, D, R)
        Matrices Q with Q^T Q = I, in the precision of the weights.
    """
    rank = raw_edr.shape[-1]
    # M's condition grows with the square of the weights: in single precision, 64 x 48 weights of
    # size 30 were measured to give columns 2e-4 from orthonormal, of size 300 2e-3.
    exact_edr = raw_edr.double()
    x, b = exact_edr[:, :rank], exact_edr[:, rank:]
    skew = x - x.mT
    square = b.mT @ b
    identity = torch.eye(rank, dtype=exact_edr.dtype, device=exact_edr.device)
    m = identity + skew + square
    columns = torch.cat([identity - skew - square, -2.0 * b], dim=1)
    # One by one: solving them as one batch was seen to fail with two threads.
    solved = [torch.linalg.solve(a, y, left=False) for a, y in zip(m, columns, strict=True)]
    return torch.stack(solved).to(raw_edr.dtype)


def cayley_weights(basis_edr: Tensor) -> Tensor:
    """Return weights from which `cayley_columns` makes given orthonormal columns.

    Parameters
    ----------
    basis_edr : Tensor
        Orthonormal columns whose upper R x R block has no eigenvalue -1 (almost all have none).

    Returns
    -------
    Tensor, shape (E, D, R)
        Its upper block is skew-symmetric.
    """
    rank = basis_edr.shape[-1]
    identity = torch.eye(rank, dtype=basis_edr.dtype, device=basis_edr.device)
    # From (I - A - C) M^-1 = 2 M^-1 - I.
    half_m = torch.stack([torch.linalg.inv(identity + y) for y in basis_edr[:, :rank]])
    skew = half_m - half_m.mT
    return torch.cat([skew / 2, -basis_edr[:, rank:] @ half_m], dim=1)


@dataclass(frozen=True)
class OrthogonalMap:
    """How bases come from weights.

    Parameters
    ----------
    columns : callable
        From weights to bases, both of shape (E, D, R).
    weights : callable
        From orthonormal bases to weights that give them: where training starts.
    exact : bool
        Whether any weights give orthonormal columns; else a penalty has to see to it.
    """

    columns: Callable[[Tensor], Tensor]
    weights: Callable[[Tensor], Tensor]
    exact: bool

    def bases(self, raw_edr: Tensor) -> Tensor:
        """Return bases where the weights lie.

        Parameters
        ----------
        raw_edr : Tensor
            Weights on any device.

        Returns
        -------
        Tensor, shape (E, D, R)
            On the same device, with gradients to the weights.
        """
        # Apple's GPUs know no double precision, and torch 2.8 has no QR for them (asked for in
        # pytorch/pytorch#154052). The matrices are small enough to go to the processor and back.
        if raw_edr.device.type == "mps":
            return self.columns(raw_edr.cpu()).to(raw_edr.device)
        return self.columns(raw_edr)


ORTHOGONAL_MAPS = {
    "qr": OrthogonalMap(orthonormal_columns, torch.clone, exact=True),
    "cayley": OrthogonalMap(cayley_columns, cayley_weights, exact=True),
    # The soft form: the weights are the bases.
    "penalty": OrthogonalMap(torch.clone, torch.clone, exact=False),
}


def orthonormality_penalty(basis_edr: Tensor) -> Tensor:
    """Return how far columns are from orthonormal: the mean over experts of ``|V^T V - I|_F^2``.

    The soft constraint of Bansal 2018 (arXiv 1810.09102).

    Parameters
    ----------
    basis_edr : Tensor
        Any matrices.

    Returns
    -------
    Tensor, scalar
        0 where all columns are orthonormal.
    """
    gram = basis_edr.mT @ basis_edr
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    return (gram - identity).square().sum(dim=(1, 2)).mean()
