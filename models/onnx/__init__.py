"""ONNX files: opened with care, exported, edited, and what is known of them without running them."""
