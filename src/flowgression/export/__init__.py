"""Models as ONNX graphs with their state as inputs and outputs, for other programs and for the browser.

`export_model` writes a directory: manifest.json beside the .onnx files. Needs the extra `export`.
"""

from flowgression._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, {"export_model": "flowgression.export.directory"})
