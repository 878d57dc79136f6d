"""What the network is fed: files, samples that came with it, random numbers. Needs numpy, for images Pillow.

network.json says which type and shape every input has; what does not fit is told before the engine sees it.
"""

import json
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent

TENSOR = {"name": str, "type": str, "shape": list, "file": str}
IMAGE = {"colour": str, "mean": list, "std": list, "layout": str, "type": str, "method": str}
FREE = ("shorter", "resize", "crop")  # of an image: null or numbers

UNREADABLE = (OSError, EOFError, ValueError, TypeError, SyntaxError, MemoryError, OverflowError)
"""What numpy raises on files that are no arrays, or damaged."""


class Broken(Exception):
    """A file of this folder is missing or damaged."""


def read_about():
    """network.json."""
    file = HERE / "network.json"
    if not file.is_file():
        raise Broken("network.json is missing")
    try:
        about = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as e:
        raise Broken(f"network.json cannot be read: {e}") from e
    if not sound(about):
        raise Broken("network.json does not say what it should: it was edited or damaged")
    return about


def sound(about):
    """Whether all is there that the scripts read."""
    if not has(about, {"model": str, "samples": int, "inputs": list, "outputs": list}):
        return False
    ins, outs = about["inputs"], about["outputs"]
    tensors = all(has(e, TENSOR) for e in ins + outs) and all(has(o, {"tolerance": (int, float)}) for o in outs)
    return tensors and all(
        has(i["image"], IMAGE) and set(FREE) <= set(i["image"]) if i.get("image") else has(i, {"why": str}) for i in ins
    )


def has(found, kinds):
    """Whether it is a dict with values of these types."""
    return isinstance(found, dict) and all(isinstance(found.get(key), kind) for key, kind in kinds.items())


def sample(number, about, kind="inputs"):
    """Arrays by name of a sample that came with the network: what it is fed, or what is expected."""
    found = {}
    for entry in about["inputs" if kind == "inputs" else "outputs"]:
        file = f"{kind}/{number}/{entry['file']}"
        if not (HERE / file).is_file():
            raise Broken(f"{file} is missing")
        try:
            found[entry["name"]] = read_array(HERE / file)
        except UNREADABLE as e:
            raise Broken(f"{file} is damaged: it {e}") from e
    return found


def random_feeds(about):
    """Random numbers; axes that are free have length 1."""
    rng = np.random.default_rng(0)
    feeds = {}
    for entry in about["inputs"]:
        shape = [d if isinstance(d, int) else 1 for d in entry["shape"]]
        kind = np.dtype(entry["type"])
        x = rng.standard_normal(shape) if kind.kind == "f" else rng.integers(0, 2, shape)
        feeds[entry["name"]] = np.asarray(x, kind)
    return feeds


def files_fed(files, about):
    """One array for each input, out of files: as name=file, the others in the order of the inputs that are left."""
    inputs = {i["name"]: i for i in about["inputs"]}
    given, bare = {}, []
    for text in files:
        name = max((n for n in inputs if text.startswith(f"{n}=")), key=len, default=None)
        if name is None:
            bare.append(text)
        elif name in given:
            raise SystemExit(f"{name} is given twice: {given[name]} and {text[len(name) + 1 :]}")
        else:
            given[name] = text[len(name) + 1 :]
    for text in bare:
        if "=" in text and not Path(text).exists():
            raise SystemExit(f"there is no input {text.partition('=')[0]}; inputs: {', '.join(inputs)}")
    left = [name for name in inputs if name not in given]
    if len(bare) > len(left):
        raise SystemExit(
            f"the network has {counted(len(inputs), 'input')}: {', '.join(inputs)}; "
            f"{counted(len(files), 'file')} {'is' if len(files) == 1 else 'are'} given"
        )
    given |= zip(left, bare, strict=False)
    missing = [name for name in inputs if name not in given]
    if missing:
        raise SystemExit(f"there is no file for input {', '.join(missing)}")
    return {name: array_of(given[name], inputs[name]) for name in inputs}


def counted(n, word):
    """1 file, 2 files."""
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def array_of(file, entry):
    """A .npy file as it is; an image as the recipe of the input says."""
    if not Path(file).is_file():
        raise SystemExit(f"there is no file {file}")
    try:
        with open(file, "rb") as opened:
            head = opened.read(6)
        if head == b"\x93NUMPY" or file.endswith(".npy"):
            return fitting(read_array(file), f"{file} holds", entry)
    except UNREADABLE as e:
        raise SystemExit(f"{file} {e.strerror if isinstance(e, OSError) and e.strerror else e}") from e
    if file.endswith(".npz"):
        raise SystemExit(f"{file} holds several arrays; hand one .npy file for each input, as numpy.save writes it")
    if not entry["image"]:
        raise SystemExit(f"{file}: {entry['why'].removesuffix('; hand arrays')}; hand it as .npy")
    from preprocess import load_image

    return fitting(load_image(file, entry["image"]), f"{file} becomes", entry)


def read_array(file):
    """A .npy file; an error whose text goes behind the name of the file says why it is none."""
    with open(file, "rb") as opened:
        if opened.read(6) != b"\x93NUMPY":
            raise ValueError("is no .npy file")
    try:
        return np.load(file, allow_pickle=False)
    except UNREADABLE as e:
        if "allow_pickle" in str(e):
            raise ValueError("holds Python objects; save numbers, with one type for all") from e
        raise ValueError(f"cannot be read: {e}") from e


def fitting(x, what, entry):
    """An array, if it has the type and the shape of the input; nothing is converted, which could lose digits."""
    want, shape = np.dtype(entry["type"]), entry["shape"]
    same = x.dtype.newbyteorder("=") == want
    fits = x.ndim == len(shape) and all(d == n or not isinstance(d, int) for d, n in zip(shape, x.shape, strict=True))
    if not same or not fits:
        axes = ", ".join(str(d) for d in shape)
        way = "" if same else f"; to convert it: numpy.save(file, x.astype({want.name!r}))"
        raise SystemExit(
            f"{what} {x.dtype.name} {list(x.shape)}; input {entry['name']} takes {want.name} [{axes}]{way}"
        )
    return np.asarray(x, want, order="C")
