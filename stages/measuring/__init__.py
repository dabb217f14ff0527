"""Measuring ONNX files on the target."""
