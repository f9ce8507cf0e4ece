"""A trial: networks learn a planted cohort and say where they read the age.

Shapes: N subjects, V changed copies of each, T tokens, F families of description, C tissue classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ermoe_ba.attribution.curves import FidelityCurves, fidelity_curves
from ermoe_ba.attribution.methods import METHODS, captum_gradients, contributions
from ermoe_ba.localisation import slope_on_age
from ermoe_ba.model.config import ModelConfig
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.space import Array
from ermoe_ba.tokens import TokenGrid
from ermoe_ba.training.age import AgeConfig, train_age
from ermoe_ba.training.content_centre import centre_on
from ermoe_ba.training.probe import Probe, probe_routing

# Networks that know nothing of the ages, by what they are: weights of chance; and trained, but on
# ages dealt out at random among the training subjects.
NULLS = ("untrained", "shuffled_ages")
NETWORKS = ("trained", *NULLS)


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """How a cohort is tried.

    Parameters
    ----------
    num_folds : int
        Each subject is held out once; subject n is in fold ``n mod num_folds``.
    seed : int
        Of weights and of everything that is drawn.
    num_compared : int
        The first so many held-out subjects of a fold are asked by every method; occlusion alone
        takes a pass for each token.
    curve_steps : int
        Of insertion and deletion.

    Raises
    ------
    ValueError
        If there is less than two folds, one subject or one step.
    """

    num_folds: int
    seed: int
    num_compared: int
    curve_steps: int

    def __post_init__(self) -> None:
        if self.num_folds < 2:
            raise ValueError(f"num_folds must be at least 2; found {self.num_folds}")
        for name in ("num_compared", "curve_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; found {getattr(self, name)}")


@dataclass(frozen=True)
class Trial:
    """What networks made of subjects that they had not seen.

    Parameters
    ----------
    predicted_n : ndarray, shape (N,)
        Ages by the trained networks, each subject held out, in years.
    years : dict
        Network of `NETWORKS` to what its tokens contribute, shape (N, T), years.
    mean_absolute : dict
        Method of `METHODS` to the mean absolute years (attention: shares) by token in the trained
        networks, shape (T,).
    curves : dict
        Method, or ``random_order``, to insertion and deletion, means over the folds.
    probe : dict
        As from `probe_routing`, means over the folds.
    """

    predicted_n: Array
    years: dict[str, Array]
    mean_absolute: dict[str, Array]
    curves: dict[str, FidelityCurves]
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
        Where the tokens lie.
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
        As `captum_gradients`: before anything is computed.
    """
    # Missing, it must not come out after the training.
    captum_gradients()
    predicted = np.zeros(len(ages_n))
    years = {name: np.zeros((len(ages_n), len(tokens))) for name in NETWORKS}
    maps: dict[str, list[Array]] = {name: [] for name in METHODS}
    curves: dict[str, list[FidelityCurves]] = {}
    probes = []
    unchanged_ntfc = described_nvtfc[:, 0]
    for fold, train, test in _folds(len(ages_n), config.num_folds):
        for name in NETWORKS:
            network = _network(
                name,
                described_nvtfc[train],
                ages_n[train],
                tokens=tokens,
                model=model,
                age=age,
                seed=config.seed + fold,
            )
            years[name][test] = contributions(network, unchanged_ntfc[test]).numpy()
            if name == "trained":
                trained = network
        seen = unchanged_ntfc[test]
        with torch.no_grad():
            predicted[test] = trained.read_age(seen).age_b.numpy()
        asked, rankings = seen[: config.num_compared], {}
        for name, method in METHODS.items():
            maps[name].append(method(trained, asked).abs().numpy())
            rankings[name] = maps[name][-1].mean(axis=0)
        rankings["random_order"] = np.random.default_rng(config.seed + fold).random(len(tokens))
        for name, ranking in rankings.items():
            curve = fidelity_curves(trained, asked, ranking, config.curve_steps)
            curves.setdefault(name, []).append(curve)
        ages_b = torch.as_tensor(ages_n[test], dtype=torch.float32)
        probes.append(probe_routing([trained], [seen], ages_b, config.seed + fold))
    return Trial(
        predicted_n=predicted,
        years=years,
        mean_absolute={name: np.concatenate(rows).mean(axis=0) for name, rows in maps.items()},
        curves={name: _mean_curves(some) for name, some in curves.items()},
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
    if name == "untrained":
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


def _mean_curves(curves: list[FidelityCurves]) -> FidelityCurves:
    return FidelityCurves(
        share_s=curves[0].share_s,
        insertion_s=np.mean([c.insertion_s for c in curves], axis=0),
        deletion_s=np.mean([c.deletion_s for c in curves], axis=0),
    )


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
