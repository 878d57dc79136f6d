"""Images: every colour mode, every setting, every refusal."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fewbit.config import DataConfig
from fewbit.data import open_data
from fewbit.data.images import image_recipe, load_image
from fewbit.data.signature import read_signature
from fewbit.errors import BadSample, ConfigError, DataError, EmptyData, FewbitWarning
from tests.data.helpers import PAIR, PHOTO, VECTOR, fed, noise, photos, save, tensor


def decode(path, slot=PHOTO[0], **config):
    return load_image(path, image_recipe(read_signature([slot]).slots[0], DataConfig(**config)))


def grey(pixels):
    return Image.fromarray(np.asarray(pixels, np.uint8))


def one_pixel(mode, value):
    return Image.new(mode, (6, 4), value)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm", "PNG"])
def test_lossless_files_give_their_pixels(suffix, tmp_path):
    image = noise(5, 6)
    want = np.asarray(image, np.float32)
    path = save(image, tmp_path / f"a.{suffix}")
    slot = tensor("x", "N", 3, 5, 6)
    np.testing.assert_array_equal(decode(path, slot), want.transpose(2, 0, 1))
    np.testing.assert_array_equal(decode(path, slot, image_to_format="BGR"), want[:, :, ::-1].transpose(2, 0, 1))
    np.testing.assert_array_equal(decode(path, tensor("x", "N", 5, 6, 3)), want)


@pytest.mark.parametrize("suffix", ["jpg", "webp", "gif"])
def test_lossy_files_come_close(suffix, tmp_path):
    path = save(one_pixel("RGB", (200, 100, 50)), tmp_path / f"a.{suffix}")
    assert np.abs(decode(path)[:, 0, 0] - [200, 100, 50]).max() < 12


def paletted(alpha):
    image = one_pixel("P", 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.info["transparency"] = bytes([255, alpha])
    return image


# (name, image, what its first pixel is in RGB)
MODES = [
    ("rgba.png", one_pixel("RGBA", (10, 20, 30, 0)), (255, 255, 255)),
    ("half.png", one_pixel("RGBA", (0, 0, 0, 128)), (127, 127, 127)),
    ("la.png", one_pixel("LA", (40, 0)), (255, 255, 255)),
    ("p.png", paletted(255), (10, 20, 30)),
    ("p0.png", paletted(0), (255, 255, 255)),
    ("l.png", one_pixel("L", 77), (77, 77, 77)),
    ("1.png", one_pixel("1", 1), (255, 255, 255)),
    ("16.png", Image.fromarray(np.full((4, 6), 257 * 99, np.uint16)), (99, 99, 99)),
    ("i.tif", Image.fromarray(np.full((4, 6), 65535, np.int32)), (255, 255, 255)),
    ("cmyk.tif", one_pixel("CMYK", (0, 255, 255, 0)), (255, 0, 0)),
]


@pytest.mark.parametrize(("name", "image", "pixel"), MODES, ids=[m[0] for m in MODES])
def test_modes(name, image, pixel, tmp_path):
    options = {"transparency": image.info["transparency"]} if "transparency" in image.info else {}
    path = save(image, tmp_path / name, **options)
    assert decode(path)[:, 0, 0].tolist() == list(pixel)


def test_cmyk_jpeg(tmp_path):
    pixel = decode(save(one_pixel("CMYK", (0, 255, 255, 0)), tmp_path / "a.jpg"))[:, 0, 0]
    assert np.abs(pixel - [255, 0, 0]).max() < 12


def test_gray_weighs_the_colours(tmp_path):
    slot = tensor("x", "N", 1, 4, 6)
    path = save(one_pixel("RGB", (255, 0, 0)), tmp_path / "a.png")
    assert decode(path, slot, image_to_format="GRAY").shape == (1, 4, 6)
    assert decode(path, slot, image_to_format="GRAY")[0, 0, 0] == 76
    assert decode(save(one_pixel("L", 9), tmp_path / "b.png"), slot, image_to_format="GRAY")[0, 0, 0] == 9


def test_orientation_is_applied(tmp_path):
    image = noise(6, 4)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    path = save(image, tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(decode(path), np.rot90(np.asarray(image), -1).transpose(2, 0, 1))


def test_normalisation_per_channel(tmp_path):
    path = save(noise(4, 6), tmp_path / "a.png")
    raw = decode(path, image_to_format="BGR")
    x = decode(path, image_to_format="BGR", normalize_mean=(1, 2, 3), normalize_std=(2, 4, 8))
    want = (raw - np.reshape([1, 2, 3], (3, 1, 1))) / np.reshape([2, 4, 8], (3, 1, 1))
    np.testing.assert_allclose(x, want, rtol=1e-6)
    assert x.dtype == np.float32
    np.testing.assert_allclose(
        decode(path, image_to_format="BGR", normalize_mean=127, normalize_std=128), (raw - 127) / 128
    )


def test_integer_inputs_get_the_bytes(tmp_path):
    path = save(noise(4, 6), tmp_path / "a.png")
    x = decode(path, tensor("x", "N", 3, 4, 6, dtype=np.uint8))
    assert x.dtype == np.uint8
    np.testing.assert_array_equal(x, decode(path))
    assert decode(path, tensor("x", "N", 3, 4, 6, dtype=np.float16)).dtype == np.float16


def test_sizes(tmp_path):
    image = noise(20, 30)
    path = save(image, tmp_path / "a.png")
    free = tensor("x", "N", 3, None, None)
    pixels = np.asarray(image, np.float32).transpose(2, 0, 1)

    def resized(width, height, how):
        return np.asarray(image.resize((width, height), how), np.float32).transpose(2, 0, 1)

    np.testing.assert_array_equal(decode(path), resized(6, 4, Image.Resampling.BILINEAR))
    for word, how in (("NEAREST", Image.Resampling.NEAREST), ("CUBIC", Image.Resampling.BICUBIC)):
        np.testing.assert_array_equal(decode(path, resize_method=word), resized(6, 4, how))
    np.testing.assert_array_equal(decode(path, free, resize_width=7, resize_height=5), resized(7, 5, METHOD))
    crop = {"center_crop_width": 6, "center_crop_height": 4}
    np.testing.assert_array_equal(decode(path, **crop), pixels[:, 8:12, 12:18])
    both = decode(path, **crop, resize_width=10, resize_height=8)
    np.testing.assert_array_equal(both, resized(10, 8, METHOD)[:, 2:6, 2:8])


METHOD = Image.Resampling.BILINEAR

SETTINGS = [
    (tensor("x", "N", 3, None, None), {}, "does not fix height and width; give resize_width and resize_height"),
    (PHOTO[0], {"resize_width": 8, "resize_height": 4}, r"resize_width and .* give images of 8x4, and .* takes 6x4"),
    (
        tensor("x", "N", 3, None, 6),
        {"center_crop_width": 5, "center_crop_height": 5},
        r"center_crop_width .* give images of 5x5, and .* takes 6x\?",
    ),
    (
        tensor("x", "N", 1, 4, 6),
        {},
        "takes images of 1 channels, and image_to_format RGB gives 3; use image_to_format GRAY",
    ),
    (
        PHOTO[0],
        {"image_to_format": "GRAY"},
        "3 channels, and image_to_format GRAY gives 1; use image_to_format RGB or BGR",
    ),
    (tensor("x", "N", 4, 4, 6), {}, "takes images of 4 channels, .*; hand arrays instead"),
    (
        PHOTO[0],
        {"normalize_mean": (1, 2)},
        "normalize_mean has 2 numbers, and RGB images have 3 channels; give 3, or 1 for all",
    ),
    (
        tensor("x", "N", 1, 4, 6),
        {"normalize_std": (1, 2, 3), "image_to_format": "GRAY"},
        "normalize_std has 3 numbers, and GRAY images have 1 channels; give 1",
    ),
    (tensor("x", "N", 3, 4, 3), {}, "both axis 1 and axis 3 could be the channels .* say input_layout NCHW or NHWC"),
    (tensor("x", "N", None, None, None), {}, "neither axis 1 nor axis 3 could be the channels .* say input_layout"),
    (
        tensor("x", "N", 3, 4, 6, dtype=np.uint8),
        {"normalize_mean": 1},
        "takes whole numbers, and normalize_mean .* leave",
    ),
    (tensor("x", "N", 3, 4, 6, dtype=np.int8), {}, "cannot hold pixels, which are 0 … 255; hand int8 arrays"),
]


@pytest.mark.parametrize(("slot", "config", "text"), SETTINGS)
def test_settings_that_do_not_fit_the_model(slot, config, text, tmp_path):
    photos(tmp_path, "a.png")
    with pytest.raises(ConfigError, match=text):
        open_data(tmp_path, [slot], DataConfig(**config))


def test_layout_said_by_hand(tmp_path):
    path = save(noise(4, 3), tmp_path / "a.png")
    slot = tensor("x", "N", 3, 4, 3)
    assert decode(path, slot, input_layout="NCHW").shape == (3, 4, 3)
    assert decode(path, tensor("x", "N", 4, 3, None), input_layout="NHWC").shape == (4, 3, 3)


def test_inputs_that_take_no_images(tmp_path):
    photos(tmp_path, "a.png")
    with pytest.raises(DataError, match=r"input 'x' \(float32 \(N, 3\)\) takes no images: they need 4 axes"):
        open_data(tmp_path, VECTOR)
    with pytest.raises(DataError, match="feeds one input, and the model has 2: a, b"):
        open_data(tmp_path, PAIR)


def test_crop_larger_than_an_image_names_it(tmp_path):
    photos(tmp_path, "a.png", "small.png")
    save(noise(9, 9), tmp_path / "a.png")
    config = {"center_crop_width": 9, "center_crop_height": 9}
    with pytest.raises(BadSample, match=r"small.png is 6x4, smaller than the centre crop 9x9; set resize_width"):
        list(open_data(tmp_path, [tensor("x", "N", 3, 9, 9)], DataConfig(**config)))


@pytest.fixture
def mixed(tmp_path):
    """Four photographs; the second is cut off, the third no image."""
    photos(tmp_path, "a.png", "b.jpg", "c.png", "d.png")
    photos(tmp_path, "b.jpg", height=64, width=64)
    raw = (tmp_path / "b.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(raw[: len(raw) // 2])
    (tmp_path / "c.png").write_bytes(b"hello")
    return tmp_path


def test_corrupt_image_is_named(mixed):
    with pytest.raises(BadSample, match=r"b.jpg cannot be read as an image: .*; replace it, or use skip_bad"):
        list(open_data(mixed, PHOTO))


def test_corrupt_images_are_skipped_on_demand(mixed):
    source = open_data(mixed, PHOTO, DataConfig(skip_bad=True, batch_size=2))
    with pytest.warns(FewbitWarning, match=r"left out 2 of 4 samples: .*b.jpg cannot .*c.png cannot") as seen:
        (batch,) = source
    assert len(seen) == 1
    assert batch.names == ["a.png", "d.png"]
    assert [b.names for b in source] == [["a.png", "d.png"]]


def test_all_corrupt(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(b"")
    source = open_data(tmp_path, PHOTO, DataConfig(skip_bad=True))
    with pytest.warns(FewbitWarning), pytest.raises(EmptyData, match=r"no sample of 2 is usable; the first: .*a.png"):
        list(source)


@pytest.mark.parametrize(
    ("image", "text"),
    [
        (Image.fromarray(np.ones((4, 6), np.float32)), "floating point numbers of unknown range; hand it as .npy"),
        (Image.fromarray(np.full((4, 6), 70000, np.int32)), "its pixels are 70000 … 70000, more than 16 bits"),
    ],
)
def test_pixels_of_unknown_range(image, text, tmp_path):
    with pytest.raises(BadSample, match=text):
        decode(save(image, tmp_path / "a.tif"))


def test_huge_images_are_refused(tmp_path, monkeypatch):
    path = save(noise(40, 40), tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(BadSample, match=r"a.png is too large to decode safely: .*1600 pixels"):
        decode(path)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow's own, about metadata
@pytest.mark.parametrize("flip", range(0, 200, 7))
def test_no_damage_escapes(flip, tmp_path):
    """Whatever byte is wrong: pixels, or BadSample."""
    for suffix in ("png", "gif", "tif", "bmp", "jpg"):
        path = save(noise(4, 6), tmp_path / f"a.{suffix}")
        raw = bytearray(path.read_bytes())
        raw[flip % len(raw)] ^= 0xFF
        path.write_bytes(raw)
        try:
            assert decode(path).shape == (3, 4, 6)
        except BadSample as e:
            assert f"a.{suffix}" in str(e)


def test_batches_keep_the_order(tmp_path):
    names = [f"{i:02}.png" for i in range(23)]
    photos(tmp_path, *names)
    source = open_data(tmp_path, PHOTO, DataConfig(batch_size=5))
    want = np.stack([decode(tmp_path / n) for n in names])
    np.testing.assert_array_equal(fed(source), want)
    np.testing.assert_array_equal(fed(source.iterate(3)), want[15:])
    assert [n for b in source for n in b.names] == names
    assert (len(source), source.samples) == (5, 23)
