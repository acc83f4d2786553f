//! What runs and what is skipped, as the reader of a run sees it: reports of the public and examples of
//! Microsoft's pages.

use std::io::BufRead as _;

use crate::project::Project;

/// A pipeline, what each job (or stage) of it says in the end, and where that is from.
struct Case {
    source: &'static str,
    pipeline: &'static str,
    code: i32,
    /// `name result`, of the table at the end of a run.
    rows: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case {
        source: "azure-devops-docs, process/conditions.md: 'not only to direct dependencies'; a failed stage further up",
        pipeline: "
stages:
- {stage: A, jobs: [{job: j, steps: [{checkout: none}, {bash: exit 1}]}]}
- {stage: B, condition: always(), jobs: [{job: j, steps: [{checkout: none}, {bash: exit 0}]}]}
- {stage: Deploy, dependsOn: B, jobs: [{job: j, steps: [{checkout: none}, {bash: echo deployed}]}]}
- {stage: Rollback, dependsOn: B, condition: failed(), jobs: [{job: undo, steps: [{checkout: none}, {bash: exit 0}]}]}
- {stage: Named, dependsOn: B, condition: succeeded('B'), jobs: [{job: k, steps: [{checkout: none}, {bash: exit 0}]}]}
",
        code: 1,
        rows: &["A failed", "B succeeded", "Deploy skipped", "undo succeeded", "k succeeded"],
    },
    Case {
        source: "MicrosoftDocs/azure-docs issue 95768: a skipped stage further up",
        pipeline: "
stages:
- {stage: one, jobs: [{job: j, steps: [{checkout: none}]}]}
- {stage: twoA, dependsOn: [one], condition: False, jobs: [{job: j, steps: [{checkout: none}]}]}
- {stage: twoB, dependsOn: [one], condition: True, jobs: [{job: j, steps: [{checkout: none}]}]}
- {stage: three, dependsOn: [one, twoA, twoB], condition: True, jobs: [{job: j, steps: [{checkout: none}]}]}
- {stage: four, dependsOn: [one, three], jobs: [{job: j, steps: [{checkout: none}]}]}
- {stage: five, dependsOn: [one, three], condition: \"and(succeeded('one'), succeeded('three'))\", jobs: [{job: j, steps: [{checkout: none}]}]}
",
        code: 0,
        rows: &["one succeeded", "twoA skipped", "twoB succeeded", "three succeeded", "four skipped", "five succeeded"],
    },
    Case {
        source: "twyzer.ubo-dev.nl, 'Skipped jobs in Azure DevOps Pipeline': the same for jobs",
        pipeline: "
jobs:
- {job: JobA, steps: [{checkout: none}]}
- {job: JobB, condition: false, dependsOn: JobA, steps: [{checkout: none}]}
- {job: JobC, condition: true, dependsOn: JobB, steps: [{checkout: none}]}
- {job: JobD, dependsOn: JobC, steps: [{checkout: none}]}
- {job: JobE, dependsOn: JobC, condition: succeeded('JobC'), steps: [{checkout: none}]}
",
        code: 0,
        rows: &["JobA succeeded", "JobB skipped", "JobC succeeded", "JobD skipped", "JobE succeeded"],
    },
    Case {
        source: "MicrosoftDocs/azure-devops-docs issue 12846: succeededOrFailed() of a stage when all before it were skipped",
        pipeline: "
stages:
- {stage: first, condition: false, jobs: [{job: j, steps: [{checkout: none}]}]}
- {stage: second, condition: succeededOrFailed(), jobs: [{job: j, steps: [{checkout: none}]}]}
- {stage: own, dependsOn: [], jobs: [{job: a, condition: false, steps: [{checkout: none}]}, {job: b, dependsOn: a, condition: succeededOrFailed(), steps: [{checkout: none}]}]}
",
        code: 0,
        rows: &["first skipped", "second skipped", "a skipped", "b succeeded"],
    },
    Case {
        source: "MicrosoftDocs/azure-devops-docs issues 8366, 9050; microsoft/azure-pipelines-tasks issue 4743: each place has its own form",
        pipeline: "
stages:
- stage: A
  jobs:
  - job: A1
    steps:
    - checkout: none
    - {bash: 'echo \"##vso[task.setvariable variable=go;isOutput=true]yes\"', name: say}
- stage: B
  condition: eq(stageDependencies.A.outputs['A1.say.go'], 'yes')
  variables: {jobsOnly: \"$[ dependencies.A.outputs['A1.say.go'] ]\", go: \"$[ stageDependencies.A.A1.outputs['say.go'] ]\"}
  jobs:
  - {job: right, condition: \"and(eq(stageDependencies.A.A1.outputs['say.go'], 'yes'), eq(variables.go, 'yes'), eq(variables.jobsOnly, ''))\", steps: [{checkout: none}]}
  - {job: wrong, condition: \"eq(stageDependencies.A.outputs['A1.say.go'], 'yes')\", steps: [{checkout: none}]}
  - {job: worse, condition: \"eq(dependencies.A.outputs['A1.say.go'], 'yes')\", steps: [{checkout: none}]}
- stage: C
  dependsOn: A
  condition: eq(stageDependencies.A.A1.outputs['say.go'], 'yes')
  jobs: [{job: never, steps: [{checkout: none}]}]
",
        code: 0,
        rows: &["A1 succeeded", "right succeeded", "wrong skipped", "worse skipped", "C skipped"],
    },
    Case {
        source: "azure-devops-docs, process/phases.md: a matrix that survives `echo`; issue 5259: one without legs",
        pipeline: "
variables: {legs: \"{'arm': {'cpu': 'pi'}, 'x64': {'cpu': 'pc'},}\"}
jobs:
- {job: written, strategy: {matrix: '$[ variables.legs ]'}, steps: [{checkout: none}, {bash: 'test -n \"$(cpu)\"'}]}
- job: choose
  steps:
  - checkout: none
  - bash: |
      echo \"##vso[task.setvariable variable=some;isOutput=true]{'a':{'image':'pi'}, b: {image: 3.10}}\"
      echo \"##vso[task.setvariable variable=none;isOutput=true]{}\"
    name: out
- {job: some, dependsOn: choose, strategy: {matrix: \"$[ dependencies.choose.outputs['out.some'] ]\"}, steps: [{checkout: none}, {bash: 'test $(image) = pi || test $(image) = 3.10'}]}
- {job: none, dependsOn: choose, strategy: {matrix: \"$[ dependencies.choose.outputs['out.none'] ]\"}, steps: [{checkout: none}, {bash: exit 1}]}
",
        code: 0,
        rows: &["written arm succeeded", "written x64 succeeded", "some a succeeded", "some b succeeded", "none skipped"],
    },
    Case {
        source: "azure-pipelines-vscode, service-schema.json: only `deployment` is required (nhsuk/dct.crc.cms has such gates)",
        pipeline: "
jobs:
- {deployment: gate, environment: production}
- {job: after, dependsOn: gate, steps: [{checkout: none}]}
",
        code: 0,
        rows: &["gate succeeded", "after succeeded"],
    },
    Case {
        source: "azure-devops-docs, process/deployment-jobs.md: `continueOnError` is for later jobs, not for the hooks",
        pipeline: "
jobs:
- deployment: d
  continueOnError: true
  environment: e
  strategy:
    runOnce:
      deploy: {steps: [{bash: exit 1}]}
      routeTraffic: {steps: [{bash: exit 0}]}
      on: {failure: {steps: [{bash: echo undone}]}, success: {steps: [{bash: exit 0}]}}
- {job: after, dependsOn: d, condition: \"eq(dependencies.d.result, 'SucceededWithIssues')\", steps: [{checkout: none}]}
",
        code: 0,
        rows: &["d routeTraffic skipped", "d on failure succeeded", "d on success skipped", "after succeeded"],
    },
];

#[test]
fn what_runs_is_what_the_service_runs() {
    for Case { source, pipeline, code, rows } in CASES {
        let ended = Project::with_pipeline(pipeline).run(&[], *code);
        // The table at the end: stage (if there are some), job, mark, result, time.
        let table = ended.stdout.lines().skip_while(|line| !line.ends_with("Time")).map(|line| {
            let words = line.split_whitespace().filter(|word| !matches!(*word, "✓" | "✗" | "-" | "!"));
            format!(" {} ", words.collect::<Vec<_>>().join(" "))
        });
        let table: Vec<String> = table.collect();
        for row in *rows {
            let (name, result) = row.rsplit_once(' ').unwrap();
            let has = |line: &String| [name, result].iter().all(|word| line.contains(&format!(" {word} ")));
            assert!(table.iter().any(has), "no `{row}` ({source}) in\n{}", ended.stdout);
        }
    }
}

#[test]
fn a_stage_that_begins_after_an_interrupt_runs_its_jobs() {
    // azure-devops-docs, process/conditions.md, "Stage example 1": the job has no condition of its own.
    let project = Project::with_pipeline(
        "
stages:
- {stage: stage1, jobs: [{job: A, steps: [{checkout: none}, {bash: 'echo started; exec sleep 300'}]}]}
- stage: stage2
  condition: eq(variables['Build.SourceBranch'], variables['Build.SourceBranch'])
  jobs: [{job: B, steps: [{checkout: none}, {bash: echo tidied up}]}]
- {stage: stage3, dependsOn: stage1, jobs: [{job: C, condition: always(), steps: [{checkout: none}, {bash: echo never}]}]}
",
    );
    let mut child = project.command(&["run"]).spawn().unwrap();
    let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("started")));
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("tidied up")), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("stage3 skipped")), "{rest:?}");
    assert!(!rest.iter().any(|line| line.contains("never")), "{rest:?}");
}

#[test]
fn a_matrix_that_cannot_be_read_says_where() {
    let project = Project::with_pipeline(
        "
variables: {legs: \"{a: {x: y}}\"}
jobs: [{job: m, strategy: {matrix: '$[ variables.legs ]'}, steps: [{checkout: none}]}]
",
    );
    let ended = project.run(&[], 1);
    let reason = "the matrix is not valid JSON: an unexpected character where the value of `x` has to follow (text needs quotes) at character 9";
    assert!(ended.stdout.contains(reason), "{}", ended.stdout);
}

#[test]
fn a_condition_that_reads_its_own_runtime_variable_is_warned_of() {
    let project = Project::with_pipeline(
        "
jobs:
- job: A
  variables: {isMain: \"$[ eq(1, 1) ]\"}
  condition: eq(variables['ismain'], 'True')
  steps: [{checkout: none}]
",
    );
    let ended = project.run(&[], 0);
    assert!(
        ended.stderr.contains("the condition reads `isMain` before its `$[ ]` is evaluated"),
        "{}",
        ended.stderr
    );
    assert!(ended.stdout.contains("- A skipped"), "{}", ended.stdout);
}
