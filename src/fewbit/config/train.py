"""TrainConfig: every word a user can say about training, checked once, when it is said."""

from __future__ import annotations

from dataclasses import dataclass

from fewbit.config.fields import is_number, say, settle, whole, word
from fewbit.errors import ConfigError

OPTIMIZERS = ("sgd", "adamw")
AUGMENTS = ("auto", "none", "crop", "flip", "crop-flip")
STE = ("clipped", "plain")
FAKE_BN = ("running", "batch", "frozen")

RATES = {"sgd": (0.1, 0.01), "adamw": (2e-3, 5e-4)}
"""Optimiser → learning rate of a float network, and of a quantized one."""

QAT_WORDS = ("distill", "temperature", "progressive_bits", "learned", "ste", "fake_bn", "freeze_after")
"""Words that say something where a network is quantized, and nothing where a float network is trained."""

SPANS = {  # field -> least, most, whether the least itself is allowed
    "learning_rate": (0.0, 100.0, False),
    "momentum": (0.0, 0.9999, True),
    "weight_decay": (0.0, 1.0, True),
    "warmup": (0.0, 1e6, True),
    "label_smoothing": (0.0, 0.999, True),
    "clip_gradient": (0.0, 1e9, True),
    "held_out": (0.0, 0.5, True),
    "distill": (0.0, 1.0, True),
    "temperature": (0.0, 100.0, False),
    "freeze_after": (0.0, 1.0, True),
}


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Raises:
        UnknownName: a word that is not among the choices; the nearest one is offered.
        ConfigError: a value out of range, or settings that exclude each other.
    """

    epochs: int = say(10, "passes over the training images")
    batch_size: int = say(128, "images in one batch")
    learning_rate: float | None = say(
        None, "highest learning rate (default: sgd 0.1, adamw 0.002; quantized networks 0.01 and 0.0005)"
    )
    optimizer: str = word("sgd", OPTIMIZERS, "how weights follow gradients; sgd is the one with Nesterov momentum")
    momentum: float = say(0.9, "share of the last step in the next one, sgd; 0 = none")
    weight_decay: float = say(5e-4, "pull of weights to zero; norms, biases and learned scales have none")
    warmup: float = say(0.5, "epochs in which the learning rate rises; then it falls along a cosine")
    label_smoothing: float = say(0.0, "share of the label that is spread over all classes")
    clip_gradient: float = say(0.0, "largest norm of a gradient; 0 = any")
    augment: str = word("auto", AUGMENTS, "random changes of images; auto = crop, and flip unless they are digits")
    held_out: float = say(0.05, "share of training images that choose the best epoch; 0 = the last epoch counts")
    max_batches: int | None = say(None, "stop each epoch after this many batches, to try things out")
    distill: float = say(0.5, "weight of the float network's answers in the loss, against labels")
    temperature: float = say(2.0, "softness of those answers")
    progressive_bits: tuple[float, ...] = say((), "bits of earlier stages, such as 8,4; the last stage has bit_num")
    learned: bool | None = say(None, "learn the scales, too, LSQ (default: with less than 8 bits)")
    ste: str = word("clipped", STE, "gradient of rounding by fixed scales; clipped = none outside of the range")
    fake_bn: str = word(
        "running", FAKE_BN, "statistics that BatchNorm is folded by while training: running, of each batch, or frozen"
    )
    freeze_after: float = say(
        0.8, "share of training after which ranges and BatchNorm statistics stand still; 1 = never"
    )
    amp: bool = say(False, "compute in bfloat16 where that is safe; faster where the machine has it")
    channels_last: bool = say(True, "keep the channels of an image together in memory")
    device: str = say("auto", "where to train, such as cpu, cuda, cuda:1; auto = a GPU if there is one")
    workers: int = say(0, "threads that prepare batches ahead, for sets that do not fit into memory")
    seed: int = say(0, "of start values, order and augmentation")

    def __post_init__(self) -> None:
        settle(self)
        whole(self, "epochs", 1)
        whole(self, "batch_size", 1)
        whole(self, "max_batches", 1, optional=True)
        whole(self, "workers", 0)
        whole(self, "seed", 0, 2**32 - 1)
        for name, (least, most, inclusive) in SPANS.items():
            value = getattr(self, name)
            if value is None and name == "learning_rate":
                continue
            if not is_number(value) or not least <= value <= most or (value == least and not inclusive):
                span = f"from {least:g}" if inclusive else f"over {least:g}"
                raise ConfigError(f"{name} is {value!r}; it must be a number {span} to {most:g}")
        _check_together(self)


def _check_together(c: TrainConfig) -> None:
    """Let what follows follow; refuse what would say nothing."""
    bits = c.progressive_bits
    if not all(is_number(b) and int(b) == b and 1 <= b <= 16 for b in bits):
        raise ConfigError(f"progressive_bits is {bits!r}; it must be whole numbers from 1 to 16")
    if list(bits) != sorted(set(bits), reverse=True):
        raise ConfigError(f"progressive_bits is {bits!r}; each stage must have fewer bits than the one before")
    object.__setattr__(c, "progressive_bits", tuple(int(b) for b in bits))
    if len(bits) >= c.epochs:
        raise ConfigError(f"progressive_bits makes {len(bits) + 1} stages; epochs is {c.epochs}, it must be as many")
    if c.warmup > c.epochs:
        raise ConfigError(f"warmup is {c.warmup:g} epochs of {c.epochs}; it must be at most as many as epochs")
    if c.learned not in (None, True, False):
        raise ConfigError(f"learned is {c.learned!r}; it must be true or false")
    if c.ste != "clipped" and c.learned is not False:
        raise ConfigError(
            f"ste {c.ste!r} is for fixed scales, learned ones have a gradient of their own; say learned=False"
        )
    if c.distill == 0 and c.temperature != TrainConfig.temperature:
        raise ConfigError("temperature softens the float network's answers; with distill 0 it says nothing")
    if c.optimizer != "sgd" and c.momentum != TrainConfig.momentum:
        raise ConfigError(f"momentum is for optimizer 'sgd'; leave it out with {c.optimizer!r}")
