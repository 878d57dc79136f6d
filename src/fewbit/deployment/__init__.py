"""Folders that run on a target without fewbit: each file here that registers with `@deployer` is one target."""

from fewbit.deployment import ncnn, onnxruntime, openvino, tensorrt  # noqa: F401
from fewbit.deployment.base import DEPLOYERS, Deployed, Deployer, Deployment, Job, Option, deployer, deployer_named

__all__ = ["DEPLOYERS", "Deployed", "Deployer", "Deployment", "Job", "Option", "deployer", "deployer_named"]
