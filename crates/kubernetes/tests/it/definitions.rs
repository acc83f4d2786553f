//! The custom resource definitions.

use dayfly_kubernetes::api::definitions;

#[test]
fn all_definitions_together_are_small_enough_for_kubectl_apply() {
    let bytes: usize =
        definitions().iter().map(|crd| serde_json::to_vec(crd).expect("it is JSON").len()).sum();
    assert!(bytes < 100_000, "the definitions have {bytes} bytes");
}

#[test]
fn a_template_keeps_fields_that_dayfly_does_not_know() {
    let set = definitions().into_iter().find(|crd| crd.spec.names.kind == "AgentSet").expect("it is there");
    let schema = serde_json::to_value(&set.spec.versions[0].schema).expect("it is JSON");
    let template = &schema["openAPIV3Schema"]["properties"]["spec"]["properties"]["template"];
    assert_eq!(template["x-kubernetes-preserve-unknown-fields"], true, "{template}");
}
