//! A namespace of a real cluster with an agent set in it, a controller beside the cluster, and the emulator
//! in place of Azure DevOps. All of it is the built binary and `kubectl`, as a user has them.
//!
//! What a test waits for is a condition, looked at several times a second, for a minute or two at most.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

use dayfly_testing::skip;

use crate::service::Service;

/// How long a condition may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The login of the emulator.
pub(crate) const PAT: &str = "cluster-test-pat-5f1c0d5e";

/// The program.
pub(crate) const DAYFLY: &str = env!("CARGO_BIN_EXE_dayfly");

/// What the cluster is to these tests; see `.ci/run cluster`.
pub(crate) struct Cluster {
    /// This machine, as pods see it.
    pub(crate) address: String,
    /// An image with `/dayfly`.
    pub(crate) image: String,
    /// An image with git and bash.
    pub(crate) job_image: String,
    /// An image that listens on port 9418.
    pub(crate) service_image: String,
}

impl Cluster {
    /// The cluster that the environment names; `None`, with a word about it, if there is none.
    pub(crate) fn find() -> Option<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let found = (|| {
            variable("KUBECONFIG")?;
            Some(Self {
                address: variable("DAYFLY_TEST_ADDRESS")?,
                image: variable("DAYFLY_TEST_IMAGE")?,
                job_image: variable("DAYFLY_TEST_JOB_IMAGE")?,
                service_image: variable("DAYFLY_TEST_SERVICE_IMAGE")?,
            })
        })();
        if found.is_none() {
            skip("there is no cluster; `.ci/run cluster` says what these tests need");
        }
        found
    }
}

/// How a world differs from the usual one.
#[derive(Default)]
pub(crate) struct Differences {
    /// More for the set: YAML, of which an `image` replaces the usual one.
    pub(crate) spec: String,
    /// More for the connection: YAML, of which an `auth` replaces the usual one.
    pub(crate) connection: String,
    /// More objects of the namespace.
    pub(crate) objects: String,
    /// What the emulator has beside its pipelines: a `dayfly.toml`, in a folder with the file `pat`.
    pub(crate) library: String,
    /// Where the emulator listens, and under which URL it is known.
    pub(crate) listen: Option<String>,
    pub(crate) public_url: Option<String>,
    /// The Pod Security standard of the namespace in place of `restricted`.
    pub(crate) pod_security: Option<&'static str>,
    /// Whether the controller has a namespace of its own.
    pub(crate) is_apart: bool,
    /// Whether pods reach all controllers at one address.
    pub(crate) is_behind_service: bool,
}

impl From<&str> for Differences {
    /// One whose set says more.
    fn from(spec: &str) -> Self {
        Self { spec: spec.to_owned(), ..Self::default() }
    }
}

/// One namespace with all that belongs to it.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) namespace: String,
    /// The namespace of the controller.
    home: String,
    folder: tempfile::TempDir,
    channel: u16,
    service: Option<Service>,
    emulator: Child,
    controller: Option<Child>,
    /// Those beside it.
    others: Vec<Child>,
    pub(crate) url: String,
}

impl World {
    /// A set of `max` agents that are online.
    pub(crate) fn new(name: &str, max: u16) -> Option<Self> {
        Self::with(name, max, "")
    }

    /// The same with more in its spec: YAML, of which an `image` replaces the usual one.
    pub(crate) fn with(name: &str, max: u16, spec: &str) -> Option<Self> {
        let world = Self::without_agents(name, max, &spec.into())?;
        world.has_online(max);
        Some(world)
    }

    /// One that differs from the usual one, whose agents may not be online.
    pub(crate) fn without_agents(name: &str, max: u16, differences: &Differences) -> Option<Self> {
        static CHANNEL: AtomicU16 = AtomicU16::new(27_400);
        let cluster = Cluster::find()?;
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("pat"), PAT).expect("the PAT's file");
        git(folder.path(), &["init", "--quiet", "app"]);
        fs::write(folder.path().join("app/azure-pipelines.yml"), "steps: []\n").expect("a pipeline");
        let (emulator, url) = start_emulator(&cluster, folder.path(), differences);
        // Pods may have to go another way than we do.
        let direct = differences.listen.as_ref().map(|listen| format!("http://{listen}/dayfly"));
        let channel =
            CHANNEL.fetch_add(1, Ordering::Relaxed) + u16::try_from(std::process::id() % 500).unwrap_or(0);
        // Also of another name than that of a test which took the same word.
        let namespace = format!("dayfly-{name}-{}-{channel}", std::process::id());
        let home = if differences.is_apart { format!("{namespace}-home") } else { namespace.clone() };
        let service = differences.is_behind_service.then(|| Service::new(&cluster.address));
        let mut world = Self {
            cluster,
            namespace,
            home,
            folder,
            channel,
            service,
            emulator,
            controller: None,
            others: Vec::new(),
            url,
        };
        world.set_up(max, differences);
        if let Some(direct) = direct {
            world.url = direct;
        }
        Some(world)
    }

    fn set_up(&mut self, max: u16, differences: &Differences) {
        let (namespace, url) = (&self.namespace, &self.url);
        let Differences { spec, connection, objects, .. } = differences;
        let auth = match connection.contains("auth:") {
            true => "",
            false => "  auth:\n    personalAccessToken: { secretRef: { name: azure-devops, key: token } }\n",
        };
        let image = match spec.contains("image:") {
            true => String::new(),
            false => format!("image: {}", self.cluster.job_image),
        };
        let standard = differences.pod_security.unwrap_or("restricted");
        apply(&format!(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {namespace}\n  labels:\n    \
             pod-security.kubernetes.io/enforce: {standard}\n"
        ));
        if differences.is_apart {
            apply(&format!("apiVersion: v1\nkind: Namespace\nmetadata: {{ name: {} }}\n", self.home));
        }
        apply(&dayfly(&["crds"]));
        for definition in ["azuredevopsconnections", "agentsets", "pipelinejobs"] {
            let name = format!("crd/{definition}.dayfly.dev");
            kubectl(&["wait", "--for=condition=Established", "--timeout=60s", &name]);
        }
        apply(&format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{ name: azure-devops, namespace: {namespace} }}\n\
             stringData: {{ token: {PAT} }}\n---\n\
             apiVersion: dayfly.dev/v1alpha1\nkind: AzureDevOpsConnection\n\
             metadata: {{ name: azure-devops, namespace: {namespace} }}\nspec:\n  url: {url}\n{auth}{connection}---\n\
             apiVersion: dayfly.dev/v1alpha1\nkind: AgentSet\n\
             metadata: {{ name: linux, namespace: {namespace} }}\nspec:\n  connectionRef: azure-devops\n  \
             poolName: k8s\n  agents: {{ max: {max} }}\n  {image}\n{spec}"
        ));
        if !objects.is_empty() {
            self.apply(objects);
        }
        self.start_controller();
    }

    /// Another service from now on, with the same login and the same pipeline; the connection names it.
    pub(crate) fn move_service(&mut self) {
        let (emulator, url) = start_emulator(&self.cluster, self.folder.path(), &Differences::default());
        self.others.push(std::mem::replace(&mut self.emulator, emulator));
        self.url = url;
        let patch = format!(r#"{{"spec":{{"url":"{}"}}}}"#, self.url);
        self.kubectl(&["patch", "azuredevopsconnection", "azure-devops", "--type=merge", "--patch", &patch]);
    }

    /// The name of the controller that minds the set.
    pub(crate) fn holder(&self) -> String {
        self.get("lease/dayfly-linux", "{.spec.holderIdentity}")
    }

    /// Waits until so many agents are online.
    pub(crate) fn has_online(&self, count: u16) {
        eventually("the agents are online", || {
            (self.get("agentset/linux", "{.status.online}") == count.to_string()).then_some(())
        });
    }

    /// Waits until a condition of an object has this reason; its message.
    pub(crate) fn has_condition(&self, object: &str, condition: &str, reason: &str) -> String {
        let path = |field| format!("{{.status.conditions[?(@.type=='{condition}')].{field}}}");
        eventually(&format!("{condition} of {object} is {reason}"), || {
            (self.get(object, &path("reason")) == reason).then_some(())
        });
        self.get(object, &path("message"))
    }

    /// Starts the controller, or another one.
    pub(crate) fn start_controller(&mut self) {
        self.controller = Some(self.spawn_controller("first", self.channel));
    }

    /// Starts one beside that which is there, with a name and a channel of its own.
    pub(crate) fn start_another_controller(&mut self, name: &str) {
        let other = self.spawn_controller(name, self.channel + 1000);
        self.others.push(other);
    }

    fn spawn_controller(&self, name: &str, channel: u16) -> Child {
        let health = format!("127.0.0.1:{}", health_port(channel));
        let file = self.folder.path().join("controller.log");
        let log = File::options().append(true).create(true).open(file).expect("a log");
        let listen = format!("{}:{channel}", self.cluster.address);
        let channel = self.service.as_ref().map_or_else(
            || listen.clone(),
            |service| {
                service.add(listen.parse().expect("an address"));
                service.address.to_string()
            },
        );
        Command::new(DAYFLY)
            .args(["controller", "--namespace", &self.namespace, "--controller-namespace", &self.home])
            .args(["--image", &self.cluster.image, "--channel", &channel, "--channel-listen", &listen])
            .args(["--folder", &self.folder.path().to_string_lossy(), "--name", name, "--listen", &health])
            .env("DAYFLY_LOG", "info")
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("the controller")
    }

    /// The metrics of the first controller.
    pub(crate) fn metrics(&self) -> String {
        let url = format!("http://127.0.0.1:{}/metrics", health_port(self.channel));
        let output = Command::new("curl").args(["--silent", "--noproxy", "*", &url]).output().expect("curl");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Sends a signal to the controller; its process.
    pub(crate) fn controller_signal(&self, signal: &str) -> u32 {
        let process = self.controller.as_ref().expect("there is a controller").id();
        Self::signal(process, signal);
        process
    }

    /// Sends a signal to a process.
    pub(crate) fn signal(process: u32, signal: &str) {
        let status = Command::new("kill").args([format!("-{signal}"), process.to_string()]).status();
        assert!(status.expect("kill").success());
    }

    /// Kills the controller as `kill -9` does.
    pub(crate) fn kill_controller(&mut self) {
        if let Some(mut controller) = self.controller.take() {
            controller.kill().expect("it can be killed");
            controller.wait().expect("it has ended");
        }
    }

    /// Puts the login of the emulator into the Secret, which a test may have spoilt.
    pub(crate) fn renew_login(&self) {
        let patch = format!(r#"{{"stringData":{{"token":"{PAT}"}}}}"#);
        self.kubectl(&["patch", "secret", "azure-devops", "--type=merge", "--patch", &patch]);
    }

    /// Queues a run of this pipeline; it goes on in the background.
    pub(crate) fn queue(&self, pipeline: &str) -> Run {
        self.write_pipeline(pipeline);
        let output = self.folder.path().join(format!("run-{}.log", fastrand::u32(..)));
        let log = File::create(&output).expect("a log");
        let child = Command::new(DAYFLY)
            .args(["emulator", "queue", "app", "--url", &self.url, "--pat-file"])
            .arg(self.folder.path().join("pat"))
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("a run");
        Run { child, output }
    }

    /// What is queued from now on.
    pub(crate) fn write_pipeline(&self, pipeline: &str) {
        let file = self.folder.path().join("app/azure-pipelines.yml");
        // A run that was queued just now may be reading it.
        if fs::read_to_string(&file).ok().as_deref() != Some(pipeline) {
            fs::write(file, pipeline).expect("a pipeline");
        }
    }

    /// What `kubectl get` says of an object.
    pub(crate) fn get(&self, object: &str, path: &str) -> String {
        let output = format!("jsonpath={path}");
        kubectl(&["--namespace", &self.namespace, "get", object, "--output", &output])
    }

    /// `kubectl` in this namespace.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        kubectl(&[&["--namespace", &self.namespace], arguments].concat())
    }

    /// Writes this part of every change of these objects down, from now on.
    pub(crate) fn watch(&self, what: &str, part: &str) -> Watch {
        let output = tempfile::NamedTempFile::new().expect("a file");
        let child = Command::new("kubectl")
            .args(["--namespace", &self.namespace, "get", what, "--watch", "--output"])
            .arg(format!("jsonpath={part}"))
            .stdout(output.reopen().expect("the file"))
            .spawn()
            .expect("kubectl");
        Watch { child, output }
    }

    /// Applies objects in this namespace.
    pub(crate) fn apply(&self, objects: &str) {
        apply_in(&["--namespace", &self.namespace], objects);
    }

    /// Has the API evict a pod, as `kubectl drain` does; the error is its refusal.
    pub(crate) fn evict(&self, pod: &str) -> Result<(), String> {
        let namespace = &self.namespace;
        let eviction = format!(
            r#"{{"apiVersion":"policy/v1","kind":"Eviction","metadata":{{"name":"{pod}","namespace":"{namespace}"}}}}"#
        );
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/eviction");
        pipe(&["create", "--raw", &path, "--filename", "-"], &eviction)
    }

    /// Waits until the record of the one job there is gives this reason, as `kubectl get` shows it.
    pub(crate) fn is_told_why_it_waits(&self, reason: &str) {
        eventually(&format!("a job waits for {reason:?}"), || {
            self.get("pipelinejobs", "{.items[*].status.reason}").contains(reason).then_some(())
        });
        assert!(self.kubectl(&["get", "pipelinejobs"]).contains(reason), "it is in the list");
    }

    /// All logs of the first build.
    pub(crate) fn logs(&self) -> String {
        let list = self.ask("/dayfly/_apis/build/builds/1/logs");
        // It is also asked for when a test has failed, whatever is left of the service.
        let list: serde_json::Value = serde_json::from_str(&list).unwrap_or_default();
        let logs = list["value"].as_array().into_iter().flatten();
        logs.map(|log| self.ask(&format!("/dayfly/_apis/build/builds/1/logs/{}", log["id"]))).collect()
    }

    /// Registers an agent of somebody else's in the pool.
    pub(crate) fn register_foreign_agent(&self, name: &str) {
        let body = format!(r#"{{"name":"{name}","version":"4.0.0","maxParallelism":1}}"#);
        self.send("POST", "/_apis/distributedtask/pools/1/agents?api-version=5.1", &body);
    }

    /// Cancels the first build, as its page in Azure DevOps does.
    pub(crate) fn cancel(&self) {
        self.send("PATCH", "/dayfly/_apis/build/builds/1?api-version=7.1", r#"{"status":"cancelling"}"#);
    }

    /// Sends JSON to the service, which takes it.
    fn send(&self, method: &str, path: &str, body: &str) {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--fail-with-body", "--user", &format!(":{PAT}")])
            .args(["--request", method, "--header", "Content-Type: application/json", "--data", body])
            .arg(format!("{}{path}", self.url))
            .output()
            .expect("curl");
        assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stdout));
    }

    /// The agents' names in the pool, in order.
    pub(crate) fn agent_names(&self) -> Vec<String> {
        let list = self.ask("/_apis/distributedtask/pools/1/agents");
        let list: serde_json::Value = serde_json::from_str(&list).expect("a list of agents");
        let names = list["value"].as_array().into_iter().flatten();
        let mut names: Vec<_> =
            names.map(|agent| agent["name"].as_str().unwrap_or_default().to_owned()).collect();
        names.sort();
        names
    }

    /// What the service answers.
    fn ask(&self, path: &str) -> String {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--fail-with-body", "--user", &format!(":{PAT}")])
            .arg(format!("{}{path}", self.url))
            .output()
            .expect("curl");
        String::from_utf8(output.stdout).expect("text")
    }

    /// The pods of jobs there are.
    pub(crate) fn pods(&self) -> Vec<String> {
        let names = self.get("pods", "{.items[*].metadata.name}");
        names.split_whitespace().map(str::to_owned).collect()
    }

    /// Waits until a step has made the file `/work/began`; its job's pod.
    pub(crate) fn pod_whose_step_began(&self) -> String {
        let has_begun = |pod: &String| {
            let look = ["--namespace", &self.namespace, "exec", pod, "--", "test", "-e", "/work/began"];
            Command::new("kubectl").args(look).stderr(Stdio::null()).status().expect("kubectl").success()
        };
        eventually("a step has begun", || self.pods().into_iter().find(has_begun))
    }

    /// Waits until no pod is left.
    pub(crate) fn no_pod_is_left(&self) {
        eventually("no pod is left", || self.pods().is_empty().then_some(()));
    }

    /// The agents in the pool, by the service.
    pub(crate) fn agents(&self) -> usize {
        let list = self.ask("/_apis/distributedtask/pools/1/agents");
        let list: serde_json::Value = serde_json::from_str(&list).expect("a list of agents");
        list["value"].as_array().map_or(0, Vec::len)
    }

    /// What the API server answers to who shows this token: the status line.
    pub(crate) fn api_says(&self, token: &str) -> String {
        let server = self.kubectl(&[
            "config",
            "view",
            "--minify",
            "--output",
            "jsonpath={.clusters[0].cluster.server}",
        ]);
        let output = Command::new("curl")
            .args(["--silent", "--insecure", "--output", "/dev/null", "--write-out", "%{http_code}"])
            .args([
                "--header",
                &format!("Authorization: Bearer {token}"),
                &format!("{server}/api/v1/namespaces"),
            ])
            .output()
            .expect("curl");
        String::from_utf8(output.stdout).expect("text")
    }

    /// What the controller has logged.
    pub(crate) fn controller_log(&self) -> String {
        fs::read_to_string(self.folder.path().join("controller.log")).unwrap_or_default()
    }
}

/// Where a controller with this channel tells how it is.
fn health_port(channel: u16) -> u16 {
    channel + 2000
}

/// An emulator whose files are in this folder, and its address.
fn start_emulator(cluster: &Cluster, folder: &Path, differences: &Differences) -> (Child, String) {
    let log = File::create(folder.join("emulator.log")).expect("a log");
    let listen = differences.listen.clone().unwrap_or_else(|| format!("{}:0", cluster.address));
    let public_url = differences.public_url.iter().flat_map(|url| ["--public-url", url]);
    let library = folder.join("dayfly.toml");
    fs::write(&library, &differences.library).expect("the library");
    let emulator = Command::new(DAYFLY)
        .args(["emulator", "--listen", &listen, "--pool", "k8s"])
        .args(public_url)
        .arg("--config")
        .arg(library)
        .arg("--pat-file")
        .arg(folder.join("pat"))
        .arg("--pipeline")
        .arg(format!("app={}", folder.join("app/azure-pipelines.yml").display()))
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .spawn()
        .expect("the emulator");
    let url = eventually("the emulator says where it is", || {
        let text = fs::read_to_string(folder.join("emulator.log")).ok()?;
        let start = text.find("http")?;
        let url: String = text[start..].chars().take_while(|letter| !letter.is_whitespace()).collect();
        url.contains("/dayfly").then_some(url)
    });
    (emulator, url)
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the controller's log:\n{}", self.controller_log());
            eprintln!("the first build's logs:\n{}", self.logs());
            let pods = ["--namespace", &self.namespace, "describe", "pods"];
            let _ = Command::new("kubectl").args(pods).stdout(std::io::stderr()).status();
        }
        // With a controller that is alive, so that nothing is left in the pool and no finalizer holds.
        let set = [
            "--namespace",
            &self.namespace,
            "delete",
            "agentset",
            "linux",
            "--timeout=30s",
            "--ignore-not-found",
        ];
        let _ = Command::new("kubectl").args(set).stdout(Stdio::null()).status();
        for child in self.controller.iter_mut().chain(&mut self.others).chain([&mut self.emulator]) {
            let _ = child.kill();
            let _ = child.wait();
        }
        let namespace =
            ["delete", "namespace", &self.namespace, &self.home, "--wait=false", "--ignore-not-found"];
        let _ = Command::new("kubectl").args(namespace).stdout(Stdio::null()).status();
    }
}

/// A run that was queued.
pub(crate) struct Run {
    child: Child,
    output: PathBuf,
}

impl Run {
    /// What it has printed so far.
    pub(crate) fn text(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// Waits until it has printed this.
    pub(crate) fn says(&self, what: &str) {
        eventually(&format!("the run says {what:?}: {}", self.text()), || {
            self.text().contains(what).then_some(())
        });
    }

    /// Waits for its end: whether it succeeded, and what it printed.
    pub(crate) fn end(self) -> (bool, String) {
        self.end_within(PATIENCE)
    }

    /// The same of one that takes its time.
    pub(crate) fn end_within(mut self, patience: Duration) -> (bool, String) {
        let look = || self.child.try_wait().expect("it can be waited for");
        let status = within(patience, "the run ends", look);
        (status.success(), self.text())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Looks until there is what is looked for.
pub(crate) fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, look)
}

fn within<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {} s: {what}", patience.as_secs());
        sleep(Duration::from_millis(200));
    }
}

pub(crate) fn git(folder: &Path, arguments: &[&str]) {
    let status = Command::new("git").current_dir(folder).args(arguments).status().expect("git");
    assert!(status.success());
}

fn dayfly(arguments: &[&str]) -> String {
    let output = Command::new(DAYFLY).args(arguments).output().expect("dayfly");
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("text")
}

/// What `kubectl get --watch` writes.
pub(crate) struct Watch {
    child: Child,
    output: tempfile::NamedTempFile,
}

impl Watch {
    /// All of it so far.
    pub(crate) fn seen(&self) -> String {
        fs::read_to_string(self.output.path()).expect("text")
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

pub(crate) fn kubectl(arguments: &[&str]) -> String {
    let output = Command::new("kubectl").args(arguments).output().expect("kubectl");
    let errors = String::from_utf8_lossy(&output.stderr);
    // A pod may have gone since it was listed.
    assert!(output.status.success() || errors.contains("NotFound"), "kubectl {arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}

pub(crate) fn apply(objects: &str) {
    apply_in(&[], objects);
}

fn apply_in(place: &[&str], objects: &str) {
    let arguments = ["apply", "--server-side", "--force-conflicts", "--filename", "-"];
    pipe(&[place, &arguments].concat(), objects).unwrap_or_else(|error| panic!("{error}: {objects}"));
}

/// `kubectl` that reads this; what it says if it fails.
fn pipe(arguments: &[&str], input: &str) -> Result<(), String> {
    use std::io::Write as _;
    let mut child = Command::new("kubectl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kubectl");
    child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}
