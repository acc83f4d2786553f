//! Makes manifests of charts, kustomizations and Compose files (`actions/bake.ts`).

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use tokio::fs::OpenOptions;
use tokio::io::AsyncWriteExt as _;

use super::super::super::StepError;
use super::super::cluster::{Cluster, given_path};
use super::super::program::arguments;
use super::objects::{self, Objects};
use super::{
    CHART, COMPOSE_FILE, CONTAINERS, KUSTOMIZATION, OVERRIDE_FILES, OVERRIDES, RELEASE, RENDER_TYPE,
    namespace,
};
use crate::variables::Flags;

/// The variable that says where the manifests are.
const BUNDLE: &str = "manifestsBundle";

pub(super) async fn run(cluster: &Cluster<'_>) -> Result<(), StepError> {
    let Cluster { step, prepared, .. } = cluster;
    let inputs = &prepared.inputs;
    let folder = step.job.variable_or_empty("agent.tempDirectory");
    let baked = Path::new(&folder).join(format!("baked-template-{}.yaml", uuid::Uuid::new_v4()));
    match inputs.required(RENDER_TYPE.name)? {
        "helm" | "helm2" => write(&baked, &rendered(cluster, "helm", helm(cluster)?).await?).await?,
        "kustomize" => {
            let line = arguments([&"kustomize", &inputs.required(KUSTOMIZATION.name)?]);
            write(&baked, &rendered(cluster, "kubectl", line).await?).await?;
        }
        "kompose" => {
            let file = given_path(step, prepared, COMPOSE_FILE.name);
            let file = file.ok_or_else(|| StepError::failed("docker-compose file path not supplied"))?;
            let line = arguments([&"convert", &"-f", &file, &"-o", &baked]);
            cluster.program("kompose", line, &cluster.folder()).must(step, prepared).await?;
        }
        other => return Err(StepError::Failed(format!("Unknown render engine '{other}'."))),
    }
    let images = objects::lines(inputs.text(CONTAINERS.name));
    if !images.is_empty() {
        let mut objects = Objects::read(vec![baked.clone()]).await?;
        objects.substitute(&images);
        write(&baked, &objects.as_documents()?).await?;
    }
    step.set_variable(BUNDLE, &baked.to_string_lossy(), true, Flags::default());
    Ok(())
}

/// What a program prints: manifests.
async fn rendered(cluster: &Cluster<'_>, program: &str, line: Vec<OsString>) -> Result<String, StepError> {
    let Cluster { step, prepared, .. } = cluster;
    let shown: Vec<_> = line.iter().map(|word| word.to_string_lossy()).collect();
    step.output(&format!("[command] {program} {}", shown.join(" "))).await;
    let output = cluster.program(program, line, &cluster.folder()).silently(step, prepared).await?;
    let said = output.stderr.trim();
    match (output.code, said) {
        (0, "") => {}
        (0, said) => step.warning(said).await,
        (_, "") => return Err(output.failure()),
        (_, said) => return Err(StepError::failed(said)),
    }
    Ok(output.whole()?.to_owned())
}

/// The arguments by which helm renders the chart.
fn helm(cluster: &Cluster<'_>) -> Result<Vec<OsString>, StepError> {
    let inputs = &cluster.prepared.inputs;
    let mut line = arguments([&"template"]);
    line.extend(inputs.get(RELEASE.name).map(OsString::from));
    line.extend(arguments([&inputs.required(CHART.name)?, &"--namespace", &namespace(cluster)]));
    for file in objects::lines(inputs.text(OVERRIDE_FILES.name)) {
        line.extend(arguments([&"-f", &file]));
    }
    for value in objects::lines(inputs.text(OVERRIDES.name)) {
        let (name, value) = value.split_once(':').unwrap_or((value, ""));
        line.extend(arguments([&"--set", &format!("{name}={value}")]));
    }
    Ok(line)
}

/// Values of a chart may be secret, so only this user reads the file.
async fn write(path: &PathBuf, text: &str) -> Result<(), StepError> {
    let written = async {
        let mut options = OpenOptions::new();
        let mut file = options.create(true).write(true).truncate(true).mode(0o600).open(path).await?;
        file.write_all(text.as_bytes()).await?;
        file.flush().await
    };
    let unwritable = |error| StepError::Failed(format!("{} cannot be written: {error}", path.display()));
    written.await.map_err(unwritable)
}
