//! `docs/cli.md` is what `--help` says. `UPDATE_DOCS=1 cargo test -p dayfly` writes it anew.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// The commands, in the order of the page.
const COMMANDS: &[&str] = &["run", "logs", "agent", "emulator", "emulator queue", "eval", "completions"];

#[test]
fn the_reference_of_the_command_line_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    let page = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).expect("docs/cli.md can be written");
    }
    let found = std::fs::read_to_string(&path).expect("docs/cli.md is there");
    assert!(found == page, "docs/cli.md is stale: run UPDATE_DOCS=1 cargo test -p dayfly");
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
