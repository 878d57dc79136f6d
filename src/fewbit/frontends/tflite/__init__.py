"""TFLite files: the schema (`schema.py`), where axes lie (`layout.py`), and rules for operators (`ops/`).

The schema is the package `tflite`; TensorFlow and its interpreter are not needed.
"""

from fewbit.frontends.tflite import checkpoint

__all__ = ["checkpoint"]
