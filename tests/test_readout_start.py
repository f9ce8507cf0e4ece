"""Where read-outs start: at a ridge regression, alike at places near each other."""

import numpy as np
import pytest
import torch
from planted_tokens import plant

from ermoe_ba.model.config import ModelConfig
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.tokens import TokenGrid
from ermoe_ba.training.readout_start import place_prior, start_readouts

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def test_read_outs_start_at_the_ridge_regression(
    small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    """Against the primal normal equations, with features taken one read-out at a time."""
    planted = plant(small_tokens, 9, seed=0)
    described = planted.described[:, 0].float()
    torch.manual_seed(1)
    member = ErmoeBrainAge(small_config, small_tokens).eval()
    member.scale.fill_(2.0)
    readout = member.experts.position_readout_td
    columns = []
    with torch.no_grad():
        for place in np.ndindex(*readout.shape):
            readout.zero_()
            readout[place] = 1.0
            columns.append(member.read_age(described).age_b / 2.0)
        start_readouts(member, described[:, None], planted.ages, 0.5, 0.0)
        predicted = member.read_age(described).age_b.numpy()
    features = torch.stack(columns, dim=1).double().numpy()
    features -= features.mean(axis=0)
    target = (planted.ages - planted.ages.mean()) / 2.0
    penalty = 0.5 * np.mean((features**2).sum(axis=1))
    gram = features.T @ features + penalty * np.eye(features.shape[1])
    expected = np.linalg.solve(gram, features.T @ target)
    np.testing.assert_allclose(readout.detach().flatten(), expected, rtol=1e-2, atol=1e-3)
    np.testing.assert_allclose(
        predicted, planted.ages.mean() + 2.0 * features @ expected, atol=1e-2
    )


def test_near_places_are_alike_and_directions_weigh_by_what_they_vary(
    small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    """Against the primal normal equations, with the inverse of both priors for a penalty."""
    planted = plant(small_tokens, 9, seed=0)
    described = planted.described[:, 0].float()
    torch.manual_seed(1)
    member = ErmoeBrainAge(small_config, small_tokens).eval()
    start_readouts(member, described[:, None], planted.ages, 0.5, 0.0, length=0.8, shrinkage=0.4)
    with torch.no_grad():
        phi_ntd = member.readout_inputs(described).double().numpy()
    phi_ntd -= phi_ntd.mean(axis=0)
    apart = np.linalg.norm(small_tokens.positions[:, None] - small_tokens.positions, axis=-1)
    prior = np.eye(len(apart)) / 2 + np.exp(-(apart**2) / (2 * 0.8**2)) / 2
    rows = phi_ntd.reshape(-1, phi_ntd.shape[-1])
    spread = rows.T @ rows / len(rows)
    sphere = np.eye(len(spread)) * np.trace(spread) / len(spread)
    weight = np.kron(np.linalg.inv(prior), 0.6 * spread + 0.4 * sphere)
    flat = phi_ntd.reshape(len(phi_ntd), -1)
    kernel = flat @ np.linalg.inv(weight) @ flat.T
    gram = flat.T @ flat + 0.5 * kernel.diagonal().mean() * weight
    expected = np.linalg.solve(gram, flat.T @ (planted.ages - planted.ages.mean()))
    found = member.experts.position_readout_td.detach().double().numpy().ravel()
    np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-3 * np.abs(expected).max())


def test_prior_of_places_by_hand() -> None:
    """Two places a token and a half apart, with a length of 1.5: exp(-1/2) shared by half."""
    prior = place_prior(torch.tensor([[0.0, 0, 0], [0, 1.5, 0]]), 1.5)
    shared = float(np.exp(-0.5)) / 2
    expected = torch.tensor([[1.0, shared], [shared, 1.0]])
    torch.testing.assert_close(prior, expected)


def test_copies_are_made_as_old_as_their_scans_at_the_weight_given(
    small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    """The more invariance counts, the less copies move the age; equal copies count nothing.

    Copies are scans with noise. With equal copies, all differences are 0 and the regression is that
    of the scans alone.
    """
    planted = plant(small_tokens, 9, seed=0)
    scans = planted.described[:, :1].float()
    noise = torch.randn(scans.shape, generator=torch.Generator().manual_seed(3))
    moved, found = [], []
    for copies, invariance in (
        (scans + 0.05 * noise, 0.0),
        (scans + 0.05 * noise, 1.0),
        (scans + 0.05 * noise, 100.0),
        (scans, 100.0),
    ):
        torch.manual_seed(1)
        member = ErmoeBrainAge(small_config, small_tokens).eval()
        start_readouts(member, torch.cat([scans, copies], dim=1), planted.ages, 0.1, invariance)
        with torch.no_grad():
            ages = [member.read_age(x[:, 0]).age_b for x in (scans, scans + 0.05 * noise)]
        moved.append(float((ages[1] - ages[0]).abs().mean()))
        found.append(member.experts.position_readout_td.detach().clone())
    assert moved[0] > 1.5 * moved[1] > 2.25 * moved[2] > 0
    torch.testing.assert_close(found[0], found[3], rtol=1e-4, atol=1e-6)
