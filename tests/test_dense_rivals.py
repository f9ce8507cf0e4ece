"""Rivals without experts: sizes, read-outs by hand, and networks of convolutions."""

import pytest
import torch
from rival_scans import centre_network, random_descriptions
from torch.nn import functional

from ermoe_ba.model.config import ModelConfig
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.model.rivals.additive import AdditiveReadout
from ermoe_ba.model.rivals.roster import (
    DENSE,
    make_dense,
    parameter_counts,
)
from ermoe_ba.model.rivals.sfcn import Sfcn
from ermoe_ba.model.rivals.volume import CONVOLUTIONAL, VolumeNetwork
from ermoe_ba.tokens import TokenGrid

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.mark.parametrize("backbone", DENSE)
def test_dense_networks_answer_with_an_age_and_learn(
    backbone: str, small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    torch.manual_seed(0)
    network = make_dense(backbone, small_config, small_tokens)
    ages = torch.tensor([30.0, 50.0, 64.0])
    centre_network(network, random_descriptions(small_tokens))
    age_b = network.read_age(random_descriptions(small_tokens))
    # Nothing is read out yet: the mean age of the training scans.
    torch.testing.assert_close(age_b.detach(), torch.full((3,), 48.0))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    functional.l1_loss(network.read_age(random_descriptions(small_tokens)), ages).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("backbone", DENSE)
def test_dense_networks_are_as_large_as_the_mixtures_active_part(
    backbone: str, small_config: ModelConfig, small_tokens: TokenGrid
) -> None:
    active, total = parameter_counts(ErmoeBrainAge(small_config, small_tokens))
    # Five experts of U, V (12 x 5), s and m (5) and w (12), three of them idle.
    assert total - active == 3 * (2 * 60 + 2 * 5 + 12)
    dense, all_of_it = parameter_counts(make_dense(backbone, small_config, small_tokens))
    assert dense == all_of_it
    # One hidden unit more or less: 12 weights in, 12 out, and at most a bias.
    assert abs(dense - active) <= 25 / 2


@torch.no_grad()
def test_the_additive_read_out_by_hand(small_config: ModelConfig, small_tokens: TokenGrid) -> None:
    """With the identity for both maps, the mean over tokens of (w + q_t) . x_t."""
    network = AdditiveReadout(small_config, small_tokens, mlp_dim=12, linear=True).eval()
    network.up.weight.copy_(torch.eye(12))
    network.down.weight.copy_(torch.eye(12))
    network.shared_readout_d.normal_()
    network.position_readout_td.normal_()
    described = random_descriptions(small_tokens, 2)
    x = network.content(described)
    read = network.shared_readout_d + network.position_readout_td
    expected = torch.stack([(x[b] * read).sum() / len(small_tokens) for b in range(2)])
    torch.testing.assert_close(network.read_age(described), expected)


@pytest.mark.parametrize("name", list(CONVOLUTIONAL))
def test_convolutional_networks_answer_with_an_age(name: str) -> None:
    torch.manual_seed(0)
    network = VolumeNetwork(name, reduce=1)
    # Five halvings leave one voxel; unequal axes.
    scans = torch.rand(2, 32, 40, 36)
    age_b = network(scans)
    assert age_b.shape == (2,)
    age_b.sum().backward()
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name


def test_the_residual_network_halves_its_volume_first() -> None:
    """He 2016, table 1: convolution and pooling halve each axis, then so do all stages but one."""
    parts = dict(CONVOLUTIONAL["resnet18"]().named_children())
    volume = parts["conv1"](torch.rand(1, 1, 32, 40, 36))
    assert volume.shape == (1, 64, 16, 20, 18)
    edges = []
    for name in ("maxpool", "layer1", "layer2", "layer3", "layer4"):
        volume = parts[name](volume)
        edges.append(tuple(volume.shape[2:]))
    assert edges == [(8, 10, 9), (8, 10, 9), (4, 5, 5), (2, 3, 3), (1, 2, 2)]


def test_sfcn_has_the_published_size() -> None:
    """27 weights a pair of channels, biases, norms, the last block and the read-out: 3 million."""
    pairs = 1 * 32 + 32 * 64 + 64 * 128 + 128 * 256 + 256 * 256
    channels = 32 + 64 + 128 + 256 + 256
    last = 256 * 64 + 64 + 2 * 64 + 64 + 1
    expected = 27 * pairs + 3 * channels + last
    assert sum(p.numel() for p in Sfcn().parameters()) == expected


def test_scans_are_averaged_before_convolutions() -> None:
    scan = torch.arange(8.0).reshape(1, 2, 2, 2)
    assert VolumeNetwork("sfcn", reduce=2).reduced(scan).tolist() == [[[[3.5]]]]
