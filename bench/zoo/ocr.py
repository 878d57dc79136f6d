"""The three networks of RapidOCR on rendered text: detector, recogniser, classifier of the direction.

Pixels become (x / 255 - 0.5) / 0.5. Rendered: dark text on light ground in four DejaVu faces, tinted, with noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from zoo.base import Feeds, Network, Outputs, top1
from zoo.fetch import debian, wheel
from zoo.sentences import sentence

FACES = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf")
HEIGHT = 48  # of a line
PAGES = ((320, 480), (480, 320), (384, 384))
TEXT_AT = 0.3  # probability from which the detector's own post-processing calls a pixel text
Box = tuple[int, int, int, int]


def model(part: str) -> Path:
    """One of the three files."""
    return wheel("rapidocr-onnxruntime", "1.4.4") / "rapidocr_onnxruntime" / "models" / part


RECOGNISER = "ch_PP-OCRv4_rec_infer.onnx"
DETECTOR = "ch_PP-OCRv4_det_infer.onnx"
CLASSIFIER = "ch_ppocr_mobile_v2.0_cls_infer.onnx"


@cache
def font(face: str, size: int) -> ImageFont.FreeTypeFont:
    """A face of the font package."""
    return ImageFont.truetype(debian("fonts-dejavu-core") / "usr/share/fonts/truetype/dejavu" / face, size)


def paper(rng: np.random.Generator, size: tuple[int, int]) -> tuple[Image.Image, tuple[int, ...]]:
    """A light sheet and a dark ink."""
    ground, ink = rng.integers(190, 256, 3), rng.integers(0, 90, 3)
    return Image.new("RGB", size, tuple(map(int, ground))), tuple(map(int, ink))


def tensor(image: Image.Image, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Pixels with a little noise, (3, H, W), -1 to 1."""
    x = np.asarray(image, np.float32) + rng.normal(0, rng.uniform(0, 8), (image.height, image.width, 3))
    return ((np.clip(x, 0, 255) / 255 - 0.5) / 0.5).transpose(2, 0, 1).astype(np.float32)


def line(number: int) -> tuple[Image.Image, str, np.random.Generator]:
    """Up to four words of a sentence, rendered tightly."""
    rng = np.random.default_rng((11, number))
    words = sentence(number)[0].split()
    start = int(rng.integers(0, max(1, len(words) - 3)))
    text = " ".join(words[start : start + int(rng.integers(2, 5))])
    face = font(FACES[number % len(FACES)], int(rng.integers(22, 40)))
    left, top, right, bottom = face.getbbox(text)
    margin = int(rng.integers(3, 7))
    image, ink = paper(rng, (int(right - left) + 2 * margin, int(bottom - top) + 2 * margin))
    ImageDraw.Draw(image).text((margin - left, margin - top), text, font=face, fill=ink)
    return image, text, rng


def strip(image: Image.Image, rng: np.random.Generator, widths: Sequence[int]) -> np.ndarray[Any, Any]:
    """A line scaled to 48 rows, on the narrowest of the widths that holds it; right of it zeros. (1, 3, 48, W)."""
    width = -(-image.width * HEIGHT // image.height)
    room = next((w for w in widths if w >= width), widths[-1])
    x = tensor(image.resize((min(width, room), HEIGHT), Image.Resampling.BILINEAR), rng)
    return np.pad(x, ((0, 0), (0, 0), (0, room - x.shape[2])))[None]


def lines(first: int, count: int) -> Iterator[tuple[Feeds, str]]:
    """Lines for the recogniser, with their text."""
    for i in range(first, first + count):
        image, text, rng = line(i)
        yield {"x": strip(image, rng, range(320, 1600, 160))}, text


def turned(first: int, count: int) -> Iterator[tuple[Feeds, int]]:
    """Lines for the classifier, every second one upside down: label 1."""
    for i in range(first, first + count):
        image, _, rng = line(i)
        label = int(rng.integers(2))
        yield {"x": strip(image.rotate(180 * label), rng, (192,))}, label


def pages(first: int, count: int) -> Iterator[tuple[Feeds, list[Box]]]:
    """Pages for the detector, with the boxes of their lines."""
    for i in range(first, first + count):
        rng = np.random.default_rng((13, i))
        width, height = PAGES[i % len(PAGES)]
        image, ink = paper(rng, (width, height))
        draw, boxes, y = ImageDraw.Draw(image), [], 12
        while True:
            face = font(FACES[int(rng.integers(4))], int(rng.integers(14, 30)))
            words, x = sentence(int(rng.integers(1 << 20)))[0].split(), int(rng.integers(8, 60))
            while len(words) > 1 and x + face.getlength(" ".join(words)) > width - 8:
                words.pop()
            box = tuple(map(int, draw.textbbox((x, y), " ".join(words), font=face)))
            if box[3] > height - 8:
                break
            draw.text((x, y), " ".join(words), font=face, fill=ink)
            boxes.append(box)
            y = box[3] + int(rng.integers(8, 24))
        yield {"x": tensor(image, rng)[None]}, boxes


@cache
def alphabet() -> list[str]:
    """Class -> character: nothing, those in the file's metadata, the space."""
    import onnx

    meta = {p.key: p.value for p in onnx.load(model(RECOGNISER)).metadata_props}
    return ["", *meta["character"].splitlines(), " "]


def read(output: Outputs) -> str:
    """Most likely class at each place, repeats merged."""
    best = next(iter(output.values()))[0].argmax(-1)
    fresh = np.concatenate([[True], best[1:] != best[:-1]])
    return "".join(alphabet()[i] for i in best[fresh])


def distance(a: str, b: str) -> int:
    """Letters to insert, delete or replace to make b of a (Levenshtein 1966)."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


def error_rate(found: Sequence[str], right: Sequence[str]) -> float:
    """Wrong letters for 100 right ones."""
    return 100 * sum(map(distance, found, right)) / max(1, sum(map(len, right)))


def boxes_found(outputs: Sequence[Outputs], labels: Sequence[list[Box]]) -> dict[str, float]:
    """Lines whose middle half is text for the detector, and pixels far from any line that are."""
    hits, wrong, outside = [], 0, 0
    for output, boxes in zip(outputs, labels, strict=True):
        mask = next(iter(output.values()))[0, 0] > TEXT_AT
        free = np.ones_like(mask)
        for x0, y0, x1, y1 in boxes:
            dx, dy = (x1 - x0) // 4, (y1 - y0) // 4
            hits.append(mask[y0 + dy : y1 - dy, x0 + dx : x1 - dx].mean() > 0.5)
            free[max(0, y0 - 4) : y1 + 4, max(0, x0 - 4) : x1 + 4] = False
        wrong += int((mask & free).sum())
        outside += int(free.sum())
    return {"lines found %": 100 * float(np.mean(hits)), "false area %": 100 * wrong / max(1, outside)}


def overlap(ours: Sequence[Outputs], theirs: Sequence[Outputs]) -> dict[str, float]:
    """Text pixels in both, over those in one of them."""
    both = either = 0
    for a, b in zip(ours, theirs, strict=True):
        x, y = (next(iter(o.values())) > TEXT_AT for o in (a, b))
        both, either = both + int((x & y).sum()), either + int((x | y).sum())
    return {"mask IoU %": 100 * both / max(1, either)}


OCR = (
    Network(
        "rapidocr_det",
        build=lambda: model(DETECTOR),
        calib=lambda: (f for f, _ in pages(0, 30)),
        judge=lambda: pages(1000, 15),
        metric=boxes_found,
        versus=overlap,
        note="text detector; pages of three sizes",
    ),
    Network(
        "rapidocr_rec",
        build=lambda: model(RECOGNISER),
        calib=lambda: (f for f, _ in lines(0, 60)),
        judge=lambda: lines(1000, 60),
        metric=lambda outputs, labels: {"character errors %": error_rate([read(o) for o in outputs], labels)},
        versus=lambda a, b: {
            "same text %": 100 * float(np.mean([read(x) == read(y) for x, y in zip(a, b, strict=True)]))
        },
        note="text recogniser, convolutions and attention, dynamic width; output is a softmax over 6,625 characters",
    ),
    Network(
        "rapidocr_cls",
        build=lambda: model(CLASSIFIER),
        calib=lambda: (f for f, _ in turned(0, 60)),
        judge=lambda: turned(1000, 100),
        metric=top1("save_infer_model/scale_0.tmp_1"),
        scores="save_infer_model/scale_0.tmp_1",
        note="whether a line is upside down",
    ),
)
