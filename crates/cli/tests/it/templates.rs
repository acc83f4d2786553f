//! Templates and their parameters, as a run sees them.

use crate::project::Project;

#[test]
fn calls_in_handed_stages_run() {
    let project = Project::with_pipeline(
        "extends:\n  template: ci/guard.yml\n  parameters:\n    given:\n    - stage: a\n      jobs:\n      - template: jobs.yml\n",
    );
    project.write(
        "ci/guard.yml",
        "parameters:\n- {name: given, type: stageList, default: []}\nstages:\n- ${{ parameters.given }}\n",
    );
    project.write("ci/jobs.yml", "jobs:\n- job: j\n  steps:\n  - template: steps.yml\n");
    project.write("ci/steps.yml", "steps:\n- checkout: none\n- bash: echo from a template\n");
    let ended = project.run(&[], 0);
    assert!(ended.stdout.contains("from a template"), "{}", ended.stdout);
}

#[test]
fn a_guard_sees_scripts_as_tasks() {
    let project = Project::with_pipeline(
        "extends:\n  template: guard.yml\n  parameters:\n    work: [{script: echo let through}, {checkout: none}]\n",
    );
    project.write(
        "guard.yml",
        "parameters: [{name: work, type: stepList}]\nsteps:\n- ${{ each one in parameters.work }}:\n  \
         - ${{ if eq(one.task, 'CmdLine@2') }}:\n    - bash: echo refused\n  - ${{ else }}:\n    - ${{ one }}\n",
    );
    let ended = project.run(&[], 0);
    assert!(ended.stdout.contains("refused") && !ended.stdout.contains("let through"), "{}", ended.stdout);
}

#[test]
fn a_misspelt_parameter_ends_the_run_before_it_begins() {
    let project = Project::with_pipeline("steps:\n- bash: echo \"[${{ parameters.confg }}]\"\n");
    let ended = project.run(&[], 2);
    assert!(ended.stderr.contains("there is no parameter `confg`"), "{}", ended.stderr);
    let project = Project::with_pipeline("parameters: [{name: config, type: string}]\nsteps: [{bash: x}]\n");
    let ended = project.run(&[], 2);
    assert!(ended.stderr.contains("pass one with `-p config=VALUE`"), "{}", ended.stderr);
}

#[test]
fn mistakes_in_templates_say_where_they_came_from() {
    let project = Project::with_pipeline("steps:\n- template: ci/steps.yml\n");
    project.write("ci/steps.yml", "steps:\n- scrpt: x\n");
    let ended = project.run(&[], 2);
    for wanted in ["ci/steps.yml:2:3", "did you mean `script`?", "included from azure-pipelines.yml:2:13"] {
        assert!(ended.stderr.contains(wanted), "no `{wanted}` in {}", ended.stderr);
    }
}

#[test]
fn a_task_of_an_extension_fails_alone_whatever_it_resembles() {
    let project = Project::with_pipeline(
        "steps:\n- checkout: none\n- bash: echo built\n- task: S3Upload@1\n  condition: false\n- task: CopyFiles@1\n  condition: false\n",
    );
    let ended = project.run(&[], 0);
    assert!(ended.stdout.contains("built"), "{}", ended.stdout);
    for wanted in ["S3Upload@1", "CopyFiles@1"] {
        assert!(ended.stderr.contains(wanted), "no warning of {wanted} in {}", ended.stderr);
    }
}

#[test]
fn phases_and_queues_run() {
    let project = Project::with_pipeline(
        "phases:\n- phase: old\n  queue: {name: Hosted, timeoutInMinutes: 5}\n  steps:\n  - checkout: none\n  - script: echo in a phase\n",
    );
    let ended = project.run(&[], 0);
    assert!(ended.stdout.contains("in a phase"), "{}", ended.stdout);
}

#[test]
fn checkout_options_of_the_resource_set_the_checkout() {
    let project = Project::with_pipeline(
        "resources: {repositories: [{repository: self, checkoutOptions: {fetchDepth: 1}}]}\nsteps:\n\
         - bash: git rev-list --count HEAD > count; echo \"commits=$(cat count)\"\n",
    );
    project.git(&["init", "-q"]);
    for name in ["a", "b"] {
        project.write(name, name);
        project.git(&["add", "-A"]);
        project.git(&["commit", "-q", "-m", name]);
    }
    let ended = project.run(&[], 0);
    assert!(ended.stdout.contains("commits=1\n"), "{}", ended.stdout);
}

#[test]
fn what_fails_before_the_first_job_is_told_of_the_pipeline() {
    let project = Project::with_pipeline("variables: {v: '$[ variables.* ]'}\nsteps: [{bash: x}]\n");
    let ended = project.run(&[], 1);
    let told = format!("{}{}", ended.stdout, ended.stderr);
    assert!(told.contains("error: pipeline: the variable `v`") && !told.contains("__default"), "{told}");
}
