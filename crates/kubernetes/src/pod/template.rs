//! Lays the user's `PodTemplateSpec` over a pod.
//!
//! It is Kubernetes' strategic merge: objects merge field by field, `null` removes a field, and lists whose
//! items have a key merge item by item. A volume of the same name is replaced, so that its kind can change
//! (`retainKeys`). All other lists are replaced. Whatever a field means is left to the API server.

use serde_json::{Map, Value};

/// The keys by which the items of lists are told apart (`patchMergeKey` of Kubernetes' own types).
const MERGE_KEYS: [(&str, &str); 11] = [
    ("containers", "name"),
    ("initContainers", "name"),
    ("volumes", "name"),
    ("imagePullSecrets", "name"),
    ("hostAliases", "ip"),
    ("topologySpreadConstraints", "topologyKey"),
    ("env", "name"),
    ("ports", "containerPort"),
    ("volumeMounts", "mountPath"),
    ("volumeDevices", "devicePath"),
    ("resourceClaims", "name"),
];

/// Lists whose items are replaced by those of the same key.
const REPLACED: [&str; 1] = ["volumes"];

/// Merges `metadata` and `spec` of a template into a pod, or into another template. The error says what is
/// wrong with the template.
pub(crate) fn merge(pod: &mut Value, template: &Value) -> Result<(), String> {
    let Some(template) = template.as_object() else { return Err("it is no object".to_owned()) };
    for (field, part) in template {
        match (field.as_str(), part) {
            ("metadata" | "spec", Value::Object(part)) => into_object(&mut pod[field.as_str()], part, field)?,
            ("metadata" | "spec", _) => return Err(format!("`{field}` is no object")),
            _ => {
                return Err(format!("it has the unknown field `{field}`; expected `metadata` and `spec`"));
            }
        }
    }
    Ok(())
}

fn into_object(target: &mut Value, part: &Map<String, Value>, path: &str) -> Result<(), String> {
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    for (field, value) in part {
        let path = format!("{path}.{field}");
        match value {
            Value::Null => {
                target.as_object_mut().and_then(|target| target.remove(field));
            }
            Value::Object(value) => into_object(&mut target[field.as_str()], value, &path)?,
            Value::Array(items) => into_list(&mut target[field.as_str()], field, items, &path)?,
            value => target[field.as_str()] = value.clone(),
        }
    }
    Ok(())
}

fn into_list(target: &mut Value, field: &str, items: &[Value], path: &str) -> Result<(), String> {
    let key = MERGE_KEYS.iter().find(|(list, _)| *list == field).map(|(_, key)| *key);
    let (Some(key), true) = (key, target.is_array() || target.is_null()) else {
        *target = Value::Array(items.to_vec());
        return Ok(());
    };
    let mut merged = target.as_array().cloned().unwrap_or_default();
    for (number, item) in items.iter().enumerate() {
        let path = format!("{path}[{number}]");
        let (Some(fields), false) = (item.as_object(), item[key].is_null()) else {
            return Err(format!("`{path}` has no `{key}`"));
        };
        match merged.iter_mut().find(|present| present[key] == item[key]) {
            Some(present) if REPLACED.contains(&field) => present.clone_from(item),
            Some(present) => into_object(present, fields, &path)?,
            None => merged.push(item.clone()),
        }
    }
    *target = Value::Array(merged);
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(template: &Value) -> Result<Value, String> {
        let mut pod = json!({
            "metadata": { "labels": { "a": "1" } },
            "spec": {
                "containers": [{ "name": "agent", "image": "x", "env": [{ "name": "HOME", "value": "/h" }] }],
                "volumes": [{ "name": "work", "emptyDir": {} }],
                "enableServiceLinks": false,
            },
        });
        merge(&mut pod, template)?;
        Ok(pod)
    }

    #[test]
    fn items_of_lists_are_found_by_their_keys() {
        let pod = merged(&json!({
            "metadata": { "labels": { "b": "2" } },
            "spec": {
                "enableServiceLinks": null,
                "containers": [
                    { "name": "agent", "resources": { "limits": { "memory": "1Gi" } }, "env": [{ "name": "X", "value": "y" }] },
                    { "name": "extra", "image": "z" },
                ],
                "volumes": [{ "name": "work", "ephemeral": {} }],
                "tolerations": [{ "operator": "Exists" }],
                "imagePullSecrets": [{ "name": "registry" }],
            },
        }));
        let expected = json!({
            "metadata": { "labels": { "a": "1", "b": "2" } },
            "spec": {
                "containers": [
                    {
                        "name": "agent", "image": "x", "resources": { "limits": { "memory": "1Gi" } },
                        "env": [{ "name": "HOME", "value": "/h" }, { "name": "X", "value": "y" }],
                    },
                    { "name": "extra", "image": "z" },
                ],
                "volumes": [{ "name": "work", "ephemeral": {} }],
                "tolerations": [{ "operator": "Exists" }],
                "imagePullSecrets": [{ "name": "registry" }],
            },
        });
        assert_eq!(pod, Ok(expected));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (template, reason) in [
            (json!({ "kind": "Pod" }), "it has the unknown field `kind`; expected `metadata` and `spec`"),
            (json!({ "spec": [] }), "`spec` is no object"),
            (json!({ "spec": { "containers": [{ "image": "x" }] } }), "`spec.containers[0]` has no `name`"),
            (json!("x"), "it is no object"),
        ] {
            assert_eq!(merged(&template), Err(reason.to_owned()));
        }
    }
}
