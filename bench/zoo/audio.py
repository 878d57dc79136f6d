"""silero-vad on spoken clips, in its six exports; basic-pitch on synthesised chords."""

from __future__ import annotations

import wave
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from zoo.base import Feeds, Network, Outputs
from zoo.fetch import debian, wheel

RATE, FRAME, CONTEXT = 16000, 512, 64  # silero-vad looks at 512 samples and the 64 before them
BLOCK = 32  # frames a run of the export that takes many
TALK = 0.5  # probability from which it is speech


# -- silero-vad -------------------------------------------------------------------------------------------------------


def clips() -> list[np.ndarray[Any, Any]]:
    """Ten spoken clips, 16 kHz, -1 to 1, each with half a second of faint noise in front and behind."""
    root = debian("pocketsphinx-testdata") / "usr/share/pocketsphinx/test/data"
    found = []
    for i, path in enumerate(sorted([*root.glob("cards/*.wav"), *root.glob("librivox/*.wav")])):
        with wave.open(str(path)) as f:
            x = np.frombuffer(f.readframes(f.getnframes()), "<i2").astype(np.float32) / 32768
        noise = np.random.default_rng((17, i)).normal(0, 1e-3, (2, RATE // 2)).astype(np.float32)
        found.append(np.concatenate([noise[0], x, noise[1]]))
    return found


def frames(clip: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(T, 576): each frame with the end of the one before."""
    count = len(clip) // FRAME
    x = clip[: count * FRAME].reshape(count, FRAME)
    before = np.concatenate([np.zeros((1, CONTEXT), np.float32), x[:-1, -CONTEXT:]])
    return np.concatenate([before, x], axis=1)


def silero(export: str) -> Path:
    """One of the exports."""
    return wheel("silero-vad", "6.2.3") / "silero_vad" / "data" / export


def steps(export: str, which: slice, every: int) -> Iterator[tuple[Feeds, None]]:
    """Feeds as they come up along the clips: the state is the float network's own."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = ort.InferenceSession(str(silero(export)), options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    states = [n for n in names if n not in ("input", "sr")]
    size = BLOCK if "h" in names else 1
    for clip in clips()[which]:
        x = frames(clip)
        shape = (2 if "state" in names else 1, 1, 128)
        held = {n: np.zeros(shape, np.float32) for n in states}
        for at in range(0, len(x) - size + 1, size):
            feeds = {"input": x[at : at + size], **held}
            if "sr" in names:
                feeds["sr"] = np.array(RATE, np.int64)
            if at // size % every == 0:
                yield feeds, None
            _, *new = session.run(None, feeds)
            held = dict(zip(states, new, strict=True))


def speech(ours: Sequence[Outputs], theirs: Sequence[Outputs]) -> dict[str, float]:
    """Frames on which both decide alike, and the largest difference of the probability."""
    a, b = (np.concatenate([next(iter(o.values())).ravel() for o in all_]) for all_ in (ours, theirs))
    return {"same decision %": 100 * float(np.mean((a > TALK) == (b > TALK))), "largest step": float(abs(a - b).max())}


EXPORTS = {  # file -> note
    "silero_vad": "both rates, every branch in an If",
    "silero_vad_half": "float16 weights",
    "silero_vad_16k_op15": "opset 15",
    "silero_vad_op18_ifless": "opset 18, LSTM in pieces",
    "silero_vad_openvino_16k": "fixed shapes",
    "silero_vad_16k_sequence": f"{BLOCK} frames a run",
}


def vad(export: str, note: str) -> Network:
    """One export."""
    file, every = f"{export}.onnx", 1 if export.endswith("sequence") else 8
    return Network(
        export,
        build=partial(silero, file),
        calib=lambda: (f for f, _ in steps(file, slice(0, None, 2), every)),
        judge=lambda: steps(file, slice(1, None, 2), every),
        versus=speech,
        note=f"voice activity, convolutions and LSTM; {note}; states as the float network leaves them",
    )


# -- basic-pitch ------------------------------------------------------------------------------------------------------

PITCH_RATE, SAMPLES, HOP, NOTES = 22050, 43844, 256, 88
LOWEST = 21  # MIDI number of the lowest key
NOTE_OUTPUT, NOTE_ON = "StatefulPartitionedCall:1", 0.3


def chord(number: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Four chords in two seconds: samples (1, 43844, 1), and which key sounds in which frame (172, 88)."""
    rng = np.random.default_rng((19, number))
    x, roll = np.zeros(SAMPLES), np.zeros((SAMPLES // HOP + 1, NOTES), bool)
    for part in range(4):
        start, end = part * SAMPLES // 4, (part + 1) * SAMPLES // 4
        t = np.arange(end - start) / PITCH_RATE
        for key in rng.choice(np.arange(45, 80), int(rng.integers(1, 5)), replace=False):
            pitch = 440 * 2 ** ((key - 69) / 12)
            tone = sum(np.sin(2 * np.pi * pitch * k * t + rng.uniform(0, 6)) / k**1.5 for k in range(1, 7))
            x[start:end] += tone * np.exp(-2 * t) * np.minimum(1, t * 100) * rng.uniform(0.5, 1)
            roll[start // HOP + 1 : end // HOP, key - LOWEST] = True
    x = 0.5 * x / abs(x).max() + rng.normal(0, 1e-3, SAMPLES)
    return x.astype(np.float32).reshape(1, SAMPLES, 1), roll[:172]


def chords(first: int, count: int) -> Iterator[tuple[Feeds, Any]]:
    """Feeds and the keys that sound."""
    for i in range(first, first + count):
        x, roll = chord(i)
        yield {"serving_default_input_2:0": x}, roll


def keys(outputs: Sequence[Outputs], labels: Sequence[Any]) -> dict[str, float]:
    """F-measure of the sounding keys, frame by frame."""
    found = np.concatenate([o[NOTE_OUTPUT][0] > NOTE_ON for o in outputs])
    right = np.concatenate(labels)
    return {"notes F1 %": 200 * float((found & right).sum()) / max(1, int(found.sum() + right.sum()))}


AUDIO = (
    *(vad(export, note) for export, note in EXPORTS.items()),
    Network(
        "basic_pitch",
        build=lambda: wheel("basic-pitch", "0.4.0") / "basic_pitch" / "saved_models" / "icassp_2022" / "nmp.onnx",
        calib=lambda: (f for f, _ in chords(0, 24)),
        judge=lambda: chords(1000, 16),
        metric=keys,
        note="notes in audio; the spectrum is made of convolutions inside of the network",
    ),
)
