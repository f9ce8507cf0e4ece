"""What a study holds, in one number: for a run to know its data again."""

import hashlib

from ermoe_ba.formats import volume_files
from ermoe_ba.study import Study


def data_hash(study: Study) -> str:
    """Return a hash of whose scans and label maps a study holds, and of all that is in them.

    Parameters
    ----------
    study : Study
        All files must be there.

    Returns
    -------
    str
        16 hexadecimal digits; the order of the participants table plays no part.
    """
    digest = hashlib.sha256()
    for scan in sorted(study.scans, key=lambda scan: scan.name):
        digest.update(f"{scan.name} {scan.chronological_age}".encode())
        volumes = [scan.t1w] if scan.labels is None else [scan.t1w, scan.labels]
        # Of a pair, header and voxels.
        for path in (file for volume in volumes for file in dict.fromkeys(volume_files(volume))):
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()[:16]
