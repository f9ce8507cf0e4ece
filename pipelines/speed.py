"""What the network costs against others, as ratios of one run on one thread.

Command: python pipelines/speed.py [--repeats N]
Prints:  1. evaluation forward against the dense network of equal active parameters behind the same
            stem, and against SFCN on the same volume;
         2. the eigen-decomposition of the Gram matrix of 2,535 patches, by which the published code
            scores, against scoring and read-out of as many tokens, against the scores alone, and
            against the default model's whole forward;
         3. the forward over brain tokens against all 2,535, and the age with the others masked;
         4. a training step of 8 scans and its peak memory, against dense;
         5. 16 experts against 8 at the same top k, in evaluation and in training;
         6. the share of the machine's matrix-product rate that the forward reaches;
         7. what sparse dispatch and bases held from scan to scan would save: one scan's read-out
            of the selected experts, tokens sorted by expert and multiplied in groups, against that
            of all, and the bases against the forward;
         8. the shipped model: processor seconds a scan of all members, maps and interval included,
            on the template's brain, and its size;
         and at last all of it as one line of JSON.
Time:    two calls are timed in turn, pair by pair; a ratio is the median over the pairs. Processor
         time of this process is counted, so that a busy machine changes ratios little; about two
         minutes on one free core.
"""

import argparse
import json
import os
import platform
import statistics
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from masked_age import masked_age
from paired_times import Call, PairedTimes, peak_megabytes
from sorted_readout import sorted_readout
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ermoe_ba.assets import template
from ermoe_ba.checkpoint import load_ensemble, token_grid
from ermoe_ba.model.config import FAMILIES, TISSUES, ModelConfig
from ermoe_ba.model.ermoe import FRACTION, ErmoeBrainAge
from ermoe_ba.model.experts import EigenExperts
from ermoe_ba.model.rivals.plain import PlainNetwork
from ermoe_ba.model.rivals.roster import make_dense
from ermoe_ba.model.rivals.volume import VolumeNetwork
from ermoe_ba.model_card import DEFAULT_MODEL, model_folder
from ermoe_ba.predict import predict_age
from ermoe_ba.preprocess.state import ScanState
from ermoe_ba.space import MODEL_GRID
from ermoe_ba.tokens import TokenGrid
from ermoe_ba.training.atlas_regions import place_regions
from ermoe_ba.training.recipe import read_recipe

RECIPE = Path(__file__).parent / "ixi_hh.toml"
# Of the published code: patches of 7 voxels, 13 x 15 x 13 of them without padding.
LATTICE, PATCH = (13, 15, 13), 7
BATCH = 8
INFO = "for information"

Network = ErmoeBrainAge | PlainNetwork


class Speed(PairedTimes):
    """The measurements of one run."""

    def __init__(self, repeats: int) -> None:
        super().__init__(repeats)
        self.config: ModelConfig = read_recipe(RECIPE).model
        self.tokens = place_regions(token_grid(self.config), self.config)
        self.scan = torch.rand(1, *MODEL_GRID.shape)
        self.default = self.network(self.config, self.tokens)
        self.found["threads"] = torch.get_num_threads()
        self.found["torch"] = torch.__version__

    def network(self, config: ModelConfig, tokens: TokenGrid) -> ErmoeBrainAge:
        """Return a network whose read-outs are not zero, in evaluation mode."""
        torch.manual_seed(0)
        network = ErmoeBrainAge(config, tokens)
        network.experts.position_readout_td.normal_()
        network.scale.fill_(16.0)
        return network.eval()

    def forward(self) -> None:
        """Point 1."""
        ours, scan = self.default, self.scan
        dense = make_dense("transformer", self.config, self.tokens).eval()
        described = ours.describe(scan)

        def whole_dense() -> Tensor:
            return dense.read_age(ours.describe(scan))

        def after_stem(network: Network) -> Call:
            return lambda: network.read_age(described)

        self.ratio("1. forward / dense", "at most 1.3", lambda: ours(scan), whole_dense)
        self.ratio("1. after the stem / dense", INFO, after_stem(ours), after_stem(dense), times=10)
        sfcn = VolumeNetwork("sfcn", reduce=1).eval()
        self.ratio("1. forward / SFCN", "at most 0.5", lambda: ours(scan), lambda: sfcn(scan))

    def tokens_of_patch_7(self) -> tuple[ErmoeBrainAge, ErmoeBrainAge, Tensor]:
        """Return one network over all patches and over those with brain, and which these are."""
        brain = template("desc-brain_mask")
        config = replace(self.config, patch_size=PATCH)
        everywhere = TokenGrid(brain.grid, PATCH, np.argwhere(np.ones(LATTICE)))
        within = TokenGrid.over(brain, PATCH, config.token_min_brain).positions
        within = within[(within < LATTICE).all(axis=1)]
        index = torch.as_tensor(np.ravel_multi_index(tuple(within.T), LATTICE))
        whole, part = (
            self.network(config, place_regions(tokens, config))
            for tokens in (everywhere, TokenGrid(brain.grid, PATCH, within))
        )
        state = whole.state_dict()
        own = {
            # Names end in the letters of their axes: those that begin with tokens.
            name: value[index] if name.split("_")[-1] in ("tfc", "td", "te") else value
            for name, value in state.items()
        }
        part.load_state_dict(own)
        return whole, part, index

    def scoring(self) -> None:
        """Points 2 and 3."""
        whole, part, index = self.tokens_of_patch_7()
        described = whole.describe(self.scan)
        all_tokens, brain_tokens = described.shape[1], len(index)
        patches = torch.rand(all_tokens, PATCH**3)
        gram = patches @ patches.T
        content_btd, (_, v_edr) = whole.content(described), whole.experts.bases()
        z_bter = torch.einsum("btd,edr->bter", content_btd, v_edr)
        fractions_btc = described[:, :, FRACTION]
        region_bte = whole.atlas_shares(fractions_btc @ whole.region_ec.T)

        def eigh() -> None:
            torch.linalg.eigh(gram)

        def read() -> None:
            whole.read_age(described)

        first = f"2. eigh / scoring and read-out of {all_tokens}"
        self.ratio(first, "at least 50", eigh, read)
        for name, call in {
            "the scores alone": lambda: whole.router(z_bter, z_bter, region_bte),
            "the default model's forward": lambda: self.default(self.scan),
        }.items():
            second = f"2. scoring and read-out of {all_tokens} / {name}"
            self.ratio(second, INFO, read, call)
            self.keep(f"2. eigh / {name}", self.found[first] * self.found[second], "at least 50")
        name = f"3. forward of {all_tokens} / of the {brain_tokens} with brain"
        self.ratio(name, "at least 2", lambda: whole(self.scan), lambda: part(self.scan))
        inside = torch.zeros(all_tokens, dtype=torch.bool)
        inside[index] = True
        # In double precision: rounding alone lets a token choose another of two experts alike.
        described, whole, part = described.double(), whole.double(), part.double()
        apart = masked_age(whole, described, inside) - part.read_age(described[:, index]).age_b
        self.keep("3. years apart, others masked", float(apart.abs().max()), "0 but for rounding")

    def shipped(self) -> None:
        """Point 8."""
        ensemble = load_ensemble()
        brain = template("desc-brain_T1w")
        state = ScanState(path=Path("template"), t1w=brain, brain_mask=template("desc-brain_mask"))
        taken = []
        for _ in range(self.repeats + 1):
            start = time.process_time()
            predict_age(ensemble, state)
            taken.append(time.process_time() - start)
        members = f"{len(ensemble.members)} members"
        # The first one warms up.
        seconds = statistics.median(taken[1:])
        self.keep(f"8. shipped model, {members}: seconds a scan", seconds, "at most 1")
        size = sum(path.stat().st_size for path in model_folder(DEFAULT_MODEL).iterdir())
        self.keep("8. its megabytes", size / 1e6, "at most 25")

    def training(self) -> None:
        """Point 4."""
        described = self.described(BATCH)
        ours = step_of(self.network(self.config, self.tokens), described)
        dense = step_of(make_dense("transformer", self.config, self.tokens), described)
        # First, while gradients and the optimiser's moments are still to be made.
        peaks = peak_megabytes(ours), peak_megabytes(dense)
        remark = f"at most 1.5; {peaks[0]:.0f} MB, {peaks[1]:.0f} MB"
        self.keep("4. peak memory of a step / dense", peaks[0] / peaks[1], remark)
        self.ratio(f"4. step of {BATCH} / dense", "at most 1.5", ours, dense)

    def experts(self) -> None:
        """Point 5."""
        few, many = (
            self.network(
                replace(self.config, num_free_experts=n - len(self.config.regions)), self.tokens
            )
            for n in (8, 16)
        )
        scan, described, limit = self.scan, self.described(BATCH), "at most 1.25"
        self.ratio("5. forward, 16 / 8 experts", limit, lambda: many(scan), lambda: few(scan))
        steps = [step_of(network, described) for network in (many, few)]
        self.ratio(f"5. step of {BATCH}, 16 / 8 experts", limit, *steps)

    def described(self, num_scans: int) -> Tensor:
        """Return descriptions of no particular scans, shape (B, T, F, C)."""
        torch.manual_seed(0)
        return torch.rand(num_scans, len(self.tokens), len(FAMILIES), len(TISSUES))

    def peak(self) -> None:
        """Point 6."""
        with FlopCounterMode(display=False) as counter:
            self.default(self.scan)
        size = 1024
        for dtype in (torch.float32, torch.bfloat16):
            a = torch.rand(size, size, dtype=dtype)

            def run(dtype: torch.dtype = dtype) -> None:
                with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
                    self.default(self.scan)

            # As many operations as the forward's, in large products.
            products = counter.get_total_flops() / (2 * size**3)
            name = f"6. a product of {size} cubed / forward, {str(dtype).removeprefix('torch.')}"
            remark = f"the forward's operations fill {products:.2f} such products"
            self.ratio(name, remark, partial(torch.matmul, a, a), run)
            self.keep(f"{name}: share of the peak", products * self.found[name], "at least 0.5")

    def dispatch(self) -> None:
        """Point 7."""
        num_tokens, size, rank = len(self.tokens), self.config.hidden_size, self.config.rank
        for num_experts in (5, 16, 64):
            torch.manual_seed(0)
            experts = EigenExperts(num_experts, size, rank, num_tokens, offset_scale=1.0)
            z_bter = torch.randn(1, num_tokens, num_experts, rank)
            scores_te = torch.rand(num_tokens, num_experts)
            top = scores_te.topk(self.config.top_k, dim=-1).indices
            selected_te = torch.zeros_like(scores_te, dtype=torch.bool).scatter(-1, top, True)
            u_edr, _ = experts.bases()
            name = f"7. sorted read-out of the selected / of all, {num_experts} experts"
            sparse = partial(sorted_readout, experts, z_bter[0], u_edr, selected_te)
            self.ratio(name, "below 1 pays", sparse, partial(experts, z_bter, u_edr), times=20)
        bases, remark = self.default.experts.bases, "what holding them would save"
        self.ratio("7. orthonormal bases / forward", remark, bases, lambda: self.default(self.scan))


def step_of(network: Network, described: Tensor) -> Call:
    """Return a training step on some scans, all weights but the stem's moved by AdamW."""
    network.train()
    trained = [p for name, p in network.named_parameters() if not name.startswith("stem.")]
    optimiser = torch.optim.AdamW(trained, lr=1e-3)

    @torch.enable_grad()
    def step() -> None:
        output = network.read_age(described)
        ages = output if isinstance(output, Tensor) else output.age_b
        optimiser.zero_grad()
        ages.mean().backward()
        optimiser.step()
        if isinstance(network, ErmoeBrainAge) and not isinstance(output, Tensor):
            network.after_step(output.routing.selected_bte)

    return step


@torch.no_grad()
def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7, metavar="N", help="default: 7")
    torch.set_num_threads(1)
    speed = Speed(parser.parse_args().repeats)
    print(f"{platform.machine()}, {os.cpu_count()} cores, 1 thread, torch {torch.__version__}")
    speed.forward()
    speed.scoring()
    speed.training()
    speed.experts()
    speed.peak()
    speed.dispatch()
    speed.shipped()
    print(json.dumps(speed.found))


if __name__ == "__main__":
    main()
