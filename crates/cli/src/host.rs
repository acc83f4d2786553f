//! This machine's name.

use anyhow::Context as _;

/// The host name, as `uname -n` says it.
pub(crate) fn name() -> anyhow::Result<String> {
    let uname = nix::sys::utsname::uname().context("the machine's name cannot be found")?;
    Ok(uname.nodename().to_string_lossy().into_owned())
}
