"""What `predict` wrote, read back: to make the reports again, and to list a cohort."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ermoe_ba.atlas import Atlas, atlas_hash, load_atlas
from ermoe_ba.errors import ErmoeError, ScanError, UsageError
from ermoe_ba.io import read_volume
from ermoe_ba.model_card import ModelCard, model_folder, read_card
from ermoe_ba.model_identity import model_identity, model_name
from ermoe_ba.scan_files import CONTRIBUTIONS, EXPERTS, MASK, PREDICTION, REGIONS, REPORT, T1W
from ermoe_ba.scan_report import report_content
from ermoe_ba.space import TEMPLATE_SPACE
from ermoe_ba.tables import (
    LATER_COLUMNS,
    PREDICTION_COLUMNS,
    REGION_COLUMNS,
    read_predictions,
    read_tsv,
)

TABLE = "predictions.tsv"
AGAIN = "Predict the scan again, with maps."
# Columns that a prediction may do without.
_MAY_LACK = {"message", "qc_flags", *LATER_COLUMNS}


@dataclass(frozen=True, kw_only=True)
class KeptScan:
    """One scan that was predicted.

    Parameters
    ----------
    folder : Path
        Where its files lie.
    name : str
        What their names begin with.
    result : dict
        What its ``prediction.json`` holds.
    """

    folder: Path
    name: str
    result: dict[str, Any]

    def path(self, suffix: str) -> Path:
        """Return the path of one of its files, by what follows the scan's name.

        Parameters
        ----------
        suffix : str
            As in `ermoe_ba.scan_files`.

        Returns
        -------
        Path
            It need not exist.
        """
        return self.folder / f"{self.name}_{suffix}"


def find_kept(root: Path) -> list[Path]:
    """Return the ``prediction.json`` of all scans in a folder and below, by path.

    Parameters
    ----------
    root : Path
        Of results.

    Returns
    -------
    list of Path
        At least one.

    Raises
    ------
    UsageError
        If there is none.
    """
    found = sorted(root.rglob(f"*_{PREDICTION}"))
    if not found:
        raise UsageError(
            f"{root}: must hold what `ermoe-ba predict` wrote; found no file *_{PREDICTION} in it "
            "or below."
        )
    return found


def read_kept(path: Path) -> KeptScan:
    """Read one ``prediction.json``.

    Parameters
    ----------
    path : Path
        Of the JSON; the scan's other files lie beside it.

    Returns
    -------
    KeptScan
        The JSON's content, with its name and folder.

    Raises
    ------
    ScanError
        If it cannot be read or lacks a column of the table of predictions.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        missing = sorted(set(PREDICTION_COLUMNS) - _MAY_LACK - set(result))
    except (OSError, ValueError, TypeError) as error:
        raise ScanError(
            path, must_hold="must be readable JSON", found=str(error), remedy=AGAIN
        ) from error
    if missing:
        raise ScanError(
            path,
            must_hold="must hold a prediction of this version",
            found=f"no {', '.join(missing)}",
            remedy=AGAIN,
        )
    name = path.name.removesuffix(f"_{PREDICTION}")
    return KeptScan(folder=path.parent, name=name, result=result)


def rows_without_result(root: Path, results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of all tables in a folder and below that are of none of some results.

    Parameters
    ----------
    root : Path
        Of the tables.
    results : sequence of dict
        What ``prediction.json`` holds, of each scan.

    Returns
    -------
    list of dict
        One an input, by column, all cells text.

    Raises
    ------
    UsageError
        If a table cannot be read.
    """
    known = {_age_of(result) for result in results}
    tables = [read_predictions(path) for path in sorted(root.rglob(f"*{TABLE}"))]
    # A BIDS App writes a table a session, and gathers them into one, which may be older: of an
    # input that has a result, no table may tell what was before.
    rows = [row for table in tables for row in table.to_dict("records")]
    done = {row["input"] for row in rows if _age_of(row) in known}
    rest = {row["input"]: row for row in rows if row["input"] not in done}
    return [{str(key): value for key, value in row.items()} for row in rest.values()]


def _age_of(row: Mapping[Any, Any]) -> tuple[str, str, str]:
    """Return what ties a row to its result: tables name a scan by its path, results do not."""
    return str(row["participant_id"]), str(row["session_id"] or "n/a"), str(row["predicted_age"])


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
