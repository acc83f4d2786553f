//! The table of Microsoft's catalogue in `docs/compatibility.md` says what the code does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use dayfly_pipelines::{BuiltinTasks, TaskCatalog};

/// What a row says, by the task's name.
struct Row {
    versions: BTreeSet<u32>,
    in_run: String,
}

/// The words for what `dayfly run` does with a task, which the page explains. All else begins with `no`.
const WORDS: [&str; 5] = ["built in", "in server jobs", "looked for", "nothing to do", "left out"];

/// The rows of the table, by the names of their tasks.
fn rows() -> BTreeMap<String, Vec<Row>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/compatibility.md");
    let page = std::fs::read_to_string(path).expect("the page is there");
    let (_, section) = page.split_once("\n## Microsoft's catalogue\n").expect("the page has the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let lines = section.lines().filter(|line| line.starts_with("| ")).skip(2);
    let mut rows: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for line in lines {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, versions, in_run, _] = cells[..] else { panic!("four cells: {line}") };
        let versions = versions.split(", ").map(|version| version.parse().expect("a version")).collect();
        let row = Row { versions, in_run: in_run.to_owned() };
        rows.entry(name.to_owned()).or_default().push(row);
    }
    rows
}

/// What the code does with a version of a task; `None`: it cannot run it.
fn word(name: &str, major: u32) -> Option<&'static str> {
    let task = BuiltinTasks.resolve(name, major).unwrap_or_else(|| panic!("{name}@{major} is no task"));
    let [built_in, in_server_jobs, looked_for, nothing_to_do, left_out] = WORDS;
    match () {
        () if dayfly_worker::can_run(task.id, &task.version) => Some(built_in),
        () if dayfly_emulator::runs::runs_on_server(task.id) => Some(in_server_jobs),
        () if dayfly_worker::is_left_out(name) => Some(left_out),
        () if dayfly_worker::is_looked_for(name) => Some(looked_for),
        () => dayfly_worker::can_stand_in(name).then_some(nothing_to_do),
    }
}

#[test]
fn the_table_has_each_task_of_the_catalogue_with_the_right_word() {
    let rows = rows();
    let mut wrong = Vec::new();
    for (name, rows) in &rows {
        for row in rows {
            for major in &row.versions {
                let fits = match word(name, *major) {
                    Some(word) => row.in_run == word,
                    None => row.in_run == "no" || row.in_run.starts_with("no: "),
                };
                if !fits {
                    wrong.push(format!("{name}@{major}: {:?}, not {}", word(name, *major), row.in_run));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let named: BTreeSet<&str> = rows.keys().map(String::as_str).collect();
    let known = BuiltinTasks.names();
    let known: BTreeSet<&str> = known.iter().map(String::as_str).filter(|name| *name != "Checkout").collect();
    assert_eq!(named, known);
    for (name, rows) in &rows {
        let newest = rows.iter().filter_map(|row| row.versions.last()).max();
        assert_eq!(newest.copied(), BuiltinTasks.newest(name), "{name}");
    }
}
