# A worker on a CPU: OpenVINO, no torch; the shipped model packages are in the image.
# Build from the root of the repository: docker build -f deploy/worker.Dockerfile -t hemolink-worker .

FROM python:3.12-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/hemolink && /opt/hemolink/bin/pip install --upgrade pip
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY hemolink hemolink
COPY broker_config broker_config
COPY cloud_worker cloud_worker
COPY model_zoo model_zoo
RUN /opt/hemolink/bin/pip install ".[worker]"

FROM python:3.12-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /var/lib/hemolink --create-home hemolink
COPY --from=build /opt/hemolink /opt/hemolink
COPY deploy/settings/worker.yaml /etc/hemolink/worker.yaml
ENV PATH=/opt/hemolink/bin:$PATH PYTHONUNBUFFERED=1
USER hemolink
WORKDIR /var/lib/hemolink
VOLUME /var/lib/hemolink
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:9100/healthz', timeout=4)"]
CMD ["python", "-m", "cloud_worker", "--settings", "/etc/hemolink/worker.yaml"]
