# The prep service. Build in the root of the repository: docker build -f envs/prep.Dockerfile .
FROM python:3.12-slim
RUN useradd --uid 10001 --create-home warmtalk && install -d -o warmtalk /data/avatars /data/sessions
WORKDIR /app
COPY requirements*.txt envs/install.sh ./
RUN sh install.sh prep
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY src src
COPY services services
RUN pip install --no-cache-dir --no-deps .
USER 10001
ENV WARMTALK_DATA_DIR=/data WARMTALK_MODELS_DIR=/models WARMTALK_PREP_LISTEN=0.0.0.0:50051
EXPOSE 50051
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-m", "warmtalk.rpc.probe", "127.0.0.1:50051", "warmtalk.v1.PrepService"]
CMD ["python", "-m", "services.prep"]
