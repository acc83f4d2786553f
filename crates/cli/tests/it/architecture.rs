//! What `docs/architecture.md` promises of the parts: who may depend on whom, and what only `cli` may do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Each part with the parts it knows. A new arrow is a decision: it belongs on the page as well.
const ARROWS: &[(&str, &[&str])] = &[
    ("dayfly-protocol", &[]),
    ("dayfly-expressions", &[]),
    ("dayfly-processes", &[]),
    ("dayfly-pipelines", &["dayfly-expressions", "dayfly-protocol"]),
    ("dayfly-client", &["dayfly-protocol"]),
    ("dayfly-mask", &["dayfly-protocol"]),
    (
        "dayfly-worker",
        &["dayfly-client", "dayfly-expressions", "dayfly-mask", "dayfly-processes", "dayfly-protocol"],
    ),
    ("dayfly-listener", &["dayfly-client", "dayfly-mask", "dayfly-processes", "dayfly-protocol"]),
    ("dayfly-emulator", &["dayfly-expressions", "dayfly-mask", "dayfly-pipelines", "dayfly-protocol"]),
    ("dayfly-testing", &["dayfly-client", "dayfly-emulator", "dayfly-protocol"]),
    ("dayfly-kubernetes", &["dayfly-client", "dayfly-listener", "dayfly-protocol"]),
    (
        CLI,
        &[
            "dayfly-client",
            "dayfly-emulator",
            "dayfly-expressions",
            "dayfly-kubernetes",
            "dayfly-listener",
            "dayfly-mask",
            "dayfly-pipelines",
            "dayfly-processes",
            "dayfly-protocol",
            "dayfly-worker",
        ],
    ),
];

/// The one part that reads arguments and the environment, prints, and tells errors to people.
const CLI: &str = "dayfly";

/// Parts that do no I/O and look at no clock.
const PURE: &[&str] = &["dayfly-protocol", "dayfly-expressions", "dayfly-pipelines", "dayfly-mask"];

/// A part of the workspace.
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    /// What its code, without its tests, is built from.
    dependencies: BTreeSet<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub(crate) fn parts() -> Vec<Part> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let workspace: Value = serde_json::from_slice(&output.stdout).expect("cargo answers JSON");
    let text = |value: &Value| value.as_str().expect("it is text").to_owned();
    let part = |package: &Value| {
        let dependencies = package["dependencies"].as_array().expect("it is a list").iter();
        let built = dependencies.filter(|dependency| dependency["kind"] != "dev");
        let manifest = PathBuf::from(text(&package["manifest_path"]));
        Part {
            name: text(&package["name"]),
            folder: manifest.parent().expect("it is in a folder").to_owned(),
            dependencies: built.map(|dependency| text(&dependency["name"])).collect(),
        }
    };
    workspace["packages"].as_array().expect("it is a list").iter().map(part).collect()
}

/// The source files below a folder, with their text.
pub(crate) fn sources(folder: PathBuf) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("sources can be read") {
            let path = entry.expect("sources can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("sources can be read");
                found.push((path, text));
            }
        }
    }
    found
}

/// The places in a part's code, without its tests and comments, that have one of the words.
fn places(part: &Part, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in sources(part.folder.join("src")) {
        // Unit tests stand at the foot of a file.
        let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
        for (number, line) in code.lines().enumerate() {
            let line = line.split("//").next().unwrap_or_default();
            if let Some(word) = words.iter().find(|word| line.contains(**word)) {
                found.push(format!("{}:{}: {word}", path.display(), number + 1));
            }
        }
    }
    found
}

#[test]
fn the_parts_know_only_whom_they_may() {
    let expected: BTreeMap<&str, BTreeSet<&str>> =
        ARROWS.iter().map(|(name, known)| (*name, known.iter().copied().collect())).collect();
    let parts = parts();
    let found: BTreeMap<&str, BTreeSet<&str>> = parts
        .iter()
        .map(|part| {
            let own = part.dependencies.iter().map(String::as_str);
            (part.name.as_str(), own.filter(|name| expected.contains_key(name)).collect())
        })
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn only_the_binary_reads_arguments_and_forgets_the_kinds_of_errors() {
    for part in parts().iter().filter(|part| part.name != CLI) {
        for refused in ["anyhow", "clap", "clap_complete", "anstream", "indicatif", "tracing-subscriber"] {
            assert!(!part.dependencies.contains(refused), "{} depends on {refused}", part.name);
        }
    }
}

#[test]
fn only_the_binary_reads_the_environment_and_prints() {
    let words = ["env::var", "println!", "print!", "dbg!", "process::exit"];
    let found: Vec<_> =
        parts().iter().filter(|part| part.name != CLI).flat_map(|part| places(part, &words)).collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn what_is_pure_does_nothing_but_compute() {
    let parts = parts();
    let pure: Vec<_> = parts.iter().filter(|part| PURE.contains(&part.name.as_str())).collect();
    assert_eq!(pure.len(), PURE.len());
    for part in pure {
        for refused in ["tokio", "reqwest", "hyper", "axum", "nix", "tempfile"] {
            assert!(!part.dependencies.contains(refused), "{} depends on {refused}", part.name);
        }
        let words = [
            "std::fs",
            "std::net",
            "std::process",
            "std::thread",
            "Instant::now",
            "SystemTime",
            "Timestamp::now",
        ];
        let found = places(part, &words);
        assert!(found.is_empty(), "{found:#?}");
    }
}

/// Rooms of a part, each with those it knows.
type Rooms = &'static [(&'static str, &'static [&'static str])];

/// The rooms of the listener, each with those it knows; what stands above knows what stands below, and no two
/// know each other.
const LISTENER_ROOMS: Rooms = &[
    (
        "agents",
        &["context", "description", "events", "executor", "failures", "lease", "service", "store", "timings"],
    ),
    ("lease", &["context", "events", "executor", "failures", "notes", "service", "store", "timings"]),
    ("context", &["description", "events", "executor", "service", "store", "timings"]),
    ("executor", &["channel", "events", "notes", "store"]),
    ("channel", &["notes", "store"]),
    ("events", &["failures", "notes"]),
    ("failures", &["store"]),
    ("store", &[]),
    ("service", &[]),
    ("notes", &[]),
    ("description", &[]),
    ("timings", &[]),
];

/// The rooms of the emulator. State knows neither runs nor HTTP, runs know no HTTP.
const EMULATOR_ROOMS: Rooms = &[
    ("emulator", &["app", "events", "faults", "http", "runs", "settings", "state", "stores"]),
    ("http", &["app", "events", "faults", "runs", "settings", "state", "stores"]),
    ("runs", &["app", "clock", "events", "settings", "state", "stores"]),
    ("app", &["clock", "events", "faults", "settings", "state", "stores"]),
    ("state", &["clock", "events", "settings", "stores"]),
    ("settings", &["clock", "faults"]),
    ("stores", &[]),
    ("events", &[]),
    ("faults", &[]),
    ("clock", &[]),
];

#[test]
fn the_rooms_of_the_listener_know_only_whom_they_may() {
    check_rooms("listener", LISTENER_ROOMS);
}

#[test]
fn the_rooms_of_the_emulator_know_only_whom_they_may() {
    check_rooms("emulator", EMULATOR_ROOMS);
}

fn check_rooms(part: &str, rooms: Rooms) {
    let source = root().join("crates").join(part).join("src");
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, text) in sources(source.clone()) {
        let inner = path.strip_prefix(&source).expect("it is in there");
        let room = inner.iter().next().expect("a name").to_string_lossy().trim_end_matches(".rs").to_owned();
        if room == "lib" {
            continue;
        }
        let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
        let known = found.entry(room.clone()).or_default();
        known.extend(uses_of(code, "crate::").into_iter().filter(|other| *other != room));
    }
    let expected: BTreeMap<String, BTreeSet<String>> = rooms
        .iter()
        .map(|(room, known)| ((*room).to_owned(), known.iter().map(|known| (*known).to_owned()).collect()))
        .collect();
    assert_eq!(found, expected);
    // The order of the list has no circle: each room stands above all that it knows.
    for (place, (room, known)) in rooms.iter().enumerate() {
        for other in *known {
            let below = rooms.iter().position(|(name, _)| name == other);
            assert!(
                below.is_some_and(|below| below > place),
                "{room} knows {other}, which does not stand below"
            );
        }
    }
}

/// Files of one room may know each other, but not in a circle; what a room's own file says to its parts, and
/// they to it, is no circle.
#[test]
fn no_files_of_a_room_go_in_circles() {
    for part in ["listener", "emulator"] {
        let source = root().join("crates").join(part).join("src");
        let files: BTreeMap<String, String> = sources(source.clone())
            .into_iter()
            .map(|(path, text)| {
                let inner = path.strip_prefix(&source).expect("it is in there").with_extension("");
                let names: Vec<_> = inner.iter().map(|name| name.to_string_lossy().into_owned()).collect();
                let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned();
                (names.join("::").trim_end_matches("::mod").to_owned(), code)
            })
            .collect();
        let known: BTreeMap<&str, BTreeSet<String>> =
            files.iter().map(|(file, code)| (file.as_str(), siblings(file, code, &files))).collect();
        for file in known.keys() {
            let (mut reached, mut open) = (BTreeSet::new(), vec![(*file).to_owned()]);
            while let Some(next) = open.pop() {
                let fresh: Vec<_> =
                    known[next.as_str()].iter().filter(|other| reached.insert((*other).clone())).collect();
                open.extend(fresh.into_iter().cloned());
            }
            assert!(!reached.contains(*file), "{part}: {file} is in a circle among {reached:?}");
        }
    }
}

/// The files of the same folder that a file knows.
fn siblings(file: &str, code: &str, files: &BTreeMap<String, String>) -> BTreeSet<String> {
    let Some((room, _)) = file.rsplit_once("::") else { return BTreeSet::new() };
    let is_there = |name: String| Some(format!("{room}::{name}")).filter(|path| files.contains_key(path));
    let mut found: BTreeSet<String> = uses_of(code, "super::").into_iter().filter_map(is_there).collect();
    for path in files.keys().filter(|path| path.rsplit_once("::").is_some_and(|(home, _)| home == room)) {
        if code.contains(&format!("{path}::")) {
            found.insert(path.clone());
        }
    }
    // Within one pair of braces, as `crate::{agents::{phase::Phase, ...}, ...}`.
    if let Some(inner) = room.rsplit("::").next().and_then(|name| code.split(&format!("{name}::{{")).nth(1)) {
        let names = uses_of(&format!("room::{{{inner}"), "room::");
        found.extend(names.into_iter().filter_map(is_there));
    }
    found.remove(file);
    found
}

/// The first names of all paths that begin with a prefix, also of those in braces.
fn uses_of(code: &str, prefix: &str) -> BTreeSet<String> {
    let mut uses = BTreeSet::new();
    let code: String = code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    for rest in code.split(prefix).skip(1) {
        let Some(group) = rest.strip_prefix('{') else {
            uses.extend(name(rest));
            continue;
        };
        let mut depth = 1;
        let mut part = String::new();
        for letter in group.chars() {
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => uses.extend(name(std::mem::take(&mut part).trim())),
                _ => {}
            }
            if depth == 0 {
                break;
            }
            if !(letter == ',' && depth == 1) {
                part.push(letter);
            }
        }
        uses.extend(name(part.trim()));
    }
    uses
}

fn name(path: &str) -> Option<String> {
    let name: String = path.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
    (!name.is_empty()).then_some(name)
}
