"""The tar reader trusts nothing; the writer writes what other programs read. The oracle is Python's tarfile."""

from __future__ import annotations

import io
import random
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simgan.data.conversion import convert
from simgan.data.tar import BLOCK, TarReader, check_name
from simgan.data.tar_writing import (
    build_header,
    copy_member,
    resized_headers,
    write_end,
    write_file,
    write_member,
)
from simgan.errors import DataError

KINDS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
FILES = {
    "a/0001.png": b"p" * 700,
    "a/0001.json": b"{}",
    "empty.txt": b"",
    "noext": b"x",
    "b/" + "l" * 120 + ".bin": b"0" * 512,
    "ö/ü.png": b"q",
}


def packed(files: dict[str, bytes], kind: str = "pax") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=KINDS[kind]) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(data), 1_700_000_000
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def one(name: str = "a.png", data: bytes = b"", **fields: object) -> bytes:
    """An archive of one member with the fields set, whatever they are."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        for field, value in fields.items():
            setattr(entry, field, value)
        archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def contents(path: Path) -> dict[str, bytes]:
    with TarReader(path) as reader:
        return {member.name: reader.read(member) for member in reader if member.is_file}


@pytest.mark.parametrize("kind", KINDS)
def test_archives_of_every_common_kind_are_read(tmp_path: Path, kind: str) -> None:
    # ustar has room for 100 characters behind the last slash
    files = {name: data for name, data in FILES.items() if kind != "ustar" or len(name) < 100}
    (tmp_path / "a.tar").write_bytes(packed(files, kind))
    assert contents(tmp_path / "a.tar") == files


def test_folders_and_the_beginning_dot_of_tar_are_understood(tmp_path: Path) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "sub" / "x.png").write_bytes(b"x")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(tmp_path / "in", ".")
    with TarReader(tmp_path / "a.tar") as reader:
        assert [(m.name, m.is_file) for m in reader] == [(".", False), ("sub", False), ("sub/x.png", True)]


def test_an_archive_copied_member_by_member_is_the_same(tmp_path: Path) -> None:
    data = packed(FILES | {"large.bin": b"ab" * 2**20})
    (tmp_path / "a.tar").write_bytes(data)
    with TarReader(tmp_path / "a.tar") as reader, (tmp_path / "b.tar").open("wb") as file:
        for member in reader:
            copy_member(file, reader, member)
        write_end(file)
    assert (tmp_path / "b.tar").read_bytes() == data


def test_a_resized_member_keeps_all_else_of_its_headers(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(one("a.png", b"x" * 600, mode=0o640, uid=7, uname="me", mtime=99))
    with TarReader(tmp_path / "a.tar") as reader, (tmp_path / "b.tar").open("wb") as file:
        (member,) = reader
        write_member(file, resized_headers(member, 3), b"new")
        write_end(file)
    with tarfile.open(tmp_path / "b.tar") as archive:
        (entry,) = archive
        assert (entry.mode, entry.uid, entry.uname, entry.mtime, entry.size) == (0o640, 7, "me", 99, 3)
        assert archive.extractfile(entry).read() == b"new"  # type: ignore[union-attr]


NAMES = st.lists(
    st.text("abcdefgXYZ0189._- öß漢", min_size=1, max_size=70).filter(lambda part: part not in (".", "..")),
    min_size=1,
    max_size=5,
).map("/".join)


@settings(max_examples=60, deadline=None)
@given(name=NAMES, size=st.integers(0, 1500), mtime=st.integers(0, 2**33))
def test_what_is_written_is_read_by_tarfile_and_read_again(name: str, size: int, mtime: int) -> None:
    data = bytes(i % 251 for i in range(size))
    out = io.BytesIO()
    write_member(out, build_header(name, size=size, mtime=mtime), data)
    write_end(out)
    assert len(out.getvalue()) % (20 * BLOCK) == 0
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as archive:
        (entry,) = archive
        assert (entry.name, entry.size, entry.mtime) == (name, size, min(mtime, 8**11 - 1))
        assert archive.extractfile(entry).read() == data  # type: ignore[union-attr]


def test_a_file_above_8_gib_has_its_size_in_a_pax_record() -> None:
    header = build_header("big.bin", size=8**11, mtime=0)
    entry = tarfile.TarInfo.frombuf(header[-BLOCK:], "utf-8", "strict")
    assert entry.size == 0
    assert header[BLOCK : BLOCK + 19] == b"19 size=8589934592\n"


# --- refused ----------------------------------------------------------------------------------------------


def with_field(data: bytes, start: int, field: bytes) -> bytes:
    """The first header with a field replaced and its checksum made right again."""
    block = bytearray(data[:BLOCK])
    block[start : start + len(field)] = field
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + data[BLOCK:]


GOOD = packed({"a.png": b"p" * 700, "b.png": b"q" * 100}, "ustar")
REFUSED: dict[str, tuple[bytes, str]] = {
    "climbing": (one("../evil.png"), "leads out of the folder"),
    "climbing in the middle": (one("a/../../evil.png"), "leads out of the folder"),
    "climbing at the end": (one("a/.."), "leads out of the folder"),
    "absolute": (one("/etc/evil.png"), "leads out of the folder"),
    "absolute folder": (one("/", type=tarfile.DIRTYPE), "leads out|is empty"),
    "empty part": (one("a//b.png"), "has empty parts"),
    "dot part": (one("a/./b.png"), "has empty parts"),
    "a dot": (one("."), "has empty parts"),
    "no name": (with_field(GOOD, 0, bytes(100)), "is empty"),
    "backslash": (one("..\\evil.png"), "control characters or a backslash"),
    "control character": (one("a\nb.png"), "control characters or a backslash"),
    "long part": (one("x" * 256 + ".png"), "is too long"),
    "long path": (one("x/" * 2100 + "a.png"), "is too long"),
    "not utf-8": (with_field(GOOD, 0, b"\xff\xfe.png\0"), "is not UTF-8"),
    "twice": (packed({"a.png": b"1"})[: 2 * BLOCK] + packed({"a.png": b"2"}), "stands there twice"),
    "twice with a dot": (packed({"a.png": b"1"})[: 2 * BLOCK] + packed({"./a.png": b"2"}), "stands there twice"),
    "file and folder": (packed({"a": b"1", "a/b.png": b"2"}), "is a file and a folder"),
    "symbolic link": (one("a.png", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "is a symbolic link"),
    "hard link": (one("a.png", type=tarfile.LNKTYPE, linkname="b.png"), "is a hard link"),
    "character device": (one("a.png", type=tarfile.CHRTYPE), "is a device"),
    "block device": (one("a.png", type=tarfile.BLKTYPE), "is a device"),
    "pipe": (one("a.png", type=tarfile.FIFOTYPE), "is a pipe"),
    "sparse": (with_field(GOOD, 156, b"S"), "is a sparse file"),
    "long link": (one("a.png", type=tarfile.SYMTYPE, linkname="l" * 200), "a link with a long name"),
    "unknown kind": (with_field(GOOD, 156, b"Z"), "of the unknown kind"),
    "folder with data": (with_field(GOOD, 156, b"5"), "has data"),
    "huge size": (with_field(GOOD, 124, b"77777777777\0"), "truncated"),
    "huge binary size": (with_field(GOOD, 124, b"\x80" + b"\x7f" * 11), "truncated"),
    "negative size": (with_field(GOOD, 124, b"\xff" * 12), "a member of -1 bytes"),
    "size that is none": (with_field(GOOD, 124, b"12x45678901\0"), "is no number"),
    "checksum": (GOOD[:10] + b"!" + GOOD[11:], "checksum is wrong"),
    "checksum that is none": (GOOD[:148] + b"zzzzzzzz" + GOOD[156:], "is no number"),
    "no tar": (b"\x89PNG\r\n\x1a\n" + b"x" * 2000, "no tar header"),
    "zip": (b"PK\x03\x04" + b"z" * 2000, "no tar header"),
    "gzip": (b"\x1f\x8b\x08" + b"z" * 2000, "no tar header"),
    "empty file": (b"", "truncated"),
    "half a block": (GOOD[:100], "truncated"),
    "cut in a header": (GOOD[: BLOCK * 3 + 100], "truncated"),
    "cut in data": (GOOD[: BLOCK + 300], "truncated"),
    "cut between members": (GOOD[: BLOCK * 3], "truncated"),
    "cut before the end": (GOOD[: BLOCK * 5], "truncated"),
    "joined": (GOOD + GOOD, "data after the mark of the end"),
    "huge long name": (with_field(with_field(GOOD, 156, b"L"), 124, b"00077777777\0"), "an extended header of"),
    "huge pax": (with_field(with_field(GOOD, 156, b"x"), 124, b"00077777777\0"), "an extended header of"),
    "long name without member": (with_field(packed({"a": b"x"}, "ustar"), 156, b"L"), "headers without a member"),
    "pax that is none": (with_field(GOOD, 156, b"x"), "pax records are none"),
    "pax without end": (
        with_field(packed({"a": b"99 path=b"}, "ustar"), 156, b"x"), "pax records are none",
    ),
    "pax of length zero": (with_field(packed({"a": b"0 path=b\n"}, "ustar"), 156, b"x"), "pax records are none"),
    "global path": (with_field(packed({"a": b"10 path=b\n"}, "ustar"), 156, b"g"), "a global pax record 'path'"),
    "pax link": (with_field(packed({"a": b"14 linkpath=b\n"}, "ustar"), 156, b"x"), "a sparse file or a link"),
    "pax climbing": (
        with_field(packed({"x": b"16 path=../e.pn\n"}, "ustar")[: 2 * BLOCK], 156, b"x") + GOOD, "leads out",
    ),
    "pax size": (
        with_field(packed({"x": b"15 size=-12345\n"}, "ustar")[: 2 * BLOCK], 156, b"x") + GOOD, "a size of '-12345'",
    ),
    "pax size beyond the end": (
        with_field(packed({"x": b"17 size=99999999\n"}, "ustar")[: 2 * BLOCK], 156, b"x") + GOOD, "truncated",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_damaged_or_hostile_archive_is_refused_with_a_reason_and_leaves_nothing_outside(
    tmp_path: Path, name: str
) -> None:
    data, reason = REFUSED[name]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.tar").write_bytes(data)
    with pytest.raises(DataError, match=reason) as caught:
        contents(tmp_path / "in" / "a.tar")
    assert str(caught.value).startswith(f"{tmp_path / 'in' / 'a.tar'}: at byte ")
    with pytest.raises(DataError):
        convert(tmp_path / "in" / "a.tar", tmp_path / "out" / "deep")
    assert not (tmp_path / "out").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_there_are_enough_bad_archives() -> None:
    assert len(REFUSED) >= 50


def test_fuzzed_archives_are_read_or_refused_and_nothing_else(tmp_path: Path) -> None:
    """Bytes changed, cut out and put in at random, with right checksums at times."""
    chance = random.Random(7)
    good = packed(FILES)
    refused = 0
    for _ in range(200):
        data = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            at, length = chance.randrange(len(data)), chance.randint(1, 600)
            match chance.randrange(3):
                case 0:
                    data[at] = chance.randrange(256)
                case 1:
                    del data[at : at + length]
                case _:
                    data[at:at] = chance.randbytes(length)
        fuzzed = bytes(data)
        if chance.random() < 0.5 and len(fuzzed) > BLOCK:
            fuzzed = with_field(fuzzed, chance.randrange(0, 148), chance.randbytes(chance.randint(1, 8)))
        (tmp_path / "a.tar").write_bytes(fuzzed)
        try:
            names = contents(tmp_path / "a.tar")
        except DataError:
            refused += 1
        else:
            assert all(".." not in name.split("/") and not name.startswith("/") for name in names)
    assert refused > 50


# --- trouble with files ------------------------------------------------------------------------------------


def test_an_archive_that_cannot_be_opened_or_shrinks_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.tar: cannot be read: No such file"):
        TarReader(tmp_path / "none.tar")
    (tmp_path / "a.tar").write_bytes(packed({"a.png": bytes(2**20)}))
    with TarReader(tmp_path / "a.tar") as reader:
        first = next(iter(reader))
        (tmp_path / "a.tar").write_bytes(b"")
        with pytest.raises(DataError, match="became shorter while it was read"):
            reader.read(first)


def test_a_file_that_cannot_be_read_or_changes_meanwhile_is_a_data_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"none.png: cannot be read"):
        write_file(io.BytesIO(), tmp_path / "none.png", "none.png")
    (tmp_path / "a.png").write_bytes(b"123")

    class Growing(io.BytesIO):
        def write(self, data: bytes) -> int:  # type: ignore[override]
            (tmp_path / "a.png").write_bytes(b"123456")
            return super().write(data)

    with pytest.raises(DataError, match=r"a.png: was changed while it was read"):
        write_file(Growing(), tmp_path / "a.png", "a.png")


def test_a_name_that_an_archive_cannot_hold_is_refused_before_it_is_written(tmp_path: Path) -> None:
    check_name("a/b.png", where=tmp_path)
    for name, reason in (("a\\b.png", "backslash"), ("a\udcff.png", "not UTF-8")):
        with pytest.raises(DataError, match=reason):
            check_name(name, where=tmp_path)
