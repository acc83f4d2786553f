//! No secret is seen in any output. The fuzz target checks the same.

use proptest::prelude::*;

#[path = "../../../../fuzz/checks/mask.rs"]
mod checks;

/// Secrets that begin alike, overlap, span lines and need escapes, among output that is nearly them.
fn secrets_and_output() -> impl Strategy<Value = String> {
    let text = prop_oneof![
        "[ab\n]{1,7}",
        "[ab\"'\\\\%é:/@ \r\n]{0,8}",
        Just("//u:ab@".to_owned()),
        "[a-zA-Z0-9+/=]{1,40}",
        ".{0,12}",
    ];
    prop::collection::vec(text, 1..6).prop_map(|parts| parts.join(&checks::SEPARATOR.to_string()))
}

#[test]
fn the_seeds_of_the_fuzz_target_hold() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/worker_lines");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("seeds") {
        let text = std::fs::read_to_string(entry.expect("an entry").path()).expect("text");
        checks::output(&text);
        count += 1;
    }
    assert!(count >= 3, "{count}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_secret_is_seen_in_any_output(text in secrets_and_output()) {
        checks::output(&text);
    }
}
