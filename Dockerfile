# A worker: workflows, activities and the agents named by ASSENT_AGENTS, in one process.
#
#   docker build -t assent-worker .
#
# Your own agents: `FROM assent-worker`, `COPY` your package to /app, set ASSENT_AGENTS.

# 3.11 is the oldest Python that Assent supports and the one the lock is made for.
FROM python:3.11-slim-bookworm AS base

FROM base AS build
# For a package mirror: `--build-arg PIP_INDEX_URL=...`. Not with a password in it: build arguments are kept.
ARG PIP_INDEX_URL
COPY requirements-worker.lock /tmp/
# Wheels only: nothing is compiled and no package's build script runs.
RUN python -m venv --without-pip /opt/venv \
    && pip --python /opt/venv/bin/python install --no-cache-dir --only-binary :all: --require-hashes \
        --requirement /tmp/requirements-worker.lock

FROM base
RUN groupadd --gid 10001 assent \
    && useradd --uid 10001 --gid assent --no-create-home --shell /usr/sbin/nologin assent
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /app
COPY assent/ assent/
COPY activities/ activities/
COPY workflows/ workflows/
COPY examples/ examples/
COPY worker.py starter.py ./
# The `assent` command for operators, as in pyproject.toml: `docker compose exec worker assent pending`.
COPY docker/assent /usr/local/bin/assent
COPY docker/healthcheck.py /opt/healthcheck.py
# The sandbox loads `workflows` for every run; without compiled files it would compile it every time.
RUN python -m compileall -q /app
USER 10001:10001
# The worker stops polling, lets what runs end, and leaves.
STOPSIGNAL SIGTERM
# Says whether the worker gets work. A server that is down makes it unhealthy too, so do not restart on it.
HEALTHCHECK --interval=30s --timeout=10s --start-period=20s --retries=3 CMD ["python", "/opt/healthcheck.py"]
ENTRYPOINT ["python", "worker.py"]
