//! Comments and long texts keep the width of the code.

use crate::architecture::{parts, sources};

/// The width of `rustfmt.toml`.
const WIDTH: usize = 110;

/// Whether a line may pass the width. `rustfmt` leaves comments and texts as they are, so this is for them:
/// what cannot be broken, such as an address, stays whole, and so do rows of tables, attributes, and what
/// tests say and expect.
fn may_be_long(line: &str, is_test: bool) -> bool {
    let line = line.trim_start();
    if line.split_whitespace().any(|word| word.chars().count() > WIDTH / 2) {
        return true;
    }
    match line.strip_prefix("//") {
        Some(comment) => comment.trim_start_matches(['/', '!', ' ']).starts_with('|'),
        None => is_test || line.starts_with(['(', '[']) || line.starts_with("#[") || line.starts_with("row("),
    }
}

#[test]
fn comments_and_texts_keep_the_width_of_the_code() {
    let mut found = Vec::new();
    for part in parts() {
        for (path, text) in sources(part.folder.clone()) {
            let is_source = path.starts_with(part.folder.join("src")) && !path.ends_with("tests.rs");
            let mut is_test = !is_source;
            for (number, line) in text.lines().enumerate() {
                is_test |= line == "#[cfg(test)]";
                if line.chars().count() > WIDTH && !may_be_long(line, is_test) {
                    found.push(format!("{}:{}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(found.is_empty(), "longer than {WIDTH} columns: {found:#?}");
}
