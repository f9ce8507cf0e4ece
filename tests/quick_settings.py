"""Settings for networks that train in moments: what tests of training start from."""

from typing import Any

from ermoe_ba.training.age import AgeConfig
from ermoe_ba.training.loop import OptimiserConfig
from ermoe_ba.training.pretrain_config import MaskedStage, PhantomStage, PretrainStage, VolumesStage
from ermoe_ba.training.tissue import TissueConfig

OPTIMISER = OptimiserConfig(
    learning_rate=0.01, warmup_share=0.2, max_gradient_norm=1.0, ema_decay=0.5
)
AGE = AgeConfig(
    num_variants=1,
    num_epochs=1,
    batch_size=8,
    ridge_strength=0.1,
    invariance=0.1,
    readout_decay=0.1,
    weight_decay=0.01,
    spread_floor=0.05,
    optimiser=OPTIMISER,
)
TISSUE = TissueConfig(
    num_steps=4,
    scans_per_step=2,
    voxels_per_scan=20,
    outside_share=0.2,
    gain_sd=0.05,
    noise_sd=0.02,
    optimiser=OPTIMISER,
)
STEPS: dict[str, Any] = {"num_epochs": 3, "batch_size": 8, "optimiser": OPTIMISER}
STAGES: dict[str, PretrainStage] = {
    "phantom": PhantomStage(participants="phantom/participants.tsv", **STEPS),
    "masked": MaskedStage(share=0.5, **STEPS),
    "volumes": VolumesStage(**STEPS),
}
