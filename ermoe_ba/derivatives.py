"""Preprocessed scans as a BIDS derivative: names, contents, and when one may be used again."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ermoe_ba.errors import ScanError
from ermoe_ba.io import read_volume, remove_file, write_json, write_text, write_volume
from ermoe_ba.naming import ScanName
from ermoe_ba.preprocess import Preprocessor, ScanState
from ermoe_ba.preprocess.ants_bridge import RAS_TO_LPS
from ermoe_ba.software import software
from ermoe_ba.space import MODEL_GRID, TEMPLATE_SPACE, Array, Volume

# Entities of raw scans that BIDS puts between session and space, in its order.
_RAW_NAME = re.compile(
    r"(?P<sub>sub-[A-Za-z0-9]+)(?P<ses>_ses-[A-Za-z0-9]+)?"
    r"(_acq-[A-Za-z0-9]+)?(_ce-[A-Za-z0-9]+)?(_rec-[A-Za-z0-9]+)?(_run-[0-9]+)?"
    r"(_echo-[0-9]+)?(_part-mag)?"
)
_GRID = f"space-{TEMPLATE_SPACE}_res-2"


@dataclass(frozen=True, kw_only=True)
class Derivative:
    """Where the files of one preprocessed scan lie.

    Parameters
    ----------
    folder : Path
        ``sub-…/[ses-…/]anat`` inside the data set.
    stem : str
        First part of all names, entities of participant, session and run.
    """

    folder: Path
    stem: str

    @property
    def t1w(self) -> Path:
        """Intensities on the model grid."""
        return self.folder / f"{self.stem}_{_GRID}_desc-preproc_T1w.nii.gz"

    @property
    def mask(self) -> Path:
        """The brain on the model grid."""
        return self.folder / f"{self.stem}_{_GRID}_desc-brain_mask.nii.gz"

    @property
    def affine(self) -> Path:
        """The affine, as ITK reads it: from points of the template to points of the scan."""
        return self.folder / f"{self.stem}_from-T1w_to-{TEMPLATE_SPACE}_mode-image_xfm.txt"

    @property
    def sidecar(self) -> Path:
        """What was done, with what, and what it gave; written last."""
        return self.folder / f"{self.stem}_{_GRID}_desc-preproc_T1w.json"

    @property
    def session(self) -> Path:
        """The folder of its session, or of its participant where there is none."""
        return self.folder.parent

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them, the sidecar that marks a whole set first."""
        return self.sidecar, self.t1w, self.mask, self.affine


def derivatives_of(root: Path, scans: Sequence[ScanName]) -> list[Derivative]:
    """Return where the derivatives of scans lie in a data set.

    A BIDS name keeps its entities; of any other scan, participant and session are named by their
    letters and digits alone, as BIDS asks, and told apart by a hash where two then share a name.

    Parameters
    ----------
    root : Path
        Of the derivative data set.
    scans : sequence of ScanName
        All of a run.

    Returns
    -------
    list of Derivative
        In the same order.
    """
    stems = [_stem(scan) for scan in scans]
    # Letter case does not tell files apart on every file system.
    count = Counter(stem.lower() for stem in stems)
    places = []
    for scan, stem in zip(scans, stems, strict=True):
        if count[stem.lower()] > 1:
            digest = hashlib.sha256(scan.name.encode()).hexdigest()[:8]
            stem = f"sub-{_label(scan.name)}{digest}"
        named = _RAW_NAME.fullmatch(stem)
        assert named is not None
        folder = root / named["sub"]
        if named["ses"]:
            folder /= named["ses"].removeprefix("_")
        places.append(Derivative(folder=folder / "anat", stem=stem))
    return places


def write_derivative(
    place: Derivative, state: ScanState, preprocessor: Preprocessor, input_sha256: str
) -> None:
    """Write the files of one preprocessed scan, each whole or not at all, the sidecar last.

    Parameters
    ----------
    place : Derivative
        Where to.
    state : ScanState
        What the preprocessing returned.
    preprocessor : Preprocessor
        What made it.
    input_sha256 : str
        Of the scan's files.
    """
    remove_derivative(place)
    assert state.scan_to_template is not None
    write_volume(place.t1w, state.image)
    write_volume(place.mask, state.mask)
    write_text(place.affine, itk_affine(state.scan_to_template))
    write_json(
        place.sidecar,
        {
            "InputFile": state.path.name,
            "InputSha256": input_sha256,
            "PreprocessingId": preprocessor.config.identity(),
            "Steps": [type(step).__name__ for step in preprocessor.steps.transforms],
            "Settings": asdict(preprocessor.config),
            "Software": software(),
            "Figures": state.figures,
            "Flags": list(state.flags),
            "ScanToTemplateAffine": state.scan_to_template.tolist(),
        },
    )


def remove_derivative(place: Derivative) -> None:
    """Remove what there is of a derivative, the sidecar that vouches for the others first.

    Parameters
    ----------
    place : Derivative
        Its files need not exist.
    """
    for path in place.files:
        remove_file(path)


def read_derivative(
    place: Derivative, path: Path, preprocessing_id: str, input_sha256: str
) -> ScanState | None:
    """Read a preprocessed scan back, if it is what preprocessing the scan would give.

    Parameters
    ----------
    place : Derivative
        Where it would lie.
    path : Path
        The scan.
    preprocessing_id : str
        Of the preprocessing that is asked for.
    input_sha256 : str
        Of the scan's files as they are now.

    Returns
    -------
    ScanState or None
        As the preprocessing returned it. None where there is no whole derivative, or it was made
        of other voxels or by another preprocessing.
    """
    content = _sidecar(place)
    if (
        content.get("PreprocessingId") != preprocessing_id
        or content.get("InputSha256") != input_sha256
    ):
        return None
    try:
        t1w = read_volume(place.t1w, TEMPLATE_SPACE)
        mask = read_volume(place.mask, TEMPLATE_SPACE)
        affine = np.asarray(content["ScanToTemplateAffine"], dtype=np.float64)
        figures = {str(name): float(value) for name, value in content["Figures"].items()}
        flags = tuple(map(str, content["Flags"]))
    except (ScanError, LookupError, TypeError, ValueError, AttributeError):
        return None
    if not t1w.grid == mask.grid == MODEL_GRID or affine.shape != (4, 4):
        return None
    return ScanState(
        path=path,
        t1w=_on_model_grid(t1w, np.float32),
        brain_mask=_on_model_grid(mask, np.uint8),
        scan_to_template=affine,
        figures=figures,
        flags=flags,
    )


def itk_affine(scan_to_template: Array) -> str:
    """Return an affine as ITK's text, for ``antsApplyTransforms`` from scan to template.

    Parameters
    ----------
    scan_to_template : ndarray, shape (4, 4)
        Between RAS+ coordinates in mm. ITK asks the other way, in LPS+: from a point of the
        image to be made to the point of the image it is made of.

    Returns
    -------
    str
        The content of a file ``_xfm.txt``.
    """
    matrix = RAS_TO_LPS @ np.linalg.inv(scan_to_template) @ RAS_TO_LPS
    parameters = [*matrix[:3, :3].ravel(), *matrix[:3, 3]]
    return (
        "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
        f"Parameters: {' '.join(repr(float(p)) for p in parameters)}\nFixedParameters: 0 0 0\n"
    )


def _stem(scan: ScanName) -> str:
    if _RAW_NAME.fullmatch(scan.name):
        return scan.name
    session = f"_ses-{_label(scan.session_id)}" if scan.session_id else ""
    return f"sub-{_label(scan.participant_id)}{session}"


def _label(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "", text) or hashlib.sha256(text.encode()).hexdigest()[:8]


def _sidecar(place: Derivative) -> dict[str, Any]:
    try:
        content = json.loads(place.sidecar.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _on_model_grid(volume: Volume, dtype: type[np.generic]) -> Volume:
    """Return values from disk on the grid that they equal but for the header's rounding."""
    return Volume(np.ascontiguousarray(volume.data, dtype=dtype), MODEL_GRID)
