"""Tar archives, as which an engine takes files into a container and gives them out of it."""

import io
import tarfile
from collections.abc import Iterable


def archive_of(entries: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """A tar archive for `put_archive`."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for info, content in entries:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def first_file(content: bytes) -> bytes:
    """What is in the first file of an archive; nothing where that is no regular file, or no archive."""
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            member = archive.next()
            extracted = archive.extractfile(member) if member is not None and member.isreg() else None
            return extracted.read() if extracted is not None else b""
    except tarfile.TarError:
        return b""
