"""Reports made again of what `predict` wrote."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from ermoe_ba.atlas import Atlas, atlas_hash, load_atlas
from ermoe_ba.errors import ErmoeError, ScanError
from ermoe_ba.io import read_volume
from ermoe_ba.kept_results.kept_scan import AGAIN, KeptScan
from ermoe_ba.model_card import ModelCard, model_folder, read_card
from ermoe_ba.model_identity import model_identity, model_name
from ermoe_ba.scan_files import CONTRIBUTIONS, EXPERTS, MASK, PREDICTION, REGIONS, REPORT, T1W
from ermoe_ba.scan_report import report_content
from ermoe_ba.space import TEMPLATE_SPACE
from ermoe_ba.tables import REGION_COLUMNS, read_tsv


@dataclass
class ReportMaker:
    """Makes reports again, by the models and atlases that the results name.

    Parameters
    ----------
    model, atlas : str or None
        Names or paths; by default what each result names, if it is shipped.
    atlas_labels : Path or None
        Label table of an atlas given by path, where it does not lie beside it.
    atlas_space : str or None
        Space of an atlas given by path, where its name does not tell.
    """

    model: str | None
    atlas: str | None
    atlas_labels: Path | None = None
    atlas_space: str | None = None
    _cards: dict[str, ModelCard] = field(default_factory=dict, init=False)
    _atlases: dict[str, Atlas] = field(default_factory=dict, init=False)

    def make(self, scan: KeptScan) -> Path:
        """Write the report of one scan, byte for byte what `predict` writes of the same results.

        Parameters
        ----------
        scan : KeptScan
            From `read_kept`.

        Returns
        -------
        Path
            Of the report.

        Raises
        ------
        ScanError
            If a file of the scan is missing or damaged, or model or atlas are not those of the
            result.
        UsageError
            If there is no such model or atlas.
        OSError
            If the report cannot be written.
        """
        # A slow import, for those alone who want a report.
        from ermoe_ba.report import write_report

        try:
            traced = scan.result["provenance"]
            if traced["atlas"] == "none":
                raise ScanError(
                    scan.path(PREDICTION),
                    must_hold="a report needs the maps of the prediction",
                    found="that it was made with --no-maps",
                    remedy=AGAIN,
                )
            content = report_content(
                scan.name,
                scan.result,
                self._card(scan),
                self._atlas(scan),
                _read_regions(scan.path(REGIONS)),
                t1w=read_volume(scan.path(T1W), TEMPLATE_SPACE),
                brain_mask=read_volume(scan.path(MASK), TEMPLATE_SPACE),
                experts=read_volume(scan.path(EXPERTS), TEMPLATE_SPACE),
                contributions=read_volume(scan.path(CONTRIBUTIONS), TEMPLATE_SPACE),
            )
        except (KeyError, ValueError) as error:
            raise ScanError(
                scan.path(PREDICTION),
                must_hold="the scan's files must be those of one prediction of this version",
                found=f"{type(error).__name__}: {error}",
                remedy=AGAIN,
            ) from error
        write_report(scan.path(REPORT), content)
        return scan.path(REPORT)

    def card_of_all(self, scans: Sequence[KeptScan]) -> ModelCard | None:
        """Return the card of the one model that predicted all of some scans.

        Parameters
        ----------
        scans : sequence of KeptScan
            From `read_kept`.

        Returns
        -------
        ModelCard or None
            None where there are several models, or theirs is not here.
        """
        if len({str(scan.result["model_id"]) for scan in scans}) != 1:
            return None
        try:
            return self._card(scans[0])
        except ErmoeError:
            # Told of each scan, whose report needs the model; the index can do without.
            return None

    def _card(self, scan: KeptScan) -> ModelCard:
        made_by = str(scan.result["model_id"])
        if made_by not in self._cards:
            folder = model_folder(self.model or model_name(made_by))
            card = read_card(folder)
            found = model_identity(folder, card)
            if found != made_by:
                raise ScanError(
                    scan.path(PREDICTION),
                    must_hold=f"its report needs the model that predicted it, {made_by}",
                    found=f"{found} in {folder}",
                    remedy="Give that model's folder with --model.",
                )
            self._cards[made_by] = card
        return self._cards[made_by]

    def _atlas(self, scan: KeptScan) -> Atlas:
        wanted = scan.result["provenance"]["atlas_hash"]
        if wanted not in self._atlases:
            named = self.atlas or scan.result["provenance"]["atlas"]
            atlas = load_atlas(named, self.atlas_labels, self.atlas_space)
            found = atlas_hash(atlas)
            if found != wanted:
                raise ScanError(
                    scan.path(PREDICTION),
                    must_hold=f"its report needs the atlas of its region table, hash {wanted}",
                    found=f"{found} in {atlas.name}",
                    remedy="Give that atlas with --atlas, and its table with --atlas-labels.",
                )
            self._atlases[wanted] = atlas
        return self._atlases[wanted]


def _read_regions(path: Path) -> pd.DataFrame:
    try:
        # As text at first: names may read n/a, and Python reads numbers back to the last digit.
        table = read_tsv(path)
        for name in REGION_COLUMNS:
            if name == "index":
                table[name] = [int(cell) for cell in table[name]]
            elif name not in ("expert", "region", "hemisphere"):
                table[name] = [math.nan if cell == "n/a" else float(cell) for cell in table[name]]
    except (OSError, LookupError, ValueError) as error:
        raise ScanError(
            path, must_hold="must be a table of regions", found=str(error), remedy=AGAIN
        ) from error
    return table
