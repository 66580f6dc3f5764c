"""Worker deployments (Temporal's worker versioning): which build of the agents a worker serves, what it waits for."""

from typing import Final

from temporalio.api.deployment.v1 import WorkerDeploymentVersion as Version
from temporalio.api.workflowservice.v1 import DescribeWorkerDeploymentRequest
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import WorkerDeploymentConfig

from assent.runtime.settings import Versioning
from assent.wire.errors import ConfigurationError

_BEHAVIORS: Final = {"auto-upgrade": VersioningBehavior.AUTO_UPGRADE, "pinned": VersioningBehavior.PINNED}


def deployment_config(
    deployment: str, build_id: str, versioning: Versioning = "auto-upgrade"
) -> WorkerDeploymentConfig | None:
    """How a worker takes part in *deployment* with the build *build_id*; None where neither is named.

    Raises:
        ConfigurationError: one of the two is named without the other, `pinned` without either, or the deployment's
            name has a character that separates it from the build.
    """
    if not deployment and not build_id:
        if versioning == "pinned":
            message = "runs are pinned to a build of a deployment: name both, with --deployment and --build-id"
            raise ConfigurationError(message)
        return None
    if not deployment or not build_id:
        named, missing = ("--deployment", "--build-id") if deployment else ("--build-id", "--deployment")
        raise ConfigurationError(f"{named} is given without {missing}: a worker serves one build of one deployment")
    if "." in deployment or ":" in deployment:
        message = f"the deployment's name {deployment!r} has a dot or a colon, which Temporal puts before the build's"
        raise ConfigurationError(message)
    return WorkerDeploymentConfig(
        version=WorkerDeploymentVersion(deployment, build_id),
        use_worker_versioning=True,
        default_versioning_behavior=_BEHAVIORS[versioning],
    )


async def promotion_hint(client: Client, version: WorkerDeploymentVersion) -> str | None:
    """What an operator has to do before runs reach this build, in one line; None where it is the current one.

    Until its deployment has a current version, runs on a versioned task queue do not start at all. Where the server
    does not tell (a worker may lack the permission), there is no advice.
    """
    name = version.deployment_name
    try:
        current = await _current(client, name)
    except RPCError:
        return None
    if current == Version(deployment_name=name, build_id=version.build_id):
        return None
    command = f"temporal worker deployment set-current-version --deployment-name {name} --build-id {version.build_id}"
    if current is None:
        return f"Deployment {name!r} has no current version: no run starts before one is set: {command}"
    return f"Deployment {name!r} sends new runs to build {current.build_id!r}; to send them to this one: {command}"


async def _current(client: Client, name: str) -> Version | None:
    request = DescribeWorkerDeploymentRequest(namespace=client.namespace, deployment_name=name)
    try:
        answer = await client.workflow_service.describe_worker_deployment(request)
    except RPCError as error:
        # The first poll of a first worker makes the deployment.
        if error.status == RPCStatusCode.NOT_FOUND:
            return None
        raise
    routing = answer.worker_deployment_info.routing_config
    return routing.current_deployment_version if routing.HasField("current_deployment_version") else None
