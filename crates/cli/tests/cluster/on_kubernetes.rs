//! `dayfly run --on kubernetes`: a namespace and nothing else, in which nothing is left.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::registry::Registry;
use crate::world::{Cluster, DAYFLY, apply, eventually, git, kubectl};

/// The label of everything that a run makes.
const LABEL: &str = "dayfly.dev/run";

/// A namespace without anything of Dayfly's, and a work tree with a commit.
struct Place {
    cluster: Cluster,
    namespace: String,
    folder: tempfile::TempDir,
}

impl Place {
    fn new(name: &str, pipeline: &str) -> Option<Self> {
        let cluster = Cluster::find()?;
        let namespace = format!("dayfly-on-{name}-{}", std::process::id());
        apply(&format!(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {namespace}\n  labels:\n    \
             pod-security.kubernetes.io/enforce: restricted\n"
        ));
        let folder = tempfile::tempdir().expect("a folder");
        let place = Self { cluster, namespace, folder };
        git(place.folder.path(), &["init", "--quiet", "app"]);
        fs::write(place.app("azure-pipelines.yml"), pipeline).expect("a pipeline");
        fs::write(place.app("file.txt"), "committed\n").expect("a file");
        let app = place.app("");
        git(&app, &["add", "--all"]);
        let user = ["-c", "user.name=a", "-c", "user.email=a@example.org"];
        git(&app, &[&user[..], &["commit", "--quiet", "--message", "first"]].concat());
        // A new namespace's pods are refused until it has its service account.
        eventually("the namespace has a service account", || {
            (!place.get("serviceaccounts").is_empty()).then_some(())
        });
        Some(place)
    }

    fn app(&self, file: &str) -> PathBuf {
        self.folder.path().join("app").join(file)
    }

    /// `dayfly run` with these options besides the usual ones, of which they replace those of their names.
    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(DAYFLY);
        command.args(["run", "--on", "kubernetes"]).args(more);
        for (option, value) in [
            ("--image", &self.cluster.job_image),
            ("--dayfly-image", &self.cluster.image),
            ("--namespace", &self.namespace),
        ] {
            if !more.contains(&option) {
                command.args([option, value]);
            }
        }
        command.current_dir(self.app("")).env("XDG_STATE_HOME", self.folder.path().join("state"));
        command
    }

    /// A run in the background, and the file with what it prints.
    fn start(&self, more: &[&str]) -> (Child, PathBuf) {
        let output = self.folder.path().join("output");
        let log = File::create(&output).expect("a log");
        let child = self
            .command(more)
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .expect("a run");
        (child, output)
    }

    /// Runs it to its end: the exit code, and all that was printed.
    fn run(&self, more: &[&str]) -> (Option<i32>, String) {
        let output = self.command(more).output().expect("dayfly");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).expect("text"))
    }

    /// The names of all objects of a kind.
    fn get(&self, kind: &str) -> String {
        kubectl(&["--namespace", &self.namespace, "get", kind, "--output", "name"])
    }

    /// Nothing is left, at this very moment: not even what is being deleted.
    fn is_clean(&self) {
        let left =
            ["--namespace", &self.namespace, "get", "pods,configmaps", "-l", LABEL, "--output", "name"];
        assert_eq!(kubectl(&left), "");
        assert_eq!(self.get("pods,secrets,poddisruptionbudgets,leases"), "");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let namespace = ["delete", "namespace", &self.namespace, "--wait=false"];
        let _ = Command::new("kubectl").args(namespace).stdout(Stdio::null()).status();
    }
}

#[test]
fn jobs_run_in_pods_with_the_work_tree_as_it_is_and_nothing_is_left() {
    let pipeline = "\
jobs:
- job: first
  steps:
  - bash: |
      echo have $(cat file.txt) and $(cat new.txt) in $(hostname)
      echo '##vso[task.setvariable variable=word;isOutput=true]swordfish'
    name: say
- job: second
  dependsOn: first
  variables:
    heard: $[ dependencies.first.outputs['say.word'] ]
  steps:
  - checkout: none
  - bash: echo heard $(heard), and not $(token)
";
    let Some(place) = Place::new("whole", pipeline) else { return };
    fs::write(place.app("file.txt"), "changed\n").expect("a file");
    fs::write(place.app("new.txt"), "untracked\n").expect("a file");
    fs::write(place.folder.path().join("token"), "s3cr3t-w0rd").expect("a secret");
    let (code, text) = place.run(&["--secret", "token=@../token"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("have changed and untracked in dayfly-run-"), "{text}");
    assert!(text.contains("heard swordfish, and not ***"), "{text}");
    assert!(!text.contains("s3cr3t-w0rd"), "{text}");
    place.is_clean();
}

/// With nothing but the program on the `PATH`: what is not checked out needs no git.
#[test]
fn pods_are_as_an_agent_set_has_them() {
    let Some(place) = Place::new("set", "steps:\n- checkout: none\n- bash: echo $SET has $(hostname)\n")
    else {
        return;
    };
    apply(&format!(
        "apiVersion: dayfly.dev/v1alpha1\nkind: AgentSet\nmetadata: {{ name: linux, namespace: {} }}\n\
         spec:\n  connectionRef: none\n  poolName: none\n  image: {}\n  agents: {{ max: 1 }}\n  \
         template:\n    spec:\n      containers:\n      - name: job\n        \
         env: [{{ name: SET, value: linux }}]\n",
        place.namespace, place.cluster.job_image
    ));
    let (code, text) = place.run(&["--agent-set", "none", "--image", "unused"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("agent set none of namespace"), "{text}");
    let mut run = place.command(&["--agent-set", "linux", "--image", "unused"]);
    let output = run.env("PATH", place.folder.path()).output().expect("dayfly");
    let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
    assert!(output.status.success() && text.contains("linux has dayfly-run-"), "{text}");
    place.is_clean();
}

#[test]
fn containers_and_services_of_a_job_work() {
    let Some(cluster) = Cluster::find() else { return };
    let pipeline = format!(
        "resources:\n  containers:\n  - container: tools\n    image: {}\n  - container: git\n    image: {}\n    \
         ports: [9418]\ncontainer: tools\nservices:\n  git: git\nsteps:\n- checkout: none\n\
         - bash: exec 3<>/dev/tcp/git/9418 && echo reached\n",
        cluster.job_image, cluster.service_image
    );
    let Some(place) = Place::new("containers", &pipeline) else { return };
    let (code, text) = place.run(&[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("reached") && !text.contains("will fail"), "{text}");
    place.is_clean();
}

/// The login is that of a service connection, and gone with the pod.
#[test]
fn a_container_comes_from_a_registry_that_wants_a_login() {
    let pipeline = "\
resources: { containers: [{ container: tools, image: dayfly-test-private:1, endpoint: images }] }
container: tools
steps:
- checkout: none
- bash: echo pulled
";
    let Some(place) = Place::new("registry", pipeline) else { return };
    let Some(registry) = Registry::with_login("ada", PASSWORD) else { return };
    let url = format!("http://{}", registry.address);
    let config = format!(
        "[service-connections.images]\nurl = '{url}'\ntype = 'dockerregistry'\nscheme = 'UsernamePassword'\n\
         parameters = {{ registry = '{url}', username = 'ada', password = {{ env = 'REGISTRY_PASSWORD' }} }}\n"
    );
    fs::write(place.app("dayfly.toml"), config).expect("a configuration");
    let output = place.command(&[]).env("REGISTRY_PASSWORD", PASSWORD).output().expect("dayfly");
    let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
    assert!(output.status.success() && text.contains("pulled"), "{text}");
    assert!(registry.refused() > 0, "the registry asked for the login");
    assert!(!text.contains(PASSWORD), "{text}");
    // The cluster deletes what belonged to the pod.
    eventually("no Secret is left", || place.get("secrets").is_empty().then_some(()));
    place.is_clean();
}

const PASSWORD: &str = "r3gistry-w0rd";

#[test]
fn a_pipeline_that_fails_says_so_by_its_exit_code_and_leaves_nothing() {
    let Some(place) = Place::new("failing", "steps:\n- bash: exit 7\n") else { return };
    let (code, text) = place.run(&[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("Bash exited with code '7'"), "{text}");
    place.is_clean();
}

#[test]
fn lines_come_as_they_are_written_and_an_interrupt_cancels_the_job_and_leaves_nothing() {
    let pipeline = "\
steps:
- bash: echo it begins; sleep 300
- bash: echo cleaned up
  condition: always()
";
    let Some(place) = Place::new("interrupted", pipeline) else { return };
    let (mut child, output) = place.start(&[]);
    let says = |what: &str| fs::read_to_string(&output).is_ok_and(|text| text.contains(what)).then_some(());
    eventually("a line is shown while its step runs", || says("it begins"));
    assert!(!place.get("pods").is_empty(), "the job is in a pod");
    kill(Pid::from_raw(child.id().try_into().expect("a number")), Signal::SIGINT).expect("a signal");
    let status = eventually("the run ends", || child.try_wait().expect("it can be waited for"));
    let text = fs::read_to_string(&output).expect("its output");
    assert_eq!(status.code(), Some(130), "{text}");
    assert!(text.contains("cleaned up"), "{text}");
    place.is_clean();
}

#[test]
fn an_interrupt_while_a_pod_waits_leaves_nothing() {
    let Some(place) = Place::new("waiting", "steps:\n- bash: echo never\n") else { return };
    let (mut child, output) = place.start(&["--image", "registry.invalid/none:1"]);
    eventually("a pod waits", || (!place.get("pods").is_empty()).then_some(()));
    kill(Pid::from_raw(child.id().try_into().expect("a number")), Signal::SIGINT).expect("a signal");
    let status = eventually("the run ends", || child.try_wait().expect("it can be waited for"));
    let text = fs::read_to_string(&output).expect("its output");
    assert_eq!(status.code(), Some(130), "{text}");
    place.is_clean();
}

#[test]
fn what_is_wrong_with_the_cluster_is_said_before_anything_is_made_there() {
    let Some(place) = Place::new("refused", "steps:\n- bash: echo never\n") else { return };
    let (code, text) = place.run(&["--namespace", "dayfly-no-such"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("namespace dayfly-no-such does not exist"), "{text}");
    let (code, text) = place.run(&["--context", "no-such"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("the context `no-such` cannot be used"), "{text}");
    let (code, text) = place.run(&["--address", "127.0.0.1"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("127.0.0.1 is each pod's own; give it with --address"), "{text}");
    place.is_clean();
}
