//! The task catalogue and its packages, as agents get them.

use std::io::Read as _;

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::git_program::write;
use crate::pipeline::{Job, queue, register};
use crate::service::{Service, assert_error, success};

const ID: &str = "11111111-aaaa-4aaa-8aaa-000000000001";

#[tokio::test]
async fn job_downloads_the_task_that_its_message_names() {
    let tasks = tempfile::tempdir().unwrap();
    let manifest = json!({
        "id": ID.to_uppercase(), "name": "Greet", "friendlyName": "Greets",
        "version": { "Major": 1, "Minor": 2, "Patch": 3 }, "execution": { "Node20_1": { "target": "index.js" } },
    });
    write(tasks.path(), "GreetV1/task.json", &manifest.to_string());
    write(tasks.path(), "GreetV1/index.js", "console.log('hi')");
    let service =
        Service::start_with(|settings| settings.tasks_folder = Some(tasks.path().to_path_buf())).await;
    let folder = tempfile::tempdir().unwrap();
    let definition = register(&service, folder.path(), "steps: [ { task: Greet@1 } ]");
    let agent = service.online("agent-1").await;
    queue(&service, definition, json!({})).await;
    let job = Job::take(&service, &agent).await;
    let reference =
        job.message.steps.iter().find_map(|step| step.reference.as_ref().filter(|task| task.name == "Greet"));
    let reference = reference.unwrap();
    assert_eq!((reference.id.to_string().as_str(), reference.version.as_str()), (ID, "1.2.3"));

    let path = format!("_apis/distributedtask/tasks/{}/{}", reference.id, reference.version);
    let package =
        job.call(&service, Method::GET, &path).header("accept", "application/zip").send().await.unwrap();
    assert_eq!(package.headers()["content-type"], "application/zip");
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(package.bytes().await.unwrap())).unwrap();
    let mut text = String::new();
    archive.by_name("index.js").unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "console.log('hi')");
    assert!(archive.by_name("task.json").is_ok());

    let listed = service.get("_apis/distributedtask/tasks").await;
    assert_eq!((&listed["count"], &listed["value"][0]["version"]["major"]), (&json!(1), &json!(1)));
    assert_eq!(success(agent.call_tasks(&service, ID)).await["value"][0]["name"], "Greet");
    let missing =
        service.admin(Method::GET, &format!("_apis/distributedtask/tasks/{ID}/9.9.9")).send().await.unwrap();
    assert_error(missing, StatusCode::NOT_FOUND, "VssResourceNotFoundException").await;
    service.emulator.stop().await;
}

impl crate::service::Agent {
    fn call_tasks(&self, service: &Service, id: &str) -> reqwest::RequestBuilder {
        service.bearer(&self.token, Method::GET, &format!("_apis/distributedtask/tasks/{id}"))
    }
}
