from __future__ import annotations

import errno
import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from simgan.errors import ConfigurationError, ImageError, OutputError
from simgan.images import (
    IMAGE_SUFFIXES,
    LOSSY_SUFFIXES,
    PixelFormat,
    ValueRange,
    decode_image,
    encode_image,
    join_alpha,
    measure_value_range,
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


def noise(height: int, width: int, channels: int, bits: int = 8, seed: int = 0) -> np.ndarray:
    dtype = np.uint8 if bits == 8 else np.uint16
    return np.random.default_rng(seed).integers(0, 2**bits, (height, width, channels)).astype(dtype)


def pillow(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def hand_made_png(width: int, height: int, bits: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    data = png_chunk(b"IDAT", zlib.compress(rows))
    return (
        b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + b"".join(extra) + data + png_chunk(b"IEND", b"")
    )


def with_tag(tiff: bytes, tag: int, value: int) -> bytes:
    """A little-endian TIFF with the value of one tag of its first directory replaced."""
    data = bytearray(tiff)
    (start,) = struct.unpack("<I", data[4:8])
    (count,) = struct.unpack("<H", data[start : start + 2])
    (entry,) = (
        at
        for at in range(start + 2, start + 2 + 12 * count, 12)
        if struct.unpack("<H", data[at : at + 2]) == (tag,)
    )
    data[entry + 8 : entry + 12] = struct.pack("<I", value)
    return bytes(data)


# ---- write what you read


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


# ---- hostile files


def refused(data: bytes, suffix: str, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        decode_image(data, suffix=suffix)


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95, 0.995])
def test_a_truncated_file_is_refused(suffix: str, share: float) -> None:
    data = encode_image(noise(48, 64, 3), suffix)
    refused(data[: int(len(data) * share)], suffix, "truncated|damaged|not an image|PNM header")


def test_a_jpeg_without_its_last_bytes_is_refused_although_a_decoder_would_fill_them() -> None:
    data = encode_image(noise(48, 64, 3), ".jpg")
    refused(data[:-2], ".jpg", "end-of-image marker is missing")
    thumbnail = (
        b"\xff\xe2\x00\x06\xff\xd9\xff\xd9"  # an end marker inside a segment is not the end of the image
    )
    refused(data[:2] + thumbnail + data[2:-2], ".jpg", "end-of-image marker is missing")


def test_bytes_after_the_end_of_an_image_do_no_harm() -> None:
    image = noise(8, 8, 3)
    for suffix in (".png", ".ppm", ".bmp"):
        data = encode_image(image, suffix) + b"trailing"
        np.testing.assert_array_equal(decode_image(data, suffix=suffix), image)
    assert decode_image(encode_image(image, ".jpg") + b"\0\0", suffix=".jpg").shape == image.shape


def test_a_png_with_a_flipped_bit_is_refused() -> None:
    data = bytearray(encode_image(noise(16, 16, 1), ".png"))
    data[len(data) // 2] ^= 1
    refused(bytes(data), ".png", "checksum of chunk IDAT")


def test_a_png_that_ends_between_chunks_is_refused() -> None:
    refused(encode_image(noise(4, 4, 1), ".png")[:-12], ".png", "closing IEND chunk is missing")


def test_a_png_of_too_few_rows_is_refused() -> None:
    refused(hand_made_png(4, 400, 8, 0, b"\0" * 10), ".png", "cannot be decoded")


@pytest.mark.parametrize(("data", "said"), [(b"", "empty"), (b"hello world", "not an image.*b'hello world'")])
def test_what_is_no_image_is_named(data: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(data)
    for read in (read_image, read_image_size):
        with pytest.raises(ImageError, match=said) as caught:
            read(tmp_path / "x.png")
        assert str(tmp_path / "x.png") in str(caught.value)


@pytest.mark.parametrize("read", [read_image, read_image_size])
def test_a_file_that_cannot_be_opened_is_named(read: Any, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.png: cannot be read: No such file"):
        read(tmp_path / "gone.png")


def test_a_gigantic_header_is_refused_before_decoding() -> None:
    refused(hand_made_png(100_000, 100_000, 8, 0, b"\0"), ".png", "more than the limit")
    # 2^28 pixels are the limit, so a little less gets as far as the decoder.
    refused(hand_made_png(2**14, 2**14, 8, 0, b"\0"), ".png", "cannot be decoded")


def test_an_image_of_no_pixels_is_refused() -> None:
    refused(hand_made_png(0, 4, 8, 0, b""), ".png", "impossible size, 0 × 4")


def test_palette_images_are_refused_as_probable_masks() -> None:
    palette = Image.fromarray(noise(8, 8, 1)[..., 0] % 4).convert("P")
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    for kind, suffix in (("PNG", ".png"), ("TIFF", ".tif"), ("BMP", ".bmp")):
        refused(pillow(palette, kind), suffix, "palette image.*label mask")


def test_1_bit_images_are_refused_as_probable_masks() -> None:
    bits = Image.fromarray(noise(8, 8, 1)[..., 0]).convert("1")
    for kind, suffix in (("PNG", ".png"), ("TIFF", ".tif"), ("BMP", ".bmp"), ("PPM", ".pnm")):
        refused(pillow(bits, kind), suffix, "1 bit per sample.*mask")


def test_several_images_in_one_file_are_refused() -> None:
    frames = [Image.fromarray(noise(8, 8, 3, seed=seed)) for seed in range(3)]
    for kind, suffix, said in (
        ("TIFF", ".tif", "several pages"),
        ("PNG", ".png", "animated PNG"),
        ("WEBP", ".webp", "animated WebP"),
    ):
        refused(pillow(frames[0], kind, save_all=True, append_images=frames[1:]), suffix, said)


def test_float_and_32_bit_tiff_are_refused() -> None:
    image = noise(4, 4, 1)[..., 0]
    refused(pillow(Image.fromarray(image.astype(np.float32)), "TIFF"), ".tif", "float is not supported yet")
    refused(pillow(Image.fromarray(image.astype(np.int32)), "TIFF"), ".tif", "8 and 16 bit are supported")


def test_more_channels_are_refused() -> None:
    data = with_tag(pillow(Image.fromarray(noise(4, 4, 4)), "TIFF"), 277, 7)
    refused(data, ".tif", "7 channels")


def test_cmyk_is_refused() -> None:
    cmyk = Image.fromarray(noise(8, 8, 4), "CMYK")
    refused(pillow(cmyk, "JPEG"), ".jpg", "4 channels")
    refused(pillow(cmyk, "TIFF"), ".tif", "photometric kind 5")


def test_premultiplied_alpha_is_refused() -> None:
    data = pillow(Image.fromarray(noise(8, 8, 4)), "TIFF")
    refused(with_tag(data, 338, 1), ".tif", "premultiplied alpha")


def test_16_bit_grey_tiff_with_alpha_is_refused() -> None:
    data = cv2.imencode(".tif", noise(8, 8, 1, 16))[1].tobytes()
    refused(with_tag(data, 277, 2), ".tif", "16-bit grey TIFF with alpha")


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_tiff_damaged_in_the_middle_is_refused(channels: int, bits: int) -> None:
    data = bytearray(encode_image(noise(64, 64, channels, bits), ".tif"))
    middle = len(data) // 2
    data[middle - 200 : middle + 200] = b"\xff" * 400  # no code of the compression
    refused(bytes(data), ".tif", "cannot be decoded")


@pytest.mark.parametrize(
    ("kind", "suffix"), [("JPEG", ".jpg"), ("PNG", ".png"), ("WEBP", ".webp"), ("TIFF", ".tif")]
)
def test_a_turned_image_is_refused_since_labels_could_mean_either(kind: str, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(noise(8, 6, 3))
    turned = pillow(image, kind, tiffinfo={274: 6}) if kind == "TIFF" else pillow(image, kind, exif=exif)
    refused(turned, suffix, "EXIF orientation 6")
    exif[0x0112] = 1
    assert decode_image(pillow(image, kind, exif=exif), suffix=suffix).shape == (8, 6, 3)


def test_unreadable_exif_does_not_matter() -> None:
    data = encode_image(noise(8, 8, 3), ".jpg")
    segment = b"\xff\xe1" + struct.pack(">H", 12) + b"Exif\0\0abcd"
    assert decode_image(data[:2] + segment + data[2:], suffix=".jpg").shape == (8, 8, 3)


def test_colour_key_transparency_is_refused() -> None:
    refused(pillow(Image.fromarray(noise(4, 4, 3)), "PNG", transparency=(1, 2, 3)), ".png", "colour key")


def test_a_pnm_of_another_scale_is_refused() -> None:
    refused(b"P5\n2 1\n4095\n" + b"\0" * 4, ".pgm", "largest value 4095")


def test_plain_text_pnm_with_comments_is_read() -> None:
    plain = b"P2\n# a comment\n3 1\n255\n1 2 3\n"
    assert decode_image(plain, suffix=".pgm").ravel().tolist() == [1, 2, 3]


def test_a_name_that_belies_the_content_is_refused() -> None:
    refused(encode_image(noise(4, 4, 3), ".png"), ".jpg", "ends in '.jpg' but the content is PNG.*rename")


def test_damaged_jpeg_structure_is_refused() -> None:
    data = encode_image(noise(8, 8, 3), ".jpg")
    refused(data[:2] + b"\xff\xe0\x00\x02XX" + data[2:], ".jpg", "no JPEG marker")
    refused(b"\xff\xd8\xff\xda\x00\x02", ".jpg", "without a frame header")
    frame = data.index(b"\xff\xc0")
    refused(data[: frame + 4] + b"\x0c" + data[frame + 5 :], ".jpg", "12 bits per sample")
    filled = data[:frame] + b"\xff\xff" + data[frame:]  # fill bytes before a marker are allowed
    assert decode_image(filled, suffix=".jpg").shape == (8, 8, 3)


def test_rare_kinds_are_refused_with_a_way_out() -> None:
    refused(b"BM" + b"\0" * 8 + struct.pack("<IIii", 26, 12, 4, 4), ".bmp", "OS/2")
    refused(b"BM" + b"\0" * 8 + struct.pack("<IIiiHHI", 54, 40, 4, 4, 1, 16, 0), ".bmp", "16 bits per pixel")
    refused(b"MM\0+" + b"\0" * 8, ".tif", "BigTIFF")
    refused(hand_made_png(4, 4, 8, 5, b""), ".png", "colour type 5")
    refused(b"P5\nwide\n", ".pgm", "PNM header")


def test_opencv_failing_in_its_other_ways_is_an_image_error(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode_image(noise(4, 4, 1), ".png")

    def raising(*_: Any) -> None:
        raise cv2.error("assertion failed")

    monkeypatch.setattr(cv2, "imdecode", raising)
    refused(data, ".png", "cannot be decoded")
    monkeypatch.setattr(cv2, "imdecode", lambda *_: np.zeros((4, 5), np.uint8))
    refused(data, ".png", r"decoded to \(4, 5, 1\) of uint8, but the header says \(4, 4, 1\)")
    monkeypatch.setattr(cv2, "imencode", raising)
    with pytest.raises(ImageError, match="cannot be written as PNG"):
        encode_image(noise(4, 4, 1), ".png")
    monkeypatch.setattr(cv2, "imencode", lambda *_: (False, None))
    with pytest.raises(ImageError, match="cannot be written as PNG"):
        encode_image(noise(4, 4, 1), ".png")


def test_webp_alpha_that_is_opaque_all_over_is_read_as_none() -> None:
    image = noise(6, 5, 4)
    image[..., 3] = 255
    read = decode_image(pillow(Image.fromarray(image), "WEBP", lossless=True), suffix=".webp")
    np.testing.assert_array_equal(read, image[..., :3])


def test_lossy_webp_is_read() -> None:
    image = np.full((10, 12, 3), (200, 100, 50), np.uint8)
    read = decode_image(pillow(Image.fromarray(image), "WEBP", quality=90), suffix=".webp")
    assert read.shape == (10, 12, 3)
    assert np.abs(read.astype(int) - image).max() < 12
    seen_through = np.dstack([image, noise(10, 12, 1)])
    read = decode_image(pillow(Image.fromarray(seen_through), "WEBP", quality=90), suffix=".webp")
    np.testing.assert_array_equal(read[..., 3], seen_through[..., 3])


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damage_of_any_kind_ends_in_an_image_error_or_an_image(data: st.DataObject) -> None:
    suffix = data.draw(st.sampled_from([".jpg", ".tif", ".bmp", ".webp", ".pgm"]))
    channels = (
        1
        if suffix == ".pgm"
        else data.draw(st.sampled_from([3] if suffix in (".jpg", ".webp") else [1, 3, 4]))
    )
    hurt = bytearray(encode_image(noise(9, 7, channels), suffix))
    for _ in range(data.draw(st.integers(1, 4))):
        hurt[data.draw(st.integers(0, len(hurt) - 1))] = data.draw(st.integers(0, 255))
    try:
        array = decode_image(bytes(hurt), suffix=suffix)
    except ImageError:
        return
    assert array.ndim == 3
    assert array.dtype in (np.uint8, np.uint16)


def test_bad_files_leave_opencv_quiet_and_its_log_level_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    before = cv2.utils.logging.getLogLevel()
    data = bytearray(encode_image(noise(30, 30, 3, 16), ".tif"))
    data[60:-400] = b"\0" * (len(data) - 460)
    refused(bytes(data), ".tif", "cannot be decoded")
    assert capfd.readouterr().err == ""
    assert cv2.utils.logging.getLogLevel() == before


# ---- formats and alpha


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
def test_alpha_is_split_off_and_joined_again(channels: int) -> None:
    image = noise(3, 4, channels)
    colour, alpha = split_alpha(image)
    assert colour.shape[2] == (1 if channels < 3 else 3)
    assert (alpha is None) == (channels in (1, 3))
    np.testing.assert_array_equal(join_alpha(colour, alpha), image)


# ---- value ranges


def test_encoding_follows_its_formula() -> None:
    # worked by hand: 2 (v − 10) / 20 − 1
    np.testing.assert_allclose(
        ValueRange(10, 30).encode(np.array([10, 15, 20, 30], np.uint8)), [-1, -0.5, 0, 1]
    )
    assert ValueRange(0, 255).encode(np.array([7], np.uint8)).dtype == np.float32


def test_decoding_clips_and_rounds_to_the_grid() -> None:
    coarse = ValueRange(0, 60, step=20)
    assert coarse.levels == 4
    x = np.array([-3, -1, -0.7, -0.6, 0.0, 0.34, 1, 5], np.float32)
    # places (x + 1)/2 · 3: 0, 0, 0.45, 0.6, 1.5 (to even: 2), 2.01, 3, 3
    assert coarse.decode(x, np.uint8).tolist() == [0, 0, 0, 20, 40, 40, 60, 60]


@pytest.mark.parametrize("high", [255, 1023, 4095, 65535])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_value_comes_back_from_its_code(high: int, dtype: type) -> None:
    values = np.arange(high + 1).astype(np.uint8 if high == 255 else np.uint16)
    full = ValueRange(0, high)
    codes = full.encode(values)
    assert (codes[0], codes[-1]) == (-1, 1)
    np.testing.assert_array_equal(full.decode(codes.astype(dtype), values.dtype), values)


@settings(deadline=None)
@given(low=st.integers(0, 60_000), step=st.integers(1, 300), levels=st.integers(2, 400))
def test_every_value_on_a_coarse_grid_comes_back(low: int, step: int, levels: int) -> None:
    high = low + step * (levels - 1)
    if high > 65535:
        return
    values = np.arange(low, high + 1, step).astype(np.uint16)
    grid = ValueRange(low, high, step)
    assert grid.levels == levels
    np.testing.assert_array_equal(grid.decode(grid.encode(values), np.uint16), values)


def test_invalid_values_encode_to_minus_one_and_are_not_outside() -> None:
    depth = ValueRange(400, 2000, invalid=0)
    values = np.array([[0, 399], [400, 2001]], np.uint16)
    assert depth.is_invalid(values).tolist() == [[True, False], [False, False]]
    assert depth.count_outside(values) == 2
    assert depth.encode(values).tolist() == [[-1, -1], [-1, 1]]
    holes_at_the_top = ValueRange(400, 2000, invalid=65535)
    assert holes_at_the_top.encode(np.array([65535], np.uint16)).tolist() == [-1]
    assert not ValueRange(400, 2000).is_invalid(values).any()
    assert ValueRange(400, 2000).count_outside(values) == 3


def test_a_value_range_survives_json() -> None:
    given_range = ValueRange(16, 240, 16, invalid=0)
    assert ValueRange.from_dict(given_range.to_dict()) == given_range


@pytest.mark.parametrize(
    ("low", "high", "step", "said"),
    [
        (5, 5, 1, "low < high"),
        (-1, 5, 1, "0 <= low"),
        (0, 70_000, 1, "<= 65535"),
        (0, 10, 3, "divide"),
        (0, 9, 0, "divide"),
    ],
)
def test_an_impossible_value_range_is_refused(low: int, high: int, step: int, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        ValueRange(low, high, step)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ((3, 200, 1, 8), (255, 1)),
        ((0, 0, 1, 8), (255, 1)),
        ((0, 240, 16, 8), (240, 16)),
        ((0, 255, 255, 8), (255, 255)),
        ((3, 200, 1, 16), (255, 1)),
        ((3, 256, 1, 16), (1023, 1)),
        ((3, 1023, 1, 16), (1023, 1)),
        ((3, 1024, 1, 16), (4095, 1)),
        ((3, 5000, 1, 16), (16383, 1)),
        ((3, 16384, 1, 16), (65535, 1)),
        ((16, 65520, 16, 16), (65520, 16)),
    ],
)
def test_the_range_is_measured_by_the_rule(
    seen: tuple[int, int, int, int], expected: tuple[int, int]
) -> None:
    assert measure_value_range(*seen) == ValueRange(0, expected[0], expected[1])


def test_values_that_do_not_fit_the_bit_depth_have_no_range() -> None:
    with pytest.raises(ImageError, match="do not fit 8 bit"):
        measure_value_range(0, 300, 1, 8)


# ---- writing


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
    with pytest.raises(OutputError, match="No such file or directory"):
        write_image(tmp_path / "none" / "a.png", noise(2, 2, 1))


# ---- contact sheets


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


# ---- real data


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
