# The infer service. Build in the root of the repository: docker build -f envs/infer.Dockerfile .
# Not the slim image: torch.compile builds the launchers of its kernels with gcc.
FROM python:3.12.15-bookworm@sha256:5560e9ab8709f459489e5b8aa696eda8a07ef821e14bb122be62d91234bfa98b
RUN useradd --uid 10001 --create-home warmtalk && install -d -o warmtalk /data/avatars /data/sessions
WORKDIR /app
ENV PIP_NO_CACHE_DIR=1
COPY envs/install.sh envs/install.sh
COPY envs/locks envs/locks
RUN sh envs/install.sh infer
COPY pyproject.toml requirements.txt LICENSE NOTICE ./
COPY docs/package.md docs/package.md
COPY src src
COPY services services
RUN pip install --no-deps --no-build-isolation .
USER 10001
ENV WARMTALK_DATA_DIR=/data WARMTALK_MODELS_DIR=/models WARMTALK_INFER_LISTEN=0.0.0.0:50052
EXPOSE 50052
HEALTHCHECK --interval=10s --timeout=5s --start-period=900s \
    CMD ["python", "-m", "warmtalk.rpc.healthcheck", "127.0.0.1:50052", "warmtalk.v1.InferService"]
CMD ["python", "-m", "warmtalk.services.infer"]
