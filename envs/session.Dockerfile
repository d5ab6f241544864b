# The session service. Build in the root of the repository: docker build -f envs/session.Dockerfile .
FROM python:3.12.15-slim-bookworm@sha256:54c85f3c47607a77f32adec749d3c81d1348bf25833671f512b26a9b6d778cb3
RUN useradd --uid 10001 --create-home warmtalk && install -d -o warmtalk /data/avatars /data/sessions
WORKDIR /app
ENV PIP_NO_CACHE_DIR=1
COPY envs/install.sh envs/install.sh
COPY envs/locks envs/locks
RUN sh envs/install.sh session
COPY pyproject.toml requirements.txt LICENSE NOTICE ./
COPY docs/package.md docs/package.md
COPY src src
COPY services services
RUN pip install --no-deps --no-build-isolation .
USER 10001
ENV WARMTALK_DATA_DIR=/data WARMTALK_SESSION_LISTEN=0.0.0.0:50053
EXPOSE 50053
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-m", "warmtalk.rpc.healthcheck", "127.0.0.1:50053", "warmtalk.v1.SessionService"]
CMD ["python", "-m", "warmtalk.services.session"]
