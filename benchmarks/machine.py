"""Prints the fingerprint that measurements of this machine carry."""

import json

from paredown.stages.runtimes.onnxruntime import OnnxRuntime

if __name__ == "__main__":
    runtime = OnnxRuntime()
    facts = {"width_multiple": runtime.width_multiple(), "weight_bits": runtime.weight_bits()}
    print(json.dumps({"runtime": runtime.version(), **runtime.machine(), **facts}, indent=2))
