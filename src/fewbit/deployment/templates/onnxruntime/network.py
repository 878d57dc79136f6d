"""The network in ONNX Runtime: feeds in, outputs out, both by name. Needs numpy and onnxruntime."""


def engine_errors():
    """What the engine raises on networks and feeds that it cannot take."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    kinds = "Fail InvalidArgument InvalidGraph InvalidProtobuf NoSuchFile NotImplemented RuntimeException".split()
    return (*(getattr(state, kind) for kind in kinds), RuntimeError, ValueError)


class Network:
    """One network, on the CPU.

    Args:
        file: the model. threads: that one run may use; 0 = as many as there are cores.
    """

    def __init__(self, file, threads=0):
        import onnxruntime

        self.engine = f"ONNX Runtime {onnxruntime.__version__}"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self.outputs = [o.name for o in self.session.get_outputs()]

    def run(self, feeds):
        """Outputs by name."""
        return dict(zip(self.outputs, self.session.run(None, feeds), strict=True))
