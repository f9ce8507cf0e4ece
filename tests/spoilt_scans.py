"""Scans with spoilt headers, and why they are refused."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from ermoe_ba.errors import ScanError
from ermoe_ba.t1w import read_t1w

WriteHead = Callable[..., Path]
# Where the NIfTI-1 standard puts what the tests spoil: offset in bytes and struct format.
FIELDS = {
    "dim": (40, "8h"),
    "pixdim_xyz": (80, "3f"),
    "scaling": (112, "2f"),
    "qform_code": (252, "h"),
    "sform_code": (254, "h"),
    "quaternion": (256, "3f"),
    "sform": (280, "12f"),
}


def spoil_header(path: Path, **fields: tuple[float, ...]) -> Path:
    """Overwrite fields in the header of a little-endian NIfTI-1 file."""
    packed = path.name.endswith(".gz")
    content = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
    for name, values in fields.items():
        offset, layout = FIELDS[name]
        struct.pack_into(f"<{layout}", content, offset, *values)
    path.write_bytes(gzip.compress(bytes(content)) if packed else bytes(content))
    return path


def refusal_of(path: Path) -> ScanError:
    with pytest.raises(ScanError) as caught:
        read_t1w(path)
    error = caught.value
    assert str(path) in str(error)
    assert error.found in str(error)
    assert error.remedy in str(error)
    assert "\n" not in str(error)
    return error
