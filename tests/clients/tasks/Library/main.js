// What a task sees through azure-pipelines-task-lib. Any surprise fails the step.
const assert = require('assert');
const path = require('path');
const tl = require('azure-pipelines-task-lib/task');

async function run() {
    assert.strictEqual(tl.getInput('whom', true), 'the world');
    assert.strictEqual(tl.getBoolInput('loud'), true);
    assert.deepStrictEqual(tl.getDelimitedInput('list', '\n'), ['one', 'two']);
    assert.strictEqual(tl.getPathInput('file', true), path.join(tl.getVariable('Build.SourcesDirectory'), 'tasks.yml'));
    assert.throws(() => tl.getInput('missing', true), /Input required: missing/);
    assert.strictEqual(tl.getVariable('colour'), 'blue');
    assert.strictEqual(tl.getVariable('password'), 'hush');
    assert.ok(tl.getVariables().find((variable) => variable.name === 'password').secret);
    assert.strictEqual(process.env.SECRET_PASSWORD, undefined);
    assert.ok(tl.getEndpointAuthorizationParameter('SYSTEMVSSCONNECTION', 'AccessToken', false));
    assert.ok(tl.getEndpointUrl('SYSTEMVSSCONNECTION', false).startsWith('http'));
    assert.strictEqual(tl.getPlatform(), tl.Platform.Linux);
    const found = tl.findMatch(tl.getVariable('Build.SourcesDirectory'), '**/*.yml');
    assert.ok(found.some((file) => file.endsWith('tasks.yml')));
    assert.strictEqual(await tl.tool(tl.which('git', true)).arg('--version').exec(), 0);
    const child = tl.tool('env').execSync({ silent: true });
    assert.ok(!child.stdout.includes('hush') && child.stdout.includes('COLOUR=blue'));
    tl.setVariable('answer', 'forty-two', false, true);
    tl.warning('this is a warning');
    tl.setResult(tl.TaskResult.Succeeded, 'all is as it should be');
}

run().catch((error) => tl.setResult(tl.TaskResult.Failed, error.stack));
