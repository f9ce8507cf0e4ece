"""Tasks that need no age: a network with a head of its own, which is dropped afterwards.

Shapes: B scans of a batch, T tokens, D hidden_size, E experts, R rank, F families of description,
C tissue classes, L regions.
"""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.training.stage import Loss


class Pretext(nn.Module):
    """What a network learns of scans without their ages.

    Parameters
    ----------
    network : ErmoeBrainAge
        Trained in place; its content must be centred.
    """

    def __init__(self, network: ErmoeBrainAge) -> None:
        super().__init__()
        self.network = network

    @property
    @abstractmethod
    def head(self) -> list[nn.Parameter]:
        """What is trained beside the network, and dropped."""

    @abstractmethod
    def errors(self, described_btfc: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return how wrong the network is about each scan, and how it routed their tokens.

        Parameters
        ----------
        described_btfc : Tensor, shape (B, T, F, C)
            Descriptions of the scans' tokens.
        target : Tensor, shape (B, ...)
            What is to be told of each scan; what it holds is the stage's to say.

        Returns
        -------
        Tensor, shape (B,)
            Mean absolute error in standard deviations, with gradients.
        Tensor of bool, shape (B, T, E)
            Which experts each token selected.
        """

    def loss(self, tensors: tuple[Tensor, ...]) -> Loss:
        """Return the mean error over scans, with what keeps the bases orthonormal.

        Parameters
        ----------
        tensors : tuple of Tensor
            Descriptions and targets, as `errors` takes them.

        Returns
        -------
        Loss
            In standard deviations; measured are ``error_b`` of each scan, and ``selected_bte``,
            which experts each token selected.
        """
        described_btfc, target = tensors
        # As when ages are read: cosines that are compared need more than bfloat16's 8 bits.
        with torch.autocast(described_btfc.device.type, enabled=False):
            error_b, selected_bte = self.errors(described_btfc, target)
        measured = {"error_b": error_b.detach(), "selected_bte": selected_bte}
        return Loss(error_b.mean() + self.network.experts.penalty(), measured)

    def after_step(self, measured: dict[str, Tensor]) -> dict[str, float]:
        """Let routing follow the load of the whole batch, as it does when ages are learnt.

        Parameters
        ----------
        measured : dict of Tensor
            What `loss` measured, of all scans of the batch.

        Returns
        -------
        dict
            ``error``, in standard deviations.
        """
        self.network.after_step(measured["selected_bte"])
        return {"error": float(measured["error_b"].mean())}


class MaskedTokens(Pretext):
    """Hidden tokens, told from the context that the shown ones give.

    A hidden token holds the cohort's mean. Its context, what attention gathers for it, goes through
    the experts that it is routed to, and a linear head says from that what was hidden.

    Parameters
    ----------
    network : ErmoeBrainAge
        As in `Pretext`.
    share : float
        Of the tokens hidden.
    """

    def __init__(self, network: ErmoeBrainAge, share: float) -> None:
        super().__init__(network)
        self.share = share
        self.tell = nn.Linear(network.embed.out_features, network.embed.in_features)

    @property
    def head(self) -> list[nn.Parameter]:
        """The linear map from the experts' outputs to descriptions."""
        return list(self.tell.parameters())

    def errors(self, described_btfc: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the error over a scan's hidden tokens, and the routing that told them.

        Parameters
        ----------
        described_btfc : Tensor, shape (B, T, F, C)
            Descriptions of the scans' tokens.
        target : Tensor, shape (B, ...)
            Not looked at: what is hidden stands in the descriptions.

        Returns
        -------
        Tensor, shape (B,)
            Mean over hidden tokens, families and tissues, in standard deviations over the cohort; 0
            where the draw hid nothing.
        Tensor of bool, shape (B, T, E)
            Which experts each token selected, hidden ones hidden.
        """
        del target
        network = self.network
        hidden_bt = torch.rand(described_btfc.shape[:2], device=described_btfc.device) < self.share
        mean_btfc = network.location_tfc.expand_as(described_btfc)
        shown = torch.where(hidden_bt[..., None, None], mean_btfc, described_btfc)
        routing = network.read_age(shown).routing
        context_btd = network.context(network.content(shown))
        u_edr, v_edr = network.experts.bases()
        within_bter = network.experts.within(torch.einsum("btd,edr->bter", context_btd, v_edr))
        weighed_bter = within_bter * routing.weights_bte[..., None]
        said_btd = torch.einsum("bter,edr->btd", weighed_bter, u_edr)
        wanted = ((described_btfc - network.location_tfc) / network.spread_tfc).flatten(2)
        error_bt = (self.tell(said_btd) - wanted).abs().mean(dim=-1)
        # Where a draw hides nothing, there is nothing to tell.
        error_b = (error_bt * hidden_bt).sum(dim=1) / hidden_bt.sum(dim=1).clamp_min(1)
        return error_b, routing.selected_bte


class RegionalVolumes(Pretext):
    """Volumes of regions, each read from the experts' outputs at places of its own.

    ``volume_l = sum_t where_lt (what_l . phi_t)`` with phi the network's `readout_inputs`.

    Parameters
    ----------
    network : ErmoeBrainAge
        As in `Pretext`.
    num_regions : int
        L.
    """

    def __init__(self, network: ErmoeBrainAge, num_regions: int) -> None:
        super().__init__(network)
        num_tokens, hidden_size = network.place_td.shape
        self.where_lt = nn.Parameter(torch.ones(num_regions, num_tokens))
        # Volumes start at their means: random directions were measured to start 5 deviations off,
        # since tokens of a brain go together, and not to come back in 10 epochs.
        self.what_ld = nn.Parameter(torch.zeros(num_regions, hidden_size))

    @property
    def head(self) -> list[nn.Parameter]:
        """Places and directions of the regions."""
        return [self.where_lt, self.what_ld]

    def errors(self, described_btfc: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the error over a scan's regions; the target holds standardised volumes, (B, L).

        Parameters
        ----------
        described_btfc : Tensor, shape (B, T, F, C)
            Descriptions of the scans' tokens.
        target : Tensor, shape (B, L)
            Volumes of the regions, standardised over the cohort.

        Returns
        -------
        Tensor, shape (B,)
            Mean over regions, in standard deviations.
        Tensor of bool, shape (B, T, E)
            Which experts each token selected.
        """
        selected_bte = self.network.read_age(described_btfc).routing.selected_bte
        phi_btd = self.network.readout_inputs(described_btfc)
        said_btl = torch.einsum("btd,ld->btl", phi_btd, self.what_ld)
        said_bl = (said_btl * self.where_lt.T).sum(dim=1)
        return (said_bl - target).abs().mean(dim=1), selected_bte
