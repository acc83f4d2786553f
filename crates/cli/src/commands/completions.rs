//! `dayfly completions SHELL`.

use std::process::ExitCode;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::args::Arguments;
use crate::output;

/// Arguments of `dayfly completions`.
#[derive(Debug, Args)]
#[command(after_help = "\
Where the script goes, for a new shell to find it:
  bash        dayfly completions bash > ~/.local/share/bash-completion/completions/dayfly
              (needs the package bash-completion)
  zsh         dayfly completions zsh > \"${fpath[1]}/_dayfly\"
              (or into another folder of $fpath; compinit must run after it is there)
  fish        dayfly completions fish > ~/.config/fish/completions/dayfly.fish
  elvish      dayfly completions elvish >> ~/.config/elvish/rc.elv
  powershell  dayfly completions powershell >> $PROFILE")]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Arguments::command(), "dayfly", &mut script);
    output::write(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
