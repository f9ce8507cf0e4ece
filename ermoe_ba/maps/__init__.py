"""From tokens to anatomy: maps of one scan, region tables, and what a cohort's maps have in common.

Nothing here knows the network: tokens, weights and years come as arrays, or from files.
"""

from ermoe_ba.maps.layout import TokenPlaces, contribution_map, expert_map
from ermoe_ba.maps.regions import region_table

__all__ = ["TokenPlaces", "contribution_map", "expert_map", "region_table"]
