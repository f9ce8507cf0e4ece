"""A phantom cohort on disk: a BIDS dataset with the truth beside it, made once and gone on with."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from ermoe_ba import __version__
from ermoe_ba.errors import UsageError
from ermoe_ba.io import read_volume, write_json, write_text, write_volume
from ermoe_ba.phantom.anatomy import template_anatomy
from ermoe_ba.phantom.config import PhantomConfig
from ermoe_ba.phantom.label_maps import find_label_maps, read_label_map
from ermoe_ba.phantom.latents import draw_subject, stream
from ermoe_ba.phantom.regions import LESION_INDEX, REGIONS, SULCAL_CSF_INDEX, TISSUE_OF_INDEX
from ermoe_ba.phantom.shape import Shaper
from ermoe_ba.phantom.subject import COLUMNS, scan_subject, truth_row
from ermoe_ba.space import TEMPLATE_SPACE, Volume
from ermoe_ba.tables import write_table

# Raised when the same settings no longer give the same images: such a cohort must not be gone on
# with.
REVISION = 2
README = """Simulated T1w scans of brains whose ageing is known, made by ermoe-ba phantom.

participants.tsv holds the truth about each subject; participants.json says what its columns mean.
derivatives/phantom holds a label map for each scan, on the scan's own grid; dseg.tsv is its key,
and its column "planted" marks the regions that carry the effect. phantom.json holds the settings.
"""
# Anatomies that a worker keeps ready, with their stages. Subjects of one anatomy are made in a row:
# more would not be asked for again.
ANATOMIES_AT_HAND = 2


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a worker needs to make any subject of a cohort.

    Parameters
    ----------
    config : PhantomConfig
        Settings.
    atlas_file : Path
        MUSE labels on the model grid.
    label_maps : tuple of Path
        Further anatomies; none for the template's alone.
    out : Path
        Root of the dataset.
    """

    config: PhantomConfig
    atlas_file: Path
    label_maps: tuple[Path, ...]
    out: Path

    def identity(self) -> dict[str, Any]:
        """Return what decides about the images: settings, anatomies and revision.

        Returns
        -------
        dict
            Values that JSON can hold.
        """
        digest = hashlib.sha256(self.atlas_file.read_bytes()).hexdigest()
        return {
            "revision": REVISION,
            "config": self.config.describe(),
            "atlas": digest[:16],
            "anatomies": [path.name for path in self.label_maps],
        }


class PhantomDataset:
    """A cohort in a folder.

    Parameters
    ----------
    out : Path
        Root of the dataset.
    config : PhantomConfig
        Settings.
    atlas_file : Path
        NIfTI image of MUSE labels on the model grid.
    anatomies : Path, optional
        A label map, or a folder of them, to shape subjects from in place of the template.

    Raises
    ------
    UsageError
        If the folder holds another cohort or something else, or heads are asked for without
        anatomies that have them.
    """

    def __init__(
        self, out: Path, config: PhantomConfig, atlas_file: Path, anatomies: Path | None = None
    ) -> None:
        if config.head and anatomies is None:
            raise UsageError(
                "--head needs --anatomies with label maps of whole heads (SynthSeg's): the "
                "template has no skull."
            )
        maps = find_label_maps(anatomies) if anatomies else ()
        self.source = Source(config=config, atlas_file=atlas_file, label_maps=maps, out=out)
        self._claim()

    def _claim(self) -> None:
        out, mine = self.source.out, self.source.identity()
        record = out / "phantom.json"
        if record.is_file():
            theirs = json.loads(record.read_text(encoding="utf-8"))
            if theirs != mine:
                differ = [
                    f"{key} {theirs['config'].get(key)!r} there, {value!r} here"
                    for key, value in mine["config"].items()
                    if theirs["config"].get(key) != value
                ]
                raise UsageError(
                    f"{out} holds another phantom cohort ({'; '.join(differ) or 'other anatomies'})"
                    ". Choose another --out, or the same settings to go on with it."
                )
            return
        if out.exists() and any(out.iterdir()):
            raise UsageError(f"{out} must be empty or hold a phantom cohort; found other files.")
        write_json(record, mine)

    def make(self, count: int, jobs: int = 1) -> pd.DataFrame:
        """Make the subjects 1 to `count` that are not there yet, and write the tables.

        Parameters
        ----------
        count : int
            Size of the cohort; one that is larger already stays so.
        jobs : int
            Processes; images do not depend on their number.

        Returns
        -------
        DataFrame
            The participants table.

        Raises
        ------
        UsageError
            If either is below 1.
        """
        if count < 1 or jobs < 1:
            raise UsageError(f"--n and --jobs must be 1 or more; found {count} and {jobs}.")
        source = self.source
        self._describe()
        missing = [n for n in range(1, count + 1) if not _truth_file(source.out, n).is_file()]
        missing.sort(key=partial(anatomy_of, source))
        for _ in tqdm(
            _each(partial(make_subject, source), missing, jobs),
            total=count,
            initial=count - len(missing),
            desc="subjects",
            unit="subject",
        ):
            pass
        rows = []
        number = 1
        while _truth_file(source.out, number).is_file():
            rows.append(json.loads(_truth_file(source.out, number).read_text(encoding="utf-8")))
            number += 1
        table = pd.DataFrame(rows)
        write_table(source.out / "participants.tsv", table)
        return table

    def _describe(self) -> None:
        """Write what BIDS asks for, the key to the labels, and where the planted effect lies."""
        out, config = self.source.out, self.source.config
        made_by = [{"Name": "ermoe_ba", "Version": __version__, "Description": "phantom"}]
        general = {"BIDSVersion": "1.10.0", "GeneratedBy": made_by}
        write_json(
            out / "dataset_description.json",
            {"Name": "ermoe_ba lifespan phantom", "DatasetType": "raw", **general},
        )
        write_json(
            _truth_root(out) / "dataset_description.json",
            {"Name": "Truth of the phantom", "DatasetType": "derivative", **general},
        )
        write_json(
            out / "participants.json",
            {name: {"Description": text} for name, text in COLUMNS.items()},
        )
        write_text(out / "README", README)
        planted = {region.index for region in config.planted_regions()}
        rows = [
            (r.index, r.name, r.hemisphere, str(r.kind), int(r.index in planted), r.tissue)
            for r in REGIONS
        ]
        rows += [
            (index, name, "n/a", kind, 0, TISSUE_OF_INDEX[index])
            for index, name, kind in (
                (SULCAL_CSF_INDEX, "sulcal_csf", "fluid"),
                (LESION_INDEX, "white_matter_lesion", "white"),
            )
        ]
        columns = ["index", "name", "hemisphere", "kind", "planted", "tissue"]
        write_table(_truth_root(out) / "dseg.tsv", pd.DataFrame(rows, columns=columns))
        rest = template_anatomy(_atlas(self.source.atlas_file))
        mask = Volume(np.isin(rest.labels(), list(planted)).astype(np.uint8), rest.grid)
        space = rest.grid.space
        write_volume(_truth_root(out) / f"space-{space}_desc-planted_mask.nii.gz", mask)


def _each(make: Callable[[int], None], numbers: list[int], jobs: int) -> Iterator[None]:
    if jobs == 1 or len(numbers) < 2:
        results: Iterable[None] = map(make, numbers)
        yield from results
        return
    # Spawned, not forked: the same on all systems, and safe whatever threads the parent has.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(make, numbers, chunksize=1)


def make_subject(source: Source, index: int) -> None:
    """Make one subject and write its files, the truth last: where it stands, all is done.

    Parameters
    ----------
    source : Source
        What the cohort is made of.
    index : int
        Number of the subject, from 1.
    """
    config = source.config
    subject = draw_subject(config, index)
    scan = scan_subject(config, subject, _shaper(source, index))
    name = f"sub-{subject.participant_id}"
    anat = source.out / name / "anat"
    write_volume(anat / f"{name}_T1w.nii.gz", scan.t1w)
    write_json(
        anat / f"{name}_T1w.json",
        {"Modality": "MR", "SkullStripped": not config.head, "SimulatedBy": "ermoe_ba phantom"},
    )
    write_volume(_truth_file(source.out, index).with_name(f"{name}_dseg.nii.gz"), scan.dseg)
    write_json(_truth_file(source.out, index), truth_row(config, subject, scan))


def _truth_root(out: Path) -> Path:
    return out / "derivatives" / "phantom"


def _truth_file(out: Path, index: int) -> Path:
    name = f"sub-{index:06d}"
    return _truth_root(out) / name / "anat" / f"{name}_desc-truth_dseg.json"


def anatomy_of(source: Source, index: int) -> int:
    """Return which of the label maps a subject is made from.

    Parameters
    ----------
    source : Source
        What the cohort is made of.
    index : int
        Number of the subject, from 1.

    Returns
    -------
    int
        Place in `Source.label_maps`; 0 also where there are none.
    """
    choices = max(len(source.label_maps), 1)
    return int(stream(source.config, index, "anatomy").integers(choices))


def _shaper(source: Source, index: int) -> Shaper:
    """Return the shaper of the anatomy that a subject is made from."""
    if not source.label_maps:
        return _template_shaper(source.atlas_file)
    label_map = source.label_maps[anatomy_of(source, index)]
    return _label_map_shaper(label_map, source.atlas_file, source.config.head)


# Workers are handed paths and keep what they read: images are large to send.
@lru_cache(maxsize=1)
def _atlas(path: Path) -> Volume:
    return read_volume(path, TEMPLATE_SPACE)


@lru_cache(maxsize=1)
def _template_shaper(atlas_file: Path) -> Shaper:
    return Shaper(template_anatomy(_atlas(atlas_file)))


@lru_cache(maxsize=ANATOMIES_AT_HAND)
def _label_map_shaper(path: Path, atlas_file: Path, head: bool) -> Shaper:
    return Shaper(read_label_map(path, _atlas(atlas_file), head=head))
