"""Simulated people that training begins with: found, prepared, and none of the study's."""

from pathlib import Path

from ermoe_ba.errors import UsageError
from ermoe_ba.study import read_study
from ermoe_ba.tables import write_table
from ermoe_ba.training.pretrain_config import PretrainConfig
from ermoe_ba.training.ready_study import ReadyStudy, make_ready
from ermoe_ba.training.run_folder import SCANS, read_run_table


def simulated_people(
    config: PretrainConfig, ready: ReadyStudy, out: Path, *, jobs: int = 1
) -> ReadyStudy | None:
    """Prepare the simulated people that a recipe begins with.

    Parameters
    ----------
    config : PretrainConfig
        ``phantom`` names their participants table, relative to the study's folder.
    ready : ReadyStudy
        The study itself; its folder of prepared scans is shared.
    out : Path
        Folder in which is kept what is found of their scans.
    jobs : int
        Processes that prepare.

    Returns
    -------
    ReadyStudy or None
        None where there is no such stage.

    Raises
    ------
    UsageError
        If they cannot be read; if `out` was begun with others; or if one of them has the voxels of
        a scan of the study, since nobody may be tested by a network that began with them.
    """
    if config.phantom is None:
        return None
    path = ready.study.root / config.phantom.participants
    earlier = out / SCANS
    before = read_run_table(earlier) if earlier.is_file() else None
    people = make_ready(
        read_study(path, None, None), ready.cohort, out, jobs=jobs, skip_unusable=False
    )
    hashes = people.scans["voxel_hash"]
    if before is not None and before["voxel_hash"].tolist() != hashes.tolist():
        raise UsageError(f"{out} was begun with other people than {path}; choose another --out.")
    shared = people.scans["scan"][hashes.isin(set(ready.scans["voxel_hash"]))].tolist()
    if shared:
        raise UsageError(
            f"{path}: what is learnt before ages must hold no scan of the study; found the voxels "
            f"of {', '.join(map(str, shared))} in both. Take simulated people, or other ones."
        )
    write_table(earlier, people.scans)
    return people
