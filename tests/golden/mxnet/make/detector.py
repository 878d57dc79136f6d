"""A small SSD, trained on coloured shapes: symbols, float16 parameters, validation records, MXNet's own detections.

    oracle/bin/python tests/golden/mxnet/make/detector.py            (see casefile.py; about 4 minutes on one core)
    oracle/bin/python tests/golden/mxnet/make/detector.py 0          (all but the training: parameters are as they are)

It writes tests/golden/mxnet/detector/:

    shapes-symbol.json, shapes-0000.params   for inference: detections (N, anchors, 6)
    shapes_train-symbol.json                 as it was trained
    shapes.rec, shapes.idx                   96 images, 96 x 96, with [2, 5, id, xmin, ymin, xmax, ymax, ...] as label
    detections.npz                           what MXNet finds: `found`, rows [image, id, score, xmin, ymin, xmax, ymax];
                                             `rows`, all that it gives for the first two images

Images are fed as RGB, less MEAN, over STD. Classes: circle, square, triangle.
"""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path

import mxnet as mx
import numpy as np
from PIL import Image, ImageDraw
from ssd_symbol import Map, detecting, training

FOLDER = Path(__file__).resolve().parent.parent / "detector"
MEAN, STD = np.float32([123, 117, 104]), np.float32([58, 57, 57])
SIZE, CLASSES, MOST, BATCH = 96, 3, 4, 16


def picture(rng):
    """An image (96, 96, 3) and its objects [id, xmin, ymin, xmax, ymax], relative."""
    base = rng.randint(40, 216, 3)
    grain = rng.randint(-24, 25, (12, 12, 3)).repeat(8, 0).repeat(8, 1)
    image = Image.fromarray(np.clip(base + grain + rng.normal(0, 6, (SIZE, SIZE, 3)), 0, 255).astype(np.uint8))
    draw, objects = ImageDraw.Draw(image), []
    for _ in range(rng.randint(1, MOST + 1)):
        side = rng.randint(16, 49)
        x, y = rng.randint(0, SIZE - side, 2)
        if any(x < o[3] and o[1] < x + side and y < o[4] and o[2] < y + side for o in objects):
            continue
        colour = (base + rng.choice([-1, 1], 3) * rng.randint(50, 120, 3)) % 256
        kind, fill = rng.randint(CLASSES), tuple(int(c) for c in colour)
        if kind == 0:
            draw.ellipse([x, y, x + side, y + side], fill=fill)
        elif kind == 1:
            draw.rectangle([x, y, x + side, y + side], fill=fill)
        else:
            draw.polygon([(x + side // 2, y), (x, y + side), (x + side, y + side)], fill=fill)
        objects.append((kind, x, y, x + side, y + side))
    boxes = np.float32(objects)
    boxes[:, 1:] /= SIZE
    return np.asarray(image), boxes


def batch_of(rng, n):
    """Network input (n, 3, 96, 96) and labels (n, MOST, 5), padded with -1."""
    images, labels = np.empty((n, SIZE, SIZE, 3), np.float32), np.full((n, MOST, 5), -1, np.float32)
    for i in range(n):
        image, boxes = picture(rng)
        images[i], labels[i, : len(boxes)] = image, boxes
    return prepared(images), labels


def prepared(images):
    """Pixels (n, 96, 96, 3) as they are fed."""
    return ((np.float32(images) - MEAN) / STD).transpose(0, 3, 1, 2)


def feature_maps():
    """A small VGG: 12 x 12, 6 x 6 and 3 x 3."""

    def conv(x, name, width, **words):
        x = mx.sym.Convolution(x, num_filter=width, name=f"conv{name}", **{"kernel": (3, 3), "pad": (1, 1), **words})
        return mx.sym.Activation(x, act_type="relu", name=f"relu{name}")

    def pool(x, name):
        return mx.sym.Pooling(x, pool_type="max", kernel=(2, 2), stride=(2, 2), name=f"pool{name}")

    x = pool(conv(mx.sym.Variable("data"), "1_1", 16), "1")
    x = pool(conv(conv(x, "2_1", 24), "2_2", 32), "2")
    first = conv(conv(x, "3_1", 48), "3_2", 48)
    x = conv(conv(pool(first, "3"), "4_1", 64), "5_1", 64, dilate=(2, 2), pad=(2, 2))
    last = conv(conv(x, "6_1", 32, kernel=(1, 1), pad=(0, 0)), "6_2", 64, stride=(2, 2))
    ratios = (1, 2, 0.5)
    return [
        Map(first, (0.2, 0.26), ratios, norm=10, channels=48),
        Map(x, (0.32, 0.4), ratios),
        Map(last, (0.5, 0.6), ratios),
    ]


def train(symbol, steps, seed=1):
    """Parameters after `steps` steps of Adam."""
    shapes = {"data": (BATCH, 3, SIZE, SIZE), "label": (BATCH, MOST, 5)}
    learnt = {n: "null" if n in shapes else "write" for n in symbol.list_arguments()}
    run = symbol.simple_bind(mx.cpu(), grad_req=learnt, **shapes)
    names = [n for n in symbol.list_arguments() if n not in shapes]
    start = mx.init.Xavier(magnitude=2.5)
    mx.random.seed(seed)
    for n in names:
        if n.endswith("_scale"):
            run.arg_dict[n][:] = 10
        else:
            start(mx.init.InitDesc(n), run.arg_dict[n])
    adam = mx.optimizer.Adam(learning_rate=2e-3, wd=1e-5)
    update, rng, began = mx.optimizer.get_updater(adam), np.random.RandomState(seed), time.time()
    for step in range(steps):
        adam.lr = 2e-3 * 0.5 * (1 + np.cos(np.pi * step / steps)) + 2e-5
        data, label = batch_of(rng, BATCH)
        out = run.forward(is_train=True, data=data, label=label)
        run.backward()
        for i, n in enumerate(names):
            update(i, run.grad_dict[n], run.arg_dict[n])
        if step % 50 == 0 or step == steps - 1:
            prob, target = out[0].asnumpy(), out[2].asnumpy()
            seen = target >= 0
            own = np.take_along_axis(prob, np.maximum(target, 0)[:, None].astype(int), 1)[:, 0]
            print(
                step,
                f"{time.time() - began:.0f} s",
                -np.log(own[seen] + 1e-9).mean(),
                out[1].asnumpy().mean(),
                flush=True,
            )
    return {n: run.arg_dict[n].asnumpy().astype(np.float16) for n in names}


def write_records(count, seed=77):
    """Pack images; what a reader will decode is returned."""
    rng, pixels = np.random.RandomState(seed), []
    file = mx.recordio.MXIndexedRecordIO(str(FOLDER / "shapes.idx"), str(FOLDER / "shapes.rec"), "w")
    for i in range(count):
        image, boxes = picture(rng)
        jpeg = io.BytesIO()
        Image.fromarray(image).save(jpeg, "JPEG", quality=85)
        label = np.concatenate([np.float32([2, 5]), boxes.ravel()])
        file.write_idx(i, mx.recordio.pack(mx.recordio.IRHeader(0, label, i, 0), jpeg.getvalue()))
        pixels.append(np.asarray(Image.open(jpeg).convert("RGB")))
    file.close()
    return np.stack(pixels)


def main(steps):
    """Train, write, detect; without steps, detect with the parameters that are there."""
    FOLDER.mkdir(exist_ok=True)
    symbol, deploy = training(feature_maps(), CLASSES), detecting(feature_maps(), CLASSES)
    symbol.save(str(FOLDER / "shapes_train-symbol.json"))
    deploy.save(str(FOLDER / "shapes-symbol.json"))
    file = str(FOLDER / "shapes-0000.params")
    if steps:
        params = train(symbol, steps)
        mx.nd.save(file, {f"arg:{n}": mx.nd.array(x, dtype=x.dtype) for n, x in params.items()})
    params = {n.removeprefix("arg:"): x.asnumpy() for n, x in mx.nd.load(file).items()}
    images = write_records(96)
    weights = {n: mx.nd.array(np.float32(x)) for n, x in params.items()}
    run = deploy.bind(mx.cpu(), {"data": mx.nd.array(prepared(images)), **weights})
    rows = run.forward()[0].asnumpy()
    image, place = np.nonzero(rows[..., 0] >= 0)
    print("detections of an image", len(image) / len(rows))
    found = np.concatenate([image[:, None], rows[image, place]], 1).astype(np.float32)
    np.savez_compressed(FOLDER / "detections.npz", found=found, rows=rows[:2])
    for path in sorted(FOLDER.iterdir()):
        print(path.name, path.stat().st_size)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1600)
