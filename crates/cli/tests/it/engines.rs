//! Docker and Podman for tests: Podman with a storage of its own below the target folder, and Docker's
//! command line before Podman's service. Both run an image that is made of this machine's own programs.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dayfly_testing::skip;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

/// An image in which steps can run.
pub(crate) const IMAGE: &str = "localhost/dayfly-test-job:1";

/// The same, listening on port 9418.
pub(crate) const SERVICE_IMAGE: &str = "localhost/dayfly-test-service:1";

/// Podman, with the images, while nobody else uses it: its tests look at all that is there.
pub(crate) struct Podman {
    folder: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

static FOLDER: LazyLock<Result<PathBuf, String>> = LazyLock::new(prepare);

static TURN: Mutex<()> = Mutex::new(());

impl Podman {
    /// None where the machine cannot run containers, which is said whether or not the test's output is shown.
    pub(crate) fn new() -> Option<Self> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        match &*FOLDER {
            Ok(folder) => {
                // Of a test that has failed.
                clear(folder);
                Some(Self { folder: folder.clone(), _turn: turn })
            }
            Err(reason) => {
                skip(&format!("this machine runs no containers: {reason}"));
                None
            }
        }
    }

    /// Has a program use this Podman, and no Docker.
    pub(crate) fn lead<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        lead(&self.folder, command)
    }

    /// What a command prints.
    pub(crate) fn ask(&self, arguments: &[&str]) -> String {
        let output = ask(&self.folder, arguments);
        assert!(output.status.success(), "podman {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Nothing of any job is there any more.
    pub(crate) fn has_nothing(&self) {
        assert_eq!(
            self.ask(&["ps", "--all", "--format", "{{.Names}} {{.Status}}"]),
            "",
            "no container is left"
        );
        let networks = ["network", "ls", "--quiet", "--filter", "label=dev.dayfly.agent"];
        assert_eq!(self.ask(&networks), "", "no network is left");
    }

    /// Docker's command line, and a daemon for it that an ordinary user may ask.
    pub(crate) fn docker(&self) -> Option<Docker> {
        if Command::new("docker").arg("--version").output().is_err() {
            skip("there is no `docker` on the PATH");
            return None;
        }
        if !geteuid().is_root() {
            skip("only root can start jobs as another user");
            return None;
        }
        Some(Docker::start(self))
    }
}

/// Podman's service, which speaks Docker's language.
pub(crate) struct Docker {
    service: Child,
    folder: tempfile::TempDir,
}

impl Docker {
    fn start(podman: &Podman) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("docker.sock");
        let mut command = Command::new("podman");
        podman.lead(&mut command).args(["system", "service", "--time=0"]);
        command.arg(format!("unix://{}", socket.display())).stdout(Stdio::null()).stderr(Stdio::null());
        let service = command.spawn().unwrap();
        let docker = Self { service, folder };
        let is_there = || std::os::unix::net::UnixStream::connect(&socket).is_ok();
        while !is_there() {
            std::thread::yield_now();
        }
        // An ordinary user asks it.
        for path in [docker.folder.path(), &socket] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
        }
        docker
    }

    /// Has a program use this Docker.
    pub(crate) fn lead<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("DOCKER_HOST", format!("unix://{}/docker.sock", self.folder.path().display()))
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // It ends well by this one.
        let _ = kill(Pid::from_raw(self.service.id().cast_signed()), Signal::SIGTERM);
        let _ = self.service.wait();
    }
}

fn lead<'a>(folder: &Path, command: &'a mut Command) -> &'a mut Command {
    command
        .env("CONTAINERS_CONF", folder.join("containers.conf"))
        .env("CONTAINERS_STORAGE_CONF", folder.join("storage.conf"))
        .env("DOCKER_HOST", "unix:///nonexistent/docker.sock")
}

fn ask(folder: &Path, arguments: &[&str]) -> Output {
    lead(folder, Command::new("podman").args(arguments)).output().expect("podman starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Makes the storage and the images. `Err` says why the machine cannot run any; all else is a failure.
fn prepare() -> Result<PathBuf, String> {
    if let Err(error) = Command::new("podman").arg("--version").output() {
        return Err(format!("`podman` does not start: {error}"));
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("podman");
    std::fs::create_dir_all(&folder).unwrap();
    write_configuration(&folder);
    import(&folder);
    let output = ask(&folder, &["run", "--rm", IMAGE, "/bin/bash", "-c", "echo it runs"]);
    if text(&output.stdout).trim() == "it runs" { Ok(folder) } else { Err(text(&output.stderr)) }
}

fn write_configuration(folder: &Path) {
    // Machines for tests may neither raise limits, which Podman wants by itself, nor have another runtime's
    // cgroups.
    let has_runc = Command::new("runc").arg("--version").output().is_ok();
    let runtime = if has_runc { "runtime = \"runc\"\n" } else { "" };
    let configuration = format!(
        "[containers]\ndefault_ulimits = [\"nofile=1000:1000\", \"nproc=1000:1000\"]\n\
         [engine]\n{runtime}[network]\nnetwork_backend = \"netavark\"\n"
    );
    std::fs::write(folder.join("containers.conf"), configuration).unwrap();
    let at = folder.display();
    let storage =
        format!("[storage]\ndriver = \"overlay\"\ngraphroot = \"{at}/storage\"\nrunroot = \"{at}/run\"\n");
    std::fs::write(folder.join("storage.conf"), storage).unwrap();
}

fn clear(folder: &Path) {
    ask(folder, &["rm", "--all", "--force", "--time", "0"]);
    ask(folder, &["network", "prune", "--force", "--filter", "label=dev.dayfly.agent"]);
}

/// Makes the images anew: the program that is tested needs its libraries there.
fn import(folder: &Path) {
    clear(folder);
    ask(folder, &["rmi", "--all", "--force"]);
    let script = r#"
        set -euo pipefail
        root=$(mktemp -d)
        trap 'rm -rf "$root"' EXIT
        "$1" "$root" >&2
        for file in $(ldd "$2" | grep -oE '/[^ ]+'); do
            [ -e "$root$file" ] || install -D -m 755 "$(readlink -f "$file")" "$root$file"
        done
        git_daemon=$(git --exec-path)/git-daemon
        tar -C "$root" -c . >"$root.tar"
        trap 'rm -rf "$root" "$root.tar"' EXIT
        podman import --quiet "$root.tar" "$3"
        podman import --quiet --change "ENTRYPOINT [\"$git_daemon\", \"--reuseaddr\", \"--base-path=/tmp\"]" "$root.tar" "$4"
    "#;
    let job_image = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cluster/job-image");
    let mut command = Command::new("bash");
    lead(folder, command.args(["-c", script, "import"]));
    command.arg(job_image).arg(env!("CARGO_BIN_EXE_dayfly")).args([IMAGE, SERVICE_IMAGE]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "the images cannot be made: {}", text(&output.stderr));
}

/// A registry with one image, which a user with a password may pull.
pub(crate) struct Registry {
    pub(crate) address: String,
    configuration: tempfile::TempDir,
}

impl Registry {
    /// Serves the image for steps under any name to `USER:PASSWORD`.
    pub(crate) fn start(podman: &Podman, login: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let configuration = tempfile::tempdir().unwrap();
        let image = configuration.path().join("image");
        podman.ask(&["push", "--quiet", IMAGE, &format!("dir:{}", image.display())]);
        let insecure = format!("[[registry]]\nlocation = \"{address}\"\ninsecure = true\n");
        std::fs::write(configuration.path().join("registries.conf"), insecure).unwrap();
        let authorization = format!("Basic {}", STANDARD.encode(login));
        // It serves until the tests are over.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // Whoever asks may go before the answer is there.
                let _ = answer(stream, &image, &authorization);
            }
        });
        Self { address, configuration }
    }

    /// Has a program find it.
    pub(crate) fn lead<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("CONTAINERS_REGISTRIES_CONF", self.configuration.path().join("registries.conf"))
    }
}

/// Answers one request as the distribution specification says, and closes the connection.
fn answer(mut stream: TcpStream, image: &Path, authorization: &str) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    let mut is_known = false;
    for line in lines.by_ref() {
        let line = line?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or_default();
        is_known |= name.eq_ignore_ascii_case("authorization") && value.trim() == authorization;
    }
    let last = request.split(' ').nth(1).and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    let blob = last.strip_prefix("sha256:").map(|digest| image.join(digest)).filter(|blob| blob.exists());
    let (status, kind, body) = match (is_known, blob) {
        (false, _) => {
            ("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"test\"", "text/plain", Vec::new())
        }
        (true, _) if last.is_empty() => ("200 OK", "application/json", b"{}".to_vec()),
        (true, Some(blob)) => ("200 OK", "application/octet-stream", std::fs::read(blob)?),
        (true, None) => {
            let kind = "application/vnd.oci.image.manifest.v1+json";
            ("200 OK", kind, std::fs::read(image.join("manifest.json"))?)
        }
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    if !request.starts_with("HEAD") {
        stream.write_all(&body)?;
    }
    Ok(())
}
