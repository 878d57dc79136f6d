"""Record files written by MXNet, and what MXNet reads from them → tests/golden/mxnet/rec/.

    raw.rec, .idx        payloads with the magic at every place that matters
    images.rec, .idx     JPEG, PNG, grey PNG, a JPEG with the magic in a comment; one label each
    images.lst           the list they would have been made of
    detection.rec, .idx  labels of two, no and one object
    vectors.rec          three labels each
    read.npz             payloads, labels, ids; pixels that ImageRecordIter and ImageDetIter make of them

Run in an environment with mxnet 1.9.1, numpy 1.23.5 and pillow:  python tests/golden/mxnet/make/rec.py
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import mxnet as mx
import numpy as np
from PIL import Image

OUT = Path(__file__).parents[1] / "rec"
MAGIC = b"\x0a\x23\xd7\xce"
MEAN, STD, SCALE = (123.68, 116.779, 103.939), (58.4, 57.12, 57.375), 0.5
CROP, SHORTER = 16, 32
rng = np.random.default_rng(7)

PAYLOADS = [
    b"plain",
    b"",
    MAGIC,
    MAGIC * 3,
    b"abc" + MAGIC + b"d",  # not at a multiple of 4: stays
    b"abcd" + MAGIC + b"efghi",
    bytes(28) + MAGIC + b"12345",
    b"abcd" + MAGIC,
    b"\x0a\x0a\x23\xd7\xce" + MAGIC[:3],
]


def picture(height: int, width: int) -> np.ndarray:
    """Smooth enough for decoders of JPEG to agree."""
    y, x = np.mgrid[:height, :width] / 12.0
    waves = [np.sin(x * a + y * b + c) for a, b, c in rng.uniform(0.2, 1.0, (3, 3))]
    return np.rint(127.5 + 100 * np.stack(waves, -1)).astype(np.uint8)


def encoded(pixels: np.ndarray, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def with_magic(jpeg: bytes) -> bytes:
    """A comment behind the first marker that holds the magic at a multiple of 4, the header of 24 bytes included."""
    text = bytes(2) + MAGIC + b"a comment"
    assert (2 + 4 + 2) % 4 == 0
    return jpeg[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + jpeg[2:]


def write(name: str, payloads: list[bytes]) -> None:
    rec = mx.recordio.MXIndexedRecordIO(str(OUT / f"{name}.idx"), str(OUT / f"{name}.rec"), "w")
    for i, payload in enumerate(payloads):
        rec.write_idx(i, payload)
    rec.close()


def packed(labels: list, contents: list[bytes], first: int = 0) -> list[bytes]:
    header = mx.recordio.IRHeader
    pairs = zip(labels, contents, strict=True)
    return [mx.recordio.pack(header(0, label, first + i, 0), c) for i, (label, c) in enumerate(pairs)]


def iterate(name: str, **words: object) -> list:
    given = {"path_imgrec": str(OUT / f"{name}.rec"), "data_shape": (3, CROP, CROP), "batch_size": 1}
    return list(mx.io.ImageRecordIter(**{**given, "preprocess_threads": 1, "verbose": False, **words}))


def pixels_of(batches: list) -> np.ndarray:
    return np.concatenate([b.data[0].asnumpy() for b in batches])


def read_back(name: str) -> list[bytes]:
    rec = mx.recordio.MXIndexedRecordIO(str(OUT / f"{name}.idx"), str(OUT / f"{name}.rec"), "r")
    return [rec.read_idx(i) or b"" for i in rec.keys]  # None is an empty payload


def objects(payloads: list[bytes]) -> np.ndarray:
    """The labels that ImageDetIter makes; it refuses images without an object."""
    with tempfile.TemporaryDirectory() as folder:
        write(f"{folder}/some", payloads)
        files = {"path_imgrec": f"{folder}/some.rec", "path_imgidx": f"{folder}/some.idx"}
        return next(mx.image.ImageDetIter(batch_size=2, data_shape=(3, CROP, CROP), **files)).label[0].asnumpy()


def main() -> None:
    OUT.mkdir(exist_ok=True)
    write("raw", PAYLOADS)
    sizes = [(20, 24), (16, 16), (17, 21), (40, 30)]
    pictures = [picture(*s) for s in sizes]
    jpegs = [encoded(pictures[i], "JPEG", quality=95, subsampling=0) for i in (0, 3)]
    contents = [
        jpegs[0],
        encoded(pictures[1], "PNG"),
        encoded(pictures[2][:, :, 0], "PNG"),
        with_magic(jpegs[1]),
    ]
    write("images", packed([3.0, 1.0, 0.0, 7.0], contents, first=10))
    (OUT / "images.lst").write_text("10\t3.000000\tc/a.jpg\n11\t1.000000\tb/b.png\n12\t0\ta/c.png\n13\t7\tz/d.jpg\n")
    boxes = [[2, 5, 1, 0.1, 0.2, 0.3, 0.4, 0, 0.5, 0.5, 0.75, 1], [4, 5, 16, 16], [4, 5, 9, 9, 2, 0.25, 0, 0.5, 1]]
    square = encoded(pictures[1], "PNG")
    write("detection", packed(boxes, [square] * 3))
    write("vectors", packed([[1, 2, 3], [0.5, 0.25, 4]], [square] * 2))

    found = {f"raw{i}": np.frombuffer(x, np.uint8) for i, x in enumerate(read_back("raw"))}
    mean = {f"mean_{c}": v for c, v in zip("rgb", MEAN, strict=True)}
    std = {f"std_{c}": v for c, v in zip("rgb", STD, strict=True)}
    plain = iterate("images")
    found["labels"] = np.concatenate([b.label[0].asnumpy() for b in plain])
    found["ids"] = np.array([mx.recordio.unpack(x)[0].id for x in read_back("images")])
    found["crop"] = pixels_of(plain)
    found["normalized"] = pixels_of(iterate("images", **mean, **std))
    found["scaled"] = pixels_of(iterate("images", **mean, **std, scale=SCALE))
    found["shorter"] = pixels_of(iterate("images", resize=SHORTER, data_shape=(3, SHORTER, SHORTER)))
    found["grey"] = pixels_of(iterate("images", data_shape=(1, CROP, CROP)))
    found["vectors"] = np.concatenate([b.label[0].asnumpy() for b in iterate("vectors", label_width=3)])
    headers = [mx.recordio.unpack(x)[0] for x in read_back("detection")]
    found |= {f"boxes{i}": np.asarray(h.label) for i, h in enumerate(headers)}
    found["objects"] = objects(packed([boxes[0], boxes[2]], [square] * 2))
    found |= {"mean": np.array(MEAN), "std": np.array(STD), "scale": np.array(SCALE)}
    np.savez_compressed(OUT / "read.npz", **found)


if __name__ == "__main__":
    main()
