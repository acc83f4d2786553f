"""Drives the emulator by Microsoft's Python client: pools, agents, a run from queue to log and artifact.

Usage: check.py COLLECTION_URL PAT_FILE
"""

import base64
import io
import sys
import time
import zipfile

from azure.devops.connection import Connection
from azure.devops.exceptions import AzureDevOpsServiceError
from azure.devops.v7_1.build.models import Build
from azure.devops.v7_1.task_agent.models import (
    TaskAgent,
    TaskAgentAuthorization,
    TaskAgentPool,
    TaskAgentPublicKey,
)
from msrest.authentication import BasicAuthentication

PROJECT = "dayfly"
PIPELINE = "clients"
WAIT_SECONDS = 120


def check(condition, what):
    if not condition:
        sys.exit(f"python client: {what}")


def wait_for_build(builds, build_id):
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        build = builds.get_build(PROJECT, build_id)
        if build.status == "completed":
            return build
        time.sleep(0.2)
    sys.exit(f"python client: build {build_id} is still {build.status} after {WAIT_SECONDS} s")


def check_pools(connection):
    agents = connection.clients_v7_1.get_task_agent_client()
    pools = agents.get_agent_pools(pool_name="Default")
    check([pool.name for pool in pools] == ["Default"], f"pools are {pools}")
    listed = agents.get_agents(pools[0].id, include_capabilities=True, include_assigned_request=True)
    check(listed, "the pool has no agents")
    check(all(agent.status == "online" and agent.enabled for agent in listed), f"agents are {listed}")
    check("Agent.Version" in listed[0].system_capabilities, "the agent has no capabilities")
    same = agents.get_agent(pools[0].id, listed[0].id)
    check(same.name == listed[0].name, "one agent differs from the listed one")
    queues = agents.get_agent_queues(PROJECT)
    check("Default" in [queue.name for queue in queues], f"queues are {queues}")
    try:
        agents.get_agent(pools[0].id, 999999)
        sys.exit("python client: an agent that does not exist was found")
    except AzureDevOpsServiceError as error:
        check(error.type_key == "TaskAgentNotFoundException", f"type key is {error.type_key}")


def check_registration(connection):
    agents = connection.clients_v7_1.get_task_agent_client()
    pool = agents.add_agent_pool(TaskAgentPool(name="Registration"))
    check(agents.update_agent_pool(TaskAgentPool(auto_update=False), pool.id).auto_update is False, "autoUpdate stays")
    # Any key will do: nobody logs in by it.
    modulus = base64.b64encode(b"\xc5" * 256).decode()
    key = TaskAgentAuthorization(public_key=TaskAgentPublicKey(exponent="AQAB", modulus=modulus))

    def describe(version):
        capabilities = {"Agent.Version": version, "answer": "42"}
        return TaskAgent(name="placeholder", version=version, authorization=key, system_capabilities=capabilities)

    made = agents.add_agent(describe("4.1.0"), pool.id)
    check(made.authorization.client_id and made.authorization.authorization_url, f"the agent is {made}")
    check(made.status == "offline" and made.enabled, f"the new agent is {made.status}")
    try:
        agents.add_agent(describe("4.1.0"), pool.id)
        sys.exit("python client: an agent was registered twice")
    except AzureDevOpsServiceError as error:
        check(error.type_key == "TaskAgentExistsException", f"type key is {error.type_key}")
    replaced = agents.replace_agent(describe("4.2.0"), pool.id, made.id)
    check((replaced.id, replaced.version) == (made.id, "4.2.0"), f"the replaced agent is {replaced}")
    changed = agents.update_agent(TaskAgent(id=made.id, enabled=False), pool.id, made.id)
    check(changed.enabled is False and changed.version == "4.2.0", f"the changed agent is {changed}")
    found = agents.get_agents(pool.id, agent_name="placeholder", demands=["answer -equals 42"])
    check([agent.id for agent in found] == [made.id], f"agents with the capability are {found}")
    agents.delete_agent(pool.id, made.id)
    check(not agents.get_agents(pool.id), "the agent is not deleted")
    agents.delete_agent_pool(pool.id)


def check_locations(connection, url):
    areas = connection.clients_v7_1.get_location_client().get_resource_areas()
    check(areas and all(area.location_url.rstrip("/") == url for area in areas), f"areas are {areas}")


def check_repositories(connection):
    git = connection.clients_v7_1.get_git_client()
    repositories = git.get_repositories(PROJECT)
    check([repository.name for repository in repositories] == ["repository"], f"repositories are {repositories}")
    check(git.get_repository(repositories[0].id, PROJECT).remote_url, "the repository has no address")


def check_projects(connection):
    projects = connection.clients_v7_1.get_core_client().get_projects()
    projects = getattr(projects, "value", projects)
    check(PROJECT in [project.name for project in projects], f"projects are {projects}")


def check_build(connection):
    builds = connection.clients_v7_1.get_build_client()
    definitions = builds.get_definitions(PROJECT, name=PIPELINE)
    definitions = getattr(definitions, "value", definitions)
    check(len(definitions) == 1, f"definitions are {definitions}")
    queued = builds.queue_build(Build(definition={"id": definitions[0].id}), PROJECT)
    check(queued.status in ("notStarted", "inProgress"), f"the queued build is {queued.status}")
    check(queued.build_number and queued.queue_time, "the build has no number or time")
    build = wait_for_build(builds, queued.id)
    check(build.result == "succeeded", f"the build is {build.result}")
    check(build.finish_time > build.start_time >= build.queue_time, "the build's times are not in order")

    timeline = builds.get_build_timeline(PROJECT, build.id)
    kinds = {record.type for record in timeline.records}
    check({"Stage", "Phase", "Job", "Task"} <= kinds, f"the timeline has {kinds}")
    check(all(record.state == "completed" for record in timeline.records), "a record is not completed")
    jobs = {record.id for record in timeline.records if record.type == "Job"}
    tasks = [record for record in timeline.records if record.type == "Task"]
    check(all(task.parent_id in jobs for task in tasks), "a task has no job above it")

    says = next(record for record in tasks if record.name == "Say hello")
    lines = builds.get_build_log_lines(PROJECT, build.id, says.log.id)
    check(any("hello from the clients' pipeline" in line for line in lines), f"the log is {lines}")
    text = b"".join(builds.get_build_log(PROJECT, build.id, says.log.id)).decode("utf-8")
    check("hello from the clients' pipeline" in text, f"the log as text is {text!r}")
    first = builds.get_build_log_lines(PROJECT, build.id, says.log.id, start_line=1, end_line=1)
    check(len(first) == 1, f"one line of the log is {first}")
    logs = builds.get_build_logs(PROJECT, build.id)
    check(says.log.id in [log.id for log in logs], "the log is not listed")

    builds.add_build_tag(PROJECT, build.id, "checked")
    check("checked" in builds.get_build_tags(PROJECT, build.id), "the tag is not kept")
    listed = builds.get_builds(PROJECT, definitions=[definitions[0].id], status_filter="completed")
    listed = getattr(listed, "value", listed)
    check(build.id in [other.id for other in listed], "the build is not listed")

    artifacts = builds.get_artifacts(PROJECT, build.id)
    check([artifact.name for artifact in artifacts] == ["drop"], f"artifacts are {artifacts}")
    packed = b"".join(builds.get_artifact_content_zip(PROJECT, build.id, "drop"))
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        names = archive.namelist()
        check(names == ["drop/made.txt"], f"the artifact holds {names}")
        check(archive.read("drop/made.txt") == b"made\n", "the artifact's file differs")


def check_cancel(connection):
    builds = connection.clients_v7_1.get_build_client()
    definitions = builds.get_definitions(PROJECT, name="slow")
    definitions = getattr(definitions, "value", definitions)
    queued = builds.queue_build(Build(definition={"id": definitions[0].id}), PROJECT)
    builds.update_build(Build(status="cancelling"), PROJECT, queued.id)
    build = wait_for_build(builds, queued.id)
    check(build.result == "canceled", f"the cancelled build is {build.result}")


def check_pipelines(connection):
    pipelines = connection.clients_v7_1.get_pipelines_client()
    listed = pipelines.list_pipelines(PROJECT)
    listed = getattr(listed, "value", listed)
    pipeline = next(pipeline for pipeline in listed if pipeline.name == PIPELINE)
    run = pipelines.run_pipeline({"templateParameters": {"who": "python"}}, PROJECT, pipeline.id)
    deadline = time.monotonic() + WAIT_SECONDS
    while run.state != "completed":
        check(time.monotonic() < deadline, f"run {run.id} is still {run.state}")
        time.sleep(0.2)
        run = pipelines.get_run(PROJECT, pipeline.id, run.id)
    check(run.result == "succeeded", f"the run is {run.result}")
    check(run.id in [other.id for other in pipelines.list_runs(PROJECT, pipeline.id)], "the run is not listed")
    logs = pipelines.list_logs(PROJECT, pipeline.id, run.id)
    check(logs.logs, "the run has no logs")
    builds = connection.clients_v7_1.get_build_client()
    timeline = builds.get_build_timeline(PROJECT, run.id)
    says = next(record for record in timeline.records if record.name == "Say hello")
    lines = builds.get_build_log_lines(PROJECT, run.id, says.log.id)
    check(any("greetings to python" in line for line in lines), f"the parameter is not used: {lines}")


def check_wrong_token(url):
    connection = Connection(base_url=url, creds=BasicAuthentication("", "wrong"))
    try:
        connection.clients_v7_1.get_task_agent_client().get_agent_pools()
    except AzureDevOpsServiceError as error:
        check(error.type_key == "UnauthorizedRequestException", f"a wrong token gives {error.type_key}: {error}")
    else:
        sys.exit("python client: a wrong token was accepted")


def main():
    url, pat_file = sys.argv[1:]
    with open(pat_file, encoding="utf-8") as file:
        pat = file.read().strip()
    check_wrong_token(url)
    connection = Connection(base_url=url, creds=BasicAuthentication("", pat))
    check_locations(connection, url)
    check_pools(connection)
    check_registration(connection)
    check_projects(connection)
    check_build(connection)
    check_repositories(connection)
    check_cancel(connection)
    check_pipelines(connection)
    print("python client: pools, agents, repositories, builds, logs, artifacts, cancellation and pipelines work")


if __name__ == "__main__":
    main()
