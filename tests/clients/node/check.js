// Drives the emulator by Microsoft's Node client: pools, agents, a run from queue to log and artifact.
//
// Usage: node check.js COLLECTION_URL PAT_FILE
'use strict';

const fs = require('fs');
const api = require('azure-devops-node-api');
const { BuildStatus, BuildResult, TimelineRecordState } = require('azure-devops-node-api/interfaces/BuildInterfaces');
const { RunState, RunResult } = require('azure-devops-node-api/interfaces/PipelinesInterfaces');
const { TaskAgentStatus } = require('azure-devops-node-api/interfaces/TaskAgentInterfaces');

const PROJECT = 'dayfly';
const PIPELINE = 'clients';
const WAIT_MILLISECONDS = 120_000;

function check(condition, what) {
  if (!condition) {
    throw new Error(`node client: ${what}`);
  }
}

async function waitFor(what, get, isDone) {
  const deadline = Date.now() + WAIT_MILLISECONDS;
  for (;;) {
    const value = await get();
    if (isDone(value)) {
      return value;
    }
    check(Date.now() < deadline, `${what} took longer than ${WAIT_MILLISECONDS} ms`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

async function read(stream) {
  const parts = [];
  for await (const part of stream) {
    parts.push(Buffer.from(part));
  }
  return Buffer.concat(parts);
}

async function checkPools(connection) {
  const agents = await connection.getTaskAgentApi();
  const pools = await agents.getAgentPools('Default');
  check(pools.length === 1 && pools[0].name === 'Default', `pools are ${JSON.stringify(pools)}`);
  const listed = await agents.getAgents(pools[0].id, undefined, true);
  check(listed.length > 0, 'the pool has no agents');
  check(listed.every((agent) => agent.status === TaskAgentStatus.Online), 'an agent is offline');
  check('Agent.Version' in listed[0].systemCapabilities, 'the agent has no capabilities');
  check((await agents.getAgent(pools[0].id, listed[0].id)).name === listed[0].name, 'one agent differs');
  const queues = await agents.getAgentQueues(PROJECT);
  check(queues.some((queue) => queue.name === 'Default'), 'the project has no queue');
}

async function checkBuild(connection) {
  const builds = await connection.getBuildApi();
  const definitions = await builds.getDefinitions(PROJECT, PIPELINE);
  check(definitions.length === 1, `definitions are ${JSON.stringify(definitions)}`);
  const queued = await builds.queueBuild({ definition: { id: definitions[0].id } }, PROJECT);
  const get = () => builds.getBuild(PROJECT, queued.id);
  const build = await waitFor('the build', get, (build) => build.status === BuildStatus.Completed);
  check(build.result === BuildResult.Succeeded, `the build is ${build.result}`);
  check(build.finishTime > build.startTime && build.startTime >= build.queueTime, 'times are not in order');

  const timeline = await builds.getBuildTimeline(PROJECT, build.id);
  check(timeline.records.every((record) => record.state === TimelineRecordState.Completed), 'a record is open');
  const says = timeline.records.find((record) => record.name === 'Say hello');
  const lines = await builds.getBuildLogLines(PROJECT, build.id, says.log.id);
  check(lines.some((line) => line.includes("hello from the clients' pipeline")), `the log is ${lines}`);
  const text = (await read(await builds.getBuildLog(PROJECT, build.id, says.log.id))).toString();
  check(text.includes("hello from the clients' pipeline"), `the log as text is ${text}`);
  const logs = await builds.getBuildLogs(PROJECT, build.id);
  check(logs.some((log) => log.id === says.log.id), 'the log is not listed');

  const artifacts = await builds.getArtifacts(PROJECT, build.id);
  check(artifacts.length === 1 && artifacts[0].name === 'drop', `artifacts are ${JSON.stringify(artifacts)}`);
  const packed = await read(await builds.getArtifactContentZip(PROJECT, build.id, 'drop'));
  check(packed.subarray(0, 2).toString() === 'PK' && packed.includes('drop/made.txt'), 'the artifact is no zip of drop');
}

async function checkCancel(connection) {
  const builds = await connection.getBuildApi();
  const [definition] = await builds.getDefinitions(PROJECT, 'slow');
  const queued = await builds.queueBuild({ definition: { id: definition.id } }, PROJECT);
  await builds.updateBuild({ status: BuildStatus.Cancelling }, PROJECT, queued.id);
  const get = () => builds.getBuild(PROJECT, queued.id);
  const build = await waitFor('the cancellation', get, (build) => build.status === BuildStatus.Completed);
  check(build.result === BuildResult.Canceled, `the cancelled build is ${build.result}`);
}

async function checkPipelines(connection) {
  const pipelines = await connection.getPipelinesApi();
  const pipeline = (await pipelines.listPipelines(PROJECT)).find((pipeline) => pipeline.name === PIPELINE);
  check(pipeline, 'the pipeline is not listed');
  const started = await pipelines.runPipeline({ templateParameters: { who: 'node' } }, PROJECT, pipeline.id);
  const get = () => pipelines.getRun(PROJECT, pipeline.id, started.id);
  const run = await waitFor('the run', get, (run) => run.state === RunState.Completed);
  check(run.result === RunResult.Succeeded, `the run is ${run.result}`);
  const runs = await pipelines.listRuns(PROJECT, pipeline.id);
  check(runs.some((other) => other.id === run.id), 'the run is not listed');
  const logs = await pipelines.listLogs(PROJECT, pipeline.id, run.id);
  check(logs.logs.length > 0, 'the run has no logs');
}

async function checkWrongToken(url) {
  const connection = new api.WebApi(url, api.getPersonalAccessTokenHandler('wrong'));
  try {
    await (await connection.getTaskAgentApi()).getAgentPools();
  } catch (error) {
    check(error.statusCode === 401, `a wrong token gives ${error}`);
    return;
  }
  throw new Error('node client: a wrong token was accepted');
}

async function main() {
  const [url, patFile] = process.argv.slice(2);
  const pat = fs.readFileSync(patFile, 'utf8').trim();
  await checkWrongToken(url);
  const connection = new api.WebApi(url, api.getPersonalAccessTokenHandler(pat));
  await checkPools(connection);
  await checkBuild(connection);
  await checkCancel(connection);
  await checkPipelines(connection);
  console.log('node client: pools, agents, builds, logs, artifacts, cancellation and pipelines work');
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
