"""A trial: networks learn a planted cohort and say where they read the age.

Shapes: N subjects, V changed copies of each, T tokens, F families of description, C tissue classes,
D draws of a network.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ermoe_ba.attribution.answers import Answers, ask, over_draws, over_folds
from ermoe_ba.attribution.methods import captum_gradients, contributions
from ermoe_ba.localisation import slope_on_age
from ermoe_ba.model.config import ModelConfig
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.space import Array
from ermoe_ba.tokens import TokenGrid
from ermoe_ba.training.age import AgeConfig, train_age
from ermoe_ba.training.atlas_regions import place_regions
from ermoe_ba.training.content_centre import centre_on
from ermoe_ba.training.probe import Probe, probe_routing

# Networks that know nothing of the ages, by what they are: weights of chance; and trained, but on
# ages dealt out at random among the training subjects.
TRAINED, UNTRAINED = "trained", "untrained"
NULLS = (UNTRAINED, "shuffled_ages")
NETWORKS = (TRAINED, *NULLS)
# Shown to all methods: what one of them makes of weights of chance is none of its merit.
ASKED = (TRAINED, UNTRAINED)


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """How a cohort is tried.

    Parameters
    ----------
    num_folds : int
        Each subject is held out once; subject n is in fold ``n mod num_folds``.
    seed : int
        Of weights and of everything that is drawn.
    num_untrained : int
        Untrained networks of each fold, each of weights of its own: one draw may be twice as
        enriched as the next, and all others are compared with it.
    num_compared : int
        The first so many held-out subjects of a fold are shown to every method; occlusion alone
        takes a pass for each token.
    curve_steps : int
        Of insertion and deletion.

    Raises
    ------
    ValueError
        If there is less than two folds, one untrained network, one subject or one step.
    """

    num_folds: int
    seed: int
    num_untrained: int
    num_compared: int
    curve_steps: int

    def __post_init__(self) -> None:
        if self.num_folds < 2:
            raise ValueError(f"num_folds must be at least 2; found {self.num_folds}")
        for name in ("num_untrained", "num_compared", "curve_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; found {getattr(self, name)}")


@dataclass(frozen=True)
class Trial:
    """What networks made of subjects that they had not seen.

    Parameters
    ----------
    predicted_n : ndarray, shape (N,)
        Ages by the trained networks, each subject held out, in years.
    fold_n : ndarray of int, shape (N,)
        Which fold's networks had not seen the subject.
    years : dict
        Network of `NETWORKS` to what its tokens contribute, shape (D, N, T), years: D is
        `num_untrained` for the untrained network, 1 for the others.
    answers : dict
        Network of `ASKED` to what all methods make of it.
    probe : dict
        As from `probe_routing`, means over the folds.
    """

    predicted_n: Array
    fold_n: Array
    years: dict[str, Array]
    answers: dict[str, Answers]
    probe: Probe


def run_trial(
    described_nvtfc: Tensor,
    ages_n: Array,
    *,
    tokens: TokenGrid,
    model: ModelConfig,
    age: AgeConfig,
    config: TrialConfig,
) -> Trial:
    """Train networks on a cohort, fold by fold, and ask them where they read the age.

    Parameters
    ----------
    described_nvtfc : Tensor, shape (N, 1 + V, T, F, C)
        Subjects as `ErmoeBrainAge.describe` returns them, unchanged first, and their changed
        copies, which serve training alone.
    ages_n : ndarray
        Their ages in years.
    tokens : TokenGrid
        Where the tokens lie. Of the atlas regions that experts are tied to, they may know the
        shares; the atlas is read where they do not.
    model, age : ModelConfig, AgeConfig
        Shape and training.
    config : TrialConfig
        The rest.

    Returns
    -------
    Trial

    Raises
    ------
    UsageError
        As `captum_gradients` and `place_regions`: before anything is computed.
    """
    # Missing, it must not come out after the training.
    captum_gradients()
    if not set(model.atlas_regions) <= set(tokens.region_shares):
        tokens = place_regions(tokens, model)
    count, draws = len(ages_n), {**dict.fromkeys(NETWORKS, 1), UNTRAINED: config.num_untrained}
    predicted = np.zeros(count)
    years = {name: np.zeros((draws[name], count, len(tokens))) for name in NETWORKS}
    answers: dict[str, list[Answers]] = {name: [] for name in ASKED}
    probes = []
    unchanged_ntfc, fold_n = described_nvtfc[:, 0], np.zeros(count, dtype=int)
    for fold, train, test in _folds(count, config.num_folds):
        seen, fold_n[test] = unchanged_ntfc[test], fold
        random_t = np.random.default_rng(config.seed + fold).random(len(tokens))
        for name in NETWORKS:
            drawn = []
            for draw in range(draws[name]):
                network = _network(
                    name,
                    described_nvtfc[train],
                    ages_n[train],
                    tokens=tokens,
                    model=model,
                    age=age,
                    # Another for each fold and draw; the first draw begins as the trained one does.
                    seed=config.seed + fold + config.num_folds * draw,
                )
                years[name][draw, test] = contributions(network, seen).numpy()
                if name in ASKED:
                    asked = seen[: config.num_compared]
                    drawn.append(ask(network, asked, random_t, config.curve_steps))
                if name == TRAINED:
                    trained = network
            if name in ASKED:
                answers[name].append(over_draws(drawn))
        with torch.no_grad():
            predicted[test] = trained.read_age(seen).age_b.numpy()
        ages_b = torch.as_tensor(ages_n[test], dtype=torch.float32)
        probes.append(probe_routing([trained], [seen], ages_b, config.seed + fold))
    return Trial(
        predicted_n=predicted,
        fold_n=fold_n,
        years=years,
        answers={name: over_folds(folds) for name, folds in answers.items()},
        probe={key: np.mean([p[key] for p in probes], axis=0).tolist() for key in probes[0]},
    )


def _folds(count: int, num_folds: int) -> Iterator[tuple[int, Array, Array]]:
    """Return each fold's number, its training subjects and its held-out ones, as indices."""
    fold_n = np.arange(count) % num_folds
    for fold in range(num_folds):
        yield fold, np.flatnonzero(fold_n != fold), np.flatnonzero(fold_n == fold)


def _network(
    name: str,
    described_nvtfc: Tensor,
    ages_n: Array,
    *,
    tokens: TokenGrid,
    model: ModelConfig,
    age: AgeConfig,
    seed: int,
) -> ErmoeBrainAge:
    """Return one of `NETWORKS`, in evaluation mode."""
    torch.manual_seed(seed)
    network = ErmoeBrainAge(model, tokens)
    if name == UNTRAINED:
        return randomised(network, described_nvtfc[:, 0], ages_n, age.spread_floor).eval()
    if name == "shuffled_ages":
        ages_n = np.random.default_rng(seed).permutation(ages_n)
    train_age(network, described_nvtfc, ages_n, age, seed)
    return network.eval()


@torch.no_grad()
def randomised(
    network: ErmoeBrainAge, described_ntfc: Tensor, ages_n: Array, spread_floor: float
) -> ErmoeBrainAge:
    """Return a network whose read-outs are chance as well: it knows the cohort, but not its ages.

    Read-outs start at zero, and a map of zeros would be no null. Drawn from a normal distribution,
    they weigh all places and directions alike.

    Parameters
    ----------
    network : ErmoeBrainAge
        Fresh; changed in place. torch's random numbers are used.
    described_ntfc : Tensor
        Subjects that content and contributions are centred on, as in training.
    ages_n : ndarray, shape (N,)
        Their ages in years.
    spread_floor : float
        As in `AgeConfig`.

    Returns
    -------
    ErmoeBrainAge
        The network that was given.
    """
    centre_on(network, described_ntfc, torch.as_tensor(ages_n.copy()), spread_floor)
    network.experts.position_readout_td.normal_()
    network.experts.expert_readout_ed.normal_()
    network.refer_to(described_ntfc)
    return network


def age_map(years_nt: Array, ages_n: Array) -> Array:
    """Return the map by which networks are compared: absolute slopes on age.

    Parameters
    ----------
    years_nt : ndarray, shape (N, T)
        Years that each token adds to each subject's age.
    ages_n : ndarray, shape (N,)
        Chronological ages in years.

    Returns
    -------
    ndarray, shape (T,)
        Years a year, at least 0.
    """
    return np.abs(slope_on_age(years_nt, ages_n))
