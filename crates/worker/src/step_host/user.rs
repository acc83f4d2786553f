//! The user that steps have in a container which was started as root: the worker's own, so that what steps
//! leave in the work folder belongs to whom it should.
//!
//! Microsoft's agent has such a user made by `useradd` in a container that runs already, with a group that
//! `sudo` trusts and one for Docker's socket (`ContainerOperationProvider.cs`). Here the lines are written by
//! the first process, before it becomes that user: images without such programs do as well, and all processes
//! have the groups.

use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, chown, geteuid};

use crate::platform;

/// The group whose members `sudo` asks for no password, by the name the official agent gives it.
const SUDO_GROUP: &str = "azure_pipelines_sudo";

/// The group of Docker's socket, likewise.
const DOCKER_GROUP: &str = "azure_pipelines_docker";

/// Docker's socket.
const DOCKER_SOCKET: &str = "var/run/docker.sock";

/// What the official agent puts behind the names of the machine's user and group.
const SUFFIX: &str = "_azpcontainer";

/// Longest name of a user.
const NAME_LENGTH: usize = 32;

/// The first number that a group of ours may have: below are those of the system.
const FIRST_GROUP: u32 = 1000;

/// Who steps are to run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepUser {
    /// The user's number.
    pub id: u32,
    /// The number of the group.
    pub group: u32,
    /// What the user is called on the machine.
    pub name: String,
    /// What the group is called there.
    pub group_name: String,
}

/// Why steps cannot run as that user.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// Only root can become somebody else.
    #[error(
        "the container runs as user {own}, and steps must run as user {wanted}, who the agent is; remove \
         `--user` from the container's `options`"
    )]
    NotRoot {
        /// Who this process is.
        own: u32,
        /// Who it should be.
        wanted: u32,
    },
    /// The kernel refuses.
    #[error(
        "the container may not run processes as user {wanted}; it needs the capabilities SETUID and SETGID"
    )]
    Refused {
        /// Who this process should be.
        wanted: u32,
        /// The kernel's reason.
        #[source]
        source: nix::Error,
    },
}

/// Becomes the user, whom the container knows afterwards, and puts the home into `environment`.
///
/// # Errors
///
/// This process is not root, or may not become somebody else.
pub fn become_user(user: &StepUser, environment: &mut Vec<(OsString, OsString)>) -> Result<(), UserError> {
    let own = geteuid().as_raw();
    if own != 0 {
        let wanted = user.id;
        return if own == wanted { Ok(()) } else { Err(UserError::NotRoot { own, wanted }) };
    }
    if user.id == 0 {
        return Ok(());
    }
    let known = Accounts::new(Path::new("/")).add(user);
    let groups: Vec<Gid> = known.groups.iter().copied().map(Gid::from_raw).collect();
    platform::become_user(Uid::from_raw(user.id), Gid::from_raw(user.group), &groups)
        .map_err(|source| UserError::Refused { wanted: user.id, source })?;
    let is_home = |(name, _): &(OsString, OsString)| name == OsStr::new("HOME");
    environment.retain(|variable| !is_home(variable));
    environment.push(("HOME".into(), known.home.into()));
    Ok(())
}

/// What the container knows of the user.
#[derive(Debug, PartialEq, Eq)]
struct Known {
    home: PathBuf,
    /// The groups beside the first.
    groups: Vec<u32>,
}

/// The accounts of a container. What cannot be written (its file system may be read-only) is left out, and
/// said on the standard error, which is the container's log.
struct Accounts<'a> {
    root: &'a Path,
}

impl<'a> Accounts<'a> {
    fn new(root: &'a Path) -> Self {
        Self { root }
    }

    fn add(&self, user: &StepUser) -> Known {
        let passwd = self.read("etc/passwd");
        let known = lines(&passwd).find(|fields| fields.get(2) == Some(&user.id.to_string().as_str()));
        let (name, home) = match known {
            Some(fields) => {
                let home = fields.get(5).filter(|home| !home.is_empty()).unwrap_or(&"/");
                (fields[0].to_owned(), PathBuf::from(home))
            }
            None => self.add_user(user),
        };
        let mut groups = self.groups_of(&name);
        if !self.has_group(user.group) {
            self.write("etc/group", &format!("{}:x:{}:\n", suffixed(&user.group_name), user.group), 0o644);
        }
        groups.extend(self.join(SUDO_GROUP, None, &name));
        self.write("etc/sudoers", &format!("%{SUDO_GROUP} ALL=(ALL:ALL) NOPASSWD:ALL\n"), 0o440);
        if let Ok(socket) = fs::metadata(self.root.join(DOCKER_SOCKET)) {
            groups.extend(self.join(DOCKER_GROUP, Some(socket.gid()), &name));
        }
        groups.sort_unstable();
        groups.dedup();
        Known { home, groups }
    }

    fn add_user(&self, user: &StepUser) -> (String, PathBuf) {
        let name = suffixed(&user.name);
        let home = PathBuf::from("/home").join(&name);
        let shell = if self.root.join("bin/bash").exists() { "/bin/bash" } else { "/bin/sh" };
        let line = format!("{name}:x:{}:{}::{}:{shell}\n", user.id, user.group, home.display());
        self.write("etc/passwd", &line, 0o644);
        // Who is not there has no account, for those who ask (`sudo` does).
        if self.root.join("etc/shadow").exists() {
            self.write("etc/shadow", &format!("{name}:!:19000:0:99999:7:::\n"), 0o640);
        }
        let folder = self.root.join("home").join(&name);
        let made = fs::create_dir_all(&folder).and_then(|()| {
            chown(&folder, Some(Uid::from_raw(user.id)), Some(Gid::from_raw(user.group)))?;
            fs::set_permissions(&folder, Permissions::from_mode(0o755))
        });
        tell("the home of the steps' user", made);
        (name, home)
    }

    fn has_group(&self, id: u32) -> bool {
        let id = id.to_string();
        lines(&self.read("etc/group")).any(|fields| fields.get(2) == Some(&id.as_str()))
    }

    /// The groups in which a user is.
    fn groups_of(&self, name: &str) -> Vec<u32> {
        let file = self.read("etc/group");
        let mine = lines(&file)
            .filter(|fields| fields.get(3).is_some_and(|members| members.split(',').any(|one| one == name)));
        mine.filter_map(|fields| fields.get(2)?.parse().ok()).collect()
    }

    /// Puts a user into a group, which is made if there is none of that number, and answers its number.
    fn join(&self, group: &str, id: Option<u32>, name: &str) -> Option<u32> {
        let file = self.read("etc/group");
        let numbers: Vec<u32> = lines(&file).filter_map(|fields| fields.get(2)?.parse().ok()).collect();
        let id = match id {
            // It is there: who its members are says the kernel's list, which is ours to set.
            Some(id) if numbers.contains(&id) => return Some(id),
            Some(id) => id,
            None => (FIRST_GROUP..).find(|id| !numbers.contains(id))?,
        };
        self.write("etc/group", &format!("{group}:x:{id}:{name}\n"), 0o644);
        Some(id)
    }

    fn read(&self, file: &str) -> String {
        let bytes = fs::read(self.root.join(file)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn write(&self, file: &str, line: &str, mode: u32) {
        let path = self.root.join(file);
        let separator = match self.read(file).chars().next_back() {
            None | Some('\n') => "",
            Some(_) => "\n",
        };
        let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| {
            let mut file = OpenOptions::new().append(true).create(true).mode(mode).open(&path)?;
            file.write_all(format!("{separator}{line}").as_bytes())
        });
        tell(&format!("/{file}"), written);
    }
}

fn tell(what: &str, result: io::Result<()>) {
    if let Err(error) = result {
        tracing::warn!(%error, "{what} cannot be written, so programs here may not know their user");
    }
}

fn lines(file: &str) -> impl Iterator<Item = Vec<&str>> {
    file.lines().map(|line| line.split(':').collect())
}

fn suffixed(name: &str) -> String {
    let kept: String = name.chars().take(NAME_LENGTH - SUFFIX.len()).collect();
    format!("{kept}{SUFFIX}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> StepUser {
        StepUser { id: 1234, group: 1235, name: "ann".to_owned(), group_name: "people".to_owned() }
    }

    /// A file system with these files in `/etc`.
    fn container(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        for (name, text) in files {
            fs::write(root.path().join("etc").join(name), text).unwrap();
        }
        root
    }

    fn read(root: &tempfile::TempDir, file: &str) -> String {
        fs::read_to_string(root.path().join("etc").join(file)).unwrap()
    }

    #[test]
    fn a_user_whom_the_image_does_not_know_is_added() {
        let root = container(&[
            ("passwd", "root:x:0:0:root:/root:/bin/sh"),
            ("shadow", "root:*:::::::\n"),
            ("group", "root:x:0:\nfirst:x:1000:\n"),
        ]);
        let known = Accounts::new(root.path()).add(&user());
        assert_eq!(known, Known { home: "/home/ann_azpcontainer".into(), groups: vec![1001] });
        assert_eq!(
            read(&root, "passwd"),
            "root:x:0:0:root:/root:/bin/sh\n\
             ann_azpcontainer:x:1234:1235::/home/ann_azpcontainer:/bin/sh\n"
        );
        assert_eq!(read(&root, "shadow"), "root:*:::::::\nann_azpcontainer:!:19000:0:99999:7:::\n");
        assert_eq!(
            read(&root, "group"),
            "root:x:0:\nfirst:x:1000:\npeople_azpcontainer:x:1235:\n\
             azure_pipelines_sudo:x:1001:ann_azpcontainer\n"
        );
        assert_eq!(read(&root, "sudoers"), "%azure_pipelines_sudo ALL=(ALL:ALL) NOPASSWD:ALL\n");
        assert!(root.path().join("home/ann_azpcontainer").is_dir());
    }

    #[test]
    fn one_whom_it_knows_keeps_name_home_and_groups() {
        let root = container(&[
            ("passwd", "node:x:1234:1000::/home/node:/bin/bash\n"),
            ("group", "node:x:1235:\nwheel:x:10:root,node\nothers:x:11:nodes\n"),
        ]);
        let socket = root.path().join(DOCKER_SOCKET);
        fs::create_dir_all(socket.parent().unwrap()).unwrap();
        fs::write(&socket, "").unwrap();
        let of_socket = fs::metadata(&socket).unwrap().gid();
        let known = Accounts::new(root.path()).add(&user());
        let mut groups = vec![10, 1000, of_socket];
        groups.sort_unstable();
        assert_eq!(known, Known { home: "/home/node".into(), groups });
        assert_eq!(read(&root, "passwd"), "node:x:1234:1000::/home/node:/bin/bash\n");
        assert!(read(&root, "group").contains("azure_pipelines_sudo:x:1000:node\n"));
        assert!(!root.path().join("etc/shadow").exists());
    }

    #[test]
    fn an_image_without_anything_is_enough() {
        let root = tempfile::tempdir().unwrap();
        let known = Accounts::new(root.path()).add(&user());
        assert_eq!(known.groups, [1000]);
        assert!(fs::read_to_string(root.path().join("etc/passwd")).unwrap().starts_with("ann_azpcontainer:"));
    }
}
