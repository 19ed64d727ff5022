# The command on CPUs, from locked versions: docker build -t flowgression . && docker run --rm -v "$PWD:/out" flowgression
#   sample --model arflow-mnist --out /out/digits.png
# Smaller with PyTorch's CPU build: --build-arg TORCH_INDEX=URL, the CPU index that pytorch.org/get-started names.
# Everything is pinned: the base by its digest, packages by version and SHA-256, torch of either build too.
FROM python:3.11-slim@sha256:9c900dea9e8fb7e16277c179b555cc72d29a352dbc33cff48ad5a0412fd5bfc7
ARG TORCH_INDEX=""

COPY requirements-cpu.lock requirements-torch.lock requirements-cuda.lock /tmp/
RUN locked="pip install --no-cache-dir --no-deps --require-hashes" \
 && if [ -n "$TORCH_INDEX" ]; then $locked --index-url "$TORCH_INDEX" -r /tmp/requirements-torch.lock; \
    else $locked -r /tmp/requirements-torch.lock -r /tmp/requirements-cuda.lock; fi \
 && $locked -r /tmp/requirements-cpu.lock

COPY . /src
RUN pip install --no-cache-dir --no-deps --no-build-isolation /src && rm -rf /src /tmp/requirements-*.lock

RUN useradd --create-home user
USER user
WORKDIR /home/user
ENTRYPOINT ["flowgression"]
CMD ["--help"]
