"""The ONNX graph: load, look up, rewrite, save. The only folder that imports onnx and onnx_ir."""
