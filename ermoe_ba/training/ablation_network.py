"""One network of an ablation: a row, a seed, a fold; trained and tested."""

import time

import numpy as np
import torch

from ermoe_ba.checkpoint import token_grid
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.model.output import ModelOutput
from ermoe_ba.model.rivals.roster import (
    DENSE,
    AgeNetwork,
    make_dense,
    make_mixture,
    parameter_counts,
)
from ermoe_ba.model.rivals.volume import CONVOLUTIONAL, VolumeNetwork
from ermoe_ba.software import commit
from ermoe_ba.space import Array
from ermoe_ba.tokens import TokenGrid
from ermoe_ba.training.ablation_fold import AblationFold, Inputs
from ermoe_ba.training.ablation_recipe import AblationRecipe, RowConfig
from ermoe_ba.training.ablation_unit import MOVED_BY, Routes, Unit, changed_share
from ermoe_ba.training.age import train_age
from ermoe_ba.training.atlas_regions import place_regions
from ermoe_ba.training.pretrain import pretrain
from ermoe_ba.training.probe import probe_routing
from ermoe_ba.training.regional_volumes import REGRESSIONS, make_regression

# What tells something only where tokens choose among experts.
SELECTION_FIGURES = ("load_gini", "dead_experts", "threshold_fallback_share")


def train_unit(recipe: AblationRecipe, row: RowConfig, fold: AblationFold, seed: int) -> Unit:
    """Train and test one row's network on one fold.

    Parameters
    ----------
    recipe : AblationRecipe
        All settings.
    row : RowConfig
        Which network.
    fold : AblationFold
        Its scans.
    seed : int
        Of weights and of everything that is drawn in training.

    Returns
    -------
    Unit
        Ages out of fold, and figures.
    """
    if row.backbone in REGRESSIONS:
        combat = row.harmonise == "combat"
        train, test = fold.harmonised_volumes() if combat else fold.regional_volumes
        bounds = recipe.model_of(row).age_bounds
        regression = make_regression(row.backbone, train.shape[1], bounds)
        ages = regression.fit(train, fold.train_ages).predict(test)
        return _unit(fold, ages, {}, None)
    # Seeds and folds share no stream.
    stream = 1000 * seed + fold.fold
    torch.manual_seed(stream)
    network = _network(recipe, row)
    config = recipe.age_of(row)
    if isinstance(network, VolumeNetwork):
        inputs = fold.volumes(network, config)
    else:
        inputs = fold.described(config)
    before = recipe.pretrain_of(row)
    if before.stages():
        assert isinstance(network, ErmoeBrainAge)
        lessons = fold.lessons(inputs, config, before)
        for name, stage in before.stages().items():
            pretrain(network, name, stage, config, lessons, seed=stream)
    first = max(0, config.num_epochs - 1 - recipe.ablation.stability_epochs)
    watch = _Watch(network, inputs, first)
    history = train_age(
        network,
        inputs.train,
        fold.train_ages,
        config,
        stream,
        participants=[scan.participant_id for scan in fold.train_scans],
        at_epoch=watch.at_epoch,
    )
    active, total = parameter_counts(network)
    figures = {
        "seconds_per_step": (time.process_time() - watch.begun - watch.seconds) / len(history),
        "parameters_active": float(active),
        "parameters_total": float(total),
    }
    with torch.no_grad():
        output = network.read_age(inputs.test)
        if not isinstance(network, VolumeNetwork):
            ages_b = _ages(output)
            for change in recipe.ablation.moved_by:
                after = _ages(network.read_age(fold.moved(change)))
                figures[f"{MOVED_BY}{change}"] = float((after - ages_b).abs().mean())
    if isinstance(output, torch.Tensor):
        return _unit(fold, output.numpy(), figures, None)
    assert isinstance(network, ErmoeBrainAge)
    ages_b = torch.as_tensor(fold.test_ages, dtype=torch.float32)
    probe = probe_routing([network], [inputs.test], ages_b, stream, participants=fold.test_ids)
    # The table takes the error over all folds' participants, not the folds' mean.
    figures |= {n: value for n, value in probe.items() if isinstance(value, float) and n != "mae"}
    # Lists over layers of experts, of which these networks have one.
    by_layer = ("mae_zeroed", "load_gini", "dead_experts")
    figures |= {n: v[0] for n, v in probe.items() if n in by_layer and isinstance(v, list)}
    without = np.array(probe["mae_without_expert"])
    figures |= {"mae_without_least": without.min(), "mae_without_most": without.max()}
    selected = output.routing.selected_bte
    if bool(selected.all()):
        # One expert, or a gate that leaves nobody out: even by construction, which is no merit.
        for name in SELECTION_FIGURES:
            figures.pop(name)
        return _unit(fold, output.age_b.numpy(), figures, None)
    figures["load_entropy"] = float(output.metrics.entropy)
    if watch.shares:
        figures["changed_between_epochs"] = float(np.mean(watch.shares))
    weights_te = output.routing.weights_bte.mean(dim=0).numpy()
    routes = Routes(selected.numpy(), weights_te, len(network.config.regions))
    return _unit(fold, output.age_b.numpy(), figures, routes)


def _unit(
    fold: AblationFold, ages: Array, figures: dict[str, float], routes: Routes | None
) -> Unit:
    predicted = tuple(float(age) for age in ages)
    return Unit(
        tuple(fold.test_ids),
        tuple(fold.test_ages.tolist()),
        predicted,
        figures,
        routes,
        fold.stem_hash,
        commit(),
    )


def _ages(output: torch.Tensor | ModelOutput) -> torch.Tensor:
    """Return the ages in years of what a network of either kind answers."""
    return output if isinstance(output, torch.Tensor) else output.age_b


def row_tokens(recipe: AblationRecipe, row: RowConfig) -> TokenGrid:
    """Return the tokens of a row's network, which know the atlas regions of its experts.

    Parameters
    ----------
    recipe : AblationRecipe
        All settings.
    row : RowConfig
        Which network.

    Returns
    -------
    TokenGrid
        On the model grid, as all rows have them.

    Raises
    ------
    UsageError
        As from `place_regions`.
    """
    config = recipe.model_of(row)
    return place_regions(token_grid(config), config)


def _network(recipe: AblationRecipe, row: RowConfig) -> AgeNetwork:
    config = recipe.model_of(row)
    if row.backbone in CONVOLUTIONAL:
        return VolumeNetwork(row.backbone, recipe.ablation.reduce, config.age_bounds)
    tokens = row_tokens(recipe, row)
    if row.backbone in DENSE:
        return make_dense(row.backbone, config, tokens)
    return make_mixture(row.router, config, tokens, row.orthogonal)


class _Watch:
    """How much routing moves from epoch to epoch, when the first began, and the time taken to look.

    Parameters
    ----------
    network : ErmoeBrainAge or PlainNetwork
        In training.
    inputs : Inputs
        The test scans are looked at; nothing learns from them.
    first : int
        Epoch to start at.
    """

    def __init__(self, network: AgeNetwork, inputs: Inputs, first: int) -> None:
        self.network, self.inputs, self.first = network, inputs, first
        self.before: Array | None = None
        # Of tokens whose set of experts is another after an epoch.
        self.shares: list[float] = []
        self.seconds = 0.0
        # Of the processor, when the first step was about to be made: after the ridge start, which
        # only some networks have.
        self.begun = 0.0

    @torch.no_grad()
    def at_epoch(self, epoch: int) -> None:
        """Look at the routing before an epoch."""
        if epoch == 0:
            self.begun = time.process_time()
        if not isinstance(self.network, ErmoeBrainAge) or epoch < self.first:
            return
        start = time.process_time()
        self.network.eval()
        # The loop may have moved the network to another device.
        scans = self.inputs.test.to(self.network.baseline.device)
        selected = self.network.read_age(scans).routing.selected_bte.cpu().numpy()
        self.network.train()
        if self.before is not None:
            self.shares.append(changed_share(self.before, selected))
        self.before = selected
        self.seconds += time.process_time() - start
