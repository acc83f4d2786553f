//! How a step reaches a cluster: by the kubeconfig of its service connection, of Azure, or of this machine
//! (`azure-pipelines-tasks-kubernetes-common`, `kubectlutility.ts`; `aksUtility`).

use std::io::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dayfly_mask::Masker;
use dayfly_protocol::job::{EndpointAuthorization, ServiceEndpoint};
use serde_json::{Value, json};
use tempfile::TempPath;

use super::super::definition::{Input, aliased, text};
use super::super::program::{environment_of, which};
use super::super::{Prepared, StepError};
use super::is_local;
use super::program::{Output, Program, arguments};
use crate::context::StepContext;
use crate::variables::Flags;

/// The variable, and the variable of the environment, that says which kubeconfig counts.
pub(super) const KUBECONFIG: &str = "KUBECONFIG";

/// Inputs that say which cluster is meant.
pub(super) const CONNECTION_TYPE: &str = "connectionType";
pub(super) const CONNECTION: Input =
    aliased("kubernetesServiceEndpoint", &["kubernetesServiceConnection"], "");
pub(super) const AZURE: Input =
    aliased("azureSubscriptionEndpoint", &["azureSubscription", "azureSubscriptionConnection"], "");
pub(super) const RESOURCE_GROUP: Input = text("azureResourceGroup", "");
pub(super) const CLUSTER: Input = text("kubernetesCluster", "");
pub(super) const IS_ADMIN: Input = text("useClusterAdmin", "false");

/// A cluster, as the programs of a step reach it.
pub(super) struct Cluster<'a> {
    pub(super) step: &'a StepContext,
    pub(super) prepared: &'a Prepared,
    /// The service connection it is reached by.
    connection: Option<&'a ServiceEndpoint>,
    /// The file that is gone when the step is done; none: the one that the step's environment names.
    kubeconfig: Option<TempPath>,
}

/// The cluster that a step means.
pub(super) enum Found<'a> {
    Cluster(Cluster<'a>),
    /// A run on this machine does not know the service connection, so the step was left out.
    LeftOut,
}

impl<'a> Cluster<'a> {
    /// The cluster of this machine's own kubeconfig, or one that needs none.
    pub(super) fn own(step: &'a StepContext, prepared: &'a Prepared) -> Cluster<'a> {
        Cluster { step, prepared, connection: None, kubeconfig: None }
    }

    /// The cluster that the inputs name.
    pub(super) async fn find(step: &'a StepContext, prepared: &'a Prepared) -> Result<Found<'a>, StepError> {
        let inputs = &prepared.inputs;
        let kind = inputs.text(CONNECTION_TYPE).replace(' ', "").to_lowercase();
        let azure = inputs.get(AZURE.name).filter(|_| kind == "azureresourcemanager");
        let own = Cluster::own(step, prepared);
        match (azure, inputs.get(CONNECTION.name)) {
            _ if kind == "none" => Ok(Found::Cluster(own)),
            (Some(name), _) => own.connected(name, true).await,
            (None, Some(name)) => own.connected(name, false).await,
            (None, None) if own.has_kubeconfig().await? => Ok(Found::Cluster(own)),
            (None, None) => Err(StepError::Failed(format!(
                "Input required: {}. Name a service connection, or say by the variable {KUBECONFIG} which \
                 kubeconfig is meant.",
                CONNECTION.name
            ))),
        }
    }

    /// Whether the environment of the step names a kubeconfig.
    async fn has_kubeconfig(&self) -> Result<bool, StepError> {
        let environment = environment_of(self.step, self.prepared).await?;
        Ok(environment.get(std::ffi::OsStr::new(KUBECONFIG)).is_some_and(|path| !path.is_empty()))
    }

    /// The cluster of a service connection.
    async fn connected(mut self, name: &str, is_azure: bool) -> Result<Found<'a>, StepError> {
        let Some(endpoint) = endpoint(self.step, name) else {
            let unknown = unknown_connection(name);
            if !is_local(&self.step.job) {
                return Err(StepError::Failed(unknown));
            }
            self.step.warning(&format!("This step is left out: {unknown}")).await;
            return Ok(Found::LeftOut);
        };
        self.connection = Some(endpoint);
        let kubeconfig = private_file(self.step, "kubeconfig", "")?;
        if is_azure {
            self.kubeconfig_of_azure(endpoint, &kubeconfig).await?;
        } else {
            let text = kubeconfig_of(endpoint, &self.step.job.masker).map_err(StepError::Failed)?;
            std::fs::write(&kubeconfig, text).map_err(|error| unwritable(&kubeconfig, &error))?;
        }
        self.kubeconfig = Some(kubeconfig);
        Ok(Found::Cluster(self))
    }

    /// Lets `az`, with its own login, write the kubeconfig of a cluster of Azure.
    async fn kubeconfig_of_azure(&self, endpoint: &ServiceEndpoint, to: &Path) -> Result<(), StepError> {
        let inputs = &self.prepared.inputs;
        let environment = environment_of(self.step, self.prepared).await?;
        if which("az", &environment, &self.prepared.place).await.is_none() {
            return Err(StepError::failed(
                "The kubeconfig of a cluster of Azure needs Azure's command line, and there is no `az` on \
                 the PATH. Install it and log in, or name a service connection of the type kubernetes.",
            ));
        }
        let group = inputs.required(RESOURCE_GROUP.name)?;
        let cluster = inputs.required(CLUSTER.name)?;
        let mut line =
            arguments([&"aks", &"get-credentials", &"--resource-group", &group, &"--name", &cluster]);
        if let Some(subscription) = endpoint.data.get("subscriptionId") {
            line.extend(arguments([&"--subscription", subscription]));
        }
        if inputs.flag(IS_ADMIN.name) {
            line.push("--admin".into());
        }
        line.extend(arguments([&"--overwrite-existing", &"--file", &to]));
        Program::new("az", line, self.folder()).must(self.step, self.prepared).await
    }

    /// What the service connection says beside its login.
    pub(super) fn data(&self, name: &str) -> Option<&str> {
        let data = &self.connection?.data;
        let found = data.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// The folder that programs start in.
    pub(super) fn folder(&self) -> PathBuf {
        self.step.job.variable_or_empty("system.defaultWorkingDirectory").into()
    }

    /// A program that reaches the cluster.
    pub(super) fn program(&self, name: &str, line: Vec<std::ffi::OsString>, folder: &Path) -> Program {
        let mut program = Program::new(name, line, folder);
        let kubeconfig = self.kubeconfig.as_ref().map(|file| file.to_string_lossy().into_owned());
        program.variables.extend(kubeconfig.map(|file| (KUBECONFIG, file)));
        program
    }

    /// Prints which kubectl this is, and which Kubernetes it talks to.
    pub(super) async fn tell_versions(&self, kubectl: &str) -> Result<(), StepError> {
        const RULE: &str = "==============================================================================";
        let line = arguments([&"version", &"-o", &"json"]);
        let said = self.program(kubectl, line, &self.folder()).silently(self.step, self.prepared).await?;
        let versions: Value = serde_json::from_str(&said.stdout).unwrap_or_default();
        let version = |of: &str| versions[of]["gitVersion"].as_str().map(|text| text.replace("##", "__"));
        let Some(client) = version("clientVersion") else {
            let hint = "Could not fetch Kubectl version. Please make sure that the Kubernetes server is up \
                        and running.";
            self.step.output(hint).await;
            return Ok(());
        };
        let server =
            version("serverVersion").unwrap_or_else(|| "Could not find kubectl server version".into());
        self.step.output(RULE).await;
        self.step.output(&format!("\t\t\tKubectl Client Version: {client}")).await;
        self.step.output(&format!("\t\t\tKubectl Server Version: {server}")).await;
        self.step.output(RULE).await;
        Ok(())
    }

    /// Lets later steps use the kubeconfig of the service connection: it stays until `log_out`, or until the
    /// job ends and its folder for temporary files is emptied.
    pub(super) fn log_in(self) -> Result<(), StepError> {
        let none = || StepError::failed("Kubernetes service connection details not found.");
        let path = self.kubeconfig.ok_or_else(none)?.keep();
        let path = path.map_err(|error| unwritable(&error.path, &error.error))?;
        self.step.set_variable(KUBECONFIG, &path.to_string_lossy(), false, Flags::default());
        Ok(())
    }
}

/// Takes the kubeconfig of an earlier `log_in` from the steps that follow.
pub(super) async fn log_out(step: &StepContext) -> Result<(), StepError> {
    let Some(path) = step.job.variable(KUBECONFIG).filter(|path| !path.is_empty()) else { return Ok(()) };
    step.set_variable(KUBECONFIG, "", false, Flags::default());
    // One that the variable named before is the user's own.
    if !Path::new(&path).starts_with(step.job.variable_or_empty("agent.tempDirectory")) {
        return Ok(());
    }
    match tokio::fs::remove_file(&path).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StepError::Failed(format!("{path} could not be deleted: {error}")))
        }
        _ => Ok(()),
    }
}

/// The service connection with this name or id.
pub(super) fn endpoint<'a>(step: &'a StepContext, wanted: &str) -> Option<&'a ServiceEndpoint> {
    step.job.endpoints.iter().find(|endpoint| endpoint.is_called(wanted))
}

/// Says that there is no service connection of this name.
pub(super) fn unknown_connection(name: &str) -> String {
    format!(
        "The job has no service connection '{name}'. It has to be one of the project that the pipeline may \
         use, or for `dayfly run` one of the `service-connections` of dayfly.toml."
    )
}

/// A file in the job's folder for temporary files that only this user reads, and that is gone when it is
/// dropped.
pub(super) fn private_file(step: &StepContext, extension: &str, text: &str) -> Result<TempPath, StepError> {
    let folder = PathBuf::from(step.job.variable_or_empty("agent.tempDirectory"));
    let file = tempfile::Builder::new().suffix(&format!(".{extension}")).tempfile_in(&folder);
    let mut file = file.map_err(|error| unwritable(&folder, &error))?;
    file.write_all(text.as_bytes()).map_err(|error| unwritable(file.path(), &error))?;
    Ok(file.into_temp_path())
}

/// A path that the step gives; one left empty has become the folder of the sources (`filePathSupplied`).
pub(super) fn given_path(step: &StepContext, prepared: &Prepared, input: &str) -> Option<PathBuf> {
    let path = prepared.inputs.get(input).map(PathBuf::from)?;
    let sources = step.job.primary_repository().map(|repository| repository.path);
    let roots = [sources, Some(step.job.variable_or_empty("system.defaultWorkingDirectory").into())];
    (!roots.contains(&Some(path.clone()))).then_some(path)
}

fn unwritable(path: &Path, error: &std::io::Error) -> StepError {
    StepError::Failed(format!("{} could not be written: {error}", path.display()))
}

/// The kubeconfig of a service connection; else says what is wrong with it.
fn kubeconfig_of(endpoint: &ServiceEndpoint, masker: &Masker) -> Result<String, String> {
    // Steps name it by its id.
    let name = endpoint.name.as_deref().unwrap_or_default();
    let data = |wanted: &str| {
        let found = endpoint.data.iter().find(|(key, _)| key.eq_ignore_ascii_case(wanted));
        found.map_or("", |(_, value)| value.as_str())
    };
    let kind = data("authorizationType");
    let parameter = |wanted: &str| {
        let of =
            |authorization: &'_ EndpointAuthorization| authorization.parameter(wanted).map(str::to_owned);
        endpoint.authorization.as_ref().and_then(of).ok_or_else(|| {
            format!("The service connection '{name}' has no `{wanted}`, which one of its kind needs.")
        })
    };
    match kind {
        "" | "Kubeconfig" => {
            let kubeconfig = parameter("kubeconfig")?;
            // Among the parameters, as on the service, it is masked like a secret.
            let context = parameter("clusterContext").ok().filter(|context| !context.is_empty());
            match context.as_deref().unwrap_or(data("clusterContext")) {
                "" => Ok(kubeconfig),
                context => with_context(name, &kubeconfig, context),
            }
        }
        "ServiceAccount" | "AzureSubscription" => {
            let server = endpoint.url.as_ref().map(url::Url::as_str);
            let server = server.ok_or_else(|| format!("The service connection '{name}' has no address."))?;
            let token = STANDARD
                .decode(parameter("apiToken")?.trim())
                .ok()
                .and_then(|token| String::from_utf8(token).ok());
            let token = token.ok_or_else(|| {
                format!(
                    "The `apiToken` of the service connection '{name}' is not base64, as which it stands in \
                     the Secret of a service account."
                )
            })?;
            // The job knows it by its other spelling only.
            masker.add_value(&token);
            Ok(kubeconfig_of_account(server, &parameter("serviceAccountCertificate")?, &token))
        }
        other => Err(format!("The service connection '{name}' has an unknown authorizationType '{other}'.")),
    }
}

fn kubeconfig_of_account(server: &str, certificate: &str, token: &str) -> String {
    let cluster = json!({ "server": server, "certificate-authority-data": certificate });
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "cluster", "cluster": cluster }],
        "users": [{ "name": "account", "user": { "token": token } }],
        "contexts": [{ "name": "context", "context": { "cluster": "cluster", "user": "account" } }],
        "current-context": "context",
    })
    .to_string()
}

fn with_context(name: &str, kubeconfig: &str, context: &str) -> Result<String, String> {
    let parsed: Result<serde_json::Map<String, Value>, _> = serde_saphyr::from_str(kubeconfig);
    // The parser's message would show the text, which is secret.
    let mut whole = parsed
        .map_err(|_| format!("The kubeconfig of the service connection '{name}' is not valid YAML."))?;
    whole.insert("current-context".to_owned(), context.into());
    Ok(Value::Object(whole).to_string())
}

/// The login of a registry, from its service connection, as a file `config.json` of Docker's
/// (`registryauthenticationtoken.ts`).
pub(super) fn docker_config(step: &StepContext, connection: &str) -> Result<String, StepError> {
    let endpoint =
        endpoint(step, connection).ok_or_else(|| StepError::Failed(unknown_connection(connection)))?;
    let connection = endpoint.name.as_deref().unwrap_or(connection);
    let is_azure = endpoint
        .data
        .iter()
        .any(|(key, value)| key.eq_ignore_ascii_case("registrytype") && value.eq_ignore_ascii_case("ACR"));
    let [registry, user, password] = match is_azure {
        true => ["loginServer", "serviceprincipalid", "serviceprincipalkey"],
        false => ["registry", "username", "password"],
    };
    let parameter = |name: &str| {
        let value = endpoint.authorization.as_ref().and_then(|authorization| authorization.parameter(name));
        value.ok_or_else(|| {
            StepError::Failed(format!(
                "The service connection '{connection}' has no `{name}`, so there is no login for its \
                 registry. Use one with a user and a password."
            ))
        })
    };
    let (user, password) = (parameter(user)?, parameter(password)?);
    let email = endpoint.authorization.as_ref().and_then(|authorization| authorization.parameter("email"));
    let login = json!({
        "username": user,
        "password": password,
        "email": email.unwrap_or_default(),
        "auth": STANDARD.encode(format!("{user}:{password}")),
    });
    Ok(json!({ "auths": { parameter(registry)?: login } }).to_string())
}

/// The first words of what a program said, for a variable; `None`, with a warning, if they are too many.
pub(super) async fn for_variable<'a>(step: &StepContext, output: &'a Output, of: &str) -> Option<&'a str> {
    /// How much the environment of a process takes on every system.
    const MOST: usize = 32_766;
    if output.stdout_bytes <= MOST {
        return Some(&output.stdout);
    }
    step.warning(&format!(
        "Output variable not set as {of} command output exceeded the maximum supported length. Output \
         length: {}, Maximum supported length: {MOST}",
        output.stdout_bytes
    ))
    .await;
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(data: &[(&str, &str)], parameters: &[(&str, &str)]) -> ServiceEndpoint {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        ServiceEndpoint {
            name: Some("prod".to_owned()),
            url: "https://cluster.example:6443/".parse().ok(),
            authorization: Some(EndpointAuthorization { scheme: "None".into(), parameters: map(parameters) }),
            data: map(data),
            ..ServiceEndpoint::default()
        }
    }

    #[test]
    fn a_kubeconfig_is_made_of_each_kind_of_connection() {
        let masker = Masker::new();
        let account = connection(
            &[("authorizationType", "ServiceAccount")],
            &[("apiToken", "dG9rZW4="), ("serviceAccountCertificate", "Y2E=")],
        );
        let made: Value = serde_json::from_str(&kubeconfig_of(&account, &masker).unwrap()).unwrap();
        assert_eq!(made["users"][0]["user"]["token"], "token");
        assert_eq!(masker.mask("the token"), "the ***");
        assert_eq!(made["clusters"][0]["cluster"]["certificate-authority-data"], "Y2E=");
        assert_eq!(made["clusters"][0]["cluster"]["server"], "https://cluster.example:6443/");

        let given = connection(&[], &[("kubeconfig", "a: 1\n"), ("clusterContext", "")]);
        assert_eq!(kubeconfig_of(&given, &masker).unwrap(), "a: 1\n");
        let other = connection(
            &[("AuthorizationType", "Kubeconfig")],
            &[("kubeconfig", "kind: Config\ncurrent-context: one\n"), ("clusterContext", "two")],
        );
        assert_eq!(kubeconfig_of(&other, &masker).unwrap(), r#"{"current-context":"two","kind":"Config"}"#);
    }

    #[test]
    fn what_a_connection_lacks_is_named_without_its_secrets() {
        let wrong = |data: &[(&str, &str)], parameters: &[(&str, &str)]| {
            kubeconfig_of(&connection(data, parameters), &Masker::new()).unwrap_err()
        };
        assert!(wrong(&[], &[]).contains("'prod' has no `kubeconfig`"));
        let account = [("authorizationType", "ServiceAccount")];
        assert!(wrong(&account, &[("apiToken", "not base64!")]).contains("is not base64"));
        assert!(wrong(&account, &[("apiToken", "dG9rZW4=")]).contains("`serviceAccountCertificate`"));
        assert!(wrong(&[("authorizationType", "Other")], &[]).contains("'Other'"));
        let told = wrong(&[], &[("kubeconfig", "hidden: [ s3cret"), ("clusterContext", "two")]);
        assert!(told.contains("is not valid YAML") && !told.contains("s3cret"), "{told}");
    }
}
