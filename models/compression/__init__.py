"""What compresses a network: channels, sparsity, int8, resolution and replacements, in torch and in ONNX."""
