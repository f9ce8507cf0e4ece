"""The shape of a network: what cannot work is refused, and a recipe may define regions."""

import json
import math
from dataclasses import asdict, replace
from typing import Any

import pytest

from ermoe_ba.config import changed, from_plain
from ermoe_ba.model.config import REGIONS, ModelConfig

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"patch_size": 1}, "patch_size must be at least 2; found 1"),
        ({"patch_size": 0}, "at least 2; found 0"),
        ({"num_heads": 0}, "num_heads must be at least 1; found 0"),
        ({"num_heads": -2}, "num_heads must be at least 1; found -2"),
        ({"stem_hidden": 0}, "stem_hidden must be at least 1; found 0"),
        ({"regions": ("csf", "csf")}, "one expert"),
        ({"temperature": 0.0}, "temperature must be above 0, and finite; found 0.0"),
        ({"temperature": math.inf}, "temperature must be above 0, and finite; found inf"),
        ({"temperature": math.nan}, "temperature must be above 0, and finite; found nan"),
        ({"token_dropout": 1.0}, "token_dropout must be 0 or more, and less than 1; found 1.0"),
        ({"token_dropout": math.nan}, "token_dropout must be 0 or more"),
        ({"token_min_brain": 5.0}, "token_min_brain must be 0 or more, and less than 1; found 5.0"),
        ({"token_min_brain": -0.1}, "token_min_brain must be 0 or more"),
        ({"region_min_fraction": 2.0}, "region_min_fraction must lie between 0 and 1; found 2.0"),
        ({"region_min_fraction": -0.5}, "region_min_fraction must lie between 0 and 1"),
        ({"region_min_fraction": math.nan}, "region_min_fraction must lie between 0 and 1"),
        ({"score_threshold": math.nan}, "score_threshold must be finite; found nan"),
        ({"score_threshold": -math.inf}, "score_threshold must be finite; found -inf"),
        ({"bias_step": -1.0}, "bias_step must be 0 or more, and finite; found -1.0"),
        ({"offset_scale": -1.0}, "offset_scale must be 0 or more, and finite; found -1.0"),
        ({"offset_scale": math.nan}, "offset_scale must be 0 or more, and finite; found nan"),
        ({"place_scale": -2.0}, "place_scale must be 0 or more, and finite; found -2.0"),
        ({"place_scale": math.inf}, "place_scale must be 0 or more, and finite; found inf"),
        ({"compression": math.nan}, "compression must lie between 0 and 1; found nan"),
        ({"age_bounds": (0.0, math.inf)}, r"age_bounds must be .* finite, .* found \[0.0, inf\]"),
        ({"age_bounds": (math.nan, 100.0)}, "age_bounds must be"),
        ({"rank": 12}, "all experts would score the same"),
        ({"rank": 13}, "rank must lie between 1 and hidden_size - 1 = 11; found 13"),
        ({"rank": 0}, "found 0"),
        ({"num_free_experts": 0}, "num_free_experts must be at least 1, .* fallback; found 0"),
        ({"top_k": 0}, "top_k must lie between 1 and 5; found 0"),
        ({"top_k": 6}, "found 6"),
        ({"regions": ("grey_matter", "appendix")}, r"Unknown regions \['appendix'\]"),
        ({"region_tissues": {"csf": ("cortex",)}}, "names of their own, .* found 'csf'"),
        ({"region_tissues": {"free_1": ("cortex",)}}, "names of their own, .* found 'free_1'"),
        ({"region_tissues": {"Deep grey": ("deep_grey",)}}, "found 'Deep grey'"),
        ({"region_tissues": {"deep": ()}}, r"region_tissues.deep must name one .* found \[\]"),
        ({"region_tissues": {"deep": ("thalamus",)}}, r"deep_grey, .* found \['thalamus'\]"),
        ({"region_tissues": {"deep": ("cortex", "cortex")}}, "each once"),
        (
            {"regions": ("limbic",), "region_tissues": {"deep": ("deep_grey",)}},
            "known are .*'deep'",
        ),
        ({"num_heads": 5}, "hidden_size must be a multiple of num_heads = 5; found 12"),
    ],
)
def test_a_shape_that_cannot_work_is_refused(
    small_config: ModelConfig, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        replace(small_config, **changes)


def test_a_recipe_may_define_regions(small_config: ModelConfig) -> None:
    """As TOML gives them; regions that are defined and not named have no expert."""
    tissues = {"inner": ["deep_grey", "medial_temporal"], "hindbrain": ["brain_stem"]}
    config = changed(small_config, {"regions": ["csf", "inner"], "region_tissues": tissues})
    assert config.expert_names == ("csf", "inner", "free_1", "free_2", "free_3")
    assert config.tissues_of("inner") == ("deep_grey", "medial_temporal")
    assert config.tissues_of("csf") == REGIONS["csf"]
    # Once more through plain values, as a model's card keeps them.
    assert from_plain(ModelConfig, json.loads(json.dumps(asdict(config)))) == config
    assert small_config.region_tissues == {}


def test_regional_experts_come_first_by_name(small_config: ModelConfig) -> None:
    assert small_config.num_experts == 5
    assert small_config.expert_names == ("grey_matter", "csf", "free_1", "free_2", "free_3")
