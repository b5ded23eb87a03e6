"""Images on disk as arrays and back: the only module that knows file formats and pixel ranges.

An image is an array (H, W, C), always 3-D, uint8 or uint16, channels in the order grey, (alpha) or R, G, B,
(alpha). What was read is what is written: an unchanged array written under the same name gives the same
pixels again (JPEG, being lossy: nearly). Not carried along: colour profiles, EXIF and other metadata; the
numbers are never reinterpreted by them.
"""

from __future__ import annotations

import errno
import os
import secrets
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from simgan.errors import ConfigurationError, ImageError, OutputError
from simgan.headers import ImageHeader, parse_header

_SUFFIX_FORMATS = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".bmp": "bmp",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".webp": "webp",
    ".pgm": "pnm",
    ".ppm": "pnm",
    ".pnm": "pnm",
}
IMAGE_SUFFIXES: frozenset[str] = frozenset(_SUFFIX_FORMATS)
LOSSY_SUFFIXES: frozenset[str] = frozenset({".jpg", ".jpeg"})
MAX_PIXELS = 2**28

_FORMATS_16_BIT = {"png", "tiff", "pnm"}
_FORMATS_ALPHA = {"png", "tiff", "bmp", "webp"}

Array = NDArray[Any]


@dataclass(frozen=True)
class PixelFormat:
    """What the refiner sees of an image. Alpha passes the refiner by, so formats compare equal without it."""

    channels: int
    bit_depth: int
    alpha: bool = field(default=False, compare=False)

    @classmethod
    def of(cls, array: Array) -> PixelFormat:
        """The format of an image array (H, W, C)."""
        check_image(array)
        channels = array.shape[2]
        return cls(1 if channels <= 2 else 3, array.dtype.itemsize * 8, channels in (2, 4))

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8 or uint16."""
        return np.dtype(np.uint8 if self.bit_depth == 8 else np.uint16)

    def __str__(self) -> str:
        colour = "grey" if self.channels == 1 else "RGB"
        return f"{self.bit_depth}-bit {colour}{' + alpha' if self.alpha else ''}"


@dataclass(frozen=True)
class ValueRange:
    """How native integers v in {low, low + step, …, high} stand on [-1, 1].

    x = 2 (v − low) / (high − low) − 1,   v = low + step · round((x + 1)/2 · (levels − 1))

    `invalid` is a value that means "no measurement" (holes in depth images): it encodes to -1 and is never
    "outside".
    """

    low: int
    high: int
    step: int = 1
    invalid: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 65535:
            raise ConfigurationError(
                f"value range: 0 <= low < high <= 65535 is wanted, got low {self.low} and high {self.high}"
            )
        if self.step < 1 or (self.high - self.low) % self.step:
            raise ConfigurationError(
                f"value range: step must divide high - low = {self.high - self.low}, got {self.step}"
            )

    @property
    def levels(self) -> int:
        """The number of values on the grid."""
        return (self.high - self.low) // self.step + 1

    def encode(self, values: Array) -> NDArray[np.float32]:
        """Native integers as float32 in [-1, 1], same shape; values outside the range are clipped to it."""
        x = (values.astype(np.float32) - np.float32(self.low)) * np.float32(2 / (self.high - self.low))
        x -= np.float32(1)
        np.clip(x, -1, 1, out=x)
        if self.invalid is not None:
            x[values == self.invalid] = -1
        return x

    def decode(self, x: Array, dtype: Any) -> Array:
        """The grid values nearest to x, which is clipped to [-1, 1]: decode(encode(v)) == v on the grid."""
        places = np.rint((np.clip(x, -1, 1) + 1) * ((self.levels - 1) / 2))
        return (self.low + self.step * places).astype(dtype)

    def is_invalid(self, values: Array) -> NDArray[np.bool_]:
        """True where a value is the declared `invalid` one."""
        if self.invalid is None:
            return np.zeros(values.shape, bool)
        return np.asarray(values == self.invalid, bool)

    def count_outside(self, values: Array) -> int:
        """How many values lie below low or above high and are not `invalid`."""
        outside = (values < self.low) | (values > self.high)
        return int(np.count_nonzero(outside & ~self.is_invalid(values)))

    def to_dict(self) -> dict[str, int | None]:
        """The fields, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, int | None]) -> ValueRange:
        """The inverse of `to_dict`."""
        return cls(**fields)  # type: ignore[arg-type]


def measure_value_range(low: int, high: int, step: int, bit_depth: int) -> ValueRange:
    """The range to use when none is declared, from what was seen: lowest, highest, and the gcd of all values.

    The range starts at 0. A step above 1 means a coarse grid (12 bit stored as multiples of 16), which ends
    at the highest value seen; otherwise the range ends at the full scale that holds it: 2^k − 1 for k of 8
    (8-bit files), 8, 10, 12, 14, 16.
    """
    if not 0 <= low <= high < 2**bit_depth:
        raise ImageError(f"values from {low} to {high} do not fit {bit_depth} bit")
    if step > 1:
        return ValueRange(0, high, step)
    bits = (8,) if bit_depth == 8 else (8, 10, 12, 14, 16)
    return ValueRange(0, next(2**k - 1 for k in bits if 2**k - 1 >= high))


def check_image(array: Array) -> None:
    """Raise `ImageError` unless `array` is (H, W, 1…4) of uint8 or uint16."""
    if array.dtype not in (np.uint8, np.uint16) or array.ndim != 3 or not 1 <= array.shape[2] <= 4:
        raise ImageError(
            f"an image array (H, W, 1 to 4) of uint8 or uint16 is wanted, got {array.shape} of {array.dtype}"
        )


def split_alpha(array: Array) -> tuple[Array, Array | None]:
    """The colour channels (H, W, 1|3), and alpha (H, W, 1) or None."""
    colours = PixelFormat.of(array).channels
    return array[..., :colours], array[..., colours:] if array.shape[2] > colours else None


def read_image(path: str | Path) -> Array:
    """The pixels of one file, (H, W, C) uint8 or uint16; raises `ImageError` with path and reason."""
    try:
        with open(path, "rb") as file:
            data = file.read()
        return decode_image(data, suffix=os.path.splitext(path)[1])
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error


def read_image_size(path: str | Path) -> tuple[int, int]:
    """(height, width) from the header alone, nothing decoded; raises `ImageError` like `read_image`."""
    try:
        header = parse_header(Path(path).read_bytes())
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
    return header.height, header.width


def decode_image(data: bytes, *, suffix: str) -> Array:
    """The pixels in the bytes of an image file, (H, W, C); `suffix` must belong to the format they have."""
    header = parse_header(data)
    if _SUFFIX_FORMATS.get(suffix.lower()) != header.format:
        raise ImageError(
            f"the name ends in {suffix!r} but the content is {header.format.upper()}: it would be written "
            f"back as something else; rename the file"
        )
    if header.width * header.height > MAX_PIXELS:
        raise ImageError(
            f"the header gives {header.width:,} × {header.height:,} pixels, more than the limit of "
            f"{MAX_PIXELS:,}: the file is damaged, or has to be cut into pieces"
        )
    array = _decode(data, header)
    # Whether a WebP file makes use of the alpha that it declares is known to its decoder alone.
    channels = array.shape[2] if header.format == "webp" else header.channels
    wanted = (header.height, header.width, channels)
    if array.shape != wanted or array.dtype.itemsize * 8 != header.bit_depth:
        raise ImageError(f"decoded to {array.shape} of {array.dtype}, but the header says {wanted}: damaged?")
    return array


def _decode(data: bytes, header: ImageHeader) -> Array:
    array: Array
    if header.format == "tiff" and header.bit_depth == 8:
        # OpenCV multiplies the colours of such files by their alpha, and decodes damaged ones without a word.
        try:
            array = np.array(Image.open(BytesIO(data)))
            return array[..., None] if array.ndim == 2 else array
        except Exception as error:  # on damaged files Pillow raises whatever it stumbles over
            raise ImageError(f"cannot be decoded ({error}): truncated or damaged") from error
    with _quiet_opencv():
        try:
            decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        except cv2.error as error:
            raise ImageError(f"cannot be decoded ({error.err}): truncated or damaged") from error
    if decoded is None:
        raise ImageError("cannot be decoded: truncated or damaged")
    array = np.asarray(decoded)
    if array.ndim == 2:
        return array[..., None]
    if header.channels == 2:
        return np.ascontiguousarray(array[..., [0, 3]])  # grey + alpha arrives as B = G = R, alpha
    return _swap_red_blue(array)


def _swap_red_blue(array: Array) -> Array:
    """RGB(A) <-> BGR(A); grey is returned as it is."""
    if array.shape[2] < 3:
        return array
    return np.ascontiguousarray(array[..., [2, 1, 0, 3][: array.shape[2]]])


def write_image(path: str | Path, array: Array, *, jpeg_quality: int = 95) -> None:
    """Write (H, W, C) uint8 or uint16 to `path`, atomically, in the format of its suffix.

    All formats are written without loss except JPEG (4:4:4, `jpeg_quality` of 100). Raises `ImageError` where
    the format cannot hold the array, `OutputError` where the file cannot be written.
    """
    try:
        data = encode_image(array, Path(path).suffix, jpeg_quality)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
    write_atomically(path, data)


def encode_image(array: Array, suffix: str, jpeg_quality: int = 95) -> bytes:
    """The bytes of an image file of that suffix holding `array`; see `write_image`."""
    check_image(array)
    kind = _SUFFIX_FORMATS.get(suffix.lower())
    image_format = PixelFormat.of(array)
    if kind is None:
        raise ImageError(f"unknown image suffix {suffix!r}; known: {' '.join(sorted(IMAGE_SUFFIXES))}")
    if image_format.bit_depth == 16 and kind not in _FORMATS_16_BIT:
        raise ImageError(f"{kind.upper()} cannot hold 16 bit; use .png or .tif")
    if image_format.alpha and (kind not in _FORMATS_ALPHA or (kind == "bmp" and array.shape[2] == 2)):
        raise ImageError(f"{kind.upper()} cannot hold {image_format}; use .png")
    if kind == "webp" and array.shape[2] < 3:
        raise ImageError("WebP has no grey images; use .png")
    if array.shape[2] == 2 and kind == "png":
        return _encode_grey_alpha_png(array)
    if image_format.alpha and (kind == "webp" or (kind == "tiff" and image_format.bit_depth == 8)):
        # OpenCV alters the colours under transparent WebP pixels, and writes TIFF alpha of no declared kind.
        out = BytesIO()
        options = {"lossless": True, "exact": True} if kind == "webp" else {"compression": "tiff_lzw"}
        Image.fromarray(array).save(out, kind.upper(), **options)
        return out.getvalue()
    if kind == "tiff" and array.shape[2] == 2:
        raise ImageError("a 16-bit grey TIFF with alpha cannot be written; use .png")
    options_cv: list[int] = []
    if kind == "jpeg":
        options_cv = [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality]
        options_cv += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    elif kind == "webp":
        options_cv = [cv2.IMWRITE_WEBP_QUALITY, 101]  # above 100 means lossless
    with _quiet_opencv():
        try:
            done, data = cv2.imencode(
                ".pnm" if kind == "pnm" else suffix.lower(), _swap_red_blue(array), options_cv
            )
        except cv2.error as error:
            raise ImageError(
                f"an image {array.shape} cannot be written as {kind.upper()}: {error.err}"
            ) from error
    if not done:
        raise ImageError(f"an image {array.shape} cannot be written as {kind.upper()}")
    return bytes(data.tobytes())


def _encode_grey_alpha_png(array: Array) -> bytes:
    """PNG colour type 4, which neither OpenCV (no such images) nor Pillow (8 bit only) writes."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    height, width, _ = array.shape
    rows = (
        np.ascontiguousarray(array.astype(array.dtype.newbyteorder(">"))).view(np.uint8).reshape(height, -1)
    )
    filtered = np.concatenate(
        [np.zeros((height, 1), np.uint8), rows], axis=1
    )  # filter type 0 before each row
    header = struct.pack(">IIBBBBB", width, height, array.dtype.itemsize * 8, 4, 0, 0, 0)
    body = zlib.compress(filtered.tobytes())
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@contextmanager
def _quiet_opencv() -> Iterator[None]:
    """OpenCV prints what it dislikes to stderr; here a bad file becomes an `ImageError`, said once."""
    before = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(before)


def write_atomically(path: str | Path, data: bytes, *, durable: bool = True) -> None:
    """Write `data` to `path` so that under this name stand either the old bytes or all of the new ones.

    Whatever kills the process; a power cut only where `durable`, which waits for the disk: who writes many files waits
    once for all of them, with `simgan.data.output_folder.wait_for_disk`. Raises `OutputError`: path, the system's
    reason, what to do. The folder must exist.
    """
    temporary = os.path.join(os.path.dirname(path), f".{secrets.token_hex(8)}.tmp")
    try:
        try:
            with open(temporary, "xb", buffering=0) as file:
                rest = memoryview(data)
                while rest:  # a disk that fills up takes the beginning, and refuses the rest
                    rest = rest[file.write(rest) :]
                if durable:
                    os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written: {error.strerror or error}; nothing was left half-written; "
            f"{_remedy(Path(path), error)}, then run again"
        ) from error


def _remedy(target: Path, error: OSError) -> str:
    """What to do about a file that could not be written."""
    folder = target.parent
    if target.is_dir():
        return f"{target} is a folder: choose another name"
    if not folder.exists() and error.errno == errno.ENOENT:
        return f"there is no folder {folder}: make it, or choose another place"
    if error.errno == errno.ENOTDIR:
        return f"{folder} is not a folder: choose another place"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk, or your share of it, is full: free some space for {folder}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"you may not write there: check the rights of {folder}, or choose another place"
    return f"check the disk and the rights of {folder}"


def png_grid(rows: Sequence[Sequence[Array]], value_range: ValueRange, zoom: int = 1) -> NDArray[np.uint8]:
    """A contact sheet for people, (H, W, 1|3) uint8: rows of images, thin white gaps, pixels `zoom` wide.

    Every image is scaled by the same `value_range`, so brightness can be compared; alpha is dropped.
    """
    scaled = [[_visible(image, value_range, zoom) for image in row] for row in rows]
    cells = [image for row in scaled for image in row]
    if not cells:
        raise ImageError("a contact sheet of no images")
    height, width, channels = (max(image.shape[axis] for image in cells) for axis in range(3))
    gap, columns = 2, max(len(row) for row in scaled)
    shape = (len(scaled) * (height + gap) - gap, columns * (width + gap) - gap, channels)
    sheet = np.full(shape, 255, np.uint8)
    for i, row in enumerate(scaled):
        for j, image in enumerate(row):
            top, left = i * (height + gap), j * (width + gap)
            sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
    return sheet


def _visible(image: Array, value_range: ValueRange, zoom: int) -> NDArray[np.uint8]:
    colour, _ = split_alpha(image)
    grey = ValueRange(0, 255).decode(value_range.encode(colour), np.uint8)
    return np.asarray(grey.repeat(zoom, axis=0).repeat(zoom, axis=1), np.uint8)
