//! Steps may print anything. The fuzz target checks the same.

use proptest::prelude::*;

use crate::checks;

/// Pieces of commands, so that texts are nearly commands.
fn nearly_commands() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("##vso[".to_owned()),
        Just("##vso[task.setvariable variable=a;issecret=true]".to_owned()),
        prop::sample::select(vec![
            "]", ";", "=", ".", " ", "%3B", "%0D", "%0A", "%5D", "%AZP25", "%", "25", "3B", "\n", "\r", "a",
            "é", "#"
        ])
        .prop_map(str::to_owned),
        "[a-zA-Z.;= %]{0,6}",
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

#[test]
fn the_seeds_of_the_fuzz_target_hold() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/worker_lines");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("seeds") {
        let text = std::fs::read_to_string(entry.expect("an entry").path()).expect("text");
        checks::command(&text);
        count += 1;
    }
    assert!(count >= 3, "{count}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_line_is_read_and_written_again(text in prop_oneof![nearly_commands(), "(?s).{0,40}"]) {
        checks::command(&text);
    }
}
