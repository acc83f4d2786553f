//! Tests that are not run, since the machine lacks something.

use std::io::Write as _;

/// Says that the current test is not run, and why, whether or not the output of tests is shown: a test that
/// did nothing must not look like one that passed.
pub fn skip(reason: &str) {
    let thread = std::thread::current();
    let text = format!("SKIPPED {}: {reason}\n", thread.name().unwrap_or("a test"));
    // Past `eprintln!`, which is kept back for tests that pass.
    std::io::stderr().write_all(text.as_bytes()).expect("standard error is open");
}
