//! Templates of other repositories.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::project::Project;
use crate::run::assert_has;

const PIPELINE: &str = "resources:\n  repositories:\n  - repository: Templates\n    type: git\n    name: shared/templates\n    ref: refs/heads/stable\n\
                        extends:\n  template: ci/whole.yml@templates\n  parameters: { who: world }\n";

/// The repository with the templates.
fn templates(folder: &Path) {
    fs::create_dir_all(folder.join("ci/steps")).unwrap();
    let whole = "parameters:\n- name: who\nsteps:\n- checkout: none\n- template: steps/greet.yml\n  parameters: { who: '${{ parameters.who }}' }\n\
                 - template: own.yml@self\n";
    fs::write(folder.join("ci/whole.yml"), whole).unwrap();
    let greet = "parameters:\n- name: who\nsteps:\n- bash: echo hello ${{ parameters.who }}\n";
    fs::write(folder.join("ci/steps/greet.yml"), greet).unwrap();
}

#[test]
fn templates_come_from_a_folder_that_is_given_and_from_there_again() {
    let project = Project::with_pipeline(PIPELINE);
    project.write("own.yml", "steps:\n- bash: echo from the own repository\n");
    let other = tempfile::tempdir().unwrap();
    templates(other.path());
    let given = format!("templates={}", other.path().display());
    let ended = project.run(&["--repository", &given], 0);
    assert_has(&ended, "hello world");
    assert_has(&ended, "from the own repository");
    fs::write(other.path().join("ci/steps/greet.yml"), "steps:\n- bsh: x\n").unwrap();
    let ended = project.run(&["--repository", &given], 2);
    assert!(ended.stderr.contains("ci/steps/greet.yml@templates:2:3"), "{}", ended.stderr);
    fs::remove_file(other.path().join("ci/steps/greet.yml")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", other.path().join("ci/steps/greet.yml")).unwrap();
    let ended = project.run(&["--repository", &given], 2);
    assert!(ended.stderr.contains("it is a link that leaves its repository"), "{}", ended.stderr);
}

#[test]
fn a_template_that_is_extended_declares_repositories_of_its_own() {
    let project =
        Project::with_pipeline("extends:\n  template: redirect.yml\n  parameters: { whom: world }\n");
    let redirect = format!(
        "parameters:\n- name: whom\n{}",
        PIPELINE.replace("who: world", "who: '${{ parameters.whom }}'")
    );
    project.write("redirect.yml", &redirect);
    project.write("own.yml", "steps:\n- bash: echo from the own repository\n");
    let other = tempfile::tempdir().unwrap();
    templates(other.path());
    let ended = project.run(&["--repository", &format!("templates={}", other.path().display())], 0);
    assert_has(&ended, "hello world");
    assert_has(&ended, "from the own repository");
}

/// A pipeline whose `origin` is a folder that stands for the service, with the repository `shared/templates`.
struct Cloned {
    project: Project,
    service: tempfile::TempDir,
    cache: tempfile::TempDir,
}

impl Cloned {
    fn new() -> Self {
        let project = Project::with_pipeline(PIPELINE);
        project.write("own.yml", "steps: []\n");
        let folder = || tempfile::tempdir().unwrap();
        let cloned = Self { project, service: folder(), cache: folder() };
        let other = cloned.service.path().join("shared/_git/templates");
        templates(&other);
        git_in(&other, &["init", "--quiet", "--initial-branch", "stable"]);
        commit_all(&other);
        cloned.project.git(&["init", "--quiet"]);
        cloned.set_origin(&format!("file://{}/own/_git/app", cloned.service.path().display()));
        cloned
    }

    fn set_origin(&self, url: &str) {
        self.project.git(&["config", "remote.origin.url", url]);
    }

    /// Takes the service away.
    fn cut(&self) {
        fs::remove_dir_all(self.service.path().join("shared")).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let all = ["run"].iter().chain(arguments).copied().collect::<Vec<_>>();
        let mut command = self.project.command(&all);
        command.env("XDG_CACHE_HOME", self.cache.path());
        command
    }

    /// Everything that is printed.
    fn run(&self, arguments: &[&str], code: i32) -> String {
        all_of(&mut self.command(arguments), code)
    }

    /// The one copy there is.
    fn copy(&self) -> PathBuf {
        let copies = fs::read_dir(self.cache.path().join("dayfly/repositories")).unwrap();
        let copies: Vec<_> = copies.map(|entry| entry.unwrap().path()).collect();
        assert_eq!(copies.len(), 1, "{copies:?}");
        copies[0].clone()
    }

    /// Makes the copy two days old.
    fn age(&self) {
        let mark = fs::File::open(self.copy().join(".git/dayfly-fetched")).unwrap();
        mark.set_modified(SystemTime::now() - Duration::from_secs(49 * 60 * 60)).unwrap();
    }
}

fn all_of(command: &mut Command, code: i32) -> String {
    let ended = command.output().unwrap();
    let text = [ended.stdout, ended.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    assert_eq!(ended.status.code(), Some(code), "{text}");
    text
}

fn git_in(folder: &Path, arguments: &[&str]) -> String {
    let done = Command::new("git").current_dir(folder).args(arguments).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

fn commit_all(folder: &Path) {
    git_in(folder, &["add", "."]);
    git_in(folder, &["-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "--quiet", "--message", "x"]);
}

fn program(folder: &Path, name: &str, script: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// By the user's own git, which here takes a folder for the service; afterwards without it.
#[test]
fn templates_are_cloned_once_and_there_without_a_network() {
    let cloned = Cloned::new();
    assert!(cloned.run(&[], 0).contains("hello world"));
    cloned.cut();
    let text = cloned.run(&[], 0);
    assert!(text.contains("hello world") && !text.contains("cannot be fetched"), "the copy is taken: {text}");
    cloned.age();
    let text = cloned.run(&[], 0);
    assert!(text.contains("hello world") && text.contains("warning: file://"), "{text}");
    assert!(text.contains("so a copy from 2 days ago is used: fatal: "), "{text}");
    let text = cloned.run(&["--json"], 0);
    assert!(text.contains("\"event\":\"warning\"") && text.contains("cannot be fetched"), "{text}");
    // A run that was killed while it put a new copy in the place of this one.
    let copy = cloned.copy();
    fs::rename(&copy, copy.with_extension("old")).unwrap();
    assert!(cloned.run(&[], 0).contains("hello world"));
}

#[test]
fn whoever_cannot_clone_is_told_why_and_what_to_do() {
    let cloned = Cloned::new();
    cloned.cut();
    let text = cloned.run(&[], 2);
    assert!(text.contains("cannot be copied: fatal: '"), "{text}");
    assert!(text.contains("does not appear to be a git repository; fatal: Could not read"), "{text}");
    assert!(!text.contains("the repository exists"), "{text}");
    assert!(text.contains("--repository Templates=FOLDER"), "{text}");
}

#[test]
fn git_may_say_more_than_a_pipe_holds() {
    let cloned = Cloned::new();
    let programs = tempfile::tempdir().unwrap();
    let path = std::env::var("PATH").unwrap();
    let script = format!(
        "case \"$*\" in *fetch*) head -c 300000 /dev/zero | tr '\\0' x >&2;; esac\nPATH='{path}' exec git \"$@\""
    );
    program(programs.path(), "git", &script);
    let mut command = cloned.command(&[]);
    command.env("PATH", format!("{}:{path}", programs.path().display()));
    assert!(all_of(&mut command, 0).contains("hello world"));
}

/// A service that wants another login than the one that is known asks nobody for it.
#[test]
fn nothing_asks_for_a_login_but_helpers_give_theirs() {
    let cloned = Cloned::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    cloned.set_origin(&format!("http://127.0.0.1:{}/own/_git/app", listener.local_addr().unwrap().port()));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // However the request ends, this is the answer.
            let _ = stream.read(&mut [0; 8192]);
            let refused = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\
                           Content-Length: 0\r\nConnection: close\r\n\r\n";
            let _ = stream.write_all(refused.as_bytes());
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let (asked, helped) = (folder.path().join("asked"), folder.path().join("helped"));
    let ask = program(folder.path(), "ask", &format!("touch {}; echo x", asked.display()));
    let helper = format!("echo $1 >> {}; echo username=me; echo password=a-secret", helped.display());
    let helper = program(folder.path(), "helper", &helper);
    let settings = folder.path().join("settings");
    let text = format!("[core]\naskPass = {}\n[credential]\nhelper = {}\n", ask.display(), helper.display());
    fs::write(&settings, text).unwrap();
    for variable in ["GIT_ASKPASS", "SSH_ASKPASS", "NOTHING"] {
        let mut command = cloned.command(&[]);
        command.env("GIT_CONFIG_GLOBAL", &settings).env("no_proxy", "127.0.0.1").env("DISPLAY", ":0");
        command.env_remove("GIT_ASKPASS").env_remove("SSH_ASKPASS").env(variable, &ask);
        let text = all_of(&mut command, 2);
        assert!(text.contains("fatal: Authentication failed for"), "{text}");
        assert!(!text.contains("a-secret"), "{text}");
        assert!(!asked.exists(), "{variable}");
        assert!(fs::read_to_string(&helped).unwrap().starts_with("get\n"));
    }
}

#[test]
fn a_folder_for_a_repository_that_the_pipeline_does_not_have_is_a_mistake() {
    let project = Project::with_pipeline("steps: []\n");
    let ended = project.run(&["--repository", "shared=."], 2);
    assert!(ended.stderr.contains("`--repository shared=.`: the pipeline has no"), "{}", ended.stderr);
    let cloned = Cloned::new();
    let text = cloned.run(&["--repository", "tmplates=."], 2);
    assert!(text.contains("no repository `tmplates`") && text.contains("it has `Templates`"), "{text}");
}

const TOOLS: &str = "resources:
  repositories:
  - { repository: tools, type: git, name: shared/templates, ref: stable }
";

#[test]
fn a_folder_is_checked_out_with_what_was_changed_there() {
    let yaml = format!(
        "{TOOLS}jobs:
- job: both
  steps:
  - checkout: self
  - checkout: Tools
  - bash: |
      cat app/own.txt templates/*.txt
      git -C templates log --format=%s
    workingDirectory: $(Build.SourcesDirectory)
- job: alone
  steps: [{{ checkout: tools }}, {{ bash: 'echo alone: $(cat given.txt)' }}]
- job: used
  uses: {{ repositories: [tools] }}
  steps: [{{ checkout: none }}, {{ bash: echo used }}]
"
    );
    let project = Project::with_pipeline(&yaml);
    let app = project.path().join("app");
    fs::create_dir(&app).unwrap();
    fs::rename(project.path().join("azure-pipelines.yml"), app.join("azure-pipelines.yml")).unwrap();
    fs::write(app.join("own.txt"), "of the own repository\n").unwrap();
    let other = project.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("given.txt"), "first\n").unwrap();
    let run = || {
        let mut command = project.command(&["run", "--repository", "tools=../other"]);
        let text = all_of(command.current_dir(&app), 0);
        assert!(!text.contains("will fail"), "{text}");
        text
    };
    // A folder that is no repository.
    let text = run();
    for expected in ["of the own repository", "first", "alone: first", "used"] {
        assert!(text.contains(expected), "no `{expected}` in {text}");
    }
    git_in(&other, &["init", "--quiet", "--initial-branch", "trunk"]);
    commit_all(&other);
    fs::write(other.join("given.txt"), "changed\n").unwrap();
    fs::write(other.join("new.txt"), "untracked\n").unwrap();
    let text = run();
    for expected in ["changed", "untracked", "alone: changed", "x\n", "Checkout shared/templates@trunk"] {
        assert!(text.contains(expected), "no `{expected}` in {text}");
    }
    assert_eq!(git_in(&other, &["status", "--short"]), " M given.txt\n?? new.txt\n", "nothing is touched");
}

#[test]
fn repositories_are_copied_for_checkouts_at_their_references() {
    let cloned = Cloned::new();
    let other = cloned.service.path().join("shared/_git/templates");
    git_in(&other, &["tag", "v1"]);
    fs::write(other.join("version.txt"), "2\n").unwrap();
    commit_all(&other);
    git_in(&other, &["checkout", "--quiet", "-b", "next"]);
    let yaml = format!(
        "{TOOLS}  - {{ repository: first, type: git, name: shared/templates, ref: refs/tags/v1 }}
  - {{ repository: other, type: git, name: shared/templates }}
steps:
- checkout: self
- checkout: tools
  path: s/stable
- checkout: first
  path: s/first
- checkout: git://shared/templates@next
  path: s/next
- checkout: other
  path: s/other
- bash: |
    echo \"stable: $(cat stable/version.txt), $(git -C stable log --format=%s | wc -l) commits\"
    echo \"first: $(ls first)\"
    echo \"next: $(cat next/version.txt)\"
    echo \"other: $(cat other/version.txt)\"
  workingDirectory: $(Build.SourcesDirectory)
"
    );
    cloned.project.write("azure-pipelines.yml", &yaml);
    let run = |expected: &[&str]| {
        let text = cloned.run(&[], 0);
        for expected in expected {
            assert!(text.contains(expected), "no `{expected}` in {text}");
        }
        text
    };
    run(&["stable: 2, 2 commits", "first: ci\n", "next: 2", "other: 2"]);
    // What is a day old is fetched again, also another default branch.
    fs::write(other.join("version.txt"), "3\n").unwrap();
    commit_all(&other);
    run(&["next: 2", "other: 2"]);
    let mark = fs::File::open(cloned.copy().join("dayfly-fetched")).unwrap();
    mark.set_modified(SystemTime::now() - Duration::from_secs(49 * 60 * 60)).unwrap();
    run(&["stable: 2", "next: 3", "other: 3"]);
    // A branch that is not there yet is looked for at once.
    git_in(&other, &["branch", "newest"]);
    cloned.project.write("azure-pipelines.yml", &yaml.replace("ref: stable", "ref: newest"));
    run(&["stable: 3, 3 commits"]);
    cloned.cut();
    let text = run(&["stable: 3, 3 commits"]);
    assert!(!text.contains("cannot be fetched"), "{text}");
}

#[test]
fn a_repository_that_cannot_be_had_fails_only_the_jobs_that_check_it_out() {
    let cloned = Cloned::new();
    cloned.cut();
    let yaml =
        format!("{TOOLS}jobs:\n- job: a\n  steps: [checkout: tools]\n- job: b\n  steps: [bash: echo b]\n");
    cloned.project.write("azure-pipelines.yml", &yaml);
    let text = cloned.run(&[], 1);
    let expected = "jobs that check out `tools` will fail: the repository file://";
    assert!(text.contains(expected) && text.contains("--repository tools=FOLDER"), "{text}");
    assert!(text.contains("uses the repository `tools`, which is not available here"), "{text}");
    assert!(cloned.run(&["--job", "b"], 0).find("will fail").is_none());
    assert!(!cloned.run(&["--list"], 0).contains("not available here"));
    cloned.project.git(&["remote", "remove", "origin"]);
    assert!(cloned.run(&["--list"], 0).contains("not available here"));
}

#[test]
fn a_repository_that_nobody_declares_is_told() {
    let project = Project::with_pipeline("steps:\n- template: a.yml@nowhere\n");
    let ended = project.run(&[], 2);
    assert!(ended.stderr.contains("declares no repository `nowhere`"), "{}", ended.stderr);
    let ended = project.run(&["--repository", "nowhere"], 2);
    assert!(ended.stderr.contains("expected ALIAS=FOLDER"), "{}", ended.stderr);
}
