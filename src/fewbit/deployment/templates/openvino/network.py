"""The network in OpenVINO: feeds in, outputs out, both by name. Needs numpy and openvino."""

import json
from pathlib import Path


def engine_errors():
    """What the engine raises on networks and feeds that it cannot take."""
    return (RuntimeError, ValueError, TypeError, LookupError)


class Network:
    """One network, on the CPU.

    Args:
        file: the model. threads: that one run may use; 0 = as OpenVINO sees fit.
    """

    def __init__(self, file, threads=0):
        import openvino

        self.engine = f"OpenVINO {openvino.__version__.split('-')[0]}"
        settings = {"PERFORMANCE_HINT": "LATENCY"}
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        self.compiled = openvino.Core().compile_model(str(file), "CPU", settings)
        self.fed = {name for port in self.compiled.inputs for name in port.get_names()}
        about = json.loads(Path(file).with_name("network.json").read_text("utf-8"))
        self.outputs = [(o["name"], len(o["shape"])) for o in about["outputs"]]

    def run(self, feeds):
        """Outputs by name; those with as many axes as the model says."""
        found = self.compiled({name: x for name, x in feeds.items() if name in self.fed})
        return {name: with_axes(found[i], rank) for i, (name, rank) in enumerate(self.outputs)}


def with_axes(x, rank):
    """OpenVINO may answer with leading axes of 1 added or left out."""
    while x.ndim > rank and x.shape[0] == 1:
        x = x[0]
    return x.reshape([1] * (rank - x.ndim) + list(x.shape))
