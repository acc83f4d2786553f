//! The objects of manifests, and what a deployment changes in them (`KubernetesObjectUtility.ts`).

use std::path::PathBuf;

use serde_json::{Value, json};

use super::super::super::StepError;
use crate::files::read_bounded_text;

/// How large a manifest may be.
const MOST_BYTES: u64 = 64 * 1024 * 1024;

/// Kinds that have containers (`workloadTypes`).
const WORKLOADS: &[&str] = &["deployment", "replicaset", "daemonset", "pod", "statefulset", "job", "cronjob"];

/// Objects in the order of their manifests.
pub(super) struct Objects(Vec<Object>);

struct Object {
    /// The manifest it is from.
    file: PathBuf,
    value: Value,
}

impl Objects {
    /// Reads manifests: documents of YAML or JSON. Documents without a kind are no objects.
    pub(super) async fn read(files: Vec<PathBuf>) -> Result<Objects, StepError> {
        let read = move || {
            let mut objects = Vec::new();
            for file in files {
                let unreadable =
                    |why: String| StepError::Failed(format!("{} cannot be read: {why}", file.display()));
                let text = read_bounded_text(&file, MOST_BYTES).map_err(unreadable)?;
                let values = parse(&text).map_err(unreadable)?;
                objects.extend(values.into_iter().map(|value| Object { file: file.clone(), value }));
            }
            Ok(Objects(objects))
        };
        tokio::task::spawn_blocking(read)
            .await
            .map_err(|error| StepError::Failed(format!("The manifests could not be read: {error}")))?
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Value> {
        self.0.iter().map(|object| &object.value)
    }

    /// Lets the pods pull their images with more secrets.
    pub(super) fn pull_with(&mut self, secrets: &[&str]) {
        for spec in self.pod_specs() {
            let more = secrets.iter().map(|name| json!({ "name": name }));
            match spec.get_mut("imagePullSecrets").and_then(Value::as_array_mut) {
                Some(secrets) => secrets.extend(more),
                None if !secrets.is_empty() => spec["imagePullSecrets"] = more.collect(),
                None => {}
            }
        }
    }

    /// Puts images in the place of those of the same name.
    pub(super) fn substitute(&mut self, images: &[&str]) {
        for spec in self.pod_specs() {
            for list in ["containers", "initContainers"] {
                let containers = spec.get_mut(list).and_then(Value::as_array_mut);
                for container in containers.into_iter().flatten() {
                    let Some(image) = container["image"].as_str() else { continue };
                    let name = name_of(image.trim());
                    if let Some(image) = images.iter().rfind(|image| name_of(image) == name) {
                        container["image"] = Value::from(*image);
                    }
                }
            }
        }
    }

    /// Takes the objects that have no name, and answers what they are.
    pub(super) fn take_unnamed(&mut self) -> Vec<String> {
        let named = |object: &Object| object.value["metadata"]["name"].is_string();
        let unnamed = self.0.iter().filter(|object| !named(object));
        let what = unnamed.map(|object| {
            format!("the kind {} in {}", object.value["kind"].as_str().unwrap_or("?"), object.file.display())
        });
        let what = what.collect();
        self.0.retain(named);
        what
    }

    /// All of them as one object, for kubectl.
    pub(super) fn as_list(&self) -> String {
        let items: Vec<&Value> = self.iter().collect();
        json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string()
    }

    /// All of them as documents of YAML.
    pub(super) fn as_documents(&self) -> Result<String, StepError> {
        let documents: Result<Vec<String>, _> = self.iter().map(serde_saphyr::to_string).collect();
        let documents =
            documents.map_err(|error| StepError::Failed(format!("A manifest cannot be written: {error}")))?;
        Ok(documents.join("---\n"))
    }

    /// What says which pods the workloads have.
    fn pod_specs(&mut self) -> impl Iterator<Item = &mut Value> {
        self.0.iter_mut().filter_map(|object| pod_spec(&mut object.value))
    }
}

/// The objects of documents. The items of lists are objects of their own.
pub(super) fn parse(text: &str) -> Result<Vec<Value>, String> {
    // As js-yaml reads them: `yes` and `on` are words.
    let options = serde_saphyr::options! { strict_booleans: true };
    let documents: Vec<Value> =
        serde_saphyr::from_multiple_with_options(text, options).map_err(|error| error.to_string())?;
    let mut objects = Vec::new();
    for mut document in documents {
        let is_list = kind_of(&document).is_some_and(|kind| kind == "list");
        match document.get_mut("items").and_then(Value::as_array_mut) {
            Some(items) if is_list => objects.append(items),
            _ => objects.push(document),
        }
    }
    objects.retain(|object| kind_of(object).is_some());
    Ok(objects)
}

fn kind_of(object: &Value) -> Option<String> {
    object.get("kind")?.as_str().map(str::to_lowercase)
}

fn pod_spec(object: &mut Value) -> Option<&mut Value> {
    let kind = kind_of(object).filter(|kind| WORKLOADS.contains(&kind.as_str()))?;
    let path = match kind.as_str() {
        "pod" => "/spec",
        "cronjob" => "/spec/jobTemplate/spec/template/spec",
        _ => "/spec/template/spec",
    };
    object.pointer_mut(path).filter(|spec| spec.is_object())
}

/// An image without its tag and its digest (`extractImageName`).
fn name_of(image: &str) -> &str {
    let host = image.find('/').filter(|at| *at > 0).map_or(0, |at| at + 1);
    let end = image[host..].find(':').map_or(image.len(), |at| host + at);
    image[..end].split("@sha256").next().unwrap_or_default()
}

/// The lines of an input.
pub(super) fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(text: &str) -> Objects {
        let of = |value| Object { file: "m.yaml".into(), value };
        Objects(parse(text).unwrap().into_iter().map(of).collect())
    }

    #[test]
    fn images_are_compared_without_tags_and_digests() {
        for (image, name) in [
            ("nginx", "nginx"),
            ("nginx:1.2", "nginx"),
            ("nginx@sha256:0ab", "nginx"),
            ("host:5000/team/app:1", "host:5000/team/app"),
            ("host/app@sha256:0ab", "host/app"),
        ] {
            assert_eq!(name_of(image), name, "{image}");
        }
    }

    #[test]
    fn workloads_of_every_kind_get_images_and_secrets() {
        let mut all = objects(
            "kind: Pod\nspec: {containers: [{image: a:1}], initContainers: [{image: b}]}\n---\n\
             kind: CronJob\nspec: {jobTemplate: {spec: {template: {spec: {containers: [{image: r/a}]}}}}}\n---\n\
             # nothing\n---\nkind: List\nitems:\n- kind: Deployment\n  spec:\n    template:\n      spec:\n        \
             imagePullSecrets: [{name: old}]\n        containers: [{image: 'a@sha256:1'}]\n\
             - {kind: Service, spec: {containers: [{image: a}]}}\n---\nkind: Job\n",
        );
        all.substitute(&["a:2", "b:3", "a:4"]);
        all.pull_with(&["new"]);
        let values: Vec<&Value> = all.iter().collect();
        assert_eq!(values.len(), 5);
        assert_eq!(values[0]["spec"]["containers"][0]["image"], "a:4");
        assert_eq!(values[0]["spec"]["initContainers"][0]["image"], "b:3");
        assert_eq!(values[0]["spec"]["imagePullSecrets"], json!([{ "name": "new" }]));
        let cron_job = &values[1]["spec"]["jobTemplate"]["spec"]["template"]["spec"];
        assert_eq!(cron_job["containers"][0]["image"], "r/a");
        assert_eq!(cron_job["imagePullSecrets"][0]["name"], "new");
        let deployment = &values[2]["spec"]["template"]["spec"];
        assert_eq!(deployment["containers"][0]["image"], "a:4");
        assert_eq!(deployment["imagePullSecrets"], json!([{ "name": "old" }, { "name": "new" }]));
        assert_eq!(values[3]["spec"]["containers"][0]["image"], "a");
    }

    #[test]
    fn nothing_is_added_where_nothing_is_wanted() {
        let mut all =
            objects("kind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c}]}\n---\nkind: Pod\n");
        all.pull_with(&[]);
        all.substitute(&["c:1"]);
        assert_eq!(all.take_unnamed(), ["the kind Pod in m.yaml"]);
        let expected = json!({ "kind": "Pod", "metadata": { "name": "p" }, "spec": { "containers": [{ "name": "c" }] } });
        assert_eq!(all.iter().collect::<Vec<_>>(), [&expected]);
    }

    #[test]
    fn words_that_look_like_booleans_stay_words() {
        let object = &parse("kind: ConfigMap\ndata: {a: yes, b: on, c: true, d: 010}\n").unwrap()[0];
        assert_eq!(object["data"]["a"], "yes");
        assert_eq!(object["data"]["b"], "on");
        assert_eq!(object["data"]["c"], true);
        assert!(parse("kind: [").is_err());
    }
}
