"""Models as ONNX graphs with their state as inputs and outputs, for other programs and for the browser.

`export_model` writes a directory: manifest.json beside the .onnx files. Needs the extra `export`.
"""

from flowgression.export.directory import export_model

__all__ = ["export_model"]
