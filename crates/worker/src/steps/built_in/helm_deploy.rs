//! HelmDeploy (`HelmDeployV1/helm.ts` and its commands): helm 3 or newer, with the cluster of a service
//! connection.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use dayfly_protocol::TaskResult;
use futures::FutureExt as _;

use super::super::definition::{Input, aliased, path, text};
use super::super::{Definition, Inputs, Prepared, StepError};
use super::Task;
use super::cluster::{self, Cluster, Found, for_variable, given_path};
use super::matching::{Links, Patterns, Reading, entries_of};
use super::program::{arguments, words};
use crate::context::StepContext;
use crate::variables::Flags;

const NAMESPACE: Input = text("namespace", "");
const COMMAND: Input = text("command", "ls");
const CHART_TYPE: Input = text("chartType", "Name");
const CHART_NAME: Input = text("chartName", "");
const CHART_PATH: Input = path("chartPath");
const REPOSITORY: Input = text("remoteRepo", "");
const VERSION: Input = aliased("version", &["chartVersion"], "");
const RELEASE: Input = text("releaseName", "");
const OVERRIDES: Input = text("overrideValues", "");
const VALUES: Input = path("valueFile");
const DESTINATION: Input = text("destination", "$(Build.ArtifactStagingDirectory)");
const UPDATES_DEPENDENCIES: Input = aliased("updatedependency", &["updateDependency"], "false");
const INSTALLS: Input = text("install", "true");
const RECREATES: Input = text("recreate", "false");
const RESETS: Input = text("resetValues", "false");
const FORCES: Input = text("force", "false");
const WAITS: Input = text("waitForExecution", "true");
const ARGUMENTS: Input = text("arguments", "");
const TLS: Input = text("enableTls", "false");
const TILLER_NAMESPACE: Input = aliased("tillernamespace", &["tillerNamespace"], "");
const FAILS_ON_STDERR: Input = text("failOnStderr", "false");

/// Variables with what helm said, and how it ended.
const EXIT_CODE: &str = "helmExitCode";
const OUTPUT: &str = "helmOutput";

/// The task.
pub(super) static HELM_DEPLOY: Task = Task {
    definition: Definition {
        friendly_name: "Package and deploy Helm charts",
        description: "Deploy, configure, update a Kubernetes cluster in Azure Container Service by running \
                      helm commands",
        author: "Microsoft Corporation",
        help: "https://aka.ms/azpipes-helm-tsg",
        inputs: &[
            text(cluster::CONNECTION_TYPE, "Azure Resource Manager"),
            cluster::AZURE,
            cluster::RESOURCE_GROUP,
            cluster::CLUSTER,
            cluster::IS_ADMIN,
            cluster::CONNECTION,
            NAMESPACE,
            COMMAND,
            CHART_TYPE,
            CHART_NAME,
            CHART_PATH,
            REPOSITORY,
            VERSION,
            RELEASE,
            OVERRIDES,
            VALUES,
            DESTINATION,
            UPDATES_DEPENDENCIES,
            INSTALLS,
            RECREATES,
            RESETS,
            FORCES,
            WAITS,
            ARGUMENTS,
            TLS,
            TILLER_NAMESPACE,
            FAILS_ON_STDERR,
        ],
    },
    works_where_scripts_do: true,
    run: |step, prepared| run(step, prepared).boxed(),
};

async fn run(step: &StepContext, prepared: &Prepared) -> Result<TaskResult, StepError> {
    let command = prepared.inputs.required(COMMAND.name)?.to_lowercase();
    refuse(&prepared.inputs, &command)?;
    if command == "logout" {
        cluster::log_out(step).await?;
        step.set_variable(EXIT_CODE, "0", true, Flags::default());
        return Ok(TaskResult::Succeeded);
    }
    let found = match command.as_str() {
        // It talks to no cluster.
        "package" => Found::Cluster(Cluster::own(step, prepared)),
        _ => Cluster::find(step, prepared).await?,
    };
    let cluster = match found {
        Found::Cluster(cluster) => cluster,
        Found::LeftOut => return Ok(TaskResult::Skipped),
    };
    if command == "login" {
        cluster.log_in()?;
        step.set_variable(EXIT_CODE, "0", true, Flags::default());
        return Ok(TaskResult::Succeeded);
    }
    let mut line = arguments([&command]);
    if step.job.debug {
        line.push("--debug".into());
    }
    line.extend(arguments_of(&cluster, &command).await?);
    helm(&cluster, line).await
}

/// What helm has had no more since version 3, and logins that are an exchange with Azure.
fn refuse(inputs: &Inputs, command: &str) -> Result<(), StepError> {
    let of_tiller = inputs.flag(TLS.name) || inputs.get(TILLER_NAMESPACE.name).is_some();
    let why = match command {
        _ if of_tiller => {
            "`enableTls` and `tillernamespace` are about Tiller, which helm has had no more since version 3."
        }
        "init" => "helm has had no command `init` since version 3: remove this step.",
        "save" => {
            "helm has not saved charts to a registry in this way since version 3.7. Use the commands \
             `package` and `push` of HelmDeploy@1."
        }
        "registry" => {
            "The login of an Azure Container Registry is an exchange with Azure, which Dayfly's native \
             worker does not do. Log in by a script: `helm registry login`."
        }
        _ => return Ok(()),
    };
    Err(StepError::failed(why))
}

/// Runs helm, and keeps what it said in variables.
async fn helm(cluster: &Cluster<'_>, line: Vec<OsString>) -> Result<TaskResult, StepError> {
    let Cluster { step, prepared, .. } = cluster;
    let output = cluster.program("helm", line, &cluster.folder()).kept(step, prepared).await?;
    step.set_variable(EXIT_CODE, &output.code.to_string(), true, Flags::default());
    if let Some(text) = for_variable(step, &output, "Helm").await.filter(|text| !text.is_empty()) {
        step.set_variable(OUTPUT, text, true, Flags::default());
    }
    let said = output.stderr.trim();
    let has_failed = output.code != 0 || prepared.inputs.flag(FAILS_ON_STDERR.name) && !said.is_empty();
    match said {
        _ if !has_failed => Ok(TaskResult::Succeeded),
        "" => Err(output.failure()),
        said => Err(StepError::failed(said)),
    }
}

/// The arguments of a command.
async fn arguments_of(cluster: &Cluster<'_>, command: &str) -> Result<Vec<OsString>, StepError> {
    let inputs = &cluster.prepared.inputs;
    let namespace =
        || inputs.get(NAMESPACE.name).map(|name| arguments([&"--namespace", &name])).unwrap_or_default();
    let given = || words(inputs.text(ARGUMENTS.name));
    Ok(match command {
        "create" => arguments([&inputs.required(CHART_NAME.name)?]),
        "install" => install(cluster, namespace(), given()).await?,
        "upgrade" => upgrade(cluster, namespace(), given()).await?,
        "package" => package(cluster, given()).await?,
        "push" => arguments([&inputs.required(CHART_PATH.name)?, &inputs.required(REPOSITORY.name)?]),
        "rollback" => {
            inputs.required(NAMESPACE.name)?;
            [arguments([&inputs.required(RELEASE.name)?]), namespace()].concat()
        }
        "uninstall" | "delete" => {
            [arguments([&inputs.required(RELEASE.name)?]), namespace(), given()].concat()
        }
        _ => [namespace(), given()].concat(),
    })
}

async fn install(
    cluster: &Cluster<'_>,
    namespace: Vec<OsString>,
    given: Vec<OsString>,
) -> Result<Vec<OsString>, StepError> {
    let inputs = &cluster.prepared.inputs;
    let mut line = namespace;
    line.extend(values(cluster).await?);
    line.extend(inputs.flag(UPDATES_DEPENDENCIES.name).then(|| "--dependency-update".into()));
    line.push(inputs.get(RELEASE.name).unwrap_or("--generate-name").into());
    line.extend(inputs.flag(WAITS.name).then(|| "--wait".into()));
    line.extend(given);
    line.extend(chart(cluster).await?);
    Ok(line)
}

async fn upgrade(
    cluster: &Cluster<'_>,
    namespace: Vec<OsString>,
    given: Vec<OsString>,
) -> Result<Vec<OsString>, StepError> {
    let inputs = &cluster.prepared.inputs;
    let mut line = namespace;
    for (input, flag) in [
        (INSTALLS, "--install"),
        (RECREATES, "--recreate-pods"),
        (RESETS, "--reset-values"),
        (FORCES, "--force"),
    ] {
        line.extend(inputs.flag(input.name).then(|| flag.into()));
    }
    line.extend(values(cluster).await?);
    line.extend(inputs.flag(WAITS.name).then(|| "--wait".into()));
    line.extend(given);
    let release = inputs.get(RELEASE.name).map(str::to_owned);
    line.push(release.unwrap_or_else(|| cluster.step.job.variable_or_empty("Build.BuildNumber")).into());
    line.extend(chart(cluster).await?);
    Ok(line)
}

async fn package(cluster: &Cluster<'_>, given: Vec<OsString>) -> Result<Vec<OsString>, StepError> {
    let inputs = &cluster.prepared.inputs;
    let mut line = Vec::new();
    line.extend(inputs.flag(UPDATES_DEPENDENCIES.name).then(|| "--dependency-update".into()));
    if let Some(version) = inputs.get(VERSION.name) {
        line.extend(arguments([&"--version", &version]));
    }
    if let Some(folder) = inputs.get(DESTINATION.name) {
        let made = tokio::fs::create_dir_all(cluster.folder().join(folder)).await;
        made.map_err(|error| StepError::Failed(format!("{folder} cannot be made: {error}")))?;
        line.extend(arguments([&"--destination", &folder]));
    }
    line.extend(given);
    line.push(one_of(cluster, inputs.required(CHART_PATH.name)?).await?.into());
    Ok(line)
}

/// The arguments for the values of a release.
async fn values(cluster: &Cluster<'_>) -> Result<Vec<OsString>, StepError> {
    let Cluster { step, prepared, .. } = cluster;
    let mut line = Vec::new();
    if let Some(file) = given_path(step, prepared, VALUES.name) {
        let file = one_of(cluster, &file.to_string_lossy()).await?;
        line.extend(arguments([&"--values", &file]));
    }
    if let Some(overrides) = prepared.inputs.get(OVERRIDES.name) {
        let pairs: Vec<&str> = overrides.split('\n').filter(|pair| !pair.is_empty()).collect();
        line.extend(words(&format!("--set {}", pairs.join(","))));
    }
    Ok(line)
}

/// The arguments for the chart and its version.
async fn chart(cluster: &Cluster<'_>) -> Result<Vec<OsString>, StepError> {
    let inputs = &cluster.prepared.inputs;
    let mut line = match inputs.required(CHART_TYPE.name)? {
        "Name" => words(inputs.required(CHART_NAME.name)?),
        _ => vec![one_of(cluster, inputs.required(CHART_PATH.name)?).await?.into()],
    };
    if let Some(version) = inputs.get(VERSION.name) {
        if semver::Version::parse(version.trim_start_matches('v')).is_ok() {
            line.extend(arguments([&"--version", &version]));
        } else {
            let latest = format!(
                "The given version {version} is not valid. Running the helm command with latest version"
            );
            cluster.step.output(&latest).await;
        }
    }
    Ok(line)
}

/// A path, or the first file or folder that it matches (`resolvePath`).
async fn one_of(cluster: &Cluster<'_>, path: &str) -> Result<PathBuf, StepError> {
    if !path.contains(['*', '?']) {
        return Ok(path.into());
    }
    let root = cluster.folder();
    let reading = Reading { of_library: true, braces: true, dots: false };
    let patterns = Patterns::new(path, &root, reading)?;
    let found = entries_of(cluster.step, patterns, root, Links::Followed).await?;
    let first = found.into_iter().next().map(|entry| Path::new(&entry.path).to_owned());
    first.ok_or_else(|| StepError::Failed(format!("Can not resolve pattern in file path {path}.")))
}
