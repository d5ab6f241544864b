# The infer service. Build in the root of the repository: docker build -f envs/infer.Dockerfile .
# Not the slim image: torch.compile builds the launchers of its kernels with gcc.
FROM python:3.12
RUN useradd --uid 10001 --create-home warmtalk && install -d -o warmtalk /data/avatars /data/sessions
WORKDIR /app
COPY requirements*.txt envs/install.sh ./
RUN sh install.sh infer
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY src src
COPY services services
RUN pip install --no-cache-dir --no-deps .
USER 10001
ENV WARMTALK_DATA_DIR=/data WARMTALK_MODELS_DIR=/models WARMTALK_INFER_LISTEN=0.0.0.0:50052
EXPOSE 50052
HEALTHCHECK --interval=10s --timeout=5s --start-period=900s \
    CMD ["python", "-m", "warmtalk.rpc.probe", "127.0.0.1:50052", "warmtalk.v1.InferService"]
CMD ["python", "-m", "services.infer"]
