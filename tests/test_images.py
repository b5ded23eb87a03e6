from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from image_files import hand_made_png, noise, pillow, with_tag
from simgan.errors import ImageError, OutputError
from simgan.images import (
    IMAGE_SUFFIXES,
    LOSSY_SUFFIXES,
    PixelFormat,
    ValueRange,
    decode_image,
    encode_image,
    png_grid,
    read_image,
    read_image_size,
    split_alpha,
    write_atomically,
    write_image,
)

# What each lossless format can hold: channels (alpha counted) and bit depths.
HELD = {
    ".png": ((1, 2, 3, 4), (8, 16)),
    ".tif": ((1, 3, 4), (8, 16)),
    ".bmp": ((1, 3, 4), (8,)),
    ".pgm": ((1,), (8, 16)),
    ".ppm": ((3,), (8, 16)),
    ".pnm": ((1, 3), (8, 16)),
    ".webp": ((3, 4), (8,)),
}


@pytest.mark.parametrize("suffix", HELD)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_what_is_written_is_read_back_exactly(suffix: str, data: st.DataObject) -> None:
    channels = data.draw(st.sampled_from(HELD[suffix][0]))
    bits = data.draw(st.sampled_from(HELD[suffix][1]))
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    image = noise(height, width, channels, bits, data.draw(st.integers(0, 99)))
    if channels in (2, 4):
        image[: height // 2, ..., -1] = 0  # colours under transparent pixels must survive too
    again = decode_image(encode_image(image, suffix), suffix=suffix)
    if suffix == ".webp" and channels == 4 and again.shape[2] == 3:
        assert (image[..., 3] == 255).all()
        image = image[..., :3]
    assert again.dtype == image.dtype
    np.testing.assert_array_equal(again, image)


@pytest.mark.parametrize(("suffix", "channels"), [(".tif", 2), (".tiff", 2)])
def test_grey_tiff_with_alpha_is_read_back_exactly(suffix: str, channels: int) -> None:
    image = noise(7, 5, channels)
    np.testing.assert_array_equal(decode_image(encode_image(image, suffix), suffix=suffix), image)


@pytest.mark.parametrize("suffix", [*HELD, ".tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_refining_by_the_identity_gives_the_same_bytes(suffix: str, channels: int, tmp_path: Path) -> None:
    if channels not in HELD.get(suffix, HELD[".tif"])[0]:
        return
    write_image(tmp_path / f"a{suffix}", noise(9, 14, channels))
    full = ValueRange(0, 255)
    image = read_image(tmp_path / f"a{suffix}")
    write_image(tmp_path / f"b{suffix}", full.decode(full.encode(image), image.dtype))
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES - {".pgm"}))
def test_height_and_width_are_not_swapped(suffix: str, tmp_path: Path) -> None:
    image = np.zeros((6, 10, 3), np.uint8)
    image[:, 9] = 255  # the last column, not the last row
    write_image(tmp_path / f"wide{suffix}", image)
    with Image.open(tmp_path / f"wide{suffix}") as seen:
        assert seen.size == (10, 6)
    assert read_image_size(tmp_path / f"wide{suffix}") == (6, 10)
    again = read_image(tmp_path / f"wide{suffix}")
    assert again.shape == (6, 10, 3)
    assert again[:, 9].min() > 240
    assert again[:, :8].max() < 15


def test_white_stays_white_when_saved() -> None:
    full = ValueRange(0, 255)
    image = full.decode(np.full((4, 4, 1), 1.0, np.float32), np.uint8)
    assert decode_image(encode_image(image, ".png"), suffix=".png").min() == 255
    beyond = full.decode(np.full((4, 4, 1), 1.02, np.float32), np.uint8)  # a refiner may overshoot
    assert beyond.min() == 255
    deep = ValueRange(0, 65535).decode(np.full((4, 4, 1), 1.02, np.float32), np.uint16)
    assert decode_image(encode_image(deep, ".png"), suffix=".png").min() == 65535


def test_brightness_is_not_stretched_on_save() -> None:
    image = np.full((4, 4, 1), 100, np.uint8)
    image[0, 0] = 120  # a stretch to min and max would make these 0 and 255
    for suffix in (".png", ".bmp", ".tif"):
        again = decode_image(encode_image(image, suffix), suffix=suffix)
        assert (again.min(), again.max()) == (100, 120)
    jpeg = decode_image(encode_image(image, ".jpg"), suffix=".jpg")
    assert abs(int(jpeg.max()) - 120) <= 4
    assert abs(int(jpeg.min()) - 100) <= 4


def test_channels_are_red_green_blue_in_that_order() -> None:
    ppm = b"P6\n3 1\n255\n" + bytes([255, 0, 0, 0, 255, 0, 0, 0, 255])
    np.testing.assert_array_equal(decode_image(ppm, suffix=".ppm")[0], np.diag([255, 255, 255]))
    rgba = noise(5, 4, 4)
    np.testing.assert_array_equal(decode_image(pillow(Image.fromarray(rgba), "PNG"), suffix=".png"), rgba)
    seen = np.asarray(Image.open(io.BytesIO(encode_image(rgba, ".png"))))
    np.testing.assert_array_equal(seen, rgba)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("LA", 2), ("RGB", 3), ("RGBA", 4)])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "WEBP"])
def test_files_of_another_writer_are_read_as_it_reads_them(mode: str, channels: int, kind: str) -> None:
    if (kind, mode) == ("BMP", "LA") or (kind == "WEBP" and channels < 3):
        pytest.skip("the format has no such images")
    image = noise(11, 6, channels)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    data = pillow(Image.fromarray(image.squeeze(2) if channels == 1 else image, mode), kind, **options)
    suffix = {"TIFF": ".tif"}.get(kind, f".{kind.lower()}")
    expected = image[..., :3] if (kind, mode) == ("BMP", "RGBA") else image  # its BMP declares no alpha
    np.testing.assert_array_equal(decode_image(data, suffix=suffix), expected)


def test_16_bit_values_are_exact() -> None:
    values = np.array([[0, 1, 255], [256, 40_000, 65_535]], np.uint16)
    big_endian = values.astype(">u2")
    pgm = b"P5\n3 2\n65535\n" + big_endian.tobytes()
    png = hand_made_png(3, 2, 16, 0, b"".join(b"\0" + row.tobytes() for row in big_endian))
    tiff = pillow(Image.fromarray(values), "TIFF")
    for data, suffix in ((pgm, ".pgm"), (png, ".png"), (tiff, ".tif")):
        read = decode_image(data, suffix=suffix)
        assert read.dtype == np.uint16
        np.testing.assert_array_equal(read[..., 0], values)


def test_16_bit_grey_with_alpha_is_exact() -> None:
    values = noise(3, 5, 2, 16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    np.testing.assert_array_equal(decode_image(hand_made_png(5, 3, 16, 4, rows), suffix=".png"), values)


def test_white_is_zero_tiff_is_read_as_it_looks() -> None:
    image = noise(4, 4, 1)[..., 0]
    data = with_tag(pillow(Image.fromarray(image), "TIFF"), 262, 0)
    np.testing.assert_array_equal(decode_image(data, suffix=".tif")[..., 0], 255 - image)


def test_jpeg_is_written_at_quality_95_without_colour_subsampling() -> None:
    data = encode_image(noise(32, 32, 3), ".jpg")
    with Image.open(io.BytesIO(data)) as seen:
        assert [layer[1:3] for layer in seen.layer] == [(1, 1)] * 3  # type: ignore[attr-defined]
        expected = Image.new("RGB", (8, 8))
        out = io.BytesIO()
        expected.save(out, "JPEG", quality=95)
        assert seen.quantization == Image.open(out).quantization  # type: ignore[attr-defined]
    assert len(encode_image(noise(32, 32, 3), ".jpg", 50)) < len(data)


def test_grey_jpeg_stays_grey() -> None:
    image = np.full((16, 16, 1), 77, np.uint8)
    assert decode_image(encode_image(image, ".jpeg"), suffix=".jpeg").shape == (16, 16, 1)


def test_lossy_suffixes_are_those_that_lose() -> None:
    image = noise(16, 16, 3)
    for suffix in IMAGE_SUFFIXES:
        again = decode_image(encode_image(image, suffix), suffix=suffix)
        assert np.array_equal(again, image) == (suffix not in LOSSY_SUFFIXES), suffix


def test_suffixes_are_read_in_any_case(tmp_path: Path) -> None:
    write_image(tmp_path / "A.PNG", noise(3, 3, 1))
    assert read_image(tmp_path / "A.PNG").shape == (3, 3, 1)


@pytest.mark.parametrize(
    ("suffix", "channels", "bits", "said"),
    [
        (".jpg", 1, 16, "cannot hold 16 bit"),
        (".bmp", 3, 16, "cannot hold 16 bit"),
        (".webp", 3, 16, "cannot hold 16 bit"),
        (".jpg", 4, 8, r"cannot hold 8-bit RGB \+ alpha"),
        (".ppm", 4, 8, r"cannot hold 8-bit RGB \+ alpha"),
        (".bmp", 2, 8, r"cannot hold 8-bit grey \+ alpha"),
        (".webp", 1, 8, "no grey"),
        (".tif", 2, 16, "16-bit grey TIFF with alpha"),
        (".gif", 3, 8, "unknown image suffix"),
        ("", 3, 8, "unknown image suffix ''"),
    ],
)
def test_a_format_that_cannot_hold_the_image_refuses_it(
    suffix: str, channels: int, bits: int, said: str, tmp_path: Path
) -> None:
    with pytest.raises(ImageError, match=said) as caught:
        write_image(tmp_path / f"x{suffix}", noise(4, 4, channels, bits))
    assert str(tmp_path) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_size_that_the_format_cannot_hold_is_refused() -> None:
    with pytest.raises(ImageError, match="cannot be written as WEBP"):
        encode_image(np.zeros((1, 20_000, 3), np.uint8), ".webp")


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.uint8), noise(2, 2, 5)]
)
def test_only_arrays_of_the_agreed_kind_are_images(array: np.ndarray) -> None:
    with pytest.raises(ImageError, match="uint8 or uint16 is wanted"):
        encode_image(array, ".png")


@pytest.mark.parametrize(
    ("channels", "bits", "expected", "name"),
    [
        (1, 8, PixelFormat(1, 8), "8-bit grey"),
        (2, 8, PixelFormat(1, 8, True), "8-bit grey + alpha"),
        (3, 16, PixelFormat(3, 16), "16-bit RGB"),
        (4, 16, PixelFormat(3, 16, True), "16-bit RGB + alpha"),
    ],
)
def test_alpha_is_no_channel_of_the_pixel_format(
    channels: int, bits: int, expected: PixelFormat, name: str
) -> None:
    found = PixelFormat.of(noise(2, 3, channels, bits))
    assert found == expected
    assert (found.alpha, str(found), found.dtype) == (expected.alpha, name, np.dtype(f"uint{bits}"))
    assert found == PixelFormat(found.channels, found.bit_depth, not found.alpha)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_alpha_is_split_off_the_colours(channels: int) -> None:
    image = noise(3, 4, channels)
    colour, alpha = split_alpha(image)
    assert colour.shape[2] == (1 if channels < 3 else 3)
    assert (alpha is None) == (channels in (1, 3))
    parts = [colour] if alpha is None else [colour, alpha]
    np.testing.assert_array_equal(np.concatenate(parts, axis=2), image)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a.bin"
    write_atomically(target, b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"a\.bin: cannot be written: No space left.*run again"):
        write_atomically(target, b"new and longer")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_bytes_are_on_the_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (steps.append("fsync"), fsync(handle))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (steps.append("replace"), replace(a, b))[1])
    write_atomically(tmp_path / "a", b"x")
    assert steps == ["fsync", "replace"]
    assert (tmp_path / "a").read_bytes() == b"x"


def test_writing_into_a_missing_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"No such file or directory.*there is no folder .*none: make it"):
        write_image(tmp_path / "none" / "a.png", noise(2, 2, 1))


def test_writing_below_a_file_or_over_a_folder_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "a.bin").mkdir()
    with pytest.raises(OutputError, match=r"file is not a folder: choose another place, then run again"):
        write_atomically(tmp_path / "file" / "a.bin", b"x")
    with pytest.raises(OutputError, match=r"a\.bin is a folder: choose another name, then run again"):
        write_atomically(tmp_path / "a.bin", b"x")


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "is full: free some space"),
        (errno.EDQUOT, "is full: free some space"),
        (errno.EROFS, "check the rights"),
        (errno.EACCES, "check the rights"),
        (errno.EIO, "check the disk"),
    ],
)
def test_a_system_that_refuses_to_write_is_answered_with_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    def refuse(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OutputError, match=said):
        write_atomically(tmp_path / "a.bin", b"x")


def test_a_contact_sheet_scales_every_image_by_the_same_range() -> None:
    dark, bright = np.full((2, 3, 1), 1000, np.uint16), np.full((2, 3, 1), 4000, np.uint16)
    sheet = png_grid([[dark, bright]], ValueRange(0, 4000), zoom=2)
    assert sheet.shape == (4, 6 + 2 + 6, 1)
    assert (sheet[:, :6] == 64).all()  # 255 · 1000/4000 = 63.75
    assert (sheet[:, 6:8] == 255).all()
    assert (sheet[:, 8:] == 255).all()


def test_a_contact_sheet_has_room_for_the_largest_and_mixes_grey_with_colour() -> None:
    grey, colour = np.zeros((2, 2, 1), np.uint8), np.zeros((5, 4, 4), np.uint8)
    colour[..., 0] = 255
    sheet = png_grid([[grey], [grey, colour]], ValueRange(0, 255))
    assert sheet.shape == (5 + 2 + 5, 4 + 2 + 4, 3)
    assert (sheet[:2, :2] == 0).all()
    assert (sheet[7:, 6:] == (255, 0, 0)).all()
    assert (sheet[:5, 6:] == 255).all()


def test_a_contact_sheet_of_nothing_is_refused() -> None:
    with pytest.raises(ImageError, match="no images"):
        png_grid([[]], ValueRange(0, 255))


def test_real_photographs_are_read_as_another_reader_reads_them(tmp_path: Path) -> None:
    root = os.environ.get("SIMGAN_DATA")
    if root is None:
        pytest.skip("SIMGAN_DATA is not set: no real images to read")
    signs = sorted(Path(root).glob("signs/real/*/*.png"))[::200]
    eyes = sorted(Path(root).glob("eyes/*/images/*.jpg"))[::100]
    assert signs
    assert eyes
    for path in signs + eyes:
        with Image.open(path) as seen:
            expected = np.asarray(seen)
        image = read_image(path)
        difference = np.abs(image.astype(int) - expected)
        assert difference.max() <= (0 if path.suffix == ".png" else 4), (
            path
        )  # JPEG decoders round differently
        write_image(tmp_path / path.name, image)
        if path.suffix == ".png":
            np.testing.assert_array_equal(read_image(tmp_path / path.name), image)
