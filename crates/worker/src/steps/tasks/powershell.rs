//! Runs a part of a task by PowerShell (`PowerShell3Handler.cs`). The official agent does so on Windows
//! alone; here a task gets the `pwsh` of the machine: many tasks need no more.

use dayfly_protocol::TaskResult;

use super::manifest::Handler;
use super::run::Part;
use crate::files;
use crate::steps::StepError;
use crate::steps::program::which;

/// The task library for PowerShell, beside the script.
const LIBRARY: &str = "ps_modules/VstsTaskSdk/VstsTaskSdk.psd1";

pub(super) async fn run(part: Part<'_>, handler: &Handler<'_>) -> Result<TaskResult, StepError> {
    let task = &part.package.manifest.name;
    let Some(program) = which("pwsh", &part.environment, &part.prepared.place).await else {
        return Err(StepError::Failed(format!(
            "The task {task} runs on PowerShell (handler {}), and there is no `pwsh` on the PATH. Install \
             PowerShell 7 on this agent (https://aka.ms/install-powershell), or use an image that has it. A \
             task that needs Windows itself runs only on Microsoft's agent for Windows.",
            handler.name
        )));
    };
    let script = part.target(handler).await?;
    let folder = script.parent().unwrap_or(&part.package.folder).to_owned();
    let library = folder.join(LIBRARY);
    if !files::is_file(&library).await {
        return Err(StepError::Failed(format!(
            "The task {task} runs on PowerShell (handler {}), and its package has no {LIBRARY}, by which it \
             would read its inputs. Use another version of the task, or ask its author, {}.",
            handler.name, part.package.manifest.author
        )));
    }
    let is_debugged = part.step.job.debug;
    let command = command(&library.to_string_lossy(), &script.to_string_lossy(), is_debugged);
    let arguments = ["-NoLogo", "-NoProfile", "-NonInteractive", "-Command", &command].map(Into::into);
    part.start(program, arguments.into(), folder).await
}

/// Loads the library and runs the script by it.
fn command(library: &str, script: &str, is_debugged: bool) -> String {
    let preference = if is_debugged { "Continue" } else { "SilentlyContinue" };
    // The path of the script is within quotes within quotes.
    let [library, script] = [library.replace('\'', "''"), script.replace('\'', "''''")];
    format!(
        "Import-Module -Name '{library}' -ArgumentList @{{ NonInteractive = $true }} -ErrorAction Stop; \
         $VerbosePreference = '{preference}'; $DebugPreference = '{preference}'; \
         Invoke-VstsTaskScript -ScriptBlock ([scriptblock]::Create('. ''{script}'''))"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_in_paths_stay_text() {
        assert_eq!(
            command("/it's/l.psd1", "/it's/a.ps1", false),
            "Import-Module -Name '/it''s/l.psd1' -ArgumentList @{ NonInteractive = $true } -ErrorAction Stop; \
             $VerbosePreference = 'SilentlyContinue'; $DebugPreference = 'SilentlyContinue'; \
             Invoke-VstsTaskScript -ScriptBlock ([scriptblock]::Create('. ''/it''''s/a.ps1'''))"
        );
    }
}
