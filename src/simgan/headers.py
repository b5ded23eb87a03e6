"""What the first bytes of an image file say, read before any pixel is decoded.

Decoders expand palettes, average bit depths and allocate whatever size a header claims, all silently. So each
format's header is parsed here: sizes are known before memory is spent, and a file whose pixels would not come
back as they were when written again (palette, 1-bit, float, several pages, …) is refused with a reason
instead of being changed.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass

from simgan.errors import ImageError

_PALETTE = (
    "a palette image: its values are indices (most likely a label mask), and refining would change what they "
    "mean; leave it out of the images pattern, or convert it to grey or RGB"
)
_ONE_BIT = (
    "{bits} bit per sample (most likely a mask); 8 and 16 bit are supported: leave it out of the images "
    "pattern, or convert it to 8 bit"
)
_TRUNCATED = "the file is truncated: {what}; copy or make it again"
_ORIENTATION = (
    "EXIF orientation {value}: viewers turn this image, many label tools do not, so labels could belong to "
    "either; turn the pixels for good (mogrify -auto-orient) and check the labels"
)


@dataclass(frozen=True)
class ImageHeader:
    """Size and sample layout of an image file, as declared by its header."""

    format: str  # png, jpeg, bmp, pnm, tiff, webp
    width: int
    height: int
    channels: int  # alpha included: 1 grey, 2 grey + alpha, 3 RGB, 4 RGBA
    bit_depth: int


def parse_header(data: bytes) -> ImageHeader:
    """The header of the image file `data`; `ImageError` with the reason where the image cannot be used."""
    if not data:
        raise ImageError("the file is empty (0 bytes)")
    for magic, parse in _PARSERS:
        if magic.match(data):
            try:
                header = parse(data)
            except (struct.error, IndexError) as error:
                raise ImageError(_TRUNCATED.format(what="it ends inside its header")) from error
            if header.width < 1 or header.height < 1:
                raise ImageError(f"the header gives an impossible size, {header.width} × {header.height}")
            return header
    start = data[:12]
    raise ImageError(
        f"not an image in a supported format (PNG, JPEG, BMP, TIFF, WebP, PGM/PPM); it starts with {start!r}"
    )


def _png(data: bytes) -> ImageHeader:
    width, height, bits, colour = struct.unpack(">IIBB", data[16:26])
    if colour == 3:
        raise ImageError(_PALETTE)
    if bits < 8:
        raise ImageError(_ONE_BIT.format(bits=bits))
    position = 8
    while True:
        length, name = struct.unpack(">I4s", data[position : position + 8])
        end = position + 12 + length
        if end > len(data):
            raise ImageError(_TRUNCATED.format(what=f"chunk {name.decode('latin-1')} is cut off"))
        # libpng may only complain about a wrong checksum, on stderr, and go on.
        if zlib.crc32(data[position + 4 : end - 4]) != struct.unpack(">I", data[end - 4 : end])[0]:
            raise ImageError(f"the file is damaged: the checksum of chunk {name.decode('latin-1')} is wrong")
        if name == b"IEND":
            break
        if name == b"acTL":
            raise ImageError(
                "an animated PNG: one image per file is wanted; write its frames as single files"
            )
        if name == b"tRNS":
            raise ImageError(
                "transparency by colour key (tRNS): convert it to an alpha channel, or remove it"
            )
        if name == b"eXIf":
            _check_exif(data[position + 8 : end - 4])
        position = end
        if position + 8 > len(data):
            raise ImageError(_TRUNCATED.format(what="the closing IEND chunk is missing"))
    channels = {0: 1, 2: 3, 4: 2, 6: 4}.get(colour)
    if channels is None:
        raise ImageError(f"unknown PNG colour type {colour}")
    return ImageHeader("png", width, height, channels, bits)


def _jpeg(data: bytes) -> ImageHeader:
    position, header = 2, None
    while True:
        while data[position] == 0xFF and data[position + 1] == 0xFF:
            position += 1
        marker, kind = data[position], data[position + 1]
        if marker != 0xFF:
            raise ImageError("the file is damaged: no JPEG marker where one belongs")
        (length,) = struct.unpack(">H", data[position + 2 : position + 4])
        body = data[position + 4 : position + 2 + length]
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            bits, height, width, channels = struct.unpack(">BHHB", body[:6])
            if channels not in (1, 3):
                raise ImageError(f"a JPEG of {channels} channels (CMYK?): convert it to RGB or grey")
            if bits != 8:
                raise ImageError(f"a JPEG of {bits} bits per sample: convert it to 16-bit PNG")
            header = ImageHeader("jpeg", width, height, channels, bits)
        elif kind == 0xE1 and body.startswith(b"Exif\0\0"):
            _check_exif(body[6:])
        elif kind == 0xDA:
            break
        position += 2 + length
    if header is None:
        raise ImageError("the file is damaged: a JPEG scan without a frame header")
    # Inside entropy-coded data FF is always followed by 00 or RST, so FF D9 after the first scan is the end
    # of the image. Decoders fill what is missing with grey and report success.
    if data.find(b"\xff\xd9", position) < 0:
        raise ImageError(_TRUNCATED.format(what="the end-of-image marker is missing"))
    return header


def _bmp(data: bytes) -> ImageHeader:
    pixels, header_size, width, height = struct.unpack("<IIii", data[10:26])
    if header_size < 40:
        raise ImageError("a BMP of the OS/2 kind: convert it to PNG")
    bits, compression = struct.unpack("<HI", data[28:34])
    if bits in (1, 2, 4):
        raise ImageError(_ONE_BIT.format(bits=bits))
    if bits == 8:
        used = min(struct.unpack("<I", data[46:50])[0] or 256, 256)
        table = data[14 + header_size : 14 + header_size + 4 * used]
        ramp = b"".join(bytes((i, i, i)) for i in range(used))
        if bytes(v for i, v in enumerate(table) if i % 4 != 3) != ramp:
            raise ImageError(_PALETTE)
    elif bits not in (24, 32) or compression not in (0, 3):
        raise ImageError(f"a BMP of {bits} bits per pixel, compression {compression}: convert it to PNG")
    alpha_mask = struct.unpack("<I", data[66:70])[0] if bits == 32 and header_size >= 56 else 0
    row_bytes = (width * bits + 31) // 32 * 4
    if compression in (0, 3) and len(data) < pixels + row_bytes * abs(height):
        raise ImageError(_TRUNCATED.format(what="pixel rows are missing"))
    channels = {8: 1, 24: 3, 32: 4 if alpha_mask else 3}[bits]
    return ImageHeader("bmp", width, abs(height), channels, 8)


_PNM_HEADER = re.compile(rb"P([1-7])" + rb"(?:\s|#[^\n]*\n)+(\d{1,9})" * 3 + rb"\s")


def _pnm(data: bytes) -> ImageHeader:
    if data[:2] in (b"P1", b"P4"):
        raise ImageError(_ONE_BIT.format(bits=1))
    match = _PNM_HEADER.match(data)
    if match is None:
        raise ImageError("a PNM header without width, height and largest value")
    kind, width, height, largest = (int(v) for v in match.groups())
    if largest not in (255, 65535):
        raise ImageError(
            f"a PNM file with largest value {largest}: only 255 and 65535 come back as they were; convert it "
            f"to PNG, and set the value range in the configuration"
        )
    channels, size = (1 if kind in (2, 5) else 3), (1 if largest == 255 else 2)
    wanted = match.end() + width * height * channels * size
    if kind in (5, 6) and len(data) < wanted:
        raise ImageError(_TRUNCATED.format(what=f"{wanted:,} bytes wanted, {len(data):,} there"))
    return ImageHeader("pnm", width, height, channels, 8 * size)


def _webp(data: bytes) -> ImageHeader:
    if len(data) < 8 + int.from_bytes(data[4:8], "little"):
        raise ImageError(_TRUNCATED.format(what="the RIFF container is cut off"))
    kind = data[12:16]
    if kind == b"VP8X":
        if data[20] & 0x02:
            raise ImageError(
                "an animated WebP: one image per file is wanted; write its frames as single files"
            )
        exif = data.find(b"EXIF") if data[20] & 0x08 else -1
        if exif >= 0:
            _check_exif(data[exif + 8 :].removeprefix(b"Exif\0\0"))
        width, height = (int.from_bytes(data[i : i + 3], "little") + 1 for i in (24, 27))
        return ImageHeader("webp", width, height, 4 if data[20] & 0x10 else 3, 8)
    if kind == b"VP8L":
        packed = struct.unpack("<I", data[21:25])[0]
        channels = 4 if packed >> 28 & 1 else 3
        return ImageHeader("webp", (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1, channels, 8)
    width, height = (v & 0x3FFF for v in struct.unpack("<HH", data[26:30]))
    return ImageHeader("webp", width, height, 3, 8)


def _tiff(data: bytes) -> ImageHeader:
    tags, following = _tiff_directory(data)
    if following:
        raise ImageError(
            "a TIFF of several pages: one image per file is wanted; write its pages as single files"
        )

    def first(tag: int, default: int) -> int:
        return tags.get(tag, (default,))[0]

    kind, bits, channels, photometric = first(339, 1), first(258, 1), first(277, 1), first(262, 1)
    if kind == 3:
        raise ImageError(f"float pixels ({bits} bit): float is not supported yet; convert to 16-bit integers")
    if photometric == 3:
        raise ImageError(_PALETTE)
    if bits < 8:
        raise ImageError(_ONE_BIT.format(bits=bits))
    if kind != 1 or bits not in (8, 16) or len(set(tags.get(258, (bits,)))) > 1:
        raise ImageError(
            f"samples of {tags.get(258)} bits of kind {kind}: unsigned 8 and 16 bit are supported"
        )
    colours = {0: 1, 1: 1, 2: 3}.get(photometric)
    if colours is None:
        raise ImageError(
            f"a TIFF of photometric kind {photometric} (YCbCr, CMYK, Lab, …): convert it to RGB or grey"
        )
    if channels not in (colours, colours + 1):
        raise ImageError(
            f"{channels} channels: grey and RGB, with or without alpha, are supported; more are not yet"
        )
    if channels == colours + 1:
        if first(338, 2) == 1:
            raise ImageError("premultiplied alpha: convert it to plain (unassociated) alpha, or remove it")
        if channels == 2 and bits == 16:
            raise ImageError("a 16-bit grey TIFF with alpha: convert it to PNG, or remove the alpha")
    if first(274, 1) != 1:
        raise ImageError(_ORIENTATION.format(value=first(274, 1)))
    return ImageHeader("tiff", first(256, 0), first(257, 0), channels, bits)


def _tiff_directory(data: bytes) -> tuple[dict[int, tuple[int, ...]], int]:
    """The integer tags of the first directory, and the offset of the next directory (0: none)."""
    order = "<" if data[:2] == b"II" else ">"
    version, position = struct.unpack(order + "HI", data[2:8])
    if version != 42:
        raise ImageError("a BigTIFF: convert it to PNG or to plain TIFF")
    (count,) = struct.unpack(order + "H", data[position : position + 2])
    tags: dict[int, tuple[int, ...]] = {}
    for entry in range(position + 2, position + 2 + 12 * count, 12):
        tag, kind, length = struct.unpack(order + "HHI", data[entry : entry + 8])
        code = {1: "B", 3: "H", 4: "I"}.get(kind)
        if code is None or length > 8:  # strip tables can be long; no tag that is asked for is
            continue
        size = struct.calcsize(f"={length}{code}")
        start = entry + 8 if size <= 4 else struct.unpack(order + "I", data[entry + 8 : entry + 12])[0]
        tags[tag] = struct.unpack(f"{order}{length}{code}", data[start : start + size])
    end = position + 2 + 12 * count
    return tags, struct.unpack(order + "I", data[end : end + 4])[0]


def _check_exif(exif: bytes) -> None:
    """Refuse an EXIF orientation other than upright; EXIF that cannot be read is of no concern here."""
    try:
        orientation = _tiff_directory(exif)[0].get(274, (1,))
    except (struct.error, ImageError):
        return
    if orientation and orientation[0] not in (0, 1):
        raise ImageError(_ORIENTATION.format(value=orientation[0]))


_PARSERS = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), _png),
    (re.compile(rb"\xff\xd8\xff"), _jpeg),
    (re.compile(rb"BM.{8}", re.DOTALL), _bmp),
    (re.compile(rb"P[1-6][\s#]"), _pnm),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), _tiff),
    (re.compile(rb"RIFF.{4}WEBPVP8", re.DOTALL), _webp),
)
