//! `pwsh:` and `powershell:` steps, the task PowerShell (`PowerShellV2/powershell.ts`).

use dayfly_protocol::TaskResult;

use super::program::{environment_of, which};
use super::shell::{Shell, not_found, write_script};
use super::{Inputs, Prepared, StepError};
use crate::context::StepContext;
use crate::files;

/// Preference inputs with the PowerShell variables they set and their defaults.
const PREFERENCES: [(&str, &str, &str); 6] = [
    ("errorActionPreference", "ErrorActionPreference", "Stop"),
    ("warningPreference", "WarningPreference", "Default"),
    ("informationPreference", "InformationPreference", "Default"),
    ("verbosePreference", "VerbosePreference", "Default"),
    ("debugPreference", "DebugPreference", "Default"),
    ("progressPreference", "ProgressPreference", "SilentlyContinue"),
];

const ACTIONS: [&str; 4] = ["Default", "Stop", "Continue", "SilentlyContinue"];

pub(super) async fn run(step: &StepContext, prepared: &Prepared) -> Result<TaskResult, StepError> {
    let inputs = &prepared.inputs;
    let preferences = preferences(inputs)?;
    let directory = inputs.directory("workingDirectory", &prepared.place).await?;
    let script = script(inputs).await?;
    step.output("Generating script.").await;
    let contents = contents(inputs, &preferences, &script);
    // The byte order mark tells PowerShell that the file is UTF-8.
    let file = write_script(step, "ps1", &format!("\u{feff}{contents}")).await?;
    let environment = environment_of(step, prepared).await?;
    let program = match which("pwsh", &environment, &prepared.place).await {
        Some(program) => program,
        None => which("powershell", &environment, &prepared.place)
            .await
            .ok_or_else(|| not_found(step, "pwsh", &prepared.place))?,
    };
    let operator = if inputs.flag("runScriptInSeparateScope") { "&" } else { "." };
    let shell = Shell {
        name: "PowerShell",
        program,
        arguments: vec![
            "-NoLogo".into(),
            "-NoProfile".into(),
            "-NonInteractive".into(),
            "-Command".into(),
            format!("{operator} '{}'", file.to_string_lossy().replace('\'', "''")).into(),
        ],
        directory,
        fail_on_stderr: inputs.flag("failOnStderr"),
        explains_137: false,
    };
    shell.run(step, environment, &prepared.place).await
}

fn preferences(inputs: &Inputs) -> Result<Vec<String>, StepError> {
    let mut lines = Vec::new();
    for (input, variable, default) in PREFERENCES {
        let value = inputs.get(input).unwrap_or(default);
        if !ACTIONS.iter().any(|action| action.eq_ignore_ascii_case(value)) {
            return Err(StepError::Failed(format!(
                "Invalid action preference for {input}: '{value}'. The value must be one of: {}",
                ACTIONS.join(", ")
            )));
        }
        if !value.eq_ignore_ascii_case("default") {
            lines.push(format!("${variable} = '{value}'"));
        }
    }
    Ok(lines)
}

async fn script(inputs: &Inputs) -> Result<String, StepError> {
    let target = inputs.text("targetType");
    if target.eq_ignore_ascii_case("inline") {
        return Ok(inputs.text("script").to_owned());
    }
    if !target.eq_ignore_ascii_case("filePath") {
        return Err(StepError::Failed(format!(
            "Invalid target type '{target}'. The value must be one of: 'filepath' or 'inline'"
        )));
    }
    let path = inputs.text("filePath");
    if !files::is_file(path).await || !path.to_ascii_lowercase().ends_with(".ps1") {
        return Err(StepError::Failed(format!(
            "Invalid file path '{path}'. A path to a .ps1 file is required."
        )));
    }
    Ok(format!(". '{}' {}", path.replace('\'', "''"), inputs.text("arguments")).trim().to_owned())
}

fn contents(inputs: &Inputs, preferences: &[String], script: &str) -> String {
    let mut lines = preferences.to_vec();
    if inputs.flag("showWarnings") {
        lines.push(showing_warnings(script));
    } else {
        lines.push(script.to_owned());
    }
    if !inputs.flag("ignoreLASTEXITCODE") {
        lines.extend(
            [
                r"if (!(Test-Path -LiteralPath variable:LASTEXITCODE)) {",
                "    Write-Host '##vso[task.debug]$LASTEXITCODE is not set.'",
                "} else {",
                "    Write-Host ('##vso[task.debug]$LASTEXITCODE: {0}' -f $LASTEXITCODE)",
                "    exit $LASTEXITCODE",
                "}",
            ]
            .map(str::to_owned),
        );
    }
    lines.join("\n")
}

/// Wraps a script so that each of its warnings becomes an issue.
fn showing_warnings(script: &str) -> String {
    format!(
        r###"$warnings = New-Object System.Collections.ObjectModel.ObservableCollection[System.Management.Automation.WarningRecord];
Register-ObjectEvent -InputObject $warnings -EventName CollectionChanged -Action {{
    if($Event.SourceEventArgs.Action -like "Add"){{
        $Event.SourceEventArgs.NewItems | ForEach-Object {{
            Write-Host "##vso[task.logissue type=warning;]$_";
        }}
    }}
}};
Invoke-Command {{{script}}} -WarningVariable +warnings;"###
    )
}
