# The gateway. Build in the root of the repository: docker build -f envs/gateway.Dockerfile .
FROM python:3.12-slim
RUN useradd --uid 10001 --create-home warmtalk && install -d -o warmtalk /data/avatars /data/sessions
WORKDIR /app
COPY requirements*.txt envs/install.sh ./
RUN sh install.sh gateway
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY src src
COPY services services
RUN pip install --no-cache-dir --no-deps .
USER 10001
ENV WARMTALK_DATA_DIR=/data WARMTALK_GATEWAY_LISTEN=0.0.0.0:8000
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health', timeout=4)"]
CMD ["python", "-m", "services.gateway"]
