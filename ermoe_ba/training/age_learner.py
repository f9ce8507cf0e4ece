"""What a network learns from ages: the loss, what follows a step, the error on scans set aside.

Shapes: B scans of a batch, N scans, T tokens, E experts.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.model.rivals.plain import PlainNetwork
from ermoe_ba.model.rivals.roster import AgeNetwork
from ermoe_ba.space import Array
from ermoe_ba.training.batch import Batch
from ermoe_ba.training.label_distribution import label_distribution_loss
from ermoe_ba.training.stage import Loss, Validation


class AgeLearner:
    """What a network of ages minimises, and what follows a step.

    Parameters
    ----------
    model : ErmoeBrainAge or PlainNetwork
        Trained.
    label_width : float
        As `AgeConfig.label_width`.
    """

    def __init__(self, model: AgeNetwork, label_width: float = 0.0) -> None:
        self.model = model
        self.label_width = label_width

    def loss(self, tensors: tuple[Tensor, ...]) -> Loss:
        """Return the mean absolute error with what is added to it; what is measured is its parts.

        Parameters
        ----------
        tensors : tuple of Tensor
            What the network reads, shape (B, ...), and chronological ages in years, shape (B,).

        Returns
        -------
        Loss
            In years; ``error_b``, the absolute error of each scan in years, and of a mixture
            ``selected_bte``, which experts each token selected.
        """
        inputs, age = tensors
        if isinstance(self.model, PlainNetwork):
            predicted = self.model.read_age(inputs)
            mean = self._off(predicted, age)
            return Loss(mean, {"error_b": (predicted.detach() - age).abs()})
        with torch.autocast(inputs.device.type, enabled=False):
            output = self.model.read_age(inputs)
            mean = self._off(output.age_b, age) + self.model.auxiliary_loss(output)
        error_b = (output.age_b.detach() - age).abs()
        return Loss(mean, {"error_b": error_b, "selected_bte": output.routing.selected_bte})

    def _off(self, predicted_b: Tensor, age_b: Tensor) -> Tensor:
        error = functional.l1_loss(predicted_b, age_b)
        if self.label_width == 0:
            return error
        return error + label_distribution_loss(predicted_b, age_b, self.label_width)

    def after_step(self, measured: dict[str, Tensor]) -> dict[str, float]:
        """Let routing follow the load of the whole batch; return the step's error and loads.

        Parameters
        ----------
        measured : dict of Tensor
            What `loss` measured, of all scans of the batch.

        Returns
        -------
        dict
            ``mae`` in years, and of a mixture ``load_<expert>``, whose sum is 1 (0 where no token
            selected any).
        """
        values = {"mae": float(measured["error_b"].mean())}
        if isinstance(self.model, ErmoeBrainAge):
            selected_bte = measured["selected_bte"]
            self.model.after_step(selected_bte)
            load_e = selected_bte.float().mean(dim=(0, 1))
            # Gates may leave every token to nobody.
            share_e = load_e / load_e.sum().clamp_min(torch.finfo(load_e.dtype).tiny)
            names = self.model.config.expert_names
            values |= {f"load_{n}": float(x) for n, x in zip(names, share_e, strict=True)}
        return values


def age_validation(
    inputs_nv: Tensor,
    ages_n: Tensor,
    participants: Sequence[str],
    aside: Array,
    at_a_time: int,
) -> Validation | None:
    """Return how the scans that were set aside are looked at.

    Parameters
    ----------
    inputs_nv : Tensor, shape (N, 1 + num_variants, ...)
        All scans; of those set aside, the unchanged variant counts.
    ages_n : Tensor
        In years.
    participants : sequence of str
        Whose each scan is.
    aside : ndarray of int
        Numbers of the scans set aside.
    at_a_time : int
        How many a process looks at together.

    Returns
    -------
    Validation or None
        Absolute errors in years; None where no scan was set aside.
    """
    if not len(aside):
        return None

    def error(network: nn.Module, tensors: tuple[Tensor, ...]) -> Tensor:
        assert isinstance(network, AgeNetwork)
        inputs, age = tensors
        output = network.read_age(inputs)
        predicted = output if isinstance(output, Tensor) else output.age_b
        return (predicted - age).abs()

    chosen = torch.as_tensor(aside)
    return Validation(
        batch=Batch(
            (inputs_nv[chosen, 0].float(), ages_n[chosen]),
            tuple(participants[scan] for scan in aside),
        ),
        at_a_time=at_a_time,
        error=error,
        name="validation_mae",
    )
