//! Parameters that a file does not have.

use dayfly_pipelines::compile;

use crate::compile::{compile_with, outline_of, source};
use crate::files::inputs;

const TYPED: &str = "parameters:\n- name: count\n  default: 1\n";
const OLD: &str = "parameters: {count: 1}\n";

/// What is said about a file that uses a parameter it lacks, as root and as a template.
fn told(parameters: &str, body: &str) -> String {
    let text = format!("{parameters}{body}");
    let root = match compile(&source(&text), &inputs(&[])) {
        Ok(compiled) => compiled.warnings,
        Err(diagnostics) => diagnostics,
    };
    let call = "steps:\n- template: t.yml\n";
    let template = match compile(&source(call), &inputs(&[("t.yml", &text)])) {
        Ok(compiled) => compiled.warnings,
        Err(diagnostics) => diagnostics,
    };
    let lines = |diagnostics: dayfly_pipelines::Diagnostics| {
        let lines = diagnostics.reports().into_iter().map(|report| {
            format!("{:?}: {} {}", report.severity, report.message, report.help.join(" ")).trim().to_owned()
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    format!("{text}root: {}\ntemplate: {}\n", lines(root), lines(template))
}

#[test]
fn a_misspelt_parameter_is_told_whatever_the_file_declares() {
    let bodies = [
        "steps:\n- script: ${{ parameters.cuont }}\n",
        "steps:\n- script: ${{ eq(parameters['cuont'], 1) }}\n",
        "steps:\n- ${{ if parameters.cuont }}:\n  - script: x\n",
        "steps:\n- ${{ each x in parameters.cuont }}:\n  - script: x\n",
        "steps:\n- script: x\n  ${{ parameters.cuont }}: y\n",
        "steps:\n- ${{ parameters.cuont }}\n",
    ];
    let all: Vec<String> = [TYPED, OLD, ""]
        .iter()
        .flat_map(|parameters| bodies.iter().map(|body| told(parameters, body)))
        .collect();
    insta::assert_snapshot!(all.join("\n"), @r"
parameters:
- name: count
  default: 1
steps:
- script: ${{ parameters.cuont }}
root: Error: in the expression: there is no parameter `cuont` did you mean `count`?
template: Error: in the expression: there is no parameter `cuont` did you mean `count`?

parameters:
- name: count
  default: 1
steps:
- script: ${{ eq(parameters['cuont'], 1) }}
root: Error: in the expression: there is no parameter `cuont` did you mean `count`?
template: Error: in the expression: there is no parameter `cuont` did you mean `count`?

parameters:
- name: count
  default: 1
steps:
- ${{ if parameters.cuont }}:
  - script: x
root: Error: in the expression: there is no parameter `cuont` did you mean `count`?
template: Error: in the expression: there is no parameter `cuont` did you mean `count`?

parameters:
- name: count
  default: 1
steps:
- ${{ each x in parameters.cuont }}:
  - script: x
root: Error: in the expression: there is no parameter `cuont` did you mean `count`?
template: Error: in the expression: there is no parameter `cuont` did you mean `count`?

parameters:
- name: count
  default: 1
steps:
- script: x
  ${{ parameters.cuont }}: y
root: Error: in the expression: there is no parameter `cuont` did you mean `count`?
template: Error: in the expression: there is no parameter `cuont` did you mean `count`?

parameters:
- name: count
  default: 1
steps:
- ${{ parameters.cuont }}
root: Error: in the expression: there is no parameter `cuont` did you mean `count`?
template: Error: in the expression: there is no parameter `cuont` did you mean `count`?

parameters: {count: 1}
steps:
- script: ${{ parameters.cuont }}
root: Warning: there is no parameter `cuont`, so this is empty did you mean `count`?
template: Warning: there is no parameter `cuont`, so this is empty did you mean `count`?

parameters: {count: 1}
steps:
- script: ${{ eq(parameters['cuont'], 1) }}
root: Warning: there is no parameter `cuont`, so this is empty did you mean `count`?
template: Warning: there is no parameter `cuont`, so this is empty did you mean `count`?

parameters: {count: 1}
steps:
- ${{ if parameters.cuont }}:
  - script: x
root: Warning: there is no parameter `cuont`, so this is empty did you mean `count`?
template: Warning: there is no parameter `cuont`, so this is empty did you mean `count`?

parameters: {count: 1}
steps:
- ${{ each x in parameters.cuont }}:
  - script: x
root: Warning: there is no parameter `cuont`, so this is empty did you mean `count`?
template: Warning: there is no parameter `cuont`, so this is empty did you mean `count`?

parameters: {count: 1}
steps:
- script: x
  ${{ parameters.cuont }}: y
root: Error: unknown key `` in a step
Warning: there is no parameter `cuont`, so this is empty did you mean `count`?
template: Error: unknown key `` in a step
Warning: there is no parameter `cuont`, so this is empty did you mean `count`?

parameters: {count: 1}
steps:
- ${{ parameters.cuont }}
root: Error: a step must be a mapping, not nothing
Warning: there is no parameter `cuont`, so this is empty did you mean `count`?
template: Error: a step must be a mapping, not nothing
Warning: there is no parameter `cuont`, so this is empty did you mean `count`?

steps:
- script: ${{ parameters.cuont }}
root: Error: in the expression: there is no parameter `cuont` declare it under `parameters:`
template: Warning: there is no parameter `cuont`, so this is empty

steps:
- script: ${{ eq(parameters['cuont'], 1) }}
root: Error: in the expression: there is no parameter `cuont` declare it under `parameters:`
template: Warning: there is no parameter `cuont`, so this is empty

steps:
- ${{ if parameters.cuont }}:
  - script: x
root: Error: in the expression: there is no parameter `cuont` declare it under `parameters:`
template: Warning: there is no parameter `cuont`, so this is empty

steps:
- ${{ each x in parameters.cuont }}:
  - script: x
root: Error: in the expression: there is no parameter `cuont` declare it under `parameters:`
template: Warning: there is no parameter `cuont`, so this is empty

steps:
- script: x
  ${{ parameters.cuont }}: y
root: Error: in the expression: there is no parameter `cuont` declare it under `parameters:`
template: Error: unknown key `` in a step
Warning: there is no parameter `cuont`, so this is empty

steps:
- ${{ parameters.cuont }}
root: Error: in the expression: there is no parameter `cuont` declare it under `parameters:`
template: Error: a step must be a mapping, not nothing
Warning: there is no parameter `cuont`, so this is empty
");
}

#[test]
fn what_is_not_evaluated_may_name_anything() {
    let text = format!(
        "{TYPED}steps:\n- checkout: none\n- script: ${{{{ coalesce('first', parameters.missing) }}}}\n\
         - ${{{{ if false }}}}:\n  - script: ${{{{ parameters.missing }}}}\n\
         - ${{{{ if and(false, parameters.missing) }}}}:\n  - script: never\n"
    );
    insta::assert_snapshot!(outline_of(&compile_with(&text, &inputs(&[]))), @r#"
stage __default
  job Job
    CmdLine CmdLine@2.279.1 script="first"
"#);
    // All arguments of `iif` are evaluated.
    let text = format!("{TYPED}steps:\n- script: ${{{{ iif(true, 'a', parameters.missing) }}}}\n");
    let diagnostics = compile(&source(&text), &inputs(&[])).expect_err("it is evaluated");
    insta::assert_snapshot!(diagnostics, @r"
error: in the expression: there is no parameter `missing`
 --> azure-pipelines.yml:5:30
  |
5 | - script: ${{ iif(true, 'a', parameters.missing) }}
  |                              ^^^^^^^^^^^^^^^^^^
  |
  = help: the parameters here are `count`
");
}

#[test]
fn templates_of_the_old_kind_see_what_they_are_given() {
    let root = "steps:\n- template: t.yml\n  parameters: {given: yes}\n";
    for template in [
        "steps:\n- script: ${{ parameters.given }}\n",
        "parameters: {a: 1}\nsteps:\n- script: ${{ parameters.given }}\n",
    ] {
        let compiled = compile_with(root, &inputs(&[("t.yml", template)]));
        assert!(compiled.warnings.is_empty(), "{}", compiled.warnings);
        assert_eq!(compiled.plan.stages[0].jobs[0].steps[1].inputs["script"], "yes");
    }
}
