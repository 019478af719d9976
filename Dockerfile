# A server for one model, on a CPU, without root. Build and start: docs/serve.md
FROM python:3.12-slim AS build
# an index with PyTorch's CPU wheels; without it, torch brings CUDA's libraries along, which are some GB
ARG PIP_EXTRA_INDEX_URL=""
WORKDIR /source
RUN python -m venv /opt/fieldguide
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
RUN /opt/fieldguide/bin/python -m pip install --no-cache-dir -c constraints.txt ".[serve,openvino]"

FROM python:3.12-slim
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin fieldguide
COPY --from=build /opt/fieldguide /opt/fieldguide
ENV PATH=/opt/fieldguide/bin:$PATH FIELDGUIDE_CACHE=/tmp/fieldguide MPLCONFIGDIR=/tmp/matplotlib
USER 10001
WORKDIR /tmp
EXPOSE 8000
HEALTHCHECK --start-period=60s \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=5)"]
ENTRYPOINT ["fieldguide", "serve", "--host", "0.0.0.0"]
CMD ["/models/run", "--token-file", "/models/token"]
