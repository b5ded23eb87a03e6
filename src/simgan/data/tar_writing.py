"""Members of a tar archive, written: new ones from files, and those of another archive as they were."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from simgan.data.tar import BLOCK, Member, TarReader, filled, number, unreadable
from simgan.errors import DataError

_RECORD = 20 * BLOCK  # archives are filled up to a multiple of this, as tar does


def build_header(name: str, *, size: int, mtime: int) -> bytes:
    """The header blocks of a regular file: ustar where the name and the size fit, else with pax records before it."""
    head, tail = "", name
    if len(name) > 100:
        cut = name.rfind("/", 0, 156)
        head, tail = (name[:cut], name[cut + 1 :]) if cut > 0 else ("", name)
    records = {}
    if not name.isascii() or len(tail) > 100:
        records["path"], head, tail = name, "", name[-90:]
    if size >= 8**11:
        records["size"] = str(size)
    plain = _build_block(tail, head, 0 if "size" in records else size, mtime, b"0")
    if not records:
        return plain
    data = b"".join(_pax_record(key, value) for key, value in records.items())
    before = _build_block("././@PaxHeader", "", len(data), 0, b"x")
    return before + data + bytes(filled(len(data)) - len(data)) + plain


def _build_block(name: str, prefix: str, size: int, mtime: int, kind: bytes) -> bytes:
    fields = [
        name.encode("ascii", "replace").ljust(100, b"\0"),
        b"0000644\0" + b"0000000\0" * 2,
        b"%011o\0" % size,
        b"%011o\0" % min(max(mtime, 0), 8**11 - 1),
        b" " * 8,
        kind,
        bytes(100),
        b"ustar\x0000",
        bytes(64),
        b"0000000\0" * 2,
        prefix.encode("ascii").ljust(155, b"\0"),
        bytes(12),
    ]
    return _summed(b"".join(fields))


def _pax_record(key: str, value: str) -> bytes:
    body = f" {key}={value}\n".encode()
    length = len(body) + 1
    while length != len(body) + len(str(length)):
        length = len(body) + len(str(length))
    return str(length).encode() + body


def resized_headers(member: Member, size: int) -> bytes:
    """The headers of `member` for data of another size; all else in them stays as it was."""
    block = member.headers[-BLOCK:]
    if member.size != number(block[124:136]):  # in a pax record: of files above 8 GiB
        return build_header(member.name, size=size, mtime=member.mtime)
    return member.headers[:-BLOCK] + _summed(block[:124] + b"%011o\0" % size + block[136:])


def _summed(block: bytes) -> bytes:
    blank = block[:148] + b" " * 8 + block[156:]
    return block[:148] + b"%06o\0 " % sum(blank) + block[156:]


def write_member(target: BinaryIO, headers: bytes, data: bytes) -> None:
    """Headers and data, filled up to whole blocks."""
    target.write(headers)
    target.write(data)
    target.write(bytes(filled(len(data)) - len(data)))


def copy_member(target: BinaryIO, source: TarReader, member: Member) -> None:
    """A member as it was, byte for byte, whatever its size."""
    target.write(member.headers)
    source.copy(member, target)
    target.write(bytes(filled(member.size) - member.size))


def write_file(target: BinaryIO, path: Path, name: str) -> None:
    """The file `path` as the member `name`. `DataError` where it cannot be read, or changes while it is."""

    def read(file: BinaryIO, size: int) -> bytes:
        try:
            return file.read(size)
        except OSError as error:
            raise unreadable(path, error) from error

    try:
        file = path.open("rb")
    except OSError as error:
        raise unreadable(path, error) from error
    with file:
        stat = os.fstat(file.fileno())
        target.write(build_header(name, size=stat.st_size, mtime=int(stat.st_mtime)))
        written = 0
        while part := read(file, 2**20):
            written += len(part)
            target.write(part)
    if written != stat.st_size:
        raise DataError(f"{path}: was changed while it was read; run again")
    target.write(bytes(filled(written) - written))


def write_end(target: BinaryIO) -> None:
    """The mark of the end: two empty blocks, filled up to a whole record."""
    end = target.tell() + 2 * BLOCK
    target.write(bytes(2 * BLOCK + -end % _RECORD))
