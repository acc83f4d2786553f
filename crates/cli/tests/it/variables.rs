//! Variables and secrets of a job, as `dayfly run` shows them.

use crate::project::{Ended, Project};

fn assert_has(ended: &Ended, text: &str) {
    assert!(ended.stdout.contains(text), "no {text:?} in\n{}\n--- stderr\n{}", ended.stdout, ended.stderr);
}

#[test]
fn read_only_variables_cannot_be_overwritten() {
    let project = Project::with_pipeline(
        "variables:
- {name: fixed, value: 1, readonly: true}
steps:
- checkout: none
- bash: |
    echo '##vso[task.setvariable variable=v;isreadonly=true]1'
    echo '##vso[task.setvariable variable=v]2'
- bash: echo '##vso[task.setvariable variable=fixed]2'
  condition: always()
- bash: echo '##vso[task.setvariable variable=Build.SourceBranch]2'
  condition: always()
- bash: 'echo \"values: $(v) $(fixed)\"'
  condition: always()
",
    );
    let ended = project.run(&[], 1);
    for name in ["v", "fixed", "Build.SourceBranch"] {
        assert_has(&ended, &format!("Overwriting readonly variable '{name}' is not permitted."));
    }
    assert_has(&ended, "values: 1 1");
}

#[test]
fn secrets_are_masked_in_what_comes_from_the_service() {
    let project = Project::with_pipeline(
        "steps:
- checkout: none
- bash: |
    echo '##vso[build.updatebuildnumber]v-$(token)'
    printf 'colours: hunter2\\033[1m-is-secret\\n'
  displayName: Colours
- bash: echo '##vso[task.setvariable variable=out;isoutput=true;issecret=true]hidden-output'
  displayName: Output
- bash: echo '##vso[build.updatebuildnumber]w-hidden-output'
  displayName: Number
",
    );
    for arguments in [
        &["--secret", "token=env:DAYFLY_TEST_TOKEN"][..],
        &["--json", "--secret", "token=env:DAYFLY_TEST_TOKEN"],
    ] {
        let mut command = project.command(&[&["run"], arguments].concat());
        let ended = Ended::from(command.env("DAYFLY_TEST_TOKEN", "hunter2-is-secret").output().unwrap());
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_has(&ended, "colours: ***");
        assert_has(&ended, "w-***");
        for secret in ["hunter2", "-is-secret", "hidden-output"] {
            assert!(
                !ended.stdout.contains(secret) && !ended.stderr.contains(secret),
                "{secret} in {ended:?}"
            );
        }
    }
}

#[test]
fn a_large_variable_does_not_end_the_job() {
    let project = Project::with_pipeline(
        "steps:
- checkout: none
- bash: echo \"##vso[task.setvariable variable=big]$(head -c 200000 /dev/zero | tr '\\0' x)\"
- bash: |
    cat > big.txt <<'end'
    $(big)
    end
    echo \"still here: $(wc -c < big.txt)\"
",
    );
    let ended = project.run(&[], 0);
    assert_has(&ended, "The variable 'big' (200000 bytes) is too large for the environment of a process");
    assert_has(&ended, "still here: 200001");
}

#[test]
fn a_macro_that_is_not_set_is_named() {
    let project = Project::with_pipeline(
        "steps:
- checkout: none
- bash: |
    echo \"release $(releaseId) of $(date +%Y)\"
    echo $(pwd) > /dev/null
",
    );
    let ended = project.run(&[], 0);
    assert_has(&ended, "warning: `$(releaseId)` is not set, so it was left as written.");
    assert!(!ended.stdout.contains("`$(pwd)`"), "{ended:?}");
}

#[test]
fn a_matched_error_is_a_place_that_terminals_know() {
    let project = Project::with_pipeline(
        "steps:
- checkout: none
- bash: echo '##vso[task.logissue type=error;sourcepath=tests/b.py;linenumber=12]assertion failed'
",
    );
    assert_has(&project.run(&[], 0), "error: tests/b.py:12: assertion failed");
}

#[test]
fn checkouts_are_named_by_where_they_go() {
    let project = Project::with_pipeline("steps:\n- checkout: self\n- checkout: self\n  path: second\n");
    project.git(&["init", "--quiet"]);
    let ended = project.run(&[], 0);
    assert!(ended.stdout.contains(" to s/") && ended.stdout.contains(" to second"), "{}", ended.stdout);
}
