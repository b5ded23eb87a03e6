"""Tar archives, as much of them as data sets need, read without trusting them.

A member is a regular file or a folder; its headers are kept as they were, so that it can be written again byte for
byte. Everything else (links, devices, sparse files), names that lead out of the folder, and archives that are cut off
or damaged are refused with the place and the reason. POSIX ustar and pax, and GNU long names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from simgan.errors import DataError

BLOCK = 512
_LARGEST_EXTENSION = 2**20  # bytes of long names and pax records before one member
_LONGEST_NAME, _LONGEST_PART = 4096, 255  # what file systems hold

_EMPTY = bytes(BLOCK)
_OCTAL = re.compile(rb"[0-7]+")
_PLAIN = re.compile(
    r"(?:[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}/){0,9}[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}"
)  # nothing to check
_MAGICS = (b"ustar\x0000", b"ustar  \0", bytes(8))  # POSIX, GNU, before both
_REFUSED = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a pipe",
    b"S": "a sparse file",
    b"K": "a link with a long name",
    b"M": "a part of a file in several volumes",
}


@dataclass(frozen=True, slots=True)
class Member:
    """A file or folder in an archive."""

    name: str  # POSIX path without "./"
    size: int  # bytes of data
    mtime: int  # seconds
    offset: int  # of the data in the archive
    headers: bytes  # all blocks before the data
    is_file: bool


class Writable(Protocol):
    """What data can be written to."""

    def write(self, data: bytes, /) -> int: ...


class TarReader:
    """The archive `path`, opened: iterate over its members in order, `read` or `copy` their data.

    Iterating checks every header and the end before it ends; `DataError` says what is wrong and where.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._file = self.path.open("rb")
            self._size = os.fstat(self._file.fileno()).st_size
        except OSError as error:
            raise unreadable(self.path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[Member]:
        start, names = 0, set[str]()
        while True:
            try:
                member = self._member_at(start)
                if member is None:
                    self._check_end(start)
                    return
                _check_new(member, names)
            except _FaultError as fault:
                raise DataError(
                    f"{self.path}: at byte {start:,}: {fault}; copy or make the archive again"
                ) from fault
            except OSError as error:
                raise unreadable(self.path, error) from error
            yield member
            start = member.offset + filled(member.size)

    def read(self, member: Member) -> bytes:
        """The data of one of its members."""
        return self.read_at(member.offset, member.size)

    def copy(self, member: Member, target: Writable) -> None:
        """Write the data to `target`, whatever its size."""
        self._file.seek(member.offset)
        left = member.size
        while left:
            part = self.read_at(self._file.tell(), min(left, 2**20))
            target.write(part)
            left -= len(part)

    def read_at(self, offset: int, size: int) -> bytes:
        """So many bytes from there."""
        try:
            self._file.seek(offset)
            data = self._file.read(size)
        except OSError as error:
            raise unreadable(self.path, error) from error
        if len(data) != size:
            raise DataError(f"{self.path}: became shorter while it was read; copy or make the archive again")
        return data

    def _member_at(self, start: int) -> Member | None:
        """The member whose headers begin there; None at the mark of the end."""
        position, records, long_name = start, dict[str, str](), None
        while True:
            block = self._block(position)
            if block == _EMPTY:
                if position > start:
                    raise _FaultError("headers without a member")
                return None
            size, kind = _checked_block(block)
            position += BLOCK
            if kind not in (b"x", b"g", b"L"):
                break
            if size > _LARGEST_EXTENSION or position - start > 2 * _LARGEST_EXTENSION:
                raise _FaultError(
                    f"an extended header of {size:,} bytes, at most {_LARGEST_EXTENSION:,} are read"
                )
            self._check_room(position, size)
            data = self.read_at(position, size)
            if kind == b"L":
                long_name = _decoded(data.rstrip(b"\0"))
            else:
                records |= _pax_records(data, is_global=kind == b"g")
            position += filled(size)
        name = records.get("path") or long_name or _name_of(block)
        is_folder = kind == b"5" or name.endswith("/")
        if kind not in (b"0", b"\0", b"7", b"5"):
            raise _FaultError(f"{name[:80]!r} is {_REFUSED.get(kind, f'of the unknown kind {kind!r}')}")
        if "size" in records:
            size = _decimal(records["size"])
        if is_folder and size:
            raise _FaultError(f"the folder {name[:80]!r} has data")
        self._check_room(position, size)
        headers = block if position - start == BLOCK else self.read_at(start, position - start)
        # "./" is how `tar -c .` begins: the folder itself.
        checked = (
            "."
            if is_folder and name in (".", "./")
            else _checked_name(name.rstrip("/") if is_folder else name)
        )
        return Member(checked, size, max(number(block[136:148]), 0), position, headers, not is_folder)

    def _block(self, position: int) -> bytes:
        if position + BLOCK > self._size:
            raise _FaultError("the archive is truncated: the mark of its end is missing")
        return self.read_at(position, BLOCK)

    def _check_room(self, position: int, size: int) -> None:
        if position + size > self._size:
            missing = position + size - self._size
            raise _FaultError(
                f"the archive is truncated: {missing:,} bytes of a member of {size:,} are missing"
            )

    def _check_end(self, start: int) -> None:
        self._file.seek(start)
        while part := self._file.read(2**20):
            if any(part):
                raise _FaultError("there is data after the mark of the end (were archives joined?)")


class _FaultError(Exception):
    """What is wrong at a place of an archive."""


def check_name(name: str, *, where: Path) -> None:
    """`DataError` unless a file of that name may stand in an archive; it lies in `where`."""
    try:
        _checked_name(name)
    except _FaultError as fault:
        raise DataError(f"{where}: {fault}: rename the file") from fault


def _checked_name(name: str) -> str:
    """`name` without a leading "./"; a fault where it is no path inside a folder."""
    if _PLAIN.fullmatch(name):
        return name
    plain = name
    while plain.startswith("./"):
        plain = plain[2:]
    parts = plain.split("/")
    wrong = {
        "is empty": not plain,
        "leads out of the folder": plain.startswith("/") or ".." in parts,
        "has empty parts": any(part in ("", ".") for part in parts),
        "holds control characters or a backslash": any(c < " " or c in "\\\x7f" for c in plain),
        "is not UTF-8": any("\ud800" <= c <= "\udfff" for c in plain),
        "is too long": len(plain.encode(errors="replace")) > _LONGEST_NAME
        or any(len(part.encode(errors="replace")) > _LONGEST_PART for part in parts),
    }
    for reason, holds in wrong.items():
        if holds:
            raise _FaultError(f"the name {name[:80]!r} {reason}")
    return plain


def _check_new(member: Member, names: set[str]) -> None:
    """No name stands twice, and none is both a file and a folder."""
    if member.is_file:
        if member.name in names:
            raise _FaultError(f"the name {member.name[:80]!r} stands there twice")
        names.add(member.name)
    above = member.name if not member.is_file else member.name.rpartition("/")[0]
    while above:
        if above in names:
            raise _FaultError(f"{above[:80]!r} is a file and a folder")
        above = above.rpartition("/")[0]


def _checked_block(block: bytes) -> tuple[int, bytes]:
    """Size of the data and kind of the member, from a header block whose checksum is right."""
    if block[257:265] not in _MAGICS:
        raise _FaultError(f"no tar header: {block[:12]!r}")
    unsigned = sum(block) - sum(block[148:156]) + 8 * 32
    if number(block[148:156]) != unsigned:
        raise _FaultError("the header is damaged: its checksum is wrong")
    size = number(block[124:136])
    if size < 0:
        raise _FaultError(f"a member of {size} bytes")
    return size, block[156:157]


def number(field: bytes) -> int:
    """Octal digits, or a binary number where the first bit is set."""
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big") if field[0] == 0x80 else -1
    digits = field.strip(b" \0")
    if digits and not _OCTAL.fullmatch(digits):
        raise _FaultError(f"the header is damaged: {field!r} is no number")
    return int(digits or b"0", 8)


def _decimal(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise _FaultError(f"the header is damaged: a size of {text[:20]!r}")
    return int(text)


def _name_of(block: bytes) -> str:
    name = block[:100].split(b"\0")[0]
    prefix = block[345:500].split(b"\0")[0] if block[257:263] == b"ustar\0" else b""
    return _decoded(prefix + b"/" + name if prefix else name)


def _decoded(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise _FaultError(f"the name {name[:80]!r} is not UTF-8") from None


def _pax_records(data: bytes, *, is_global: bool) -> dict[str, str]:
    """The records "length key=value\\n" of a pax header, those that matter here."""
    records: dict[str, str] = {}
    while data.strip(b"\0"):
        digits, _, _ = data[:20].partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        key, equals, value = data[len(digits) + 1 : length].rstrip(b"\n").partition(b"=")
        if (
            length <= len(digits) + 1
            or length > len(data)
            or not equals
            or data[length - 1 : length] != b"\n"
        ):
            raise _FaultError("the header is damaged: its pax records are none")
        if key.startswith(b"GNU.sparse") or key == b"linkpath":
            raise _FaultError(f"a sparse file or a link (pax record {key.decode(errors='replace')!r})")
        if key in (b"path", b"size"):
            if is_global:
                raise _FaultError(f"a global pax record {key.decode()!r}, which no file of its own can have")
            records[key.decode()] = _decoded(value)
        data = data[length:]
    return records


def filled(size: int) -> int:
    """`size` as a whole number of blocks, in bytes."""
    return -(-size // BLOCK) * BLOCK


def unreadable(path: Path, error: OSError) -> DataError:
    """What to say when the system refuses to read `path`."""
    return DataError(f"{path}: cannot be read: {error.strerror or error}; check its rights")
