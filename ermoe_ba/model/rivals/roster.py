"""All networks under their names, and their sizes.

Shapes: E experts.
"""

from torch import nn

from ermoe_ba.model.config import ModelConfig
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.model.rivals.activation_gate import ActivationGate
from ermoe_ba.model.rivals.additive import AdditiveReadout
from ermoe_ba.model.rivals.bias_gate import BiasGate
from ermoe_ba.model.rivals.cosine_gate import CosineGate
from ermoe_ba.model.rivals.expert_choice import ExpertChoiceGate
from ermoe_ba.model.rivals.gate import Gate
from ermoe_ba.model.rivals.gated import GatedBrainAge, SubspaceBrainAge
from ermoe_ba.model.rivals.plain import PlainNetwork
from ermoe_ba.model.rivals.plain_residual import PlainResidual
from ermoe_ba.model.rivals.relu_gate import ReluGate
from ermoe_ba.model.rivals.soft_moe import SoftMoeBrainAge
from ermoe_ba.model.rivals.softmax_gate import SoftmaxGate
from ermoe_ba.model.rivals.transformer import DenseTransformer
from ermoe_ba.model.rivals.transformer_tokens import TransformerTokens
from ermoe_ba.model.rivals.volume import CONVOLUTIONAL
from ermoe_ba.tokens import TokenGrid

# What the ablation trains.
AgeNetwork = ErmoeBrainAge | PlainNetwork

GATES = (
    "softmax",
    "softmax_balanced",
    "expert_choice",
    "loss_free_bias",
    "cosine",
    "relu",
    "activation",
)
# The eigenbasis score in another network around the same experts.
FORMS = ("transformer_tokens", "plain_residual")
ROUTERS = ("eigenbasis", "subspace", "soft", *GATES, *FORMS)
DENSE = ("transformer", "additive", "additive_mlp")
BACKBONES = ("experts", *DENSE, *CONVOLUTIONAL)
# Switch's alpha, kept by X-MoE.
BALANCE = 0.01
# The mixture gathers context once.
TRANSFORMER_LAYERS = 1
# Of the mixture; stacked over the experts.
EXPERT_PARAMETERS = (
    "experts.raw_u_edr",
    "experts.raw_v_edr",
    "experts.s_er",
    "experts.offset_er",
    "experts.expert_readout_ed",
)


def make_gate(router: str, config: ModelConfig) -> Gate:
    """Return a gate by its name, one of `GATES`.

    Parameters
    ----------
    router : str
        One of `GATES`.
    config : ModelConfig
        Gives D, E and k.

    Returns
    -------
    Gate
        With weights of chance.

    Raises
    ------
    ValueError
        If there is no gate of that name.
    """
    size = (config.hidden_size, config.num_experts, config.top_k)
    match router:
        case "softmax":
            return SoftmaxGate(*size, balance=0.0)
        case "softmax_balanced":
            return SoftmaxGate(*size, balance=BALANCE)
        case "expert_choice":
            return ExpertChoiceGate(*size)
        case "loss_free_bias":
            return BiasGate(*size)
        case "cosine":
            return CosineGate(*size, balance=BALANCE)
        case "relu":
            return ReluGate(*size)
        case "activation":
            return ActivationGate(config.top_k)
    raise ValueError(f"router must be one of {ROUTERS}; found {router!r}.")


def make_mixture(
    router: str, config: ModelConfig, tokens: TokenGrid, orthogonal: str = "qr"
) -> ErmoeBrainAge:
    """Return a network of experts by the name of its router or form.

    Parameters
    ----------
    router : str
        One of `ROUTERS`; ``eigenbasis`` is the network of this project, `FORMS` are others that
        route as it does.
    config : ModelConfig
        Shape.
    tokens : TokenGrid
        Where the tokens lie.
    orthogonal : str
        As for `ErmoeBrainAge`.

    Returns
    -------
    ErmoeBrainAge
        With fresh weights; `forward` and `read_age` give a `ModelOutput`.

    Raises
    ------
    ValueError
        If there is no such router.
    """
    match router:
        case "eigenbasis":
            return ErmoeBrainAge(config, tokens, orthogonal)
        case "subspace":
            return SubspaceBrainAge(config, tokens, orthogonal)
        case "soft":
            return SoftMoeBrainAge(config, tokens, orthogonal)
        case "transformer_tokens":
            return TransformerTokens(config, tokens, orthogonal, TRANSFORMER_LAYERS)
        case "plain_residual":
            return PlainResidual(config, tokens, orthogonal, TRANSFORMER_LAYERS)
    return GatedBrainAge(config, tokens, make_gate(router, config), orthogonal)


def make_dense(backbone: str, config: ModelConfig, tokens: TokenGrid) -> PlainNetwork:
    """Return a dense network on the tokens with as many parameters as the mixture has active.

    Parameters
    ----------
    backbone : {"transformer", "additive", "additive_mlp"}
        Which.
    config : ModelConfig
        Shape of the mixture to be equalled.
    tokens : TokenGrid
        Where the tokens lie.

    Returns
    -------
    PlainNetwork
        With fresh weights; `read_age` gives ages. The width of its hidden layer is what makes the
        sizes equal, to within half a unit of that layer.
    """

    def make(mlp_dim: int) -> PlainNetwork:
        if backbone == "transformer":
            return DenseTransformer(config, tokens, mlp_dim, TRANSFORMER_LAYERS)
        return AdditiveReadout(config, tokens, mlp_dim, linear=backbone == "additive")

    wanted, _ = parameter_counts(ErmoeBrainAge(config, tokens))
    (one, _), (two, _) = (parameter_counts(make(width)) for width in (1, 2))
    return make(max(1, 1 + round((wanted - one) / (two - one))))


def parameter_counts(network: nn.Module) -> tuple[int, int]:
    """Return how many trained parameters serve one token, and how many there are.

    The stem, trained before and alike for all, is left out. Of the parameters that belong to single
    experts, those of `top_k` experts serve a token.

    Parameters
    ----------
    network : Module
        A network of this package or any other.

    Returns
    -------
    tuple of int
        Active and total.
    """
    sizes = {
        name: parameter.numel()
        for name, parameter in network.named_parameters()
        if parameter.requires_grad and not name.startswith("stem.")
    }
    total = sum(sizes.values())
    if not isinstance(network, ErmoeBrainAge):
        return total, total
    own = sum(n for name, n in sizes.items() if name in EXPERT_PARAMETERS)
    idle = network.config.num_experts - network.config.top_k
    return total - own * idle // network.config.num_experts, total
