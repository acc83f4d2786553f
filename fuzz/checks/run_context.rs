//! A run for job messages to belong to.

use dayfly_pipelines::RunContext;
use dayfly_pipelines::message::{BuildContext, RepositoryContext};
use dayfly_protocol::TimelineId;
use url::Url;
use uuid::Uuid;

/// A run of the pipeline `hello` with its own repository.
pub(crate) fn sample() -> RunContext {
    let address = |text: &str| Url::parse(text).expect("a URL");
    RunContext {
        plan: Default::default(),
        timeline: TimelineId(Uuid::from_u128(1)),
        collection_url: address("https://a.example/collection/"),
        collection_id: Uuid::from_u128(2),
        project: Default::default(),
        project_name: "project".to_owned(),
        build: BuildContext { id: 3, number: "20260102.1".to_owned(), ..BuildContext::default() },
        repositories: vec![RepositoryContext {
            alias: "self".to_owned(),
            id: "r".to_owned(),
            repository_type: "Git".to_owned(),
            name: "hello".to_owned(),
            url: address("https://a.example/hello"),
            reference: "refs/heads/main".to_owned(),
            version: "0123456789abcdef0123456789abcdef01234567".to_owned(),
            default_branch: "refs/heads/main".to_owned(),
            author: "A".to_owned(),
            message: "m".to_owned(),
            checkout: Default::default(),
        }],
        endpoints: Vec::new(),
        pipelines: Vec::new(),
        environments: Vec::new(),
        secure_files: Vec::new(),
        start_time: "2026-01-02 03:04:05+00:00".to_owned(),
    }
}
