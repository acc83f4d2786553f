//! `docs/cli.md` is what `--help` says, `docs/crds.md` what the definitions say. `UPDATE_DOCS=1 cargo test -p
//! dayfly` writes them anew.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use dayfly_kubernetes::api::definitions;
use serde_json::Value;

/// The commands, in the order of the page.
const COMMANDS: &[&str] = &[
    "run",
    "logs",
    "agent",
    "controller",
    "crds",
    "emulator",
    "emulator queue",
    "tasks list",
    "tasks pull",
    "eval",
    "completions",
];

#[test]
fn the_reference_of_the_command_line_is_fresh() {
    is_fresh("cli.md", &page());
}

#[test]
fn the_reference_of_the_custom_resources_is_fresh() {
    is_fresh("crds.md", &kinds());
}

fn is_fresh(name: &str, page: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, page).expect("the page can be written");
    }
    let found = std::fs::read_to_string(&path).expect("the page is there");
    assert!(found == page, "docs/{name} is stale: run UPDATE_DOCS=1 cargo test -p dayfly");
}

/// All kinds with their fields.
fn kinds() -> String {
    let mut page = String::from(
        "# Custom resources\n\nMade from the definitions that `dayfly crds` prints; do not edit. \
         [Jobs in Kubernetes pods](kubernetes.md) says how they are used.\n",
    );
    for definition in definitions() {
        let names = &definition.spec.names;
        let short = names.short_names.iter().flatten().map(|name| format!("`{name}`"));
        let short = short.collect::<Vec<_>>().join(", ");
        let schema = serde_json::to_value(&definition.spec.versions[0].schema).expect("JSON");
        let schema = &schema["openAPIV3Schema"];
        let _ = write!(
            page,
            "\n## {}\n\n{} Short name: {short}.\n",
            names.kind,
            schema["properties"]["spec"]["description"]
                .as_str()
                .or(schema["description"].as_str())
                .unwrap_or_default(),
        );
        for part in ["spec", "status"] {
            let _ = write!(page, "\n| field | type | meaning |\n| --- | --- | --- |\n");
            fields(&mut page, part, &schema["properties"][part]);
        }
    }
    page
}

/// The rows for the fields of an object and of all below it.
fn fields(page: &mut String, path: &str, schema: &Value) {
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let (path, inner) = match &field["items"] {
            Value::Null => (path, field),
            items => (format!("{path}[]"), items),
        };
        let is_required = required.iter().any(|required| required == name);
        let must = if is_required { "**Required.** " } else { "" };
        let default = match &field["default"] {
            Value::Null | Value::Object(_) => String::new(),
            default => format!(" Default: `{default}`.").replace('"', ""),
        };
        let meaning =
            field["description"].as_str().unwrap_or_default().replace('\n', " ").replace('|', "\\|");
        let _ = writeln!(page, "| `{path}` | {} | {must}{meaning}{default} |", kind(inner));
        fields(page, &path, inner);
    }
}

/// The type of a field, or the values it may have.
fn kind(schema: &Value) -> String {
    let options = schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let options: Vec<_> = options.map(|option| format!("`{option}`")).collect();
    match options.is_empty() {
        true => schema["type"].as_str().unwrap_or("any").to_owned(),
        false => options.join(", "),
    }
}

fn page() -> String {
    let mut page = String::from("# Command line\n\nMade from `dayfly --help`; do not edit.\n");
    for command in [&[][..]].into_iter().chain(COMMANDS.iter().map(std::slice::from_ref)) {
        let title = ["dayfly"].iter().chain(command).copied().collect::<Vec<_>>().join(" ");
        let _ = write!(page, "\n## `{title}`\n\n```\n{}\n```\n", help(command));
    }
    page
}

fn help(command: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_dayfly"))
        .args(command.iter().flat_map(|words| words.split(' ')))
        .arg("--help")
        .env_clear()
        .env("COLUMNS", "100")
        .output()
        .expect("the built binary starts");
    assert!(output.status.success(), "{command:?} --help: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("help is UTF-8");
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}
