from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from image_files import hand_made_png, noise, pillow, with_tag
from simgan.errors import ImageError
from simgan.images import (
    IMAGE_SUFFIXES,
    decode_image,
    encode_image,
    read_image,
    read_image_size,
)


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


def test_a_pnm_of_too_few_bytes_is_told_how_many_are_wanted() -> None:
    refused(b"P6\n2 3\n65535\n" + b"\0" * 20, ".ppm", "truncated: 49 bytes wanted, 33 there")  # 13 + 2·3·3·2


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
