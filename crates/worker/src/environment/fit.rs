//! What an environment can hold. Linux refuses to start a process with a single variable that is too long, or
//! with too many of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

use nix::sys::resource::{Resource, getrlimit};

/// What Linux takes for one argument or one variable: 32 pages of 4 KiB (`MAX_ARG_STRLEN`). Where pages are
/// larger it takes more.
const MOST_BYTES_OF_ONE: usize = 128 * 1024;
/// What Linux takes for all of them, however large the stack may be: three quarters of the usual stack
/// (`bprm_stack_limits`).
const MOST_BYTES_ON_LINUX: usize = 6 * 1024 * 1024;
/// What macOS takes for all of them.
const MOST_BYTES_ON_MACOS: usize = 1024 * 1024;
/// What is left for arguments: those of the shell and of what it starts, which inherits its environment.
const BYTES_FOR_ARGUMENTS: usize = 256 * 1024;
/// What a variable takes beside its text: `=`, the closing zero and a pointer.
const OVERHEAD_BYTES: usize = 2 + size_of::<usize>();

/// The limits of this machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// For `NAME=VALUE` and its closing zero.
    pub(super) one: usize,
    /// For all variables together.
    pub(super) all: usize,
}

impl Limits {
    pub(super) fn of_this_machine() -> Limits {
        if cfg!(target_os = "macos") {
            return Limits { one: usize::MAX, all: MOST_BYTES_ON_MACOS - BYTES_FOR_ARGUMENTS };
        }
        let stack = getrlimit(Resource::RLIMIT_STACK).map_or(u64::MAX, |(soft, _)| soft);
        let all = usize::try_from(stack / 4).unwrap_or(usize::MAX).min(MOST_BYTES_ON_LINUX);
        Limits { one: MOST_BYTES_OF_ONE, all: all.saturating_sub(BYTES_FOR_ARGUMENTS) }
    }

    /// Whether the system takes this variable at all.
    pub(super) fn take(&self, name: &OsStr, value: &OsStr) -> bool {
        name.len() + value.len() + 2 <= self.one
    }

    /// Takes the largest of `optional` away until the rest fits, and answers their names.
    pub(super) fn fit(
        &self,
        environment: &mut BTreeMap<OsString, OsString>,
        optional: &BTreeSet<OsString>,
    ) -> Vec<OsString> {
        let size = |name: &OsStr, value: &OsStr| name.len() + value.len() + OVERHEAD_BYTES;
        let mut total: usize = environment.iter().map(|(name, value)| size(name, value)).sum();
        if total <= self.all {
            return Vec::new();
        }
        let mut by_size: Vec<(usize, &OsString)> =
            optional.iter().filter_map(|name| Some((size(name, environment.get(name)?), name))).collect();
        by_size.sort_unstable();
        let mut gone = Vec::new();
        while total > self.all
            && let Some((size, name)) = by_size.pop()
        {
            total -= size;
            gone.push(name.clone());
        }
        for name in &gone {
            environment.remove(name);
        }
        gone
    }

    /// Whether all of it fits.
    pub(super) fn hold(&self, environment: &BTreeMap<OsString, OsString>) -> bool {
        let total: usize =
            environment.iter().map(|(name, value)| name.len() + value.len() + OVERHEAD_BYTES).sum();
        total <= self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_go_first_and_what_must_stay_stays() {
        let limits = Limits { one: 1000, all: 310 };
        let mut environment: BTreeMap<OsString, OsString> =
            [("SMALL", 10), ("BIG", 150), ("BIGGER", 200), ("OWN", 100)]
                .map(|(name, length)| (name.into(), "x".repeat(length).into()))
                .into();
        let optional = ["SMALL", "BIG", "BIGGER"].map(OsString::from).into();
        assert!(!limits.hold(&environment));
        assert_eq!(limits.fit(&mut environment, &optional), ["BIGGER"]);
        assert!(limits.hold(&environment));
        assert_eq!(environment.keys().collect::<Vec<_>>(), ["BIG", "OWN", "SMALL"]);
        assert_eq!(limits.fit(&mut environment, &optional), Vec::<OsString>::new());
    }

    #[test]
    fn one_variable_may_be_as_long_as_the_system_takes() {
        let limits = Limits::of_this_machine();
        // The text, `=` and the closing zero.
        let longest = limits.one.min(1 << 20) - "NAME".len() - 2;
        assert!(limits.take(OsStr::new("NAME"), OsStr::new(&"x".repeat(longest))));
        let starts = |length: usize| {
            let mut command = std::process::Command::new("true");
            command.env_clear().env("PATH", "/usr/bin:/bin").env("NAME", "x".repeat(length));
            command.status().is_ok_and(|status| status.success())
        };
        assert!(starts(longest), "{longest} bytes are taken");
        // Other processors have larger pages.
        if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
            assert!(!starts(longest + 1), "and not one more");
            assert!(!limits.take(OsStr::new("NAME"), OsStr::new(&"x".repeat(longest + 1))));
        }
    }
}
