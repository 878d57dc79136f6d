"""`mx.io`: batches as MXNet scripts hand them over.

    for batch in iterator:  batch.data → list of arrays, batch.label → list of arrays, batch.pad

`NDArrayIter` walks over arrays in memory, `ImageRecordIter` over an image-record file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, islice, repeat
from typing import Any, NamedTuple

import numpy as np

from fewbit.compat.mxnet.ndarray import NDArray, array
from fewbit.config import DataConfig
from fewbit.data import open_data
from fewbit.errors import UsageError, one_of
from fewbit.graph.model import TensorInfo

Arrays = NDArray | np.ndarray | Sequence[Any] | Mapping[str, Any] | None


class DataDesc(NamedTuple):
    """Name and shape of one input; like the pair (name, shape), with type and layout beside it."""

    name: str
    shape: tuple[int, ...]
    dtype: Any = np.float32
    layout: str = "NCHW"


class DataBatch:
    """One batch.

    Args:
        data, label: lists of arrays. pad: samples at the end that only fill the batch up.
    """

    def __init__(
        self,
        data: Sequence[Any],
        label: Sequence[Any] | None = None,
        pad: int = 0,
        index: Any = None,
        bucket_key: Any = None,
        provide_data: Sequence[DataDesc] | None = None,
        provide_label: Sequence[DataDesc] | None = None,
    ) -> None:
        self.data, self.label, self.pad, self.index = list(data), list(label or ()), pad or 0, index
        self.bucket_key, self.provide_data, self.provide_label = bucket_key, provide_data, provide_label


class DataIter:
    """Base of iterators over batches. Own ones define `next`, `reset`, `provide_data` and `provide_label`."""

    provide_data: list[DataDesc] = []  # noqa: RUF012
    provide_label: list[DataDesc] = []  # noqa: RUF012

    def __init__(self, batch_size: int = 0) -> None:
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[DataBatch]:
        return self

    def __next__(self) -> DataBatch:
        return self.next()

    def next(self) -> DataBatch:
        """The next batch; StopIteration at the end."""
        raise StopIteration

    def reset(self) -> None:
        """Start again."""


class NDArrayIter(DataIter):
    """Batches of arrays in memory.

    Args:
        data, label: an array, a list, or a dict name → array, taken in the order of names; the first axis is samples.
        batch_size: samples in a batch. shuffle: in a random order, by numpy's global generator.
        last_batch_handle: of samples that do not fill a batch: "pad" takes from the front again, "discard" leaves
            them out, "roll_over" keeps them for the next pass.
        data_name, label_name: of arrays without names.
    """

    def __init__(
        self,
        data: Arrays,
        label: Arrays = None,
        batch_size: int = 1,
        shuffle: bool = False,
        last_batch_handle: str = "pad",
        data_name: str = "data",
        label_name: str = "softmax_label",
    ) -> None:
        super().__init__(batch_size)
        self._data, self._label = _named(data, data_name), _named(label, label_name)
        self._handle = one_of("last_batch_handle", last_batch_handle, ("pad", "discard", "roll_over"))
        counts = {len(a) for a in (*self._data.values(), *self._label.values())}
        if len(counts) != 1:
            raise UsageError(f"data and labels have {sorted(counts)} samples; they must have equally many")
        self.num_data = counts.pop()
        if not 1 <= batch_size <= self.num_data:
            raise UsageError(
                f"batch_size is {batch_size}; it must be from 1 to the {self.num_data} samples that there are"
            )
        self._order, self._at, self._shuffle = np.arange(self.num_data), 0, shuffle
        self.reset()

    @property
    def provide_data(self) -> list[DataDesc]:  # type: ignore[override]
        """Name and shape of the batches."""
        return self._described(self._data)

    @property
    def provide_label(self) -> list[DataDesc]:  # type: ignore[override]
        """Name and shape of the labels."""
        return self._described(self._label)

    def reset(self) -> None:
        """Start again; what was left over comes first, if `last_batch_handle` is "roll_over"."""
        left = self.num_data - self._at if self._handle == "roll_over" and 0 < self._at < self.num_data else 0
        self._at = -left
        if self._shuffle:
            np.random.shuffle(self._order)

    def next(self) -> DataBatch:
        """The next batch; StopIteration at the end."""
        start, stop = self._at, self._at + self.batch_size
        short = self._handle in ("discard", "roll_over") and stop > self.num_data
        if start >= self.num_data or short:
            raise StopIteration
        self._at = stop
        rows = self._order[np.arange(start, stop) % self.num_data]
        return DataBatch(
            [array(a[rows]) for a in self._data.values()],
            [array(a[rows]) for a in self._label.values()],
            pad=max(0, stop - self.num_data),
            provide_data=self.provide_data,
            provide_label=self.provide_label,
        )

    def _described(self, arrays: Mapping[str, np.ndarray]) -> list[DataDesc]:
        return [DataDesc(k, (self.batch_size, *a.shape[1:]), a.dtype) for k, a in arrays.items()]


def _named(given: Arrays, name: str) -> dict[str, np.ndarray]:
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return {str(k): np.asarray(given[k]) for k in sorted(given)}
    if isinstance(given, np.ndarray):
        return {name: np.asarray(given)}
    many = len(given) > 1
    return {f"_{i}_{name}" if many else name: np.asarray(a) for i, a in enumerate(given)}


class ImageRecordIter(DataIter):
    """Batches of images out of a record file, with MXNet's words.

    Args:
        path_imgrec: the `.rec` file. data_shape: (channels, height, width) of a sample. batch_size: samples in a batch.
        label_width: labels of a sample. data_name, label_name: what they are called.
        mean_r, mean_g, mean_b, std_r, std_g, std_b: subtracted from a channel, and what it is then divided by.
        scale: multiplied at the end. resize: length of the shorter edge before the crop from the centre; -1: none.
        shuffle, shuffle_chunk_seed, seed: the order; it is random, but not MXNet's.
        round_batch: fill the last batch up from the front, else with its last image; `pad` says how many.
        preprocess_threads and others that never change what comes out are taken and have no effect.

    Raises:
        UsageError: a word that would change the images and that fewbit does not know, such as rand_crop=True.
    """

    QUIET = frozenset(
        {
            "preprocess_threads",
            "prefetch_buffer",
            "ctx",
            "verbose",
            "path_imgidx",
            "shuffle_chunk_size",
            "device_id",
            "fill_value",
        }
    )
    PLAIN: Mapping[str, tuple[Any, ...]] = {"num_parts": (1,), "dtype": ("float32", None), "max_random_scale": (1,)}
    """Words → values that change nothing, besides False, None, 0, -1 and 1.0."""

    def __init__(
        self,
        path_imgrec: str,
        data_shape: Sequence[int],
        batch_size: int,
        label_width: int = 1,
        data_name: str = "data",
        label_name: str = "softmax_label",
        mean_r: float = 0.0,
        mean_g: float = 0.0,
        mean_b: float = 0.0,
        std_r: float = 1.0,
        std_g: float = 1.0,
        std_b: float = 1.0,
        scale: float = 1.0,
        resize: int = -1,
        shuffle: bool = False,
        shuffle_chunk_seed: int = 0,
        seed: int = 0,
        round_batch: bool = True,
        **words: Any,
    ) -> None:
        super().__init__(batch_size)
        for word, value in words.items():
            nothing = value in (False, None, 0, -1, "") or (isinstance(value, float) and value == 1.0)
            if word not in self.QUIET and not nothing and value not in self.PLAIN.get(word, ()):
                raise UsageError(f"ImageRecordIter: fewbit does not know {word}={value!r}, which changes the images")
        channels, height, width = (int(n) for n in data_shape)
        config = DataConfig(
            batch_size=1,
            normalize_mean=(mean_r, mean_g, mean_b)[:channels],
            normalize_std=tuple(s / scale for s in (std_r, std_g, std_b)[:channels]),
            resize_shorter=resize if resize > 0 else None,
            center_crop_width=width,
            center_crop_height=height,
            image_to_format="RGB" if channels == 3 else "GRAY",
            input_layout="NCHW",
            shuffle=shuffle,
            seed=seed ^ shuffle_chunk_seed,
        )
        slot = TensorInfo(data_name, np.dtype(np.float32), (None, channels, height, width))
        self._source = open_data(path_imgrec, [slot], config)
        self.provide_data = [DataDesc(data_name, (batch_size, channels, height, width))]
        self.provide_label = [DataDesc(label_name, (batch_size,) if label_width == 1 else (batch_size, label_width))]
        self._name, self._fill = data_name, round_batch
        self._samples: Iterator[Any] = iter(())
        self.reset()

    def reset(self) -> None:
        """Start again."""
        self._samples = self._source.iterate()

    def next(self) -> DataBatch:
        """The next batch; StopIteration at the end."""
        found = list(islice(self._samples, self.batch_size))
        if not found:
            raise StopIteration
        pad = self.batch_size - len(found)
        again = cycle(self._source.iterate()) if pad and self._fill else repeat(found[-1])
        found += islice(again, pad)
        label = (
            [array(np.concatenate([np.asarray(b.labels, np.float32) for b in found]))]
            if found[0].labels is not None
            else []
        )
        return DataBatch([array(np.concatenate([b.feeds[self._name] for b in found]))], label, pad=pad,
                         provide_data=self.provide_data, provide_label=self.provide_label)  # fmt: skip
