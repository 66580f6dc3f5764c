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
# The `assent` command for operators, as in pyproject.toml: `docker compose exec worker assent pending`.
# `worker-healthy` asks the server whether this container polls the task queue. It leaves by os._exit because a
# process that has used a Temporal client can abort at its normal exit.
RUN printf '%s\n' \
        '#!/opt/venv/bin/python' \
        'import sys' \
        'from assent.cli import main' \
        'sys.exit(main())' \
        > /opt/venv/bin/assent \
    && printf '%s\n' \
        '#!/opt/venv/bin/python' \
        'import asyncio, os, socket, time' \
        'from temporalio.api.enums.v1 import TaskQueueType' \
        'from temporalio.api.taskqueue.v1 import TaskQueue' \
        'from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest' \
        'from temporalio.client import Client' \
        'from temporalio.envconfig import ClientConfig' \
        'async def polls():' \
        '    client = await Client.connect(**ClientConfig.load_client_connect_config())' \
        '    queue = TaskQueue(name=os.environ.get("ASSENT_TASK_QUEUE", "agents"))' \
        '    kind = TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW' \
        '    request = DescribeTaskQueueRequest(namespace=client.namespace, task_queue=queue, task_queue_type=kind)' \
        '    pollers = (await client.workflow_service.describe_task_queue(request)).pollers' \
        '    recent = [p.identity for p in pollers if time.time() - p.last_access_time.ToSeconds() < 150]' \
        '    return any(identity.endswith("@" + socket.gethostname()) for identity in recent)' \
        'os._exit(0 if asyncio.run(polls()) else 1)' \
        > /opt/venv/bin/worker-healthy \
    && chmod 755 /opt/venv/bin/assent /opt/venv/bin/worker-healthy
WORKDIR /app
COPY assent/ assent/
COPY activities/ activities/
COPY workflows/ workflows/
COPY examples/ examples/
COPY worker.py starter.py ./
USER 10001:10001
# The worker stops polling, lets what runs end, and leaves.
STOPSIGNAL SIGTERM
# Says whether the worker gets work. A server that is down makes it unhealthy too, so do not restart on it.
HEALTHCHECK --interval=30s --timeout=10s --start-period=20s --retries=3 CMD ["worker-healthy"]
ENTRYPOINT ["python", "worker.py"]
