//! Snapshots of work trees, made with the real git program.

use std::path::Path;

use dayfly_emulator::snapshot;

use crate::git_program::{commit, files, git, repository, state, write};

async fn take(folder: &Path) -> (tempfile::TempDir, snapshot::Snapshot) {
    let into = tempfile::tempdir().unwrap();
    let before = state(folder);
    let taken = snapshot::take(folder, &into.path().join("self.git")).await.unwrap();
    let after = state(folder);
    let changed: Vec<_> = after.iter().filter(|(path, state)| before.get(*path) != Some(state)).collect();
    assert!(changed.is_empty() && before.len() == after.len(), "the user's folder changed: {changed:?}");
    (into, taken)
}

#[tokio::test]
async fn a_clean_tree_is_its_own_commit() {
    let folder = tempfile::tempdir().unwrap();
    repository(folder.path());
    git(folder.path(), &["checkout", "--quiet", "-b", "feature/x"]);
    let (_into, taken) = take(folder.path()).await;
    assert_eq!(taken.commit, git(folder.path(), &["rev-parse", "HEAD"]));
    assert_eq!((taken.branch.as_str(), taken.has_changes), ("refs/heads/feature/x", false));
    assert_eq!((taken.subject.as_str(), taken.author.as_str()), ("First", "Ada"));
    assert_eq!(git(&taken.repository, &["rev-parse", "HEAD"]), taken.commit);
}

#[tokio::test]
async fn uncommitted_and_untracked_files_are_taken_and_ignored_ones_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    repository(path);
    git(path, &["tag", "v1"]);
    write(path, "gone", "x\n");
    write(path, "staged-then-changed", "staged\n");
    let head = commit(path, "Second");
    std::fs::remove_file(path.join("gone")).unwrap();
    write(path, "readme", "two\n");
    write(path, "staged-then-changed", "staged again\n");
    git(path, &["add", "staged-then-changed"]);
    write(path, "staged-then-changed", "work tree\n");
    write(path, "new/näme with space", "new\n");
    write(path, "intended", "later\n");
    git(path, &["add", "--intent-to-add", "intended"]);
    write(path, "target/output", "ignored\n");
    // A file turns into a folder.
    std::fs::remove_file(path.join("src/a")).unwrap();
    write(path, "src/a/b", "deeper\n");

    let (_into, taken) = take(path).await;
    assert!(taken.has_changes && taken.warnings.is_empty(), "{taken:?}");
    assert_eq!(git(&taken.repository, &["rev-parse", "HEAD^"]), head);
    assert_eq!(git(&taken.repository, &["rev-parse", "v1"]), git(path, &["rev-parse", "v1"]));
    assert_eq!(git(&taken.repository, &["rev-parse", "refs/heads/main"]), taken.commit);
    let files = files(&taken.repository, &taken.commit);
    let expected = [
        (".gitignore", "target"),
        ("intended", "later"),
        ("new/näme with space", "new"),
        ("readme", "two"),
        ("src/a/b", "deeper"),
        ("staged-then-changed", "work tree"),
    ];
    assert_eq!(files, expected.map(|(name, text)| (name.to_owned(), text.to_owned())).into());
    git(&taken.repository, &["fsck", "--strict", "--no-dangling"]);
}

#[tokio::test]
async fn a_folder_below_the_top_takes_the_whole_repository() {
    let folder = tempfile::tempdir().unwrap();
    repository(folder.path());
    write(folder.path(), "readme", "changed\n");
    let (_into, taken) = take(&folder.path().join("src")).await;
    assert_eq!(taken.work_tree, std::fs::canonicalize(folder.path()).unwrap());
    assert_eq!(files(&taken.repository, &taken.commit)["readme"], "changed");
}

#[tokio::test]
async fn a_folder_without_repository_gets_a_history_of_one_commit() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a", "a\n");
    write(folder.path(), ".gitignore", "ignored\n");
    write(folder.path(), "ignored", "x\n");
    let (_into, taken) = take(folder.path()).await;
    assert_eq!(taken.branch, "refs/heads/main");
    assert_eq!(git(&taken.repository, &["rev-list", "--count", "HEAD"]), "1");
    assert_eq!(files(&taken.repository, &taken.commit).into_keys().collect::<Vec<_>>(), [".gitignore", "a"]);
}

#[tokio::test]
async fn a_repository_without_commits_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    git(folder.path(), &["init", "--quiet"]);
    write(folder.path(), "a", "a\n");
    let (_into, taken) = take(folder.path()).await;
    assert_eq!(taken.branch, "refs/heads/main");
    assert_eq!(files(&taken.repository, &taken.commit).len(), 1);
}

#[tokio::test]
async fn submodules_stay_links_and_foreign_repositories_are_left_out() {
    let library = tempfile::tempdir().unwrap();
    repository(library.path());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    repository(path);
    let url = library.path().to_str().unwrap();
    git(path, &["submodule", "--quiet", "add", url, "library"]);
    commit(path, "Use the library");
    write(&path.join("library"), "readme", "newer\n");
    let link = commit(&path.join("library"), "Newer");
    for (name, with_commit) in [("clone", true), ("empty", false)] {
        std::fs::create_dir(path.join(name)).unwrap();
        git(&path.join(name), &["init", "--quiet"]);
        if with_commit {
            write(&path.join(name), "x", "x\n");
            commit(&path.join(name), "Inner");
        }
    }
    let (_into, taken) = take(path).await;
    let tree = git(&taken.repository, &["ls-tree", &taken.commit]);
    assert!(tree.contains(&format!("160000 commit {link}\tlibrary")), "{tree}");
    assert!(!tree.contains("clone") && !tree.contains("empty"), "{tree}");
    assert_eq!(taken.warnings.len(), 2, "{:?}", taken.warnings);
}

#[tokio::test]
async fn linked_work_trees_and_shallow_clones_are_taken() {
    let origin = tempfile::tempdir().unwrap();
    repository(origin.path());
    write(origin.path(), "readme", "two\n");
    commit(origin.path(), "Second");
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", origin.path().display());
    git(folder.path(), &["clone", "--quiet", "--depth=1", &url, "shallow"]);
    let shallow = folder.path().join("shallow");
    git(&shallow, &["worktree", "add", "--quiet", "-b", "linked", "../linked"]);
    write(&folder.path().join("linked"), "readme", "three\n");
    let (_into, taken) = take(&folder.path().join("linked")).await;
    assert_eq!(taken.branch, "refs/heads/linked");
    assert_eq!(git(&taken.repository, &["rev-list", "--count", "HEAD"]), "2");
    assert_eq!(git(&taken.repository, &["show", "HEAD:readme"]), "three");
    git(&taken.repository, &["rev-parse", "--verify", "refs/heads/main"]);
}

#[tokio::test]
async fn what_git_refuses_is_told_in_its_own_words() {
    let folder = tempfile::tempdir().unwrap();
    repository(folder.path());
    std::fs::write(folder.path().join(".git/index"), "damaged").unwrap();
    let into = tempfile::tempdir().unwrap();
    let error = snapshot::take(folder.path(), &into.path().join("self.git")).await.unwrap_err().to_string();
    assert!(error.contains("index") && error.contains("git "), "{error}");
    let error = snapshot::take(&folder.path().join("nothing"), into.path()).await.unwrap_err().to_string();
    assert!(error.contains("not a folder"), "{error}");
}

#[tokio::test]
async fn a_repository_that_may_only_be_read_is_taken() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    repository(folder.path());
    let index = folder.path().join(".git/index");
    std::fs::set_permissions(&index, std::fs::Permissions::from_mode(0o444)).unwrap();
    write(folder.path(), "readme", "changed\n");
    let (_into, taken) = take(folder.path()).await;
    assert_eq!(git(&taken.repository, &["show", "HEAD:readme"]), "changed");
}

#[tokio::test]
async fn a_bare_repository_has_nothing_to_take() {
    let folder = tempfile::tempdir().unwrap();
    git(folder.path(), &["init", "--quiet", "--bare"]);
    let into = tempfile::tempdir().unwrap();
    let error = snapshot::take(folder.path(), &into.path().join("self.git")).await.unwrap_err();
    assert!(matches!(error, snapshot::Error::Bare { .. }), "{error}");
}

#[tokio::test]
async fn files_that_come_and_go_while_it_is_taken_are_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    repository(path);
    for number in 0..1500 {
        write(path, &format!("many/{number}"), "x\n");
    }
    let stop = std::sync::atomic::AtomicBool::new(false);
    let into = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0.. {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                let name = |number: i32| path.join(format!("many/tmp.{}", number % 500));
                std::fs::write(name(number), "x").unwrap();
                // Not there at first.
                let _ = std::fs::remove_file(name(number + 250));
            }
        });
        let taken = scope.spawn(|| {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            (0..5)
                .map(|number| runtime.block_on(snapshot::take(path, &into.path().join(number.to_string()))))
                .collect()
        });
        let taken: Vec<Result<_, _>> = taken.join().unwrap();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for taken in taken {
            taken.unwrap();
        }
    });
}
