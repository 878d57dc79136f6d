"""The network in ncnn: feeds in, outputs out, both by name. Needs numpy and ncnn."""

import json
from pathlib import Path

import numpy as np


def engine_errors():
    """What is raised for networks and feeds that ncnn cannot take."""
    return (ValueError, RuntimeError)


class Network:
    """One network, on the CPU. ncnn takes one sample at a time, and arrays without the batch axis.

    Args:
        file: the .param file; the .bin file and network.json lie beside it.
        threads: that one run may use; 0 = as many as there are cores.
    """

    def __init__(self, file, threads=0):
        import ncnn

        file = Path(file)
        self.ncnn, self.engine = ncnn, f"ncnn {ncnn.__version__}"
        about = json.loads((file.parent / "network.json").read_text("utf-8"))
        self.inputs, self.outputs = about["inputs"], about["outputs"]
        self.net = ncnn.Net()
        self.net.opt.openmp_blocktime = 0  # idle threads would wait actively, which is slow if others want the cores
        if threads:
            self.net.opt.num_threads = threads
        if self.net.load_param(str(file)) or self.net.load_model(str(file.with_suffix(".bin"))):
            raise ValueError(f"ncnn cannot read it, or {file.stem}.bin")

    def run(self, feeds):
        """Outputs by name, of one sample after the other."""
        counts = {len(feeds[i["name"]]) for i in self.inputs}
        if len(counts) != 1:
            raise ValueError("as many samples of each input are needed")
        rows = [self.sample({i["blob"]: feeds[i["name"]][k] for i in self.inputs}) for k in range(counts.pop())]
        return {o["name"]: np.stack([row[k] for row in rows]) for k, o in enumerate(self.outputs)}

    def sample(self, arrays):
        """Outputs of one sample, in their order."""
        kept = {b: np.ascontiguousarray(x, np.float32 if x.dtype.kind == "f" else np.int32) for b, x in arrays.items()}
        with self.net.create_extractor() as extractor:
            for blob, x in kept.items():  # copies: layers may compute in place
                if extractor.input(blob, self.ncnn.Mat(x).clone()):
                    raise ValueError(f"it does not take {blob} of shape {list(x.shape)}")
            return [self.output(extractor, entry) for entry in self.outputs]

    def output(self, extractor, entry):
        """One output, in the shape and type that the network had in ONNX."""
        code, blob = extractor.extract(entry["blob"])
        if code:
            raise ValueError(f"no {entry['name']} (code {code}); networks are for one size of input")
        x = np.array(blob)
        shape = entry["shape"][1:]
        x = x.reshape(shape) if x.size == np.prod(shape) else x
        if "scale" in entry:
            scale = np.float32(entry["scale"])
            x = np.clip(np.rint(x / scale), -127, 127) * scale
        return x.astype(entry["type"])
