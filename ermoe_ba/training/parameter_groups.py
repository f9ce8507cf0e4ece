"""What stages train of a network, parted by how strongly it is kept small."""

from torch import nn

# They are lengths and directions, which have no smaller value to prefer.
UNDECAYED = ("experts.raw_u_edr", "experts.raw_v_edr", "experts.s_er")


def parameter_groups(
    model: nn.Module, weight_decay: float, readout_decay: float | None
) -> list[dict[str, object]]:
    """Return what a stage trains, parted by the weight decay that it bears.

    Parameters
    ----------
    model : ErmoeBrainAge or PlainNetwork
        Whose.
    weight_decay : float
        Of all but the read-outs of age; `UNDECAYED` have none.
    readout_decay : float or None
        Of the read-outs of age; None leaves them as they are.

    Returns
    -------
    list of dict
        As torch optimisers take them: all parameters but the stem's.
    """
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if name.startswith("stem.") or not parameter.requires_grad:
            continue
        if "readout" in name:
            if readout_decay is None:
                continue
            decay = readout_decay
        elif name in UNDECAYED:
            decay = 0.0
        else:
            decay = weight_decay
        groups.setdefault(decay, []).append(parameter)
    return [{"params": params, "weight_decay": decay} for decay, params in groups.items()]
