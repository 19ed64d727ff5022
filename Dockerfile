# The command on CPUs, from locked versions: docker build -t flowgression . && docker run --rm -v "$PWD:/out" flowgression
#   sample --model arflow-mnist --out /out/digits.png
# Smaller with PyTorch's CPU build: --build-arg TORCH_INDEX=URL, the CPU index that pytorch.org/get-started names.
FROM python:3.11-slim
ARG TORCH_INDEX=""

COPY requirements-cpu.lock /tmp/
RUN pip install --no-cache-dir torch==2.13.0 ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} \
 && pip install --no-cache-dir --no-deps --require-hashes -r /tmp/requirements-cpu.lock

COPY . /src
RUN pip install --no-cache-dir --no-deps /src && rm -rf /src /tmp/requirements-cpu.lock

RUN useradd --create-home user
USER user
WORKDIR /home/user
ENTRYPOINT ["flowgression"]
CMD ["--help"]
