"""Ages as distributions: a loss that sees how far off an age is, beside the absolute error.

Shapes: B scans of a batch, Y bins of a year.
"""

import torch
from torch import Tensor

# Bins as in the networks that made such labels known for brain age (Peng 2021, SFCN): of a year
# each, here over all adult ages.
YOUNGEST, OLDEST = 18, 95


def label_distribution_loss(predicted_b: Tensor, age_b: Tensor, width: float) -> Tensor:
    """Return how unlike the distributions around predicted and true ages are, in years.

    ``width * mean_b KL(p(age_b) || p(predicted_b))``, with ``p(a)_y`` proportional to
    ``exp(-(y - a)^2 / (2 width^2))`` over the middles y of the bins. Far from the first and the
    last bin that is ``mean_b (predicted_b - age_b)^2 / (2 width)``: an error of `width` years costs
    half as much as its absolute value, one of twice that as much. Labels after Peng 2021
    (doi:10.1016/j.media.2020.101871), who let the network give a distribution; here it gives an
    age, so that contributions still add up, and the distribution is put around it.

    Parameters
    ----------
    predicted_b, age_b : Tensor, shape (B,)
        In years.
    width : float
        Standard deviation in years, above 0.

    Returns
    -------
    Tensor, shape ()
        At least 0.
    """
    middle_y = torch.arange(YOUNGEST, OLDEST, device=age_b.device) + 0.5

    def log_share(centre_b: Tensor) -> Tensor:
        return (-((middle_y - centre_b[:, None]) ** 2) / (2 * width**2)).log_softmax(dim=1)

    true_by, found_by = log_share(age_b), log_share(predicted_b)
    return width * (true_by.exp() * (true_by - found_by)).sum(dim=1).mean()
