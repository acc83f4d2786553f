//! KubernetesManifest (`KubernetesManifestV1/run.ts`, its actions, and `kubectl-object-model.ts`): deploys,
//! bakes, scales, patches and deletes by kubectl and helm.

mod bake;
mod deploy;
mod objects;

use std::collections::BTreeSet;
use std::ffi::OsString;

use dayfly_protocol::TaskResult;
use futures::FutureExt as _;

use super::super::definition::{Input, path, text};
use super::super::{Definition, Prepared, StepError};
use super::Task;
use super::cluster::{self, Cluster, Found, docker_config, given_path, private_file};
use super::program::{Output, arguments, words};
use crate::context::StepContext;

const ACTION: Input = text("action", "deploy");
const NAMESPACE: Input = text("namespace", "");
const STRATEGY: Input = text("strategy", "none");
const MANIFESTS: Input = path("manifests");
const CONTAINERS: Input = text("containers", "");
const PULL_SECRETS: Input = text("imagePullSecrets", "");
const RENDER_TYPE: Input = text("renderType", "helm");
const COMPOSE_FILE: Input = path("dockerComposeFile");
const CHART: Input = path("helmChart");
const RELEASE: Input = text("releaseName", "");
const OVERRIDE_FILES: Input = text("overrideFiles", "");
const OVERRIDES: Input = text("overrides", "");
const KUSTOMIZATION: Input = path("kustomizationPath");
const RESOURCE_TO_PATCH: Input = text("resourceToPatch", "file");
const FILE_TO_PATCH: Input = path("resourceFileToPatch");
const KIND: Input = text("kind", "");
const NAME: Input = text("name", "");
const REPLICAS: Input = text("replicas", "");
const MERGE_STRATEGY: Input = text("mergeStrategy", "strategic");
const ARGUMENTS: Input = text("arguments", "");
const PATCH: Input = text("patch", "");
const SECRET_TYPE: Input = text("secretType", "dockerRegistry");
const SECRET: Input = text("secretName", "");
const SECRET_ARGUMENTS: Input = text("secretArguments", "");
const REGISTRY: Input = text("dockerRegistryEndpoint", "");
const TIMEOUT: Input = text("rolloutStatusTimeout", "0");
const RESOURCE_TYPE: Input = text("resourceType", "Microsoft.ContainerService/managedClusters");

/// Kinds whose pods get the annotations of the pipeline (`deploymentTypes`).
const WITH_PODS: &[&str] = &["deployment", "replicaset", "daemonset", "pod", "statefulset"];

/// The task.
pub(super) static KUBERNETES_MANIFEST: Task = Task {
    definition: Definition {
        friendly_name: "Deploy to Kubernetes",
        description: "Use Kubernetes manifest files to deploy to clusters or even bake the manifest files \
                      to be used for deployments using Helm charts",
        author: "Microsoft Corporation",
        help: "https://aka.ms/azpipes-k8s-manifest-tsg",
        inputs: &[
            ACTION,
            text(cluster::CONNECTION_TYPE, "kubernetesServiceConnection"),
            cluster::CONNECTION,
            cluster::AZURE,
            cluster::RESOURCE_GROUP,
            cluster::CLUSTER,
            cluster::IS_ADMIN,
            NAMESPACE,
            STRATEGY,
            MANIFESTS,
            CONTAINERS,
            PULL_SECRETS,
            RENDER_TYPE,
            COMPOSE_FILE,
            CHART,
            RELEASE,
            OVERRIDE_FILES,
            OVERRIDES,
            KUSTOMIZATION,
            RESOURCE_TO_PATCH,
            FILE_TO_PATCH,
            KIND,
            NAME,
            REPLICAS,
            MERGE_STRATEGY,
            ARGUMENTS,
            PATCH,
            SECRET_TYPE,
            SECRET,
            SECRET_ARGUMENTS,
            REGISTRY,
            TIMEOUT,
            RESOURCE_TYPE,
        ],
    },
    works_where_scripts_do: true,
    run: |step, prepared| run(step, prepared).boxed(),
};

async fn run(step: &StepContext, prepared: &Prepared) -> Result<TaskResult, StepError> {
    let action = prepared.inputs.required(ACTION.name)?;
    let known = ["bake", "deploy", "patch", "scale", "delete", "createSecret", "promote", "reject"];
    if !known.contains(&action) {
        return Err(StepError::Failed(format!(
            "Not a supported action, choose from \"{}\". This step has '{action}'.",
            known.join("\", \"")
        )));
    }
    if action == "bake" {
        bake::run(&Cluster::own(step, prepared)).await?;
        return Ok(TaskResult::Succeeded);
    }
    refuse_canaries(prepared, action)?;
    let cluster = match Cluster::find(step, prepared).await? {
        Found::Cluster(cluster) => cluster,
        Found::LeftOut => return Ok(TaskResult::Skipped),
    };
    let kubectl = Kubectl::new(cluster)?;
    kubectl.cluster.tell_versions("kubectl").await?;
    match action {
        "deploy" => deploy::run(&kubectl).await?,
        "patch" => patch(&kubectl).await?,
        "scale" => scale(&kubectl).await?,
        "delete" => delete(&kubectl).await?,
        _ => create_secret(&kubectl).await?,
    }
    Ok(TaskResult::Succeeded)
}

/// Canaries are two releases side by side, which a later step promotes or rejects.
fn refuse_canaries(prepared: &Prepared, action: &str) -> Result<(), StepError> {
    let is_canary = prepared.inputs.text(STRATEGY.name).eq_ignore_ascii_case("canary");
    let why = match action {
        "promote" if !is_canary => "Promote action works only with strategy: canary",
        "reject" if !is_canary => "Reject action works only with strategy: canary",
        "deploy" | "promote" | "reject" if is_canary => {
            "Dayfly's native worker does not deploy canaries (strategy: canary). Deploy with `strategy: \
             none`, leave canaries to a controller of the cluster, or run this job with Microsoft's task \
             (`dayfly tasks pull`)."
        }
        _ => return Ok(()),
    };
    Err(StepError::failed(why))
}

/// kubectl in one namespace.
struct Kubectl<'a> {
    cluster: Cluster<'a>,
    /// Arguments of every command.
    common: Vec<OsString>,
    /// How long a rollout may take, in seconds; 0: for ever.
    timeout: &'a str,
}

impl<'a> Kubectl<'a> {
    fn new(cluster: Cluster<'a>) -> Result<Kubectl<'a>, StepError> {
        let timeout = cluster.prepared.inputs.text(TIMEOUT.name);
        if timeout.chars().any(|letter| !letter.is_ascii_digit()) {
            return Err(StepError::Failed(format!(
                "Invalid value for timeout. Enter a valid number. `{}` is '{timeout}'.",
                TIMEOUT.name
            )));
        }
        let is_insecure = cluster.data("acceptUntrustedCerts") == Some("true");
        let mut common: Vec<OsString> =
            is_insecure.then(|| "--insecure-skip-tls-verify".into()).into_iter().collect();
        common.extend(arguments([&"--namespace", &namespace(&cluster)]));
        Ok(Kubectl { cluster, common, timeout })
    }

    async fn execute(&self, line: Vec<OsString>, is_shown: bool) -> Result<Output, StepError> {
        let Cluster { step, prepared, .. } = self.cluster;
        let line = [line, self.common.clone()].concat();
        let program = self.cluster.program("kubectl", line, &self.cluster.folder());
        match is_shown {
            true => program.kept(step, prepared).await,
            false => program.silently(step, prepared).await,
        }
    }

    /// Runs kubectl, which must succeed; what it says beside is a warning.
    async fn must(&self, line: Vec<OsString>) -> Result<Output, StepError> {
        let output = self.execute(line, true).await?;
        let said = output.stderr.trim();
        match (output.code, said) {
            (0, "") => {}
            (0, said) => self.cluster.step.warning(said).await,
            (_, "") => return Err(output.failure()),
            (_, said) => return Err(StepError::failed(said)),
        }
        Ok(output)
    }

    /// Runs kubectl; that it fails is only a warning.
    async fn attempt(&self, line: Vec<OsString>) -> Result<(), StepError> {
        match self.must(line).await {
            Err(StepError::Failed(why)) => self.cluster.step.warning(&why).await,
            done => {
                done?;
            }
        }
        Ok(())
    }

    /// Waits until what was changed is rolled out.
    async fn rollout(&self, kind: &str, name: &str) -> Result<(), StepError> {
        let mut line = arguments([&"rollout", &"status", &format!("{kind}/{name}")]);
        if !self.timeout.is_empty() {
            line.extend(arguments([&"--timeout", &format!("{}s", self.timeout)]));
        }
        self.must(line).await?;
        Ok(())
    }

    /// Says on an object, and on the pods that belong to it, which run changed it.
    async fn annotate(&self, kind: &str, name: &str) -> Result<(), StepError> {
        self.must(self.annotating(&[kind, name])).await?;
        self.annotate_pods(kind, name, false).await
    }

    /// Says it on the pods that belong to an object.
    async fn annotate_pods(&self, kind: &str, name: &str, is_optional: bool) -> Result<(), StepError> {
        let owner = if kind.to_lowercase().contains("deployment") {
            self.new_replica_set(name).await?
        } else {
            name.to_owned()
        };
        for pod in self.pods_of(&owner).await? {
            let line = self.annotating(&["pod", &pod]);
            match is_optional {
                true => self.attempt(line).await?,
                false => drop(self.must(line).await?),
            }
        }
        Ok(())
    }

    /// The command that annotates what these words name.
    fn annotating(&self, what: &[&str]) -> Vec<OsString> {
        let job = &self.cluster.step.job;
        let value = |name: &str| job.variable_or_empty(name);
        let organization = value("System.TeamFoundationCollectionUri");
        let project = value("System.TeamProject");
        let run = format!("{organization}{project}/_build/results?buildId={}", value("Build.BuildId"));
        let mut line = arguments([&"annotate"]);
        line.extend(what.iter().map(OsString::from));
        line.extend(arguments([
            &format!("azure-pipelines/run={}", value("Build.BuildNumber")),
            &format!("azure-pipelines/pipeline=\"{}\"", value("Build.DefinitionName")),
            &format!("azure-pipelines/pipelineId=\"{}\"", value("System.DefinitionId")),
            &format!("azure-pipelines/jobName=\"{}\"", value("Agent.JobName")),
            &format!("azure-pipelines/runuri={run}"),
            &format!("azure-pipelines/project={project}"),
            &format!("azure-pipelines/org={organization}"),
            &"--overwrite",
        ]));
        line
    }

    /// The replica set that a deployment has now.
    async fn new_replica_set(&self, deployment: &str) -> Result<String, StepError> {
        let said = self.execute(arguments([&"describe", &"deployment", &deployment]), false).await?;
        let line = said.stdout.lines().find_map(|line| line.strip_prefix("NewReplicaSet:"));
        Ok(line.and_then(|line| line.split_whitespace().next()).unwrap_or_default().to_owned())
    }

    /// The pods that an object owns.
    async fn pods_of(&self, owner: &str) -> Result<BTreeSet<String>, StepError> {
        const NAMES: &str =
            "{range .items[*]}{.metadata.name} {.metadata.ownerReferences[*].name}{\"\\n\"}{end}";
        let line = arguments([&"get", &"pods", &"-o", &format!("jsonpath={NAMES}")]);
        let said = self.execute(line, false).await?;
        let of_owner = said.stdout.lines().filter_map(|line| {
            let (pod, owners) = line.split_once(' ')?;
            owners.split(' ').any(|name| name == owner).then(|| pod.to_owned())
        });
        Ok(of_owner.collect())
    }
}

/// The namespace: of the input, of the service connection, or `default`.
fn namespace<'a>(cluster: &'a Cluster<'_>) -> &'a str {
    cluster.prepared.inputs.get(NAMESPACE.name).or_else(|| cluster.data("namespace")).unwrap_or("default")
}

async fn scale(kubectl: &Kubectl<'_>) -> Result<(), StepError> {
    let inputs = &kubectl.cluster.prepared.inputs;
    let kind = inputs.required(KIND.name)?.to_lowercase();
    let replicas = inputs.required(REPLICAS.name)?;
    let name = inputs.required(NAME.name)?;
    let what = format!("{kind}/{name}");
    kubectl.must(arguments([&"scale", &what, &format!("--replicas={replicas}")])).await?;
    kubectl.rollout(&kind, name).await?;
    kubectl.annotate(&kind, name).await
}

async fn patch(kubectl: &Kubectl<'_>) -> Result<(), StepError> {
    let Cluster { step, prepared, .. } = kubectl.cluster;
    let inputs = &prepared.inputs;
    let patch = inputs.required(PATCH.name)?;
    let file = given_path(step, prepared, FILE_TO_PATCH.name);
    let mut line = arguments([&"patch"]);
    match file.filter(|_| inputs.text(RESOURCE_TO_PATCH.name) == "file") {
        Some(file) => line.extend(arguments([&"-f", &file])),
        None => {
            let kind = inputs.required(KIND.name)?.to_lowercase();
            line.extend(arguments([&kind, &inputs.required(NAME.name)?]));
        }
    }
    let strategy = format!("--type={}", inputs.text(MERGE_STRATEGY.name));
    line.extend(arguments([&strategy, &"-p", &patch]));
    let output = kubectl.must(line).await?;
    for (kind, name) in patched(&output.stdout) {
        kubectl.rollout(kind, name).await?;
        kubectl.annotate(kind, name).await?;
    }
    Ok(())
}

/// What kubectl says it has patched, of the kinds that have pods: `deployment.apps/web patched`.
fn patched(said: &str) -> impl Iterator<Item = (&str, &str)> {
    let objects = said.lines().filter_map(|line| line.split(' ').next()?.split_once('/'));
    objects.filter(|(kind, _)| WITH_PODS.iter().any(|known| kind.to_lowercase().starts_with(known)))
}

async fn delete(kubectl: &Kubectl<'_>) -> Result<(), StepError> {
    let given = kubectl.cluster.prepared.inputs.text(ARGUMENTS.name);
    if given.is_empty() {
        return Err(StepError::failed("Arguments are not supplied."));
    }
    let mut line = arguments([&"delete"]);
    line.extend(words(given));
    kubectl.must(line).await?;
    Ok(())
}

async fn create_secret(kubectl: &Kubectl<'_>) -> Result<(), StepError> {
    let Cluster { step, prepared, .. } = kubectl.cluster;
    let inputs = &prepared.inputs;
    let name = inputs.required(SECRET.name)?.trim();
    let is_of_registry = inputs.text(SECRET_TYPE.name).eq_ignore_ascii_case("dockerRegistry");
    let login = match is_of_registry {
        true => Some(private_file(step, "json", &docker_config(step, inputs.required(REGISTRY.name)?)?)?),
        false => None,
    };
    kubectl.execute(arguments([&"delete", &"secret", &name, &"--ignore-not-found"]), true).await?;
    let line = match &login {
        // The login goes by a file: others see the arguments of a process.
        Some(login) => {
            let from = format!("--from-file=.dockerconfigjson={}", login.display());
            arguments([&"create", &"secret", &"docker-registry", &name, &from])
        }
        None => {
            let mut line = arguments([&"create", &"secret", &"generic", &name]);
            line.extend(words(inputs.text(SECRET_ARGUMENTS.name)));
            line
        }
    };
    kubectl.must(line).await?;
    Ok(())
}
