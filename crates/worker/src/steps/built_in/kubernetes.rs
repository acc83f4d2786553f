//! Kubernetes (`KubernetesV0/kubernetes.ts`, `KubernetesV1/kubernetes.ts` and what they use): kubectl, with
//! the cluster of a service connection.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use dayfly_protocol::TaskResult;
use futures::FutureExt as _;
use tempfile::TempPath;

use super::super::definition::{Input, aliased, path, text};
use super::super::{Definition, Prepared, StepError};
use super::Task;
use super::cluster::{self, Cluster, Found, docker_config, for_variable, given_path, private_file};
use super::program::{Output, arguments, folder, words};
use crate::context::StepContext;
use crate::files;
use crate::variables::Flags;

const COMMAND: Input = text("command", "");
const NAMESPACE: Input = text("namespace", "");
const ARGUMENTS: Input = text("arguments", "");
const USES_CONFIGURATION: Input = text("useConfigurationFile", "false");
const CONFIGURATION_TYPE: Input = text("configurationType", "configuration");
const CONFIGURATION: Input = path("configuration");
const INLINE: Input = text("inline", "");
const SECRET_TYPE: Input = text("secretType", "dockerRegistry");
const SECRET_ARGUMENTS: Input = text("secretArguments", "");
const REGISTRY_TYPE: Input = text("containerRegistryType", "Azure Container Registry");
const REGISTRY: Input = aliased("dockerRegistryEndpoint", &["dockerRegistryConnection"], "");
const SECRET: Input = text("secretName", "");
const REPLACES_SECRET: Input = text("forceUpdate", "true");
const CONFIG_MAP: Input = text("configMapName", "");
const REPLACES_CONFIG_MAP: Input = text("forceUpdateConfigMap", "false");
const USES_CONFIG_MAP_FILE: Input = text("useConfigMapFile", "false");
const CONFIG_MAP_FILE: Input = path("configMapFile");
const CONFIG_MAP_ARGUMENTS: Input = text("configMapArguments", "");
const VERSION_OR_LOCATION: Input = text("versionOrLocation", "version");
const VERSION: Input = text("versionSpec", "");
const LATEST: Input = text("checkLatest", "false");
const LOCATION: Input = path("specifyLocation");
const FOLDER: Input = path("cwd").called(&["workingDirectory"]).or("$(System.DefaultWorkingDirectory)");
const OUTPUT_FORMAT: Input = text("outputFormat", "json");
/// The name of the variable with the output, in version 0.
const OUTPUT_NAME: Input = text("kubectlOutput", "");

/// The variable with the output from version 1 on.
const OUTPUT: &str = "KubectlOutput";

/// Commands that know no `-o json`.
const WITHOUT_FORMAT: &[&str] = &[
    "explain",
    "delete",
    "cluster-info",
    "top",
    "cordon",
    "uncordon",
    "drain",
    "describe",
    "logs",
    "attach",
    "exec",
    "port-forward",
    "proxy",
    "cp",
    "auth",
    "completion",
    "api-versions",
    "config",
    "help",
    "plugin",
    "rollout",
];

const INPUTS: &[Input] = &[
    text(cluster::CONNECTION_TYPE, "Kubernetes Service Connection"),
    cluster::CONNECTION,
    cluster::AZURE,
    cluster::RESOURCE_GROUP,
    cluster::CLUSTER,
    cluster::IS_ADMIN,
    NAMESPACE,
    COMMAND,
    USES_CONFIGURATION,
    CONFIGURATION_TYPE,
    CONFIGURATION,
    INLINE,
    ARGUMENTS,
    SECRET_TYPE,
    SECRET_ARGUMENTS,
    REGISTRY_TYPE,
    REGISTRY,
    SECRET,
    REPLACES_SECRET,
    CONFIG_MAP,
    REPLACES_CONFIG_MAP,
    USES_CONFIG_MAP_FILE,
    CONFIG_MAP_FILE,
    CONFIG_MAP_ARGUMENTS,
    VERSION_OR_LOCATION,
    VERSION,
    LATEST,
    LOCATION,
    FOLDER,
    OUTPUT_FORMAT,
    OUTPUT_NAME,
];

pub(super) static KUBERNETES: Task = Task {
    definition: definition("kubectl"),
    works_where_scripts_do: true,
    run: |step, prepared| run(step, prepared, true).boxed(),
};

pub(super) static KUBERNETES_0: Task = Task {
    definition: definition("Kubectl"),
    works_where_scripts_do: true,
    run: |step, prepared| run(step, prepared, false).boxed(),
};

const fn definition(friendly_name: &'static str) -> Definition {
    Definition {
        friendly_name,
        description: "Deploy, configure, update a Kubernetes cluster in Azure Container Service by running \
                      kubectl commands",
        author: "Microsoft Corporation",
        help: "https://docs.microsoft.com/azure/devops/pipelines/tasks/deploy/kubernetes",
        inputs: INPUTS,
    }
}

async fn run(step: &StepContext, prepared: &Prepared, is_later: bool) -> Result<TaskResult, StepError> {
    let command = prepared.inputs.text(COMMAND.name);
    if command == "logout" {
        cluster::log_out(step).await?;
        return Ok(TaskResult::Succeeded);
    }
    let cluster = match Cluster::find(step, prepared).await? {
        Found::Cluster(cluster) => cluster,
        Found::LeftOut => return Ok(TaskResult::Skipped),
    };
    let kubectl = Kubectl::new(cluster).await?;
    kubectl.cluster.tell_versions(&kubectl.name).await?;
    kubectl.secret().await?;
    kubectl.config_map().await?;
    match command {
        "" => {}
        "login" => kubectl.cluster.log_in()?,
        command => kubectl.command(command, is_later).await?,
    }
    Ok(TaskResult::Succeeded)
}

/// kubectl as the inputs want it.
struct Kubectl<'a> {
    cluster: Cluster<'a>,
    name: String,
    folder: PathBuf,
    /// Arguments for the namespace.
    namespace: Vec<OsString>,
}

impl<'a> Kubectl<'a> {
    async fn new(cluster: Cluster<'a>) -> Result<Kubectl<'a>, StepError> {
        let inputs = &cluster.prepared.inputs;
        let name = match inputs.text(VERSION_OR_LOCATION.name) {
            "location" => inputs.required(LOCATION.name)?,
            _ => {
                let wish = inputs.get(VERSION.name).or_else(|| inputs.flag(LATEST.name).then_some("latest"));
                if let Some(wish) = wish {
                    let told = format!("kubectl of the PATH is taken; the version {wish} is not downloaded.");
                    cluster.step.output(&told).await;
                }
                "kubectl"
            }
        };
        let namespace = inputs.get(NAMESPACE.name);
        Ok(Kubectl {
            name: name.to_owned(),
            folder: folder(inputs.text(FOLDER.name)).await?,
            namespace: namespace.map(|name| arguments([&"-n", &name])).unwrap_or_default(),
            cluster,
        })
    }

    async fn kept(&self, line: Vec<OsString>) -> Result<Output, StepError> {
        let Cluster { step, prepared, .. } = self.cluster;
        self.cluster.program(&self.name, line, &self.folder).kept(step, prepared).await
    }

    /// Runs kubectl, which must succeed.
    async fn must(&self, line: Vec<OsString>) -> Result<(), StepError> {
        let output = self.kept(line).await?;
        self.check(&output).await
    }

    /// Fails if kubectl did; what it said as errors becomes errors of the step.
    async fn check(&self, output: &Output) -> Result<(), StepError> {
        if output.code == 0 {
            return Ok(());
        }
        for line in output.stderr.lines() {
            self.cluster.step.error(line).await;
        }
        Err(output.failure())
    }

    /// Runs kubectl with nothing in the log; whether it succeeded.
    async fn try_silently(&self, line: Vec<OsString>) -> Result<bool, StepError> {
        let Cluster { step, prepared, .. } = self.cluster;
        let program = self.cluster.program(&self.name, line, &self.folder);
        Ok(program.silently(step, prepared).await?.code == 0)
    }

    fn line<const N: usize>(&self, words: [&dyn AsRef<std::ffi::OsStr>; N]) -> Vec<OsString> {
        self.namespace.iter().cloned().chain(arguments(words)).collect()
    }

    /// Makes the secret that is wanted.
    async fn secret(&self) -> Result<(), StepError> {
        let inputs = &self.cluster.prepared.inputs;
        let Some(name) = inputs.get(SECRET.name) else { return Ok(()) };
        let registry = match inputs.required(SECRET_TYPE.name)? {
            "dockerRegistry" => Some(self.registry_login()?),
            _ => None,
        };
        if inputs.flag(REPLACES_SECRET.name) {
            self.try_silently(self.line([&"delete", &"secret", &name])).await?;
        }
        let line = match &registry {
            // The login goes by a file: others see the arguments of a process.
            Some(login) => {
                let from = format!("--from-file=.dockerconfigjson={}", login.display());
                self.line([&"create", &"secret", &"docker-registry", &name, &from])
            }
            None => {
                let mut line = self.line([&"create", &"secret", &"generic", &name]);
                line.extend(words(inputs.text(SECRET_ARGUMENTS.name)));
                line
            }
        };
        self.must(line).await
    }

    fn registry_login(&self) -> Result<TempPath, StepError> {
        let Cluster { step, prepared, .. } = self.cluster;
        let inputs = &prepared.inputs;
        let connection = inputs.get(REGISTRY.name).ok_or_else(|| {
            StepError::failed(match inputs.text(REGISTRY_TYPE.name) {
                "Azure Container Registry" => {
                    "The login of an Azure Container Registry by a subscription is an exchange with Azure, \
                     which Dayfly's native worker does not do. Use `containerRegistryType: Container \
                     Registry` and a service connection with a user and a password."
                }
                _ => "Docker Registry service connection details not specified",
            })
        })?;
        private_file(step, "json", &docker_config(step, connection)?)
    }

    /// Makes the config map that is wanted.
    async fn config_map(&self) -> Result<(), StepError> {
        let inputs = &self.cluster.prepared.inputs;
        let Some(name) = inputs.get(CONFIG_MAP.name) else { return Ok(()) };
        if inputs.flag(REPLACES_CONFIG_MAP.name) {
            self.try_silently(self.line([&"delete", &"configmap", &name])).await?;
        } else if self.try_silently(self.line([&"get", &"configmap", &name])).await? {
            self.cluster.step.debug(&format!("ConfigMap {name} already exists")).await;
            return Ok(());
        }
        let mut line = self.line([&"create", &"configmap", &name]);
        if inputs.flag(USES_CONFIG_MAP_FILE.name) {
            line.extend(config_map_source(Path::new(inputs.text(CONFIG_MAP_FILE.name))).await);
        } else {
            line.extend(words(inputs.text(CONFIG_MAP_ARGUMENTS.name)));
        }
        self.must(line).await
    }

    /// Runs the command of the step and keeps its output in a variable.
    async fn command(&self, command: &str, is_later: bool) -> Result<(), StepError> {
        let Cluster { step, prepared, .. } = self.cluster;
        let inputs = &prepared.inputs;
        let mut line = arguments([&command]);
        line.extend(self.namespace.iter().cloned());
        let (file, _inline) = self.configuration().await?;
        if let Some(file) = file {
            line.extend(arguments([&"-f", &file]));
        }
        line.extend(words(inputs.text(ARGUMENTS.name)));
        let format = inputs.text(OUTPUT_FORMAT.name);
        let has_format = !WITHOUT_FORMAT.contains(&command) || !matches!(format, "json" | "yaml");
        if has_format && !matches!(format, "" | "none") {
            line.extend(arguments([&"-o", &format]));
        }
        let output = self.kept(line).await?;
        let variable = if is_later { Some(OUTPUT) } else { inputs.get(OUTPUT_NAME.name) };
        if let Some(variable) = variable
            && let Some(text) = for_variable(step, &output, "kubectl").await
        {
            step.set_variable(variable, text, is_later, Flags::default());
        }
        self.check(&output).await
    }

    /// The file that the command takes, which may be made of the inline text and is then gone when that is
    /// dropped.
    async fn configuration(&self) -> Result<(Option<PathBuf>, Option<TempPath>), StepError> {
        let Cluster { step, prepared, .. } = self.cluster;
        let inputs = &prepared.inputs;
        if !inputs.flag(USES_CONFIGURATION.name) {
            return Ok((None, None));
        }
        let file = given_path(step, prepared, CONFIGURATION.name);
        let inline = inputs.get(INLINE.name);
        let wants_inline = inputs.text(CONFIGURATION_TYPE.name) == "inline";
        match (file, inline) {
            (Some(file), None) => existing(file).await,
            (Some(file), Some(_)) if !wants_inline => existing(file).await,
            (_, Some(text)) => {
                let file = private_file(step, "yaml", text)?;
                Ok((Some(file.to_path_buf()), Some(file)))
            }
            (None, None) => Err(StepError::failed(
                "No Kubernetes configuration found, supply either inline configuration or configuration file \
                 path",
            )),
        }
    }
}

async fn existing(file: PathBuf) -> Result<(Option<PathBuf>, Option<TempPath>), StepError> {
    if files::exists(&file).await {
        return Ok((Some(file), None));
    }
    Err(StepError::Failed(format!("No configuration file matching {} was found.", file.display())))
}

/// The argument that makes a config map of a file or a folder; none if there is neither.
async fn config_map_source(path: &Path) -> Option<OsString> {
    if files::is_file(path).await {
        let name = path.file_name()?.to_string_lossy();
        return Some(format!("--from-file={name}={}", path.display()).into());
    }
    files::is_folder(path).await.then(|| format!("--from-file={}", path.display()).into())
}
