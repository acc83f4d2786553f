//! Pipelines of the shapes that public repositories have: they compile, and mean what they should.

use crate::compile::outline;

#[test]
fn the_starter_pipeline() {
    let text = r"
# Starter pipeline
trigger:
- master

pool:
  vmImage: ubuntu-latest

steps:
- script: echo Hello, world!
  displayName: 'Run a one-line script'

- script: |
    echo Add other tasks to build, test, and deploy your project.
    echo See https://aka.ms/yaml
  displayName: 'Run a multi-line script'
";
    insta::assert_snapshot!(outline(text), @r#"
stage __default
  job Job
    Checkout Checkout@1.0.0 repository="self"
    CmdLine1 "Run a one-line script" CmdLine@2.279.1 script="echo Hello, world!"
    CmdLine2 "Run a multi-line script" CmdLine@2.279.1 script="echo Add other tasks to build, test, and deploy your project.\necho See https://aka.ms/yaml\n"
"#);
}

#[test]
fn a_library_on_three_systems() {
    let text = r###"
trigger:
  branches:
    include: ["master", "release/*"]
  tags:
    include: ["v*"]
pr: ["master"]
jobs:
  - job: test
    displayName: Test
    strategy:
      matrix:
        linux-stable: {vmImage: ubuntu-latest, toolchain: stable}
        linux 1.70:
          vmImage: ubuntu-latest
          toolchain: "1.70"
        windows:
          vmImage: windows-latest
          toolchain: stable
    pool: { vmImage: $(vmImage) }
    steps:
      - bash: |
          set -e
          curl https://sh.rustup.rs -sSf | sh -s -- -y --default-toolchain $(toolchain)
          echo "##vso[task.prependpath]$HOME/.cargo/bin"
        condition: ne(variables['Agent.OS'], 'Windows_NT')
        displayName: Install
      - powershell: rustup default $(toolchain)
        condition: eq( variables['Agent.OS'], 'Windows_NT' )
      - script: cargo test --all
        env: { RUST_BACKTRACE: 1, CI: "True" }
  - job: fmt
    pool: { vmImage: ubuntu-latest }
    steps:
      - script: cargo fmt --all -- --check
        continueOnError: true
"###;
    insta::assert_snapshot!(outline(text), @r###"
stage __default
  job test
    Checkout Checkout@1.0.0 repository="self"
    Bash "Install" Bash@3.278.0 script="set -e\ncurl https://sh.rustup.rs -sSf | sh -s -- -y --default-toolchain $(toolchain)\necho \"##vso[task.prependpath]$HOME/.cargo/bin\"\n" targetType="inline"
    PowerShell PowerShell@2.279.0 script="rustup default $(toolchain)" targetType="inline"
    CmdLine CmdLine@2.279.1 script="cargo test --all"
  job fmt
    Checkout Checkout@1.0.0 repository="self"
    CmdLine CmdLine@2.279.1 script="cargo fmt --all -- --check"
"###);
}

#[test]
fn python_versions_with_results() {
    let text = r#"
variables:
  PYTHONUNBUFFERED: '1'
  ${{ if startsWith(variables['Build.SourceBranch'], 'refs/tags/') }}:
    publish: 'yes'
strategy:
  matrix:
    'Python 3.9':
      python.version: '3.9'
    'Python 3.12':
      python.version: 3.12
  maxParallel: 4
steps:
- task: UsePythonVersion@0
  inputs:
    versionSpec: '$(python.version)'
  displayName: 'Use Python $(python.version)'
- script: |
    python -m pip install --upgrade pip
    pip install -r requirements.txt
- script: pytest --junitxml=junit/test-results.xml
- task: PublishTestResults@2
  condition: succeededOrFailed()
  inputs:
    testResultsFiles: '**/test-*.xml'
    testRunTitle: Python $(python.version)
"#;
    insta::assert_snapshot!(outline(text), @r#"
PYTHONUNBUFFERED=1
stage __default
  job Job
    Checkout Checkout@1.0.0 repository="self"
    UsePythonVersion "Use Python $(python.version)" UsePythonVersion@0.276.0 versionSpec="$(python.version)"
    CmdLine1 CmdLine@2.279.1 script="python -m pip install --upgrade pip\npip install -r requirements.txt\n"
    CmdLine2 CmdLine@2.279.1 script="pytest --junitxml=junit/test-results.xml"
    PublishTestResults PublishTestResults@2.277.0 testResultsFiles="**/test-*.xml" testRunTitle="Python $(python.version)"
"#);
}

#[test]
fn build_then_deploy_through_environments() {
    let text = r"
name: $(Year:yyyy).$(Month).$(DayOfMonth)$(Rev:.r)
trigger: none
parameters:
- name: environments
  type: object
  default: [dev, test, prod]
- name: skipTests
  displayName: Skip the tests
  type: boolean
  default: false
variables:
- group: shared
- name: isMain
  value: $[eq(variables['Build.SourceBranch'], 'refs/heads/main')]
stages:
- stage: Build
  jobs:
  - job: Build
    timeoutInMinutes: 30
    steps:
    - checkout: self
      clean: true
      fetchDepth: 0
    - script: make
    - ${{ if not(parameters.skipTests) }}:
      - script: make test
    - publish: $(Build.ArtifactStagingDirectory)
      artifact: drop
- ${{ each environment in parameters.environments }}:
  - stage: Deploy_${{ environment }}
    displayName: 'Deploy to ${{ upper(environment) }}'
    ${{ if eq(environment, 'dev') }}:
      dependsOn: Build
    condition: and(succeeded(), eq(variables.isMain, true))
    variables:
    - name: target
      value: ${{ environment }}
    jobs:
    - deployment: Deploy
      environment: ${{ environment }}
      strategy:
        runOnce:
          deploy:
            steps:
            - download: none
            - script: ./deploy $(target)
";
    // `Deploy` as the name of a deployment is kept by the service for itself.
    let text = text.replace("- deployment: Deploy\n", "- deployment: Ship\n");
    insta::assert_snapshot!(outline(&text), @r#"
isMain=$[eq(variables['Build.SourceBranch'], 'refs/heads/main')]
stage Build
  job Build
    Checkout Checkout@1.0.0 clean="true" fetchDepth="0" repository="self"
    CmdLine1 CmdLine@2.279.1 script="make"
    CmdLine2 CmdLine@2.279.1 script="make test"
    PublishPipelineArtifact PublishPipelineArtifact@1.242.0 artifact="drop" path="$(Build.ArtifactStagingDirectory)"
stage Deploy_dev after Build
  if and(succeeded(), eq(variables.isMain, true))
  target=dev
  job Ship
    hook Ship
    CmdLine CmdLine@2.279.1 script="./deploy $(target)"
stage Deploy_test after Deploy_dev
  if and(succeeded(), eq(variables.isMain, true))
  target=test
  job Ship
    hook Ship
    CmdLine CmdLine@2.279.1 script="./deploy $(target)"
stage Deploy_prod after Deploy_test
  if and(succeeded(), eq(variables.isMain, true))
  target=prod
  job Ship
    hook Ship
    CmdLine CmdLine@2.279.1 script="./deploy $(target)"
"#);
}

#[test]
fn a_step_sets_an_output_for_other_jobs() {
    let text = r###"
jobs:
- job: Detect
  steps:
  - bash: |
      if git diff --name-only HEAD~1 | grep -q '^docs/'; then
        echo "##vso[task.setvariable variable=docs;isOutput=true]true"
      fi
    name: changes
- job: Docs
  dependsOn: Detect
  condition: and(succeeded(), eq(dependencies.Detect.outputs['changes.docs'], 'true'))
  variables:
    docs: $[ dependencies.Detect.outputs['changes.docs'] ]
  steps:
  - script: make docs DOCS=$(docs)
- job: Report
  dependsOn:
  - Detect
  - Docs
  condition: in(dependencies.Docs.result, 'Succeeded', 'SucceededWithIssues', 'Skipped')
"###;
    insta::assert_snapshot!(outline(text), @r###"
stage __default
  job Detect
    Checkout Checkout@1.0.0 repository="self"
    changes Bash@3.278.0 script="if git diff --name-only HEAD~1 | grep -q '^docs/'; then\n  echo \"##vso[task.setvariable variable=docs;isOutput=true]true\"\nfi\n" targetType="inline"
  job Docs after Detect
    if and(succeeded(), eq(dependencies.Detect.outputs['changes.docs'], 'true'))
    docs=$[ dependencies.Detect.outputs['changes.docs'] ]
    Checkout Checkout@1.0.0 repository="self"
    CmdLine CmdLine@2.279.1 script="make docs DOCS=$(docs)"
  job Report after Detect, Docs
    if in(dependencies.Docs.result, 'Succeeded', 'SucceededWithIssues', 'Skipped')
    Checkout Checkout@1.0.0 repository="self"
"###);
}

#[test]
fn container_jobs_with_services() {
    let text = r"
resources:
  containers:
  - container: build
    image: node:20
    options: --user root
  - container: pg
    image: postgres:16
    ports: [5432:5432]
    env:
      POSTGRES_PASSWORD: x
jobs:
- job: test
  container: build
  services:
    postgres: pg
    redis: redis:7
  steps:
  - script: npm ci && npm test
  - script: hostname
    target: host
- job: many
  strategy:
    matrix:
      u20: {image: 'ubuntu:20.04'}
      u22: {image: 'ubuntu:22.04'}
  container: $[ variables['image'] ]
  steps:
  - script: cat /etc/os-release
";
    insta::assert_snapshot!(outline(text), @r#"
stage __default
  job test
    Checkout Checkout@1.0.0 repository="self"
    CmdLine1 CmdLine@2.279.1 script="npm ci && npm test"
    CmdLine2 CmdLine@2.279.1 script="hostname"
  job many
    Checkout Checkout@1.0.0 repository="self"
    CmdLine CmdLine@2.279.1 script="cat /etc/os-release"
"#);
}

#[test]
fn dotnet_with_variables_in_a_list_and_a_schedule() {
    let text = r"
schedules:
- cron: '0 0 * * 0'
  displayName: Weekly
  branches: {include: [main]}
  always: true
pool:
  name: Default
  demands:
  - Agent.OS -equals Linux
  - docker
variables:
- name: buildConfiguration
  value: Release
- name: major
  value: 1
- name: minor
  value: $[counter(variables['major'], 100)]
  readonly: true
- ${{ if ne(variables['Build.Reason'], 'Schedule') }}:
  - name: nightly
    value: false
steps:
- task: UseDotNet@2
  inputs: {packageType: sdk, version: 8.x}
- task: DotNetCoreCLI@2
  displayName: 'dotnet build $(buildConfiguration)'
  inputs:
    command: build
    arguments: '--configuration $(buildConfiguration) -p:Version=$(major).$(minor)'
- task: CopyFiles@2
  inputs:
    Contents: |
      **/*.nupkg
      !**/obj/**
    TargetFolder: $(Build.ArtifactStagingDirectory)
- task: PublishBuildArtifacts@1
  condition: and(succeeded(), ne(variables['Build.Reason'], 'PullRequest'))
";
    insta::assert_snapshot!(outline(text), @r#"
buildConfiguration=Release
major=1
minor=$[counter(variables['major'], 100)]
nightly=false
stage __default
  job Job
    Checkout Checkout@1.0.0 repository="self"
    UseDotNet UseDotNet@2.274.2 packageType="sdk" version="8.x"
    DotNetCoreCLI "dotnet build $(buildConfiguration)" DotNetCoreCLI@2.275.0 arguments="--configuration $(buildConfiguration) -p:Version=$(major).$(minor)" command="build"
    CopyFiles CopyFiles@2.276.0 Contents="**/*.nupkg\n!**/obj/**\n" TargetFolder="$(Build.ArtifactStagingDirectory)"
    PublishBuildArtifacts PublishBuildArtifacts@1.274.0
"#);
}

#[test]
fn go_with_a_cache_and_slices() {
    let text = r#"
variables:
  GOCACHE: $(Pipeline.Workspace)/.cache/go-build/
jobs:
- job: test
  strategy: {parallel: 3}
  workspace: {clean: all}
  steps:
  - task: GoTool@0
    inputs: {version: '1.22'}
  - task: Cache@2
    inputs:
      key: 'go | "$(Agent.OS)" | go.sum'
      restoreKeys: |
        go | "$(Agent.OS)"
      path: $(GOCACHE)
  - script: go test ./... -shard=$(System.JobPositionInPhase)/$(System.TotalJobsInPhase)
    retryCountOnTaskFailure: 2
    timeoutInMinutes: 15
"#;
    insta::assert_snapshot!(outline(text), @r#"
GOCACHE=$(Pipeline.Workspace)/.cache/go-build/
stage __default
  job test
    Checkout Checkout@1.0.0 repository="self"
    GoTool GoTool@0.275.0 version="1.22"
    Cache Cache@2.274.0 key="go | \"$(Agent.OS)\" | go.sum" path="$(GOCACHE)" restoreKeys="go | \"$(Agent.OS)\"\n"
    CmdLine CmdLine@2.279.1 script="go test ./... -shard=$(System.JobPositionInPhase)/$(System.TotalJobsInPhase)"
"#);
}

#[test]
fn several_repositories() {
    let text = r"
resources:
  repositories:
  - repository: tools
    type: git
    name: Shared/tools
    ref: refs/heads/main
  - repository: docs
    type: github
    name: contoso/docs
    endpoint: github
    trigger:
      branches: {include: [main]}
  pipelines:
  - pipeline: upstream
    source: Upstream CI
    trigger: true
steps:
- checkout: self
  path: s/main
- checkout: tools
  persistCredentials: true
- checkout: git://Other/repo@refs/tags/v1
- download: upstream
  artifact: drop
- script: ls
  workingDirectory: $(Build.SourcesDirectory)/tools
";
    insta::assert_snapshot!(outline(text), @r#"
stage __default
  job Job
    Checkout1 Checkout@1.0.0 path="s/main" repository="self"
    Checkout2 Checkout@1.0.0 persistCredentials="true" repository="tools"
    Checkout3 Checkout@1.0.0 repository="git://Other/repo@refs/tags/v1"
    DownloadPipelineArtifact DownloadPipelineArtifact@2.198.0 alias="upstream" artifact="drop" buildType="specific" path="$(Pipeline.Workspace)/upstream/drop"
    CmdLine CmdLine@2.279.1 script="ls" workingDirectory="$(Build.SourcesDirectory)/tools"
"#);
}

#[test]
fn jobs_made_from_a_list_of_mappings() {
    let text = r"
parameters:
- name: platforms
  type: object
  default:
  - {name: linux, image: ubuntu-latest, packages: [gcc, make]}
  - {name: mac, image: macos-latest}
- name: extra
  type: stepList
  default: []
jobs:
- ${{ each platform in parameters.platforms }}:
  - job: build_${{ platform.name }}
    displayName: Build (${{ platform.name }})
    pool:
      vmImage: ${{ platform.image }}
    steps:
    - ${{ if platform.packages }}:
      - script: sudo apt-get install -y ${{ join(' ', platform.packages) }}
    - script: make PLATFORM=${{ platform.name }} CONFIG='${{ convertToJson(platform) }}'
    - ${{ parameters.extra }}
- job: all
  dependsOn:
  - ${{ each platform in parameters.platforms }}:
    - build_${{ platform.name }}
  pool: server
";
    insta::assert_snapshot!(outline(text), @r#"
stage __default
  job build_linux
    Checkout Checkout@1.0.0 repository="self"
    CmdLine1 CmdLine@2.279.1 script="sudo apt-get install -y gcc make"
    CmdLine2 CmdLine@2.279.1 script="make PLATFORM=linux CONFIG='{\n  \"name\": \"linux\",\n  \"image\": \"ubuntu-latest\",\n  \"packages\": [\n    \"gcc\",\n    \"make\"\n  ]\n}'"
  job build_mac
    Checkout Checkout@1.0.0 repository="self"
    CmdLine CmdLine@2.279.1 script="make PLATFORM=mac CONFIG='{\n  \"name\": \"mac\",\n  \"image\": \"macos-latest\"\n}'"
  job all after build_linux, build_mac
"#);
}

#[test]
fn windows_line_ends_and_a_byte_order_mark() {
    let text = "\u{feff}trigger: none\r\n\r\nsteps:\r\n- script: |\r\n    echo a\r\n    echo b\r\n  \
        displayName: Two\r\n";
    insta::assert_snapshot!(outline(text), @r#"
stage __default
  job Job
    Checkout Checkout@1.0.0 repository="self"
    CmdLine "Two" CmdLine@2.279.1 script="echo a\necho b\n"
"#);
}

#[test]
fn folded_and_quoted_scripts() {
    let text = r#"
steps:
- bash: >
    docker run
    --rm
    alpine

- bash: >-
    one
    line
- bash: "printf \"%s\\n\" a"
- bash: 'it''s'
- bash: |-
    no newline
- bash: |+
    kept

- powershell: |
    $x = @{ a = 1 }
    Write-Host "$($x.a)"
"#;
    insta::assert_snapshot!(outline(text), @r#"
stage __default
  job Job
    Checkout Checkout@1.0.0 repository="self"
    Bash1 Bash@3.278.0 script="docker run --rm alpine\n" targetType="inline"
    Bash2 Bash@3.278.0 script="one line" targetType="inline"
    Bash3 Bash@3.278.0 script="printf \"%s\\n\" a" targetType="inline"
    Bash4 Bash@3.278.0 script="it's" targetType="inline"
    Bash5 Bash@3.278.0 script="no newline" targetType="inline"
    Bash6 Bash@3.278.0 script="kept\n\n" targetType="inline"
    PowerShell PowerShell@2.279.0 script="$x = @{ a = 1 }\nWrite-Host \"$($x.a)\"\n" targetType="inline"
"#);
}
