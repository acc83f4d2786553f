//! Text in, plan or job message out.

use dayfly_pipelines::{Compiled, Inputs, Source, compile};

pub(crate) fn source(text: &str) -> Source {
    Source { name: "azure-pipelines.yml".to_owned(), text: text.to_owned() }
}

/// Compiles what has to compile.
pub(crate) fn compiled(text: &str) -> Compiled {
    compile_with(text, &Inputs::default())
}

pub(crate) fn compile_with(text: &str, inputs: &Inputs) -> Compiled {
    match compile(&source(text), inputs) {
        Ok(compiled) => compiled,
        Err(diagnostics) => panic!("should compile:\n{diagnostics}"),
    }
}

#[test]
fn steps_alone_are_one_job_of_one_stage() {
    let plan = compiled("steps:\n- script: echo hello\n").plan;
    let [stage] = plan.stages.as_slice() else { panic!("one stage") };
    let [job] = stage.jobs.as_slice() else { panic!("one job") };
    assert_eq!(
        (stage.name.as_str(), job.name.as_str(), job.display_name.as_str()),
        ("__default", "Job", "Job")
    );
    let steps: Vec<_> = job.steps.iter().map(|step| (step.name.as_str(), step.task.name.as_str())).collect();
    assert_eq!(steps, [("Checkout", "Checkout"), ("CmdLine", "CmdLine")]);
    insta::assert_json_snapshot!(job.steps[1].inputs, @r#"
{
  "script": "echo hello"
}
"#);
}
