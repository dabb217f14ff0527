#!/usr/bin/env bash
# The quickstart in CI: its artifact is made, held to its budgets, and pinned; a model that grew is refused.
#   docs/ci/quickstart.sh FOLDER    everything is written to FOLDER; `paredown` and `python` must be on the path
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$1
artifact="$out/quickstart/artifact/model.onnx"

# 3: a limit of the recipe is not met, and the artifact is there all the same. What may ship is the gate's to say.
paredown run recipes/quickstart.yaml --out "$out" || [ $? = 3 ]

# 1. The artifact against the original and the budgets that people agreed on.
paredown gate "$artifact" --baseline "$out/quickstart/baseline/model.onnx" --budgets recipes/quickstart.gates.yaml \
    --save "$out/gate.xml" --save "$out/gate.md" --inconclusive pass

# 2. It becomes the baseline of the next release, pinned by a lock that a review can read.
cp docs/ci/gates.yaml "$out/gates.yaml"
paredown gate "$artifact" --budgets "$out/gates.yaml" --update-baseline
paredown gate "$artifact" --budgets "$out/gates.yaml" --inconclusive pass

# 3. A model with two layers of no use is refused, and the message names them.
python benchmarks/fatten.py "$artifact" "$out/fat.onnx" --layers 2 --channels 64
code=0
paredown gate "$out/fat.onnx" --budgets "$out/gates.yaml" | tee "$out/fat.txt" || code=$?
if [ "$code" != 1 ] || ! grep -q 'new fat\.1' "$out/fat.txt"; then
    echo "the fattened model was not refused for its layers (exit code $code)" >&2
    exit 1
fi
