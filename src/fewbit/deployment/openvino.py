"""Folders for servers with OpenVINO: the model as it was quantized; OpenVINO merges Q/DQ pairs when it loads it."""

from __future__ import annotations

from fewbit.deployment.base import Deployed, Engine, Job, deployer

ENGINE = Engine(
    "openvino",
    "OpenVINO",
    "openvino",
    "-DOpenVINO_DIR=$(python -c 'import openvino, pathlib; print(pathlib.Path(openvino.__file__).parent)')/cmake",
    "Needs cmake and a C++17 compiler; the Python package `openvino` holds headers and libraries.",
)


@deployer("openvino")
def deploy(job: Job) -> Deployed:
    """Write the folder."""
    from fewbit.deployment.server import form_of, write_server
    from fewbit.graph.files import save_model

    file = job.folder / f"{job.name}.onnx"
    save_model(job.model, file)
    return write_server(job, ENGINE, file.name, form_of(job.model))
