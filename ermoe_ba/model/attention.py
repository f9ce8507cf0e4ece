"""The context of a token: what the rest of the brain looks like from where it lies.

Shapes: B scans, T tokens, D hidden_size, H heads.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ermoe_ba.space import Array


def sincos_positions(centres_mm: Array, hidden_size: int) -> Tensor:
    """Return fixed three-dimensional sine-cosine position codes.

    Parameters
    ----------
    centres_mm : ndarray, shape (T, 3)
        Token centres.
    hidden_size : int
        Width D; the channels left over by the six sines and cosines are zero.

    Returns
    -------
    Tensor, shape (T, D)
        Values from -1 to 1; wavelengths from 40 to 400 mm, a gyrus to more than a head.
    """
    frequencies = hidden_size // 6
    wavelengths = torch.logspace(math.log10(40.0), math.log10(400.0), max(frequencies, 1))
    angles = torch.as_tensor(centres_mm, dtype=torch.float32)[:, :, None]
    angles = (angles * 2.0 * math.pi / wavelengths[:frequencies]).flatten(1)
    codes = torch.cat([angles.sin(), angles.cos()], dim=1)
    return functional.pad(codes, (0, hidden_size - codes.shape[1]))


class ContextAttention(nn.Module):
    """Self-attention that gathers a context for each token without changing the token.

    Queries and keys see content and position; the values are the tokens themselves, so that the
    context lies in the same space as the token and can be projected on the same bases.

    Parameters
    ----------
    hidden_size, num_heads : int
        D and H.
    position_td : Tensor
        Position codes.
    """

    def __init__(self, hidden_size: int, num_heads: int, position_td: Tensor) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key = nn.Linear(hidden_size, hidden_size)
        self.register_buffer("position_td", position_td, persistent=False)
        self.position_td: Tensor

    def forward(self, x_btd: Tensor) -> Tensor:
        """Return the context of each token.

        Parameters
        ----------
        x_btd : Tensor
            Tokens without the code of their place.

        Returns
        -------
        Tensor, shape (B, T, D)
            Means of the tokens, weighed by attention.
        """
        placed = x_btd + self.position_td
        context = functional.scaled_dot_product_attention(
            self._heads(self.query(placed)), self._heads(self.key(placed)), self._heads(x_btd)
        )
        return context.transpose(1, 2).flatten(2)

    def weights(self, x_btd: Tensor) -> Tensor:
        """Return how much each token (row) attends to each (column).

        Parameters
        ----------
        x_btd : Tensor
            As for `forward`.

        Returns
        -------
        Tensor, shape (B, H, T, T)
            Each row sums to 1.
        """
        placed = x_btd + self.position_td
        query, key = self._heads(self.query(placed)), self._heads(self.key(placed))
        return (query @ key.mT / math.sqrt(query.shape[-1])).softmax(dim=-1)

    def _heads(self, y_btd: Tensor) -> Tensor:
        return y_btd.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
