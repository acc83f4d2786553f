//! The built-in tasks Kubernetes, KubernetesManifest and HelmDeploy, by the kubectl and helm of this machine
//! against a real cluster, through `dayfly run`.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::world::{Cluster, DAYFLY, apply, eventually, kubectl};

/// A namespace, a service account that may do all in it, and a folder with a pipeline.
struct Place {
    cluster: Cluster,
    namespace: String,
    folder: tempfile::TempDir,
}

/// What a run printed, and its exit code.
struct Ended {
    code: Option<i32>,
    text: String,
}

impl Place {
    fn new(name: &str) -> Option<Self> {
        let cluster = Cluster::find()?;
        let namespace = format!("dayfly-deploy-{name}-{}", std::process::id());
        apply(&format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{ name: {namespace} }}\n---\n\
             apiVersion: v1\nkind: ServiceAccount\nmetadata: {{ name: deployer, namespace: {namespace} }}\n---\n\
             apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\n\
             metadata: {{ name: deployer, namespace: {namespace} }}\n\
             roleRef: {{ apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: admin }}\n\
             subjects: [{{ kind: ServiceAccount, name: deployer, namespace: {namespace} }}]\n"
        ));
        let place = Self { cluster, namespace, folder: tempfile::tempdir().expect("a folder") };
        let token = place.kubectl(&["create", "token", "deployer"]);
        place.write("token", &base64(token.trim()));
        let cluster = |what: &str| {
            let path = format!("jsonpath={{.clusters[0].cluster.{what}}}");
            kubectl(&["config", "view", "--raw", "--minify", "--output", &path])
        };
        place.write("certificate", &cluster("certificate-authority-data"));
        place.write("password", "pa55-w0rd");
        place.write(
            "dayfly.toml",
            &format!(
                "[service-connections.test]\ntype = 'kubernetes'\nurl = '{}'\nscheme = 'Token'\n\
                 data = {{ authorizationType = 'ServiceAccount', namespace = '{}' }}\n\
                 [service-connections.test.parameters]\n\
                 apiToken = {{ file = 'token' }}\nserviceAccountCertificate = {{ file = 'certificate' }}\n\
                 [service-connections.azure]\ntype = 'azurerm'\nurl = 'https://management.azure.com/'\n\
                 data = {{ subscriptionId = 'sub-1' }}\n\
                 [service-connections.registry]\ntype = 'dockerregistry'\nurl = 'https://registry.example/'\n\
                 parameters = {{ registry = {{ file = 'registry' }}, username = {{ file = 'user' }}, password = \
                 {{ file = 'password' }} }}\n",
                cluster("server"),
                place.namespace
            ),
        );
        place.write("registry", "registry.example");
        place.write("user", "puller");
        Some(place)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        kubectl(&[&["--namespace", &self.namespace], arguments].concat())
    }

    /// A field of an object.
    fn get(&self, object: &str, field: &str) -> String {
        self.kubectl(&["get", object, "--output", &format!("jsonpath={field}")])
    }

    /// `dayfly run` of this pipeline, without the cluster in its environment.
    fn command(&self, pipeline: &str) -> Command {
        self.write("azure-pipelines.yml", pipeline);
        let mut command = Command::new(DAYFLY);
        command.arg("run").current_dir(self.folder.path()).env_remove("KUBECONFIG");
        command.env("XDG_STATE_HOME", self.path("state")).env("HOME", self.path("home"));
        command
    }

    fn run(&self, pipeline: &str, code: i32) -> Ended {
        Ended::of(&mut self.command(pipeline), code)
    }
}

impl Ended {
    fn of(command: &mut Command, code: i32) -> Self {
        let output = command.output().expect("dayfly");
        let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
        let ended = Self { code: output.status.code(), text };
        assert_eq!(ended.code, Some(code), "{}", ended.text);
        ended
    }

    fn has(&self, text: &str) {
        assert!(self.text.contains(text), "{text:?} is not in:\n{}", self.text);
    }

    fn has_not(&self, text: &str) {
        assert!(!self.text.contains(text), "{text:?} is in:\n{}", self.text);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let namespace = ["delete", "namespace", &self.namespace, "--wait=false"];
        let _ = Command::new("kubectl").args(namespace).stdout(Stdio::null()).status();
    }
}

fn base64(text: &str) -> String {
    use std::io::Write as _;
    let mut child = Command::new("base64")
        .arg("--wrap=0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("base64");
    child.stdin.take().expect("its input").write_all(text.as_bytes()).expect("written");
    String::from_utf8(child.wait_with_output().expect("base64").stdout).expect("text")
}

#[test]
fn kubectl_runs_with_the_service_connection_of_the_step_and_leaves_no_kubeconfig() {
    let Some(place) = Place::new("kubectl") else { return };
    place.write(
        "m/map.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: of-file }\ndata: { a: b }\n",
    );
    place.write("m/settings.txt", "x=1\n");
    let namespace = &place.namespace;
    let ended = place.run(
        &format!(
            "steps:
- task: Kubernetes@1
  name: applied
  inputs:
    kubernetesServiceEndpoint: test
    namespace: {namespace}
    command: apply
    useConfigurationFile: true
    configuration: m/map.yaml
- bash: echo \"kind is $(jq -r .kind <<< \"$OUTPUT\")\"
  env: {{ OUTPUT: $(applied.KubectlOutput) }}
- task: Kubernetes@1
  inputs:
    kubernetesServiceEndpoint: test
    namespace: {namespace}
    command: apply
    useConfigurationFile: true
    configurationType: inline
    configuration: not/there.yaml
    inline: |
      {{ apiVersion: v1, kind: ConfigMap, metadata: {{ name: of-text }}, data: {{ run: 'no $(Build.BuildNumber)' }} }}
    secretType: dockerRegistry
    containerRegistryType: Container Registry
    dockerRegistryEndpoint: registry
    secretName: pull
    configMapName: settings
    useConfigMapFile: true
    configMapFile: m/settings.txt
    outputFormat: none
- task: Kubernetes@0
  inputs:
    kubernetesServiceConnection: test
    namespace: {namespace}
    command: get
    arguments: configmap settings
    secretType: generic
    secretName: words
    secretArguments: --from-literal=a=b
    configMapName: settings
    configMapArguments: --from-literal=never=made
    kubectlOutput: found
    outputFormat: yaml
- bash: grep -q 'x=1' <<< \"$FOUND\" && echo found it
- task: Kubernetes@1
  inputs: {{ kubernetesServiceEndpoint: test, command: login }}
- bash: stat -c 'mode %a' \"$KUBECONFIG\" && kubectl --namespace {namespace} get configmap of-text -o name
- task: Kubernetes@1
  inputs: {{ kubernetesServiceEndpoint: test, command: logout }}
- bash: echo \"left over:$(find $(Agent.TempDirectory) -name '*.kubeconfig' -o -name '*.json')[$KUBECONFIG]\"
- task: Kubernetes@1
  inputs: {{ kubernetesServiceEndpoint: test, namespace: kube-system, command: get, arguments: secrets }}
"
        ),
        1,
    );
    ended.has("Kubectl Client Version: v");
    ended.has("Kubectl Server Version: v");
    ended.has("kind is ConfigMap");
    ended.has("found it");
    ended.has("mode 600");
    ended.has("configmap/of-text");
    ended.has("left over:[]");
    // The account may do nothing elsewhere.
    ended.has("Error from server (Forbidden)");
    ended.has("failed with exit code 1");
    ended.has_not("pa55-w0rd");
    assert_eq!(place.get("configmap/of-file", "{.data.a}"), "b");
    assert_eq!(place.get("configmap/settings", "{.data.settings\\.txt}"), "x=1\n");
    assert_eq!(place.get("configmap/settings", "{.data.never}"), "");
    assert_eq!(place.get("secret/words", "{.data.a}"), "Yg==");
    assert_eq!(place.get("secret/pull", "{.type}"), "kubernetes.io/dockerconfigjson");
}

#[test]
fn manifests_are_deployed_with_images_and_secrets_and_waited_for() {
    let Some(place) = Place::new("manifests") else { return };
    place.write(
        "m/web.yml",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: web }\nspec:\n  replicas: 1\n  selector: { \
         matchLabels: { app: web } }\n  template:\n    metadata: { labels: { app: web } }\n    spec:\n      \
         terminationGracePeriodSeconds: 0\n      containers: [{ name: web, image: team/web:old }]\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: { name: web }\nspec: { selector: { app: web }, ports: [{ port: \
         9418 }] }\n",
    );
    place.write("m/pod.json", r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"alone"},"spec":{"terminationGracePeriodSeconds":0,"containers":[{"name":"a","image":"team/web"}]}}"#);
    let image = &place.cluster.service_image;
    let (name, tag) = image.rsplit_once(':').expect("a tag");
    place.write(
        "m/web.yml",
        &fs::read_to_string(place.path("m/web.yml")).expect("it").replace("team/web", name),
    );
    place.write(
        "m/pod.json",
        &fs::read_to_string(place.path("m/pod.json")).expect("it").replace("team/web", name),
    );
    let ended = place.run(
        &format!(
            "steps:
- task: KubernetesManifest@1
  inputs:
    action: createSecret
    kubernetesServiceConnection: test
    secretName: pull
    dockerRegistryEndpoint: registry
- task: KubernetesManifest@1
  inputs:
    kubernetesServiceConnection: test
    manifests: |
      m/*.yml
      m/pod.json
    containers: {name}:{tag}
    imagePullSecrets: pull
    rolloutStatusTimeout: 100
- task: KubernetesManifest@0
  inputs: {{ action: scale, kubernetesServiceConnection: test, kind: Deployment, name: web, replicas: 2, \
             rolloutStatusTimeout: 100 }}
- task: KubernetesManifest@1
  inputs:
    action: patch
    kubernetesServiceConnection: test
    resourceToPatch: name
    kind: deployment
    name: web
    mergeStrategy: merge
    patch: '{{\"metadata\": {{\"labels\": {{\"patched\": \"yes\"}}}}}}'
    rolloutStatusTimeout: 100
"
        ),
        0,
    );
    ended.has("deployment.apps/web created");
    ended.has("pod/alone is successfully rolled out");
    ended.has("deployment \"web\" successfully rolled out");
    ended.has("deployment.apps/web scaled");
    ended.has_not("pa55-w0rd");
    assert_eq!(&place.get("deployment/web", "{.spec.template.spec.containers[0].image}"), image);
    assert_eq!(place.get("deployment/web", "{.spec.template.spec.imagePullSecrets[0].name}"), "pull");
    assert_eq!(place.get("deployment/web", "{.status.readyReplicas}"), "2");
    assert_eq!(place.get("deployment/web", "{.metadata.labels.patched}"), "yes");
    let annotation = "{.items[*].metadata.annotations.azure-pipelines/pipelineId}";
    assert_ne!(place.get("pods", annotation).trim(), "", "pods say which pipeline they are of");

    let ended = place.run(
        &format!(
            "steps:
- task: KubernetesManifest@1
  inputs: {{ action: delete, kubernetesServiceConnection: test, arguments: pod/alone service/web }}
- task: KubernetesManifest@1
  inputs:
    kubernetesServiceConnection: test
    manifests: m/web.yml
    containers: {name}:of-nobody
    rolloutStatusTimeout: 3
"
        ),
        1,
    );
    ended.has("pod \"alone\" deleted");
    ended.has("timed out waiting for the condition");
    ended.has("Rollout status check failed.");
}

/// A chart with one config map.
fn chart(place: &Place) {
    place.write("charts/app/Chart.yaml", "apiVersion: v2\nname: app\nversion: 0.1.0\n");
    place.write("charts/app/values.yaml", "greeting: hello\nwho: nobody\n");
    place.write(
        "charts/app/templates/map.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: {{ .Release.Name }}-app }\ndata: { text: \"{{ \
         .Values.greeting }} {{ .Values.who }}\" }\n",
    );
    place.write("values of prod.yaml", "greeting: good day\n");
}

#[test]
fn charts_are_packaged_installed_upgraded_and_removed() {
    let Some(place) = Place::new("helm") else { return };
    chart(&place);
    let namespace = &place.namespace;
    let with = |inputs: &str| {
        format!(
            "- task: HelmDeploy@1\n  inputs:\n    connectionType: Kubernetes Service Connection\n    \
             kubernetesServiceConnection: test\n    namespace: {namespace}\n{inputs}\n"
        )
    };
    let upgrade = with(
        "    command: upgrade\n    chartType: FilePath\n    chartPath: '**/app-1.2.3.tgz'\n    releaseName: \
         one\n    valueFile: values of prod.yaml\n    overrideValues: |\n      who=you\n      unused=x",
    );
    let steps = [
        "steps:\n- task: HelmDeploy@0\n  inputs: { command: package, chartPath: charts/app, chartVersion: 1.2.3, \
         destination: $(System.DefaultWorkingDirectory)/made }\n",
        &upgrade.replace("- task: HelmDeploy@1\n", "- task: HelmDeploy@1\n  name: up\n"),
        "- bash: grep -w deployed <<< \"$OUT\" && echo \"ended with $(up.helmExitCode)\"\n  env: { OUT: \
         $(up.helmOutput) }\n",
        &with("    command: ls"),
        &with(
            "    command: upgrade\n    chartType: FilePath\n    chartPath: charts/app\n    releaseName: one",
        ),
        &with("    command: rollback\n    releaseName: one"),
    ];
    let ended = place.run(&steps.concat(), 0);
    ended.has("Successfully packaged chart and saved it to");
    ended.has("Release \"one\" does not exist. Installing it now.");
    ended.has("ended with 0");
    ended.has("app-1.2.3");
    ended.has("Rollback was a success");
    assert_eq!(place.get("configmap/one-app", "{.data.text}"), "good day you");

    let steps = [
        "steps:\n",
        &with(
            "    command: install\n    chartType: FilePath\n    chartPath: charts/app\n    releaseName: two",
        ),
        &with("    command: uninstall\n    releaseName: one"),
        &with("    command: login"),
        &format!("- bash: helm --namespace {namespace} list --short | sed 's/^/now /'\n"),
        &with("    command: logout"),
        &with("    command: get\n    arguments: all nothing"),
    ];
    let ended = place.run(&steps.concat(), 1);
    ended.has("release \"one\" uninstalled");
    ended.has("now two");
    ended.has("release: not found");
    assert_eq!(place.kubectl(&["get", "configmap", "--output", "name", "--ignore-not-found", "one-app"]), "");
}

#[test]
fn manifests_are_baked_of_charts_and_kustomizations() {
    let Some(place) = Place::new("bake") else { return };
    chart(&place);
    place.write("k/kustomization.yaml", "namePrefix: pre-\nresources: [pod.yaml]\n");
    place.write(
        "k/pod.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: { name: p }\nspec: { containers: [{ name: c, image: 'a/b:1' }] }\n",
    );
    let ended = place.run(
        "steps:
- task: KubernetesManifest@1
  name: chart
  inputs: { action: bake, helmChart: charts/app, releaseName: made, overrides: 'who:all: of us' }
- bash: cat $(chart.manifestsBundle)
- task: KubernetesManifest@1
  name: kustomized
  inputs: { action: bake, renderType: kustomize, kustomizationPath: k, containers: 'a/b:2' }
- bash: cat $(kustomized.manifestsBundle)
- task: KubernetesManifest@1
  inputs: { action: bake, renderType: kustomize, kustomizationPath: charts }
",
        1,
    );
    ended.has("made-app");
    ended.has("hello all: of us");
    ended.has("pre-p");
    ended.has("image: a/b:2");
    ended.has("kustomization");
}

#[test]
fn the_cluster_is_that_of_azure_or_of_the_users_own_kubeconfig() {
    let Some(place) = Place::new("own") else { return };
    let kubeconfig = std::env::var("KUBECONFIG").expect("the cluster's");
    // What Azure's command line does cannot be had without Azure.
    place.write(
        "bin/az",
        "#!/bin/sh\necho \"az $*\"\nwhile [ \"$1\" != --file ]; do shift; done\ncat \"$REAL\" > \"$2\"\n",
    );
    fs::set_permissions(place.path("bin/az"), fs::Permissions::from_mode(0o755)).expect("a mode");
    let namespace = &place.namespace;
    let pipeline = format!(
        "steps:
- task: Kubernetes@1
  inputs:
    connectionType: Azure Resource Manager
    azureSubscriptionEndpoint: azure
    azureResourceGroup: group
    kubernetesCluster: aks
    useClusterAdmin: true
    namespace: {namespace}
    command: create
    arguments: configmap of-azure
"
    );
    let path = format!("{}:{}", place.path("bin").display(), std::env::var("PATH").expect("a path"));
    let ended = Ended::of(place.command(&pipeline).env("PATH", &path).env("REAL", &kubeconfig), 0);
    ended.has(
        "az aks get-credentials --resource-group group --name aks --subscription sub-1 --admin \
         --overwrite-existing --file",
    );
    eventually("the config map is there", || {
        (place.get("configmap/of-azure", "{.metadata.name}") == "of-azure").then_some(())
    });

    let pipeline = format!(
        "steps:
- task: Kubernetes@1
  inputs: {{ connectionType: None, namespace: {namespace}, command: get, arguments: configmap of-azure -o name, \
             outputFormat: none }}
- task: HelmDeploy@1
  inputs: {{ connectionType: None, namespace: {namespace}, command: ls, arguments: --short }}
- task: KubernetesManifest@1
  inputs: {{ action: delete, namespace: {namespace}, arguments: configmap of-azure }}
"
    );
    let ended = Ended::of(place.command(&pipeline).env("KUBECONFIG", &kubeconfig), 0);
    ended.has("configmap/of-azure");
    ended.has("configmap \"of-azure\" deleted");
}

#[test]
fn a_deployment_reaches_the_cluster_of_its_environment() {
    let Some(place) = Place::new("environment") else { return };
    let namespace = &place.namespace;
    place
        .write("map.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: deployed }\ndata: { a: b }\n");
    // The user's own, which is for another cluster unless the context is named.
    let own = kubectl(&["config", "view", "--raw", "--minify", "--flatten", "--output", "json"]);
    let mut own: serde_json::Value = serde_json::from_str(&own).expect("JSON");
    let context = own["current-context"].as_str().expect("a context").to_owned();
    own["current-context"] = "nowhere".into();
    place.write("own.json", &own.to_string());
    let config = fs::read_to_string(place.path("dayfly.toml")).expect("a file");
    place.write(
        "dayfly.toml",
        &format!(
            "{config}\n[environments.Prod.resources.web]\nservice-connection = 'Test'\n\
             [environments.Prod.resources.mine]\nkubeconfig = 'own.json'\ncontext = '{context}'\n\
             namespace = '{namespace}'\n"
        ),
    );
    let ended = place.run(
        "jobs:
- deployment: web
  environment: prod.web
  strategy:
    runOnce:
      deploy:
        steps:
        - checkout: self
        - task: KubernetesManifest@1
          inputs: { action: deploy, manifests: map.yaml }
        - bash: echo \"at $ENVIRONMENT_NAME $(Environment.Id) $(Environment.ResourceName) $(Environment.ResourceId)\"
- deployment: mine
  dependsOn: web
  environment: { name: Prod, resourceName: mine, resourceType: kubernetes }
  strategy:
    runOnce:
      deploy:
        steps:
        - task: Kubernetes@1
          inputs: { command: get, arguments: configmap deployed -o name, outputFormat: none }
        - task: HelmDeploy@1
          inputs: { connectionType: Kubernetes Service Connection, command: ls, arguments: --short }
",
        0,
    );
    ended.has("at prod 1 web 2");
    ended.has("configmap/deployed");
    ended.has_not("***");
    assert_eq!(place.get("configmap/deployed", "{.data.a}"), "b");
}
