"""One phantom subject: drawn, shaped, scanned."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ermoe_ba.phantom.acquisition import acquire, draw_site
from ermoe_ba.phantom.config import PhantomConfig
from ermoe_ba.phantom.latents import Subject, stream
from ermoe_ba.phantom.lesions import draw_lesions
from ermoe_ba.phantom.regions import LESION_INDEX, REGIONS
from ermoe_ba.phantom.shape import Shaper
from ermoe_ba.space import Array, Volume


@dataclass(frozen=True, kw_only=True)
class Scan:
    """What is made of one subject.

    Parameters
    ----------
    t1w : Volume
        int16 on the scan's own grid.
    dseg : Volume
        uint8 on the same grid: indices of `REGIONS`, fluid and lesions.
    to_anatomy : ndarray, shape (4, 4)
        As in `Brain`.
    anatomy : str
        The brain that it was shaped from.
    realised_ml : ndarray, shape (regions,)
        Volumes as they came out, partial volumes counted in part.
    intracranial_ml : float
        Volume of the cavity as it came out.
    smallest_jacobian : float
        Of the deformation.
    """

    t1w: Volume
    dseg: Volume
    to_anatomy: Array
    anatomy: str
    realised_ml: Array
    intracranial_ml: float
    smallest_jacobian: float


def scan_subject(config: PhantomConfig, subject: Subject, shaper: Shaper) -> Scan:
    """Make the image and the label map of one subject.

    Parameters
    ----------
    config : PhantomConfig
        Settings of the cohort.
    subject : Subject
        The truth to be shown.
    shaper : Shaper
        Of the anatomy to start from.

    Returns
    -------
    Scan
    """
    site = draw_site(config, subject.site)
    brain = shaper.shape(
        subject.planted_ml,
        subject.intracranial_ml,
        site.voxel_mm,
        stream(config, subject.index, "shape"),
        config.shape_variation,
    )
    lesions = draw_lesions(brain, subject.lesion_ml, stream(config, subject.index, "lesions"))
    labels = np.where(lesions > 0.5, LESION_INDEX, brain.labels())
    return Scan(
        t1w=acquire(brain, lesions, site, stream(config, subject.index, "acquisition")),
        dseg=Volume(brain.spread_out(labels, np.uint8), brain.grid),
        to_anatomy=brain.to_anatomy,
        anatomy=shaper.anatomy.name,
        realised_ml=brain.realised_ml,
        intracranial_ml=brain.intracranial_ml,
        smallest_jacobian=brain.smallest_jacobian,
    )


def truth_row(config: PhantomConfig, subject: Subject, scan: Scan) -> dict[str, Any]:
    """Return the subject's row of the participants table; columns as in `COLUMNS`.

    Parameters
    ----------
    config : PhantomConfig
        The cohort.
    subject : Subject
        As drawn.
    scan : Scan
        As it came out.

    Returns
    -------
    dict
        Ages in years, volumes in mL, rounded.
    """
    row: dict[str, Any] = {
        "participant_id": f"sub-{subject.participant_id}",
        "age": subject.age,
        "sex": subject.sex,
        "site": draw_site(config, subject.site).name,
        "biological_age": round(subject.biological_age, 4),
        "planted_gap": round(subject.gap, 4),
        "accelerated": int(subject.accelerated),
        "anatomy": scan.anatomy,
        "lesion_ml": round(subject.lesion_ml, 4),
        "smallest_jacobian": round(scan.smallest_jacobian, 6),
        "planted_intracranial_ml": round(subject.intracranial_ml, 4),
        "realised_intracranial_ml": round(scan.intracranial_ml, 4),
    }
    for source, volumes in (("planted", subject.planted_ml), ("realised", scan.realised_ml)):
        for region, volume in zip(REGIONS, volumes, strict=True):
            row[f"{source}_{region.name}_ml"] = round(float(volume), 5)
    return row


COLUMNS: dict[str, str] = {
    "age": "chronological age in years",
    "sex": "F or M",
    "site": "simulated scanner",
    "biological_age": "years; age plus planted_gap, what the ageing regions look like",
    "planted_gap": "years; the true brain age gap",
    "accelerated": "1 where some regions are older than the rest, else 0",
    "anatomy": "brain at rest that the subject was shaped from",
    "lesion_ml": "millilitres of white matter hyperintensities, part of the white matter",
    "smallest_jacobian": "of the deformation; above 0 where nothing folds",
    **{
        f"{source}_{name}_ml": f"millilitres, {name}, {source}"
        for source in ("planted", "realised")
        for name in ("intracranial", *(region.name for region in REGIONS))
    },
}
