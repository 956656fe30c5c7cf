"""Bytes of files that may be compressed, and whether they are the bytes expected."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path


def decompressed(path: Path) -> bytes:
    """Return the contents of a file, unpacked if it is a gzip file, or refuse one that is cut off or damaged."""
    content = path.read_bytes()
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: gzip data of {len(content)} bytes is cut off or damaged ({error})") from None


def checked(content: bytes, path: Path, digest: str) -> bytes:
    """Return the contents of a file, or refuse them if their SHA-256 is not `digest`."""
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise ValueError(
            f"{path}: not the file it should be: the SHA-256 of its {len(content)} bytes (unpacked) is {found}, needed {digest}"
        )
    return content
