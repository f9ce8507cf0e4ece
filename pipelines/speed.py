"""What the network costs against others, as ratios of one run on one thread.

Command: python pipelines/speed.py [--repeats N] [--profile]
Prints:  1. evaluation forward against the dense network of equal active parameters behind the same
            stem, and against SFCN on the same volume;
         2. routing and read-out of 2,535 tokens against the eigen-decomposition of their patches'
            Gram matrix;
         3. brain tokens against all 2,535, and the age with the others masked;
         4. a training step and what it keeps in memory, against dense;
         5. 8 and 16 experts at the same top k;
         6. the share of the machine's matrix-product rate that the forward reaches;
         7. dense against gathered products of the selected experts.
Time:    processor time of this process is counted, so that a busy machine changes little; half a
         minute of it with --repeats 3.
Result:  one core of a Xeon with AVX-512 (Sapphire Rapids), torch 2.13.0, --repeats 3:
         1. 0.97 of dense (1.11 without the stem), 0.40 of SFCN;
         2. 28 to 37 times faster at 2,535 tokens, where attention takes most, 147 to 193 times on
            the 814 that hold brain; with the stem, the whole forward is 4 times faster;
         3. 5.3 times cheaper, ages 6e-14 years apart; 4. 1.08 of dense, memory 1.18; 5. 1.02;
         6. 20 % in float32, 3 % in bfloat16: the stem decides, half of whose time goes to passes
            over memory (activation, sums, copies, pooling), the rest to convolutions of one
            channel, which have no large matrix product; bfloat16 is slower on this processor;
         7. gathering pays from 16 experts on, and is slower than dense at five.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from ermoe_ba.assets import template
from ermoe_ba.checkpoint import token_grid
from ermoe_ba.model.config import TISSUES, ModelConfig
from ermoe_ba.model.ermoe import ErmoeBrainAge
from ermoe_ba.model.rivals.plain import PlainNetwork
from ermoe_ba.model.rivals.roster import make_dense
from ermoe_ba.model.rivals.volume import VolumeNetwork
from ermoe_ba.space import MODEL_GRID
from ermoe_ba.tokens import TokenGrid
from ermoe_ba.training.recipe import read_recipe

RECIPE = Path(__file__).parent / "ixi_hh.toml"
# Of the published code: patches of 7 voxels, 13 x 15 x 13 of them without padding.
LATTICE, PATCH = (13, 15, 13), 7
BATCH = 8


def medians(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Return the median processor seconds of calls, taken in turn after one round of warming up."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for round_number in range(repeats + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            if round_number:
                spent[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in spent.items()}


def say(what: str, ratio: float, limit: str, parts: dict[str, float]) -> None:
    """Print a ratio, what it should be, and the milliseconds it is made of."""
    times = ", ".join(f"{name} {1000 * seconds:.1f} ms" for name, seconds in parts.items())
    print(f"{what}: {ratio:.2f} ({limit}); {times}", flush=True)


def some_cells(num_scans: int, num_tokens: int) -> Tensor:
    """Return random tissue fractions of cells, shape (num_scans, num_tokens, 8, classes)."""
    torch.manual_seed(0)
    return torch.rand(num_scans, num_tokens, 8, len(TISSUES)).softmax(dim=-1)


def make_network(config: ModelConfig, tokens: TokenGrid) -> ErmoeBrainAge:
    """Return a network whose read-outs are not zero, in evaluation mode."""
    torch.manual_seed(0)
    network = ErmoeBrainAge(config, tokens)
    with torch.no_grad():
        network.experts.position_readout_td.normal_()
        network.scale.fill_(16.0)
    return network.eval()


def masked_age(network: ErmoeBrainAge, cells_btkc: Tensor, inside_t: Tensor) -> Tensor:
    """Return ages by the tokens inside alone, the others computed all the same but masked."""
    content = ((cells_btkc - network.location_tkc) / network.spread_tkc).flatten(2)
    x_btd = network.embed(content)
    attention = network.context
    placed = x_btd + attention.position_td

    def heads(y_btd: Tensor) -> Tensor:
        return y_btd.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)

    context_btd = (
        functional.scaled_dot_product_attention(
            heads(attention.query(placed)),
            heads(attention.key(placed)),
            heads(x_btd),
            attn_mask=inside_t[None, None, None, :].expand(1, 1, len(inside_t), -1),
        )
        .transpose(1, 2)
        .flatten(2)
    )
    u_edr, v_edr = network.experts.bases()
    z_bter, c_bter = (torch.einsum("btd,edr->bter", y, v_edr) for y in (x_btd, context_btd))
    centred = [y - y[:, inside_t].mean(dim=1, keepdim=True) for y in (z_bter, c_bter)]
    routing = network.router(*centred, cells_btkc.mean(dim=2) @ network.region_ec.T)
    says_bte = routing.weights_bte * network.experts(z_bter, u_edr)
    return network.baseline + network.scale * says_bte[:, inside_t].mean(dim=1).sum(dim=1)


def forward(config: ModelConfig, tokens: TokenGrid, repeats: int) -> None:
    """Print the evaluation forward against dense and SFCN."""
    network, dense = make_network(config, tokens), make_dense("transformer", config, tokens).eval()
    sfcn = VolumeNetwork("sfcn", reduce=1).eval()
    scan = torch.rand(1, *MODEL_GRID.shape)
    cells = network.tissue_cells(scan)
    calls = {
        "ermoe": lambda: network(scan),
        "dense": lambda: dense.read_age(network.tissue_cells(scan)),
        "sfcn": lambda: sfcn(scan),
    }
    spent = medians(calls, repeats)
    say("1. forward / dense", spent["ermoe"] / spent["dense"], "at most 1.3", spent)
    say("   forward / SFCN", spent["ermoe"] / spent["sfcn"], "at most 0.5", {})
    heads = {"ermoe": lambda: network.read_age(cells), "dense": lambda: dense.read_age(cells)}
    spent = medians(heads, 5 * repeats)
    say("   without the stem / dense", spent["ermoe"] / spent["dense"], "for information", spent)


def scoring(config: ModelConfig, repeats: int) -> None:
    """Print routing and read-out against an eigen-decomposition, and brain tokens against all."""
    brain = template("desc-brain_mask")
    everywhere = TokenGrid(brain.grid, PATCH, np.argwhere(np.ones(LATTICE)))
    fraction = TokenGrid.over(brain, PATCH, config.token_min_brain)
    within = fraction.positions[(fraction.positions < LATTICE).all(axis=1)]
    tokens = TokenGrid(brain.grid, PATCH, within)
    index = torch.as_tensor(np.ravel_multi_index(tuple(within.T), LATTICE))
    all_of_them, inside = make_network(config, everywhere), make_network(config, tokens)
    state = all_of_them.state_dict()
    own = inside.state_dict()
    for name, value in state.items():
        own[name] = value[index] if name.split("_")[-1].startswith("t") else value
    inside.load_state_dict(own)
    cells = some_cells(1, len(everywhere))
    patches = torch.rand(len(everywhere), PATCH**3)
    calls = {
        "all tokens": lambda: all_of_them.read_age(cells),
        "brain tokens": lambda: inside.read_age(cells[:, index]),
        "eigh": lambda: torch.linalg.eigh(patches @ patches.T),
    }
    spent = medians(calls, repeats)
    ratio = spent["eigh"] / spent["all tokens"]
    say(f"2. eigh / routing and read-out of {len(everywhere)}", ratio, "at least 50", spent)
    say(
        f"   eigh / that of the {len(tokens)}",
        spent["eigh"] / spent["brain tokens"],
        "as above",
        {},
    )
    ratio = spent["all tokens"] / spent["brain tokens"]
    say(f"3. all / the {len(tokens)} with brain", ratio, "at least 2", {})
    mask = torch.zeros(len(everywhere), dtype=torch.bool)
    mask[index] = True
    # In double precision: rounding alone lets a token choose another of two experts like in score.
    cells, all_of_them, inside = cells.double(), all_of_them.double(), inside.double()
    apart = masked_age(all_of_them, cells, mask) - inside.read_age(cells[:, index]).age_b
    print(f"   age with the others masked: {apart.abs().max():.1e} years apart")


def _step(network: ErmoeBrainAge | PlainNetwork, cells: Tensor) -> Callable[[], None]:
    parameters = [p for n, p in network.named_parameters() if not n.startswith("stem.")]
    optimiser = torch.optim.AdamW(parameters, lr=1e-3)

    def step() -> None:
        output = network.read_age(cells)
        loss = (output if isinstance(output, Tensor) else output.age_b).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def _kept_megabytes(network: ErmoeBrainAge | PlainNetwork, cells: Tensor) -> float:
    """Return what a forward keeps for its backward, each storage once, and four of each weight."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = network.read_age(cells)
    assert output is not None
    # Weight, gradient and the optimiser's two moments.
    weights = 4 * sum(p.nbytes for n, p in network.named_parameters() if not n.startswith("stem."))
    return (sum(storages.values()) + weights) / 1e6


def training(config: ModelConfig, tokens: TokenGrid, repeats: int) -> None:
    """Print a training step and its memory against dense."""
    cells = some_cells(BATCH, len(tokens))
    networks: dict[str, ErmoeBrainAge | PlainNetwork] = {
        "ermoe": make_network(config, tokens).train(),
        "dense": make_dense("transformer", config, tokens).train(),
    }
    with torch.enable_grad():
        spent = medians({n: _step(net, cells) for n, net in networks.items()}, repeats)
        kept = {n: _kept_megabytes(net, cells) for n, net in networks.items()}
    say(f"4. training step of {BATCH} / dense", spent["ermoe"] / spent["dense"], "1.5", spent)
    ratio = kept["ermoe"] / kept["dense"]
    print(
        f"   memory for it / dense: {ratio:.2f} (at most 1.5); "
        f"{kept['ermoe']:.0f} MB, {kept['dense']:.0f} MB"
    )


def experts(config: ModelConfig, tokens: TokenGrid, repeats: int) -> None:
    """Print what twice the experts cost."""
    scan = torch.rand(1, *MODEL_GRID.shape)
    regional = len(config.regions)
    networks = {
        f"{n} experts": make_network(replace(config, num_free_experts=n - regional), tokens)
        for n in (8, 16)
    }
    cells = networks["8 experts"].tissue_cells(scan)
    whole = medians({n: lambda net=net: net(scan) for n, net in networks.items()}, repeats)
    heads = {n: lambda net=net: net.read_age(cells) for n, net in networks.items()}
    spent = medians(heads, 5 * repeats)
    say("5. 16 / 8 experts", whole["16 experts"] / whole["8 experts"], "at most 1.25", whole)
    say("   without the stem", spent["16 experts"] / spent["8 experts"], "for information", spent)


def peak_share(config: ModelConfig, tokens: TokenGrid, repeats: int) -> None:
    """Print how much of the rate of a large matrix product the forward reaches."""
    network, scan = make_network(config, tokens), torch.rand(1, *MODEL_GRID.shape)
    with FlopCounterMode(display=False) as counter:
        network(scan)
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.rand(1024, 1024, dtype=dtype)

        def run(dtype: torch.dtype = dtype) -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
                network(scan)

        spent = medians({"product": lambda a=a: a @ a, "forward": run}, repeats)
        peak = 2 * 1024**3 / spent["product"] / 1e9
        rate = counter.get_total_flops() / spent["forward"] / 1e9
        print(
            f"6. {str(dtype).removeprefix('torch.')}: {rate:.0f} of {peak:.0f} GFLOP/s, "
            f"{rate / peak:.0%} (at least 50 %)"
        )


def dispatch(config: ModelConfig, tokens: TokenGrid, repeats: int) -> None:
    """Print what gathering the selected experts' products saves, or costs."""
    for num_experts in (5, 16, 64):
        shape = (1, len(tokens), num_experts, config.rank)
        z, read = torch.rand(shape), torch.rand(shape[1:])
        chosen = torch.rand(shape[:3]).topk(config.top_k, dim=-1).indices[..., None]
        where = chosen.expand(-1, -1, -1, config.rank)

        def gathered(z: Tensor = z, read: Tensor = read, where: Tensor = where) -> Tensor:
            return (z.gather(2, where) * read.expand_as(z).gather(2, where)).sum(dim=-1)

        calls = {
            "dense": lambda z=z, read=read: torch.einsum("bter,ter->bte", z, read),
            "gathered": gathered,
        }
        spent = medians(calls, 20 * repeats)
        ratio = spent["gathered"] / spent["dense"]
        say(f"7. gathered / dense, {num_experts} experts", ratio, "below 1 pays", spent)


def profile(network: nn.Module) -> None:
    """Print where the forward spends its time."""
    scan = torch.rand(1, *MODEL_GRID.shape)
    network(scan)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
        network(scan)
    print(found.key_averages().table(sort_by="self_cpu_time_total", row_limit=12))


@torch.no_grad()
def main() -> None:
    """Print all ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7, metavar="N", help="default: 7")
    parser.add_argument("--profile", action="store_true", help="where the forward spends its time")
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = read_recipe(RECIPE).model
    tokens = token_grid(config)
    print(f"{platform.machine()}, {os.cpu_count()} cores, 1 thread, torch {torch.__version__}")
    if options.profile:
        profile(make_network(config, tokens))
    forward(config, tokens, options.repeats)
    scoring(config, options.repeats)
    training(config, tokens, options.repeats)
    experts(config, tokens, options.repeats)
    peak_share(config, tokens, options.repeats)
    dispatch(config, tokens, options.repeats)


if __name__ == "__main__":
    main()
