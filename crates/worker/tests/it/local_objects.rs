//! Checkouts of `self` whose objects are copied from a repository on the same disk.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use dayfly_protocol::TaskResult;
use tempfile::TempDir;

use crate::checkout::{git, head, repository};
use crate::job::{Job, checkout_step};
use crate::service::Service;

/// What git says when a pack is made for a fetch.
const TRANSFERRED: &str = "remote: Enumerating objects";

/// A bare repository that borrows the objects of another, some of them packed.
fn borrowing(origin: &Path) -> (TempDir, PathBuf) {
    git(origin, &["repack", "-q", "-a", "-d"]);
    std::fs::write(origin.join("file"), "four").expect("written");
    git(origin, &["commit", "-q", "-a", "-m", "four"]);
    let folder = tempfile::tempdir().expect("a folder");
    let bare = folder.path().join("snapshot.git");
    let (origin, bare_text) = (origin.to_string_lossy(), bare.to_string_lossy());
    git(folder.path(), &["clone", "-q", "--bare", "--shared", &origin, &bare_text]);
    (folder, bare)
}

/// Checks `self` out as a step with a name; answers its log and the repository, which lives as long as the
/// folder.
async fn check_out(
    service: &Service,
    from: Option<&Path>,
    name: &str,
    inputs: &[(&str, &str)],
) -> (String, PathBuf, TempDir) {
    let commit = head(&service.repositories.path().join("garden"));
    let inputs = [&[("repository", "self")], inputs].concat();
    let mut job =
        Job::new(service).commit(&commit).variable("system.debug", "true").step(checkout_step(name, &inputs));
    job.settings.self_repository = from.map(Path::to_owned);
    let (result, folder) = job.run().await;
    let log = service.log(name);
    assert_eq!(result, TaskResult::Succeeded, "{log}");
    let sources = folder.path().join("work/1/s");
    assert_eq!(head(&sources), commit);
    assert_eq!(git(&sources, &["status", "--porcelain"]), "");
    git(&sources, &["fsck", "--strict"]);
    assert!(!sources.join(".git/objects.copied").exists());
    (log, sources, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_clone_of_self_has_its_objects_from_this_disk() {
    let service = Service::start().await;
    let origin = repository(&service, "garden");
    let (_kept, bare) = borrowing(&origin);
    let (fetched_log, fetched, _folder) = check_out(&service, None, "fetched", &[]).await;
    assert!(fetched_log.contains(TRANSFERRED), "{fetched_log}");
    let (log, copied, folder) = check_out(&service, Some(&bare), "copied", &[]).await;
    assert!(!log.contains(TRANSFERRED) && log.contains("files of objects were copied from"), "{log}");
    for command in [&["for-each-ref"][..], &["log", "--all", "--format=%H %T %D"]] {
        assert_eq!(git(&copied, command), git(&fetched, command));
    }
    assert!(!copied.join(".git/objects/info/alternates").exists());
    let packs = std::fs::read_dir(copied.join(".git/objects/pack")).expect("there");
    let packs: Vec<_> = packs.map(|pack| pack.expect("read").metadata().expect("there").nlink()).collect();
    assert!(!packs.is_empty() && packs.iter().all(|links| *links == 1), "{packs:?}");

    // The next job has them already, and what is new is fetched.
    std::fs::write(origin.join("file"), "five").expect("written");
    git(&origin, &["commit", "-q", "-a", "-m", "five"]);
    let mut job = Job::new(&service)
        .commit(&head(&origin))
        .variable("system.debug", "true")
        .step(checkout_step("again", &[("repository", "self")]))
        .after(folder);
    job.settings.self_repository = Some(bare);
    let (result, folder) = job.run().await;
    let log = service.log("again");
    assert_eq!(result, TaskResult::Succeeded, "{log}");
    assert!(log.contains(TRANSFERRED) && !log.contains("files of objects"), "{log}");
    assert_eq!(head(&folder.path().join("work/1/s")), head(&origin));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_copied_is_fetched() {
    let service = Service::start().await;
    let origin = repository(&service, "garden");
    let (kept, bare) = borrowing(&origin);
    // A pack that cannot be read, copied after the loose objects.
    std::fs::write(bare.join("objects/pack/pack-z.idx"), "").expect("written");
    std::fs::create_dir(bare.join("objects/pack/pack-z.pack")).expect("made");
    let shallow = kept.path().join("shallow.git");
    let url = format!("file://{}", origin.display());
    git(kept.path(), &["clone", "-q", "--bare", "--depth=1", &url, &shallow.to_string_lossy()]);
    let nowhere = kept.path().join("nowhere.git");
    for (name, from) in [("broken", &bare), ("shallow", &shallow), ("nowhere", &nowhere)] {
        let (log, sources, _folder) = check_out(&service, Some(from), name, &[]).await;
        assert!(log.contains(TRANSFERRED) && log.contains("No objects are copied from"), "{log}");
        assert_eq!(git(&sources, &["rev-list", "--count", "HEAD"]), "4");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_are_not_enough_are_completed_by_the_fetch() {
    let service = Service::start().await;
    let origin = repository(&service, "garden");
    let (_kept, bare) = borrowing(&origin);
    std::fs::remove_file(bare.join("objects/info/alternates")).expect("removed");
    let (log, sources, _folder) = check_out(&service, Some(&bare), "get", &[]).await;
    assert!(log.contains(TRANSFERRED), "{log}");
    assert_eq!(git(&sources, &["rev-list", "--count", "HEAD"]), "4");
}

#[tokio::test(flavor = "multi_thread")]
async fn clones_that_shall_not_be_whole_are_not() {
    let service = Service::start().await;
    let origin = repository(&service, "garden");
    git(&origin, &["config", "uploadpack.allowFilter", "true"]);
    git(&origin, &["config", "uploadpack.allowAnySHA1InWant", "true"]);
    let (_kept, bare) = borrowing(&origin);
    for (input, value) in [("fetchDepth", "1"), ("fetchFilter", "blob:none")] {
        let (log, sources, _folder) = check_out(&service, Some(&bare), input, &[(input, value)]).await;
        assert!(log.contains(TRANSFERRED) && !log.contains("objects were copied"), "{log}");
        if input == "fetchDepth" {
            assert_eq!(git(&sources, &["rev-list", "--count", "HEAD"]), "1");
        } else {
            let objects = git(&sources, &["rev-list", "--objects", "--missing=print", "--all"]);
            assert!(objects.lines().any(|line| line.starts_with('?')), "{objects}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_self_is_copied() {
    let service = Service::start().await;
    let origin = repository(&service, "garden");
    repository(&service, "shed");
    let (_kept, bare) = borrowing(&origin);
    let mut job = Job::new(&service)
        .repository("shed", &service)
        .variable("system.debug", "true")
        .step(checkout_step("self", &[("repository", "self")]))
        .step(checkout_step("other", &[("repository", "shed")]));
    job.settings.self_repository = Some(bare);
    let (result, _folder) = job.run().await;
    assert_eq!(result, TaskResult::Succeeded);
    assert!(service.log("self").contains("objects were copied"), "{}", service.log("self"));
    assert!(!service.log("other").contains("objects were copied"), "{}", service.log("other"));
}
