"""A model on the model grid itself, of few and wide tokens and narrow layers, to be quick."""

from ermoe_ba.model.config import ModelConfig
from ermoe_ba.model_card import ModelCard
from ermoe_ba.preprocess import PreprocessConfig

COARSE = ModelConfig(
    patch_size=16,
    token_min_brain=0.3,
    stem_hidden=2,
    hidden_size=12,
    num_heads=2,
    place_scale=0.3,
    regions=("grey_matter",),
    num_free_experts=2,
    rank=4,
    offset_scale=0.1,
    top_k=2,
    score_threshold=0.0,
    region_min_fraction=0.2,
    temperature=0.1,
    bias_step=0.0,
    token_dropout=0.2,
)
CARD = ModelCard(
    name="random",
    model=COARSE,
    preprocess=PreprocessConfig(),
    preprocessing_id=PreprocessConfig().identity(),
    ages=(25.0, 50.0, 75.0),
    predictions=(30.0, 49.0, 70.0),
    coverage=0.9,
    half_width=12.0,
    metrics={"mae": 3.7},
    provenance={"data": "none", "data_hash": "0"},
)
