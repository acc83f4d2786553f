//! Checkout steps with the real git program against a real git server over HTTP.

use std::path::{Path, PathBuf};
use std::process::Command;

use dayfly_protocol::TaskResult;

use crate::job::{Job, checkout_step};
use crate::service::{Service, TOKEN};

/// A certificate authority nobody has the key of.
const CA: &str = "-----BEGIN CERTIFICATE-----\nMIIBezCCASGgAwIBAgIUV9UbJ8+spf3feYCEZIvio4hrrC0wCgYIKoZIzj0EAwIw\nEjEQMA4GA1UEAwwHdGVzdC1jYTAgFw0yNjExMjQyMjA1NTJaGA8yMTI2MTAzMTIy\nMDU1MlowEjEQMA4GA1UEAwwHdGVzdC1jYTBZMBMGByqGSM49AgEGCCqGSM49AwEH\nA0IABGYofY7hw8CSTn6iThkdRxSog5yDw8WpYhnjEbz2HrGItWzZyDt76rflyAd4\nixwe46O4xVkIKwCjP/ZHxQMKprOjUzBRMB0GA1UdDgQWBBT5Dkh/3IlcROQfClR/\njhd6FWHKmjAfBgNVHSMEGDAWgBT5Dkh/3IlcROQfClR/jhd6FWHKmjAPBgNVHRMB\nAf8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIA3uc4cfWmUalfIX0BZoUPJMBrLK\nyMJGZwNefpL/lscjAiEA+PpH4is/3GtGFzB5eQ28qEhm5XP0ATvfdt68cOgOMKk=\n-----END CERTIFICATE-----\n";

/// Runs git for the test itself.
pub(crate) fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").expect("tests have a path"))
        .envs([
            ("GIT_AUTHOR_NAME", "a"),
            ("GIT_AUTHOR_EMAIL", "a@b.c"),
            ("GIT_COMMITTER_NAME", "a"),
            ("GIT_COMMITTER_EMAIL", "a@b.c"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("HOME", "/nonexistent"),
        ])
        .args(["-c", "protocol.file.allow=always", "-c", "init.defaultBranch=main"])
        .args(arguments)
        .output()
        .expect("git runs");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
}

/// A repository of the service with three commits of `file` (one, two, three), tags `v1` and `v2` and a pull
/// request.
pub(crate) fn repository(service: &Service, name: &str) -> PathBuf {
    let folder = service.repositories.path().join(name);
    std::fs::create_dir_all(&folder).expect("made");
    git(&folder, &["init", "-q"]);
    for (number, text) in [(1, "one"), (2, "two"), (3, "three")] {
        std::fs::write(folder.join("file"), text).expect("written");
        git(&folder, &["add", "."]);
        git(&folder, &["commit", "-q", "-m", text]);
        if number < 3 {
            git(&folder, &["tag", &format!("v{number}")]);
        }
    }
    git(&folder, &["update-ref", "refs/pull/7/merge", "HEAD~1"]);
    folder
}

/// Makes a repository of the service a submodule of another.
fn submodule(service: &Service, folder: &Path, name: &str) {
    let url = service.url.join(&format!("_git/{name}")).expect("an address");
    let text = format!("[submodule \"{name}\"]\n\tpath = {name}\n\turl = {url}\n");
    std::fs::write(folder.join(".gitmodules"), text).expect("written");
    let commit = head(&service.repositories.path().join(name));
    git(folder, &["update-index", "--add", "--cacheinfo", &format!("160000,{commit},{name}")]);
    git(folder, &["add", ".gitmodules"]);
    git(folder, &["commit", "-q", "-m", "submodule"]);
}

pub(crate) fn head(folder: &Path) -> String {
    git(folder, &["rev-parse", "HEAD"])
}

#[tokio::test(flavor = "multi_thread")]
async fn self_is_checked_out_at_its_commit_in_the_official_sequence() {
    let service = Service::start().await;
    let origin = repository(&service, "garden");
    let commit = git(&origin, &["rev-parse", "HEAD~1"]);
    let (result, folder) = Job::new(&service)
        .commit(&commit)
        .step(checkout_step("Checkout", &[("repository", "self")]))
        .script("look", "cat file; git status --porcelain --branch; pwd")
        .run()
        .await;
    let name = "Checkout garden@main to s";
    let log = service.log(name);
    assert_eq!(result, TaskResult::Succeeded, "{log}");
    let sources = folder.path().join("work/1/s");
    assert_eq!(head(&sources), commit);
    let mut rest = log.as_str();
    for part in [
        "Task         : Get sources\n",
        "Author       : Microsoft\n",
        "Syncing repository: garden (Git)\n",
        "git version ",
        "##[command]git init ",
        "##[command]git remote add origin http://",
        "##[command]git config gc.auto 0\n",
        "##[command]git config http.version HTTP/1.1\n",
        "##[command]git -c core.hooksPath=/dev/null --config-env=http.extraheader=env_var_http_extraheader fetch --force --tags --prune --prune-tags --progress --no-recurse-submodules origin\n",
        &format!("no-recurse-submodules origin +{commit}\n"),
        &format!("##[command]git checkout --progress --force {commit}\n"),
        "##[section]Finishing: Checkout garden@main to s\n",
    ] {
        let at = rest.find(part).unwrap_or_else(|| panic!("no {part} (any more) in {log}"));
        rest = &rest[at + part.len()..];
    }
    assert!(service.log("look").contains("two## HEAD (no branch)"), "{}", service.log("look"));
    let post = service.log(&format!("Post-job: {name}"));
    assert!(post.contains("Cleaning any cached credential from repository: garden (Git)"), "{post}");
    assert!(!service.everything().contains(TOKEN));
    let configuration = std::fs::read_to_string(sources.join(".git/config")).expect("there");
    assert!(!configuration.contains("extraheader") && !configuration.contains(TOKEN), "{configuration}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_without_a_commit_is_checked_out_at_its_end() {
    let service = Service::start().await;
    let origin = repository(&service, "garden");
    let (result, folder) =
        Job::new(&service).step(checkout_step("Checkout", &[("repository", "self")])).run().await;
    assert_eq!(result, TaskResult::Succeeded);
    assert_eq!(head(&folder.path().join("work/1/s")), head(&origin));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shallow_fetch_has_one_commit_and_no_tags_if_not_wanted() {
    let service = Service::start().await;
    let origin = repository(&service, "garden");
    let (result, folder) = Job::new(&service)
        .commit(&head(&origin))
        .step(checkout_step("get", &[("repository", "self"), ("fetchDepth", "1"), ("fetchTags", "false")]))
        .run()
        .await;
    assert_eq!(result, TaskResult::Succeeded, "{}", service.log("get"));
    let sources = folder.path().join("work/1/s");
    assert_eq!(git(&sources, &["rev-list", "--count", "HEAD"]), "1");
    assert_eq!(git(&sources, &["tag"]), "");
    let log = service.log("get");
    assert!(log.contains("--no-tags ") && log.contains(" origin --depth=1 +"), "{log}");
    // The next job wants everything.
    let (result, folder) = Job::new(&service)
        .commit(&head(&origin))
        .step(checkout_step("all", &[("repository", "self")]))
        .after(folder)
        .run()
        .await;
    assert_eq!(result, TaskResult::Succeeded, "{}", service.log("all"));
    assert!(service.log("all").contains("--unshallow"), "{}", service.log("all"));
    assert_eq!(git(&folder.path().join("work/1/s"), &["rev-list", "--count", "HEAD"]), "3");
    assert_eq!(git(&folder.path().join("work/1/s"), &["tag"]), "v1\nv2");
}

#[tokio::test(flavor = "multi_thread")]
async fn untracked_files_stay_unless_the_checkout_is_clean() {
    let service = Service::start().await;
    repository(&service, "garden");
    let (_, folder) = Job::new(&service)
        .step(checkout_step("get", &[("repository", "self")]))
        .script("make", "echo x > untracked; echo changed > file; touch .git/index.lock")
        .run()
        .await;
    let sources = folder.path().join("work/1/s");
    let (result, folder) = Job::new(&service)
        .step(checkout_step("again", &[("repository", "self"), ("clean", "false")]))
        .after(folder)
        .run()
        .await;
    assert_eq!(result, TaskResult::Succeeded, "{}", service.log("again"));
    assert!(sources.join("untracked").exists());
    let log = service.log("again");
    assert!(log.contains("Reinitialized existing Git repository"), "the repository is used again: {log}");
    let (result, folder) = Job::new(&service)
        .step(checkout_step("clean", &[("repository", "self"), ("clean", "true")]))
        .after(folder)
        .run()
        .await;
    assert_eq!(result, TaskResult::Succeeded, "{}", service.log("clean"));
    assert!(!sources.join("untracked").exists());
    assert_eq!(std::fs::read_to_string(sources.join("file")).expect("there"), "three");
    drop(folder);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_with_another_repository_is_replaced() {
    let service = Service::start().await;
    repository(&service, "garden");
    let (result, folder) =
        Job::new(&service).step(checkout_step("first", &[("repository", "self")])).run().await;
    assert_eq!(result, TaskResult::Succeeded, "{}", service.log("first"));
    let sources = folder.path().join("work/1/s");
    git(&sources, &["config", "remote.origin.url", "http://elsewhere/other"]);
    std::fs::write(sources.join("theirs"), "").expect("written");
    let (result, folder) =
        Job::new(&service).step(checkout_step("get", &[("repository", "self")])).after(folder).run().await;
    assert_eq!(result, TaskResult::Succeeded, "{}", service.log("get"));
    assert!(!folder.path().join("work/1/s/theirs").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn pull_requests_are_fetched_by_their_reference() {
    let service = Service::start().await;
    let origin = repository(&service, "garden");
    let (result, folder) = Job::new(&service)
        .branch("refs/pull/7/merge")
        .step(checkout_step("get", &[("repository", "self")]))
        .run()
        .await;
    let log = service.log("get");
    assert_eq!(result, TaskResult::Succeeded, "{log}");
    assert!(
        log.contains("+refs/heads/*:refs/remotes/origin/* +refs/pull/7/merge:refs/remotes/pull/7/merge"),
        "{log}"
    );
    assert_eq!(head(&folder.path().join("work/1/s")), git(&origin, &["rev-parse", "HEAD~1"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_places_the_repository_within_the_pipeline_folder_only() {
    let service = Service::start().await;
    repository(&service, "garden");
    let (result, folder) = Job::new(&service)
        .step(checkout_step("get", &[("repository", "self"), ("path", "elsewhere/deep")]))
        .script("look", "pwd; ls; echo $BUILD_SOURCESDIRECTORY; echo $BUILD_REPOSITORY_LOCALPATH; echo $SYSTEM_DEFAULTWORKINGDIRECTORY")
        .run()
        .await;
    assert_eq!(result, TaskResult::Succeeded, "{}", service.log("get"));
    let deep = folder.path().join("work/1/elsewhere/deep");
    assert!(deep.join("file").exists());
    let place = deep.display();
    let log = service.log("look");
    assert!(log.contains(&format!("{place}\nfile\n{place}\n{place}\n{place}\n")), "{log}");
    std::fs::write(deep.join("kept"), "").expect("written");
    let (result, folder) = Job::new(&service)
        .step(checkout_step(
            "again",
            &[("repository", "self"), ("path", "elsewhere/deep"), ("clean", "false")],
        ))
        .after(folder)
        .run()
        .await;
    let log = service.log("again");
    assert_eq!(result, TaskResult::Succeeded, "{log}");
    assert!(log.contains("Reinitialized existing Git repository") && deep.join("kept").exists(), "{log}");
    // Without a path it belongs to the sources again.
    let (result, folder) = Job::new(&service)
        .step(checkout_step("back", &[("repository", "self")]))
        .script("look back", "pwd; echo $BUILD_SOURCESDIRECTORY")
        .after(folder)
        .run()
        .await;
    assert_eq!(result, TaskResult::Succeeded, "{}", service.log("back"));
    let sources = folder.path().join("work/1/s");
    let log = service.log("look back");
    assert!(log.contains(&format!("{0}\n{0}\n", sources.display())), "{log}");
    let service = Service::start().await;
    let (result, _folder) = Job::new(&service)
        .step(checkout_step("get", &[("repository", "self"), ("path", "../outside")]))
        .run()
        .await;
    assert_eq!(result, TaskResult::Failed);
    assert!(
        service.log("get").contains("##[error]Input path '../outside' should resolve to a directory under '")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn several_repositories_lie_beside_each_other() {
    let service = Service::start().await;
    repository(&service, "garden");
    repository(&service, "shed");
    let (result, folder) = Job::new(&service)
        .repository("shed", &service)
        .step(checkout_step("first", &[("repository", "self")]))
        .step(checkout_step("second", &[("repository", "shed"), ("fetchDepth", "1")]))
        .script("look", "pwd; ls")
        .run()
        .await;
    assert_eq!(result, TaskResult::Succeeded, "{} {}", service.log("first"), service.log("second"));
    let sources = folder.path().join("work/1/s");
    assert!(sources.join("garden/file").exists() && sources.join("shed/file").exists());
    let log = service.log("look");
    assert!(log.contains(&format!("{}\ngarden\nshed\n", sources.display())), "{log}");
    let order = ["first", "second", "look", "Post-job: second", "Post-job: first", "Finalize Job"];
    let orders: Vec<i64> =
        order.iter().map(|name| service.record(name)["order"].as_i64().expect("an order")).collect();
    assert_eq!(orders, [2, 3, 4, 5, 6, 7], "post-job parts run in reverse");
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_start_in_the_repository_that_is_checked_out() {
    let service = Service::start().await;
    repository(&service, "shed");
    let (result, folder) = Job::new(&service)
        .repository("shed", &service)
        .step(checkout_step("get", &[("repository", "shed"), ("path", "tools")]))
        .script("look", "pwd; echo about=$(Build.Repository.Name)")
        .run()
        .await;
    assert_eq!(result, TaskResult::Succeeded, "{}", service.log("get"));
    let log = service.log("look");
    let expected = format!("{}\nabout=garden\n", folder.path().join("work/1/tools").display());
    assert!(log.contains(&expected), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn submodules_come_with_the_same_login() {
    let service = Service::start().await;
    repository(&service, "inner");
    let middle = repository(&service, "middle");
    submodule(&service, &middle, "inner");
    let garden = repository(&service, "garden");
    submodule(&service, &garden, "middle");
    for (submodules, has_inner) in [("true", false), ("recursive", true)] {
        let (result, folder) = Job::new(&service)
            .step(checkout_step(submodules, &[("repository", "self"), ("submodules", submodules)]))
            .run()
            .await;
        let log = service.log(submodules);
        assert_eq!(result, TaskResult::Succeeded, "{log}");
        let sources = folder.path().join("work/1/s");
        assert!(sources.join("middle/file").exists());
        assert_eq!(sources.join("middle/inner/file").exists(), has_inner, "{submodules}");
        assert!(log.contains("##[command]git submodule sync"), "{log}");
        assert!(
            log.contains("##[command]git -c core.hooksPath=/dev/null --config-env=http.http://127.0.0.1:"),
            "{log}"
        );
    }
    assert!(!service.everything().contains(TOKEN));
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_persist_for_the_steps_of_the_job_only() {
    let service = Service::start().await;
    repository(&service, "garden");
    let (result, folder) = Job::new(&service)
        .step(checkout_step("get", &[("repository", "self"), ("persistCredentials", "true")]))
        .script("use", "git ls-remote --exit-code origin refs/heads/main && grep -c extraheader .git/config && stat -c %a .git/config")
        .run()
        .await;
    assert_eq!(result, TaskResult::Succeeded, "{} {}", service.log("get"), service.log("use"));
    assert!(service.log("use").contains("\n1\n600\n"), "{}", service.log("use"));
    let configuration = std::fs::read_to_string(folder.path().join("work/1/s/.git/config")).expect("there");
    assert!(!configuration.contains("extraheader") && !configuration.contains(TOKEN), "{configuration}");
    assert!(!service.everything().contains(TOKEN));
    // Without them the same step cannot log in.
    let (result, _folder) = Job::new(&service)
        .step(checkout_step("get again", &[("repository", "self")]))
        .script("use again", "git ls-remote --exit-code origin refs/heads/main")
        .after(folder)
        .run()
        .await;
    assert_eq!(result, TaskResult::Failed);
    assert_eq!(service.result("get again"), "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_of_an_earlier_job_are_taken_out() {
    let service = Service::start().await;
    repository(&service, "garden");
    let (_, folder) = Job::new(&service)
        .step(checkout_step("get", &[("repository", "self")]))
        .script("leave", "git config http.extraheader 'AUTHORIZATION: bearer old' && git config http.proxy http://127.0.0.1:1")
        .run()
        .await;
    let (result, folder) =
        Job::new(&service).step(checkout_step("again", &[("repository", "self")])).after(folder).run().await;
    assert_eq!(result, TaskResult::Succeeded, "{}", service.log("again"));
    let configuration = std::fs::read_to_string(folder.path().join("work/1/s/.git/config")).expect("there");
    assert!(!configuration.contains("old") && !configuration.contains("proxy"), "{configuration}");
}

/// A step that makes a program which writes down that it was run, and with what.
const SPY: &str = "printf '#!/bin/sh\nenv >> \"%s/seen\"\n' \"$AGENT_WORKFOLDER\" > ../spy && chmod +x ../spy && spy=$PWD/../spy";

#[tokio::test(flavor = "multi_thread")]
async fn nothing_an_earlier_job_configured_is_run_or_gets_the_token() {
    // An address of its own: on the usual one somebody may still look for a service whose port this one got.
    let elsewhere = std::net::TcpListener::bind("127.0.0.2:0").expect("a port");
    elsewhere.set_nonblocking(true).expect("an option");
    let other = format!("http://{}/", elsewhere.local_addr().expect("an address"));
    for (plant, clean) in [
        // Each is what git would run, or where it would go.
        ("git config core.fsmonitor $spy && git status && grep -q . \"$AGENT_WORKFOLDER/seen\"", true),
        ("git config credential.helper $spy && git config http.extraheader x", true),
        (
            "git config filter.spy.smudge $spy && git config filter.spy.process $spy && echo '* filter=spy' > .git/info/attributes && rm file",
            false,
        ),
        (
            "git config core.alternateRefsCommand $spy && git config core.gitProxy $spy && git config core.sshCommand $spy",
            true,
        ),
        ("git config remote.origin.uploadpack $spy && git config remote.origin.vcs spy", true),
        ("git config url.OTHER.insteadOf $(git config remote.origin.url)", true),
        ("git config http.proxy OTHER && git config http.$(git config remote.origin.url).proxy OTHER", true),
        ("git config -f ../included core.fsmonitor $spy && git config include.path $PWD/../included", true),
        ("git config extensions.worktreeConfig true && git config --worktree core.fsmonitor $spy", true),
        (
            "cp $spy .git/hooks/reference-transaction && cp $spy .git/hooks/post-checkout && cp $spy .git/hooks/post-index-change && git config core.hooksPath .git/hooks",
            true,
        ),
        ("mkdir -p .git/shallow.lock/x && git config core.fsmonitor $spy", true),
        (
            "cp -r .git ../common && git -C ../common config core.fsmonitor $spy && echo $PWD/../common > .git/commondir",
            true,
        ),
        (
            "cp -r .git ../elsewhere && git -C ../elsewhere config core.fsmonitor $spy && rm -r .git && ln -s $PWD/../elsewhere .git",
            true,
        ),
        ("cp -r .git ../.git && git -C ../.git config core.fsmonitor $spy && rm .git/HEAD", true),
        (
            "cp -r .git ../.git && git -C ../.git config url.OTHER.insteadOf $(git config remote.origin.url) && echo nonsense > .git/HEAD",
            true,
        ),
    ] {
        let service = Service::start().await;
        repository(&service, "garden");
        let plant = plant.replace("OTHER", &other);
        let (result, folder) = Job::new(&service)
            .step(checkout_step("get", &[("repository", "self")]))
            .script("plant", &format!("{SPY} && {plant} && rm -f \"$AGENT_WORKFOLDER/seen\""))
            .run()
            .await;
        assert_eq!(result, TaskResult::Succeeded, "{plant}: {}", service.log("plant"));
        let (result, folder) = Job::new(&service)
            .step(checkout_step(
                "again",
                &[("repository", "self"), ("clean", if clean { "true" } else { "false" })],
            ))
            .after(folder)
            .run()
            .await;
        let log = service.log("again");
        assert_eq!(result, TaskResult::Succeeded, "{plant}: {log}");
        let seen = std::fs::read_to_string(folder.path().join("work/seen"));
        assert!(seen.is_err(), "{plant} was run: {seen:?} {log}");
        let gone = elsewhere.accept();
        assert!(gone.is_err(), "{plant} led git elsewhere: {log}");
        let sources = folder.path().join("work/1/s");
        assert_eq!(std::fs::read_to_string(sources.join("file")).expect("there"), "three");
        let configuration = std::fs::read_to_string(sources.join(".git/config")).expect("there");
        assert!(!configuration.contains("spy") && !configuration.contains(&other), "{configuration}");
    }
}

/// What is needed to put an object in the place of another.
const OBJECTS: &str = r#"
printf evil > evil; evil=$(git hash-object -w evil); rm evil; blob=$(git rev-parse HEAD:file)
path() { echo ".git/objects/$(echo $1 | cut -c1-2)/$(echo $1 | cut -c3-)"; }
overwrite() { [ -e $(path $1) ] || { mkdir -p $(dirname $(path $1)); }; cp -f $(path $2) $(path $1); }
evil_tree() { printf '100644 blob %s\tfile\n' $evil | git mktree; }
# The bytes of one name in a file become those of another.
rename() { chmod u+w $3; perl -0777 -pi -e 'BEGIN { ($a, $b) = map { pack "H*", $_ } splice @ARGV, 0, 2 } s/\Q$a\E/$b/g' $1 $2 $3; }
pack() { { git rev-list --objects --all | cut -d' ' -f1; echo $evil; } | git pack-objects -q .git/objects/pack/pack && git prune-packed; }
# Each of two objects is said to lie where the other one does, by the index of a pack or of several.
swap() { chmod u+w $1; perl -e '
    ($path, @two) = @ARGV; open $file, "+<:raw", $path or die; { local $/; $all = <$file>; }
    if ($all =~ /^MIDX/) {
        %at = map { unpack "a4Q>", substr($all, 12 + 12 * $_, 12) } 0 .. ord(substr($all, 6, 1)) - 1;
        ($names, $places, $size) = ($at{OIDL}, $at{OOFF}, 8);
    } else {
        $count = unpack "N", substr($all, 8 + 4 * 255, 4);
        ($names, $places, $size) = (1032, 1032 + 24 * $count, 4);
    }
    for $name (map { pack "H*", $_ } @two) {
        $place = 0;
        $place++ until substr($all, $names + 20 * $place, 20) eq $name or $place > 1000;
        push @places, $places + $size * $place;
    }
    @held = map { substr($all, $_, $size) } @places;
    substr($all, $places[0], $size) = $held[1];
    substr($all, $places[1], $size) = $held[0];
    seek $file, 0, 0; print $file $all;' "$@"; }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_an_earlier_job_did_to_a_repository_decides_what_is_checked_out() {
    for (plant, is_cloned_anew) in [
        ("git update-index --skip-worktree file && printf evil > file", false),
        ("git update-index --assume-unchanged file && printf evil > file", false),
        // The same size and time as before, so that only a look at the content finds it.
        (
            "cp -p file ../old && printf thrEE > file && touch -r ../old file && git config core.checkStat minimal",
            false,
        ),
        ("git replace -f $blob $evil && rm file", false),
        ("git replace -f $blob $evil && git pack-refs --all && rm file", false),
        ("git rev-parse HEAD > .git/info/grafts", false),
        (
            "mkdir ../other && git init -q ../other && echo $PWD/../other/.git/objects > .git/objects/info/alternates",
            false,
        ),
        ("echo untracked > .git/info/exclude && touch untracked", false),
        ("overwrite $blob $evil && rm file", true),
        (
            "tree=$(printf '100644 blob %s\\tfile\\n' $evil | git mktree) && overwrite $(git rev-parse 'HEAD^{tree}') $tree && rm file",
            true,
        ),
        (
            "git commit-graph write --reachable && tree=$(git rev-parse 'HEAD^{tree}') && rename $tree $(evil_tree) .git/objects/info/commit-graph && ! git log -1 --format=%T | grep $tree",
            false,
        ),
        (
            "pack && git multi-pack-index write && swap .git/objects/pack/multi-pack-index $blob $evil && rm file && git checkout -f && grep evil file && rm file",
            false,
        ),
        (
            "pack && swap .git/objects/pack/pack-*.idx $blob $evil && rm file && git checkout -f && grep evil file && rm file",
            true,
        ),
        ("mv .git/objects ../objects && ln -s $PWD/../objects .git/objects", false),
        ("rm .git/packed-refs; mkfifo .git/packed-refs", false),
    ] {
        let service = Service::start().await;
        let garden = repository(&service, "garden");
        let (result, folder) = Job::new(&service)
            .step(checkout_step("get", &[("repository", "self")]))
            .script("plant", &format!("{OBJECTS}{plant}"))
            .run()
            .await;
        assert_eq!(result, TaskResult::Succeeded, "{plant}: {}", service.log("plant"));
        let (result, folder) = Job::new(&service)
            .step(checkout_step("again", &[("repository", "self"), ("clean", "true")]))
            .after(folder)
            .run()
            .await;
        let log = service.log("again");
        assert_eq!(result, TaskResult::Succeeded, "{plant}: {log}");
        assert_eq!(log.contains("delete source folder"), is_cloned_anew, "{plant}: {log}");
        let sources = folder.path().join("work/1/s");
        assert_eq!(std::fs::read_to_string(sources.join("file")).expect("there"), "three", "{plant}");
        assert_eq!(git(&sources, &["show", "HEAD:file"]), "three", "{plant}");
        let tree = ["log", "-1", "--format=%T"];
        assert_eq!(git(&sources, &tree), git(&garden, &tree), "{plant}");
        assert_eq!(git(&sources, &["ls-files", "-v"]), "H file", "{plant}");
        assert_eq!(git(&sources, &["rev-list", "--count", "HEAD"]), "3", "{plant}");
        assert_eq!(git(&sources, &["status", "--porcelain"]), "", "{plant}");
        assert_eq!(git(&sources, &["replace", "-l"]), "", "{plant}");
        assert!(!sources.join("untracked").exists(), "{plant}");
        assert!(!sources.join(".git/objects/info/alternates").exists(), "{plant}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_unchanged_keep_their_time() {
    let service = Service::start().await;
    repository(&service, "garden");
    let get = |name: &str| checkout_step(name, &[("repository", "self"), ("clean", "false")]);
    let (_, folder) = Job::new(&service)
        .step(get("get"))
        .script("age", "touch -d '2001-02-03 04:05:06 UTC' file")
        .run()
        .await;
    let (result, folder) = Job::new(&service).step(get("again")).after(folder).run().await;
    assert_eq!(result, TaskResult::Succeeded, "{}", service.log("again"));
    let file = folder.path().join("work/1/s/file").metadata().expect("there");
    let age = file.modified().expect("known").duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    assert_eq!(age.as_secs(), 981_173_106);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_step_chooses_the_git_that_is_given_the_token() {
    let service = Service::start().await;
    repository(&service, "garden");
    let plant = format!(
        r###"{SPY}; mkdir ../bin; for name in git git-remote-http git-upload-pack; do cp $spy ../bin/$name; done
        for name in PATH GIT_EXEC_PATH GIT_TRACE_CURL GIT_PROXY_COMMAND; do echo "##vso[task.setvariable variable=$name]$PWD/../bin"; done
        echo "##vso[task.setvariable variable=GIT_ASKPASS]$spy"; echo "##vso[task.setvariable variable=LD_PRELOAD]$spy"
        echo "##vso[task.prependpath]$PWD/../bin""###
    );
    let (result, folder) = Job::new(&service)
        .script("plant", &plant)
        .step(checkout_step("get", &[("repository", "self"), ("persistCredentials", "true")]))
        .run()
        .await;
    assert_eq!(result, TaskResult::Succeeded, "{}", service.log("get"));
    let seen = std::fs::read_to_string(folder.path().join("work/seen"));
    assert!(seen.is_err(), "{seen:?}");
    assert_eq!(std::fs::read_to_string(folder.path().join("work/1/s/file")).expect("there"), "three");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_user_configures_holds_for_reused_repositories_too() {
    let service = Service::start().await;
    repository(&service, "garden");
    let job = Job::new(&service).step(checkout_step("get", &[("repository", "self")]));
    let there = service.url.join("_git/").expect("an address");
    let mirror = "http://mirror.invalid/";
    let wanted = |folder: &Path| {
        let file = folder.join(".gitconfig");
        git(
            folder,
            &["config", "--file", &file.to_string_lossy(), &format!("url.{there}.insteadOf"), mirror],
        );
    };
    wanted(job.folder.path());
    let mirrored = |mut job: Job| {
        let url = format!("{mirror}garden").parse().expect("an address");
        job.message.resources.repositories[0].properties.url = Some(url);
        job
    };
    let (result, folder) = mirrored(job).run().await;
    assert_eq!(result, TaskResult::Succeeded, "{}", service.log("get"));
    let job = Job::new(&service).step(checkout_step("again", &[("repository", "self")]));
    let mut job = mirrored(job.after(folder));
    for (name, value) in &mut job.surroundings.environment {
        if name == "HOME" {
            *value = job.folder.path().into();
        }
    }
    let (result, _folder) = job.run().await;
    let log = service.log("again");
    assert_eq!(result, TaskResult::Succeeded, "{log}");
    assert!(log.contains("Reinitialized existing Git repository"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn submodules_of_an_earlier_job_are_cloned_anew() {
    for plant in [
        "git -C inner config core.fsmonitor $spy && cp $spy .git/modules/inner/hooks/post-checkout",
        "rm inner/.git && cp -r .git/modules/inner inner/.git && git config -f inner/.git/config --unset core.worktree && git -C inner config core.fsmonitor $spy",
        "mv .git/modules/inner ../inner.git && git config -f ../inner.git/config core.worktree $PWD/inner && git config -f ../inner.git/config core.fsmonitor $spy && echo gitdir: $PWD/../inner.git > inner/.git",
    ] {
        let service = Service::start().await;
        repository(&service, "inner");
        let garden = repository(&service, "garden");
        submodule(&service, &garden, "inner");
        let get = |name: &str| {
            let job = Job::new(&service);
            job.step(checkout_step(
                name,
                &[("repository", "self"), ("submodules", "true"), ("clean", "true")],
            ))
        };
        let (result, folder) = get("get")
            .script(
                "plant",
                &format!("{SPY} && {plant} && git -C inner status && rm -f \"$AGENT_WORKFOLDER/seen\""),
            )
            .run()
            .await;
        assert_eq!(result, TaskResult::Succeeded, "{plant}: {}{}", service.log("get"), service.log("plant"));
        let (result, folder) = get("again").after(folder).run().await;
        let log = service.log("again");
        assert_eq!(result, TaskResult::Succeeded, "{plant}: {log}");
        let seen = std::fs::read_to_string(folder.path().join("work/seen"));
        assert!(
            !seen.as_ref().is_ok_and(|seen| seen.contains("extraheader") || seen.contains(TOKEN)),
            "{plant} was run: {seen:?} {log}"
        );
        let sources = folder.path().join("work/1/s");
        assert!(log.contains("Reinitialized existing Git repository"), "{log}");
        assert_eq!(std::fs::read_to_string(sources.join("inner/file")).expect("there"), "three");
        let configuration =
            std::fs::read_to_string(sources.join(".git/modules/inner/config")).expect("there");
        assert!(!configuration.contains("spy"), "{configuration}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partial_clone_is_used_again_only_as_one() {
    let service = Service::start().await;
    let origin = repository(&service, "garden");
    git(&origin, &["config", "uploadpack.allowFilter", "true"]);
    git(&origin, &["config", "uploadpack.allowAnySHA1InWant", "true"]);
    std::fs::create_dir(origin.join("deep")).expect("made");
    std::fs::write(origin.join("deep/large"), "large").expect("written");
    git(&origin, &["add", "."]);
    git(&origin, &["commit", "-q", "-m", "more"]);
    let blobless = [("repository", "self"), ("clean", "true"), ("fetchFilter", "blob:none")];
    let sparse = [&blobless[..], &[("sparseCheckoutPatterns", "/file")]].concat();
    let (result, folder) = Job::new(&service).step(checkout_step("first", &sparse)).run().await;
    assert_eq!(result, TaskResult::Succeeded, "{}", service.log("first"));
    let deep = folder.path().join("work/1/s/deep");
    assert!(!deep.exists());
    let (result, folder) =
        Job::new(&service).step(checkout_step("second", &sparse)).after(folder).run().await;
    let log = service.log("second");
    assert_eq!(result, TaskResult::Succeeded, "{log}");
    assert!(log.contains("Reinitialized existing Git repository") && !log.contains("delete source"), "{log}");
    assert!(!deep.exists());
    let whole = checkout_step("third", &[("repository", "self"), ("clean", "true")]);
    let (result, folder) = Job::new(&service).step(whole).after(folder).run().await;
    let log = service.log("third");
    assert_eq!(result, TaskResult::Succeeded, "{log}");
    assert!(log.contains("Initialized empty Git repository"), "{log}");
    assert!(folder.path().join("work/1/s/deep/large").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_is_never_an_argument_of_git() {
    let service = Service::start().await;
    repository(&service, "garden");
    let mut job = Job::new(&service).step(checkout_step(
        "get",
        &[("repository", "self"), ("persistCredentials", "true"), ("submodules", "true")],
    ));
    // A git in front of the real one that writes its arguments down.
    let folder = job.folder.path().join("bin");
    std::fs::create_dir_all(&folder).expect("made");
    let record = job.folder.path().join("arguments");
    let path = std::env::var("PATH").expect("tests have a path");
    let program = folder.join("git");
    let script = format!("#!/bin/sh\necho \"$@\" >> '{}'\nPATH='{path}' exec git \"$@\"\n", record.display());
    crate::programs::write(&program, &script);
    for (name, value) in &mut job.surroundings.environment {
        if name == "PATH" {
            *value = format!("{}:{path}", folder.display()).into();
        }
    }
    let (result, _folder) = job.run().await;
    assert_eq!(result, TaskResult::Succeeded, "{}", service.log("get"));
    let arguments = std::fs::read_to_string(&record).expect("written");
    assert!(
        arguments.contains("--config-env=http.extraheader=env_var_http_extraheader fetch"),
        "{arguments}"
    );
    assert!(arguments.lines().count() > 8, "{arguments}");
    assert!(!arguments.contains(TOKEN), "{arguments}");
}

#[tokio::test(flavor = "multi_thread")]
async fn git_trusts_the_agents_certificate_authorities_for_the_services_host() {
    let service = Service::start().await;
    repository(&service, "garden");
    let mut job = Job::new(&service).step(checkout_step("get", &[("repository", "self")]));
    let file = job.folder.path().join("ca.pem");
    // The service speaks plain HTTP, so what is in the file does not matter to the fetch; the client reads it
    // all the same.
    std::fs::write(&file, CA).expect("written");
    job.settings.ca_files = vec![file.clone()];
    let (result, _folder) = job.run().await;
    let log = service.log("get");
    assert_eq!(result, TaskResult::Succeeded, "{log}");
    let host = service.url.as_str().trim_end_matches("/dayfly/");
    assert!(log.contains(&format!(" -c http.{host}.sslcainfo={} fetch ", file.display())), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_authorities_of_the_environment_are_left_to_other_hosts() {
    let service = Service::start().await;
    repository(&service, "garden");
    let mut job = Job::new(&service).step(checkout_step("get", &[("repository", "self")]));
    let file = job.folder.path().join("ca.pem");
    std::fs::write(&file, CA).expect("written");
    job.settings.ca_files = vec![file.clone()];
    // Git prefers this variable to all configuration.
    job.surroundings.environment.push(("GIT_SSL_CAINFO".into(), "/etc/other.pem".into()));
    let (result, _folder) = job.run().await;
    let log = service.log("get");
    assert_eq!(result, TaskResult::Succeeded, "{log}");
    let host = service.url.as_str().trim_end_matches("/dayfly/");
    let both =
        format!(" -c http.sslcainfo=/etc/other.pem -c http.{host}.sslcainfo={} fetch ", file.display());
    assert!(log.contains(&both), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_is_tried_three_times_and_its_failure_told() {
    let service = Service::start().await;
    let (result, _folder) =
        Job::new(&service).step(checkout_step("get", &[("repository", "self")])).run().await;
    assert_eq!(result, TaskResult::Failed);
    let log = service.log("get");
    assert_eq!(log.matches("##[warning]Git fetch failed with exit code 128, back off ").count(), 2, "{log}");
    assert!(log.contains("##[error]Git fetch failed with exit code: 128"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_without_checkout_has_empty_sources() {
    let service = Service::start().await;
    let (result, folder) = Job::new(&service).script("look", "ls -A | wc -l").run().await;
    assert_eq!(result, TaskResult::Succeeded);
    assert_eq!(std::fs::read_dir(folder.path().join("work/1/s")).expect("made").count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_the_job_does_not_have_is_named() {
    let service = Service::start().await;
    let (result, _folder) =
        Job::new(&service).step(checkout_step("get", &[("repository", "barn")])).run().await;
    assert_eq!(result, TaskResult::Failed);
    assert!(
        service
            .log("get")
            .contains("##[error]The checkout step names the repository 'barn', which the job does not have.")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_can_be_skipped() {
    let service = Service::start().await;
    let (result, _folder) = Job::new(&service)
        .variable("agent.source.skip", "true")
        .step(checkout_step("get", &[("repository", "self")]))
        .run()
        .await;
    assert_eq!(result, TaskResult::Succeeded);
    assert!(service.log("get").contains("Skip sync source for repository."));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sparse_checkout_is_that_of_its_own_job_only() {
    let service = Service::start().await;
    let origin = repository(&service, "garden");
    for name in ["beds/one", "trees/two"] {
        std::fs::create_dir_all(origin.join(name).parent().expect("a folder")).expect("made");
        std::fs::write(origin.join(name), "x").expect("written");
    }
    git(&origin, &["add", "."]);
    git(&origin, &["commit", "-q", "-m", "more"]);
    let mut folder = tempfile::tempdir().expect("a folder");
    for (name, inputs, wanted) in [
        ("beds", &[("sparseCheckoutDirectories", "beds")][..], &["beds", "file"][..]),
        ("all", &[], &["beds", "file", "trees"]),
        ("trees", &[("sparseCheckoutPatterns", "/trees")], &["trees"]),
        ("trees again", &[("sparseCheckoutPatterns", "/trees"), ("clean", "true")], &["trees"]),
        (
            "both",
            &[("sparseCheckoutDirectories", "beds trees"), ("clean", "true")],
            &["beds", "file", "trees"],
        ),
        ("all again", &[("clean", "true")], &["beds", "file", "trees"]),
    ] {
        let inputs = [&[("repository", "self")][..], inputs].concat();
        let result;
        (result, folder) = Job::new(&service).step(checkout_step(name, &inputs)).after(folder).run().await;
        let log = service.log(name);
        assert_eq!(result, TaskResult::Succeeded, "{log}");
        assert_eq!(log.contains("Reinitialized existing Git repository"), name != "beds", "{log}");
        let sources = std::fs::read_dir(folder.path().join("work/1/s")).expect("there");
        let mut names: Vec<String> =
            sources.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| name != ".git");
        names.sort_unstable();
        assert_eq!(names, wanted, "{name}: {log}");
    }
}

/// Whether git-lfs is here, which `.ci/run` sees to.
#[allow(clippy::print_stderr, reason = "who runs the tests should see that one was left out")]
fn has_lfs() -> bool {
    let path = std::env::var_os("PATH").expect("tests have a path");
    let has = std::env::split_paths(&path).any(|folder| folder.join("git-lfs").is_file());
    if !has {
        eprintln!("left out: git-lfs is not installed");
    }
    has
}

#[tokio::test(flavor = "multi_thread")]
async fn large_files_come_with_the_same_login() {
    if !has_lfs() {
        return;
    }
    // The SHA-256 of the file.
    const HASH: &str = "bb9f8b6bfc1f21e9915abe2b08ddd222b3aaf691c70247316243566576ea7930";
    let service = Service::start().await;
    let content = b"a large file\n".to_vec();
    service.look(|told| told.large_files.insert(HASH.to_owned(), content.clone()));
    let origin = repository(&service, "garden");
    let pointer =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{HASH}\nsize {}\n", content.len());
    std::fs::write(origin.join(".gitattributes"), "*.bin filter=lfs diff=lfs merge=lfs -text\n")
        .expect("written");
    std::fs::write(origin.join("large.bin"), &pointer).expect("written");
    // Nothing cleans it here, so that the pointer itself is committed.
    git(&origin, &["-c", "filter.lfs.clean=cat", "-c", "filter.lfs.process=", "add", "."]);
    git(&origin, &["commit", "-q", "-m", "large"]);
    let get = |name: &str, lfs: &str| {
        let inputs = [("repository", "self"), ("clean", "true"), ("lfs", lfs)];
        Job::new(&service).step(checkout_step(name, &inputs))
    };
    let (result, folder) = get("first", "true").run().await;
    let log = service.log("first");
    assert_eq!(result, TaskResult::Succeeded, "{log}");
    let file = folder.path().join("work/1/s/large.bin");
    assert_eq!(std::fs::read(&file).expect("there"), content, "{log}");
    let mut rest = log.as_str();
    for part in [
        "\ngit-lfs/",
        "##[command]git lfs install --local\n",
        ".extraheader=env_var_http_http___127_0_0_1_",
        " lfs fetch origin refs/remotes/origin/main\n",
        "##[command]git checkout --progress --force refs/remotes/origin/main\n",
    ] {
        let at = rest.find(part).unwrap_or_else(|| panic!("no {part} (any more) in {log}"));
        rest = &rest[at + part.len()..];
    }
    // A job that does not want them gets pointers, and the next one has them again.
    let (result, folder) = get("second", "false").after(folder).run().await;
    assert_eq!(result, TaskResult::Succeeded, "{}", service.log("second"));
    assert_eq!(std::fs::read_to_string(&file).expect("there"), pointer);
    let (result, _folder) = get("third", "true").after(folder).run().await;
    assert_eq!(result, TaskResult::Succeeded, "{}", service.log("third"));
    assert_eq!(std::fs::read(&file).expect("there"), content);
    assert!(!service.everything().contains(TOKEN));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_files_are_asked_for_in_vain_without_their_program() {
    let service = Service::start().await;
    repository(&service, "garden");
    let mut job = Job::new(&service)
        .step(checkout_step("get", &[("repository", "self"), ("lfs", "true")]))
        .script("never", "true");
    // A path with git and nothing else, whatever this machine has.
    let folder = job.folder.path().join("bin");
    std::fs::create_dir_all(&folder).expect("made");
    let path = std::env::var_os("PATH").expect("tests have a path");
    let git = std::env::split_paths(&path).map(|folder| folder.join("git")).find(|git| git.is_file());
    std::os::unix::fs::symlink(git.expect("git is installed"), folder.join("git")).expect("linked");
    for (name, value) in &mut job.surroundings.environment {
        if name == "PATH" {
            *value = folder.clone().into();
        }
    }
    let (result, folder) = job.run().await;
    let log = service.log("get");
    assert_eq!(result, TaskResult::Failed, "{log}");
    assert_eq!((service.result("get"), service.result("never")), ("failed".to_owned(), "skipped".to_owned()));
    let told =
        "##[error]The checkout asks for large files (lfs: true), but git-lfs is not installed on this agent.";
    assert!(log.contains(told), "{log}");
    assert!(
        !log.contains("git init") && !folder.path().join("work/1/s/.git").exists(),
        "nothing is begun: {log}"
    );
}
