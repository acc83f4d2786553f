//! Uploads of artifacts which the service does not take at first.

use std::path::Path;
use std::time::Duration;

use dayfly_client::{Connection, Credential, HttpSettings, RetryPolicy};
use dayfly_protocol::{BuildId, ContainerId, JobId, ProjectId};
use dayfly_worker::artifacts::{Artifacts, Error, Kind, NewArtifact, Uploaded};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::service::{Service, TOKEN};

fn artifacts(service: &Service, retry_pause: Duration) -> Artifacts {
    let token = Credential::Bearer(TOKEN.to_owned().into());
    // One attempt within a round, so that a round fails at once.
    let retry = RetryPolicy { attempts: 1, ..RetryPolicy::default() };
    let settings = HttpSettings { retry, ..HttpSettings::default() };
    let connection = Connection::new(&service.url, token, settings).expect("a connection");
    let (project, job) = (ProjectId(Uuid::new_v4()), JobId(Uuid::new_v4()));
    Artifacts { retry_pause, ..Artifacts::new(connection, project, BuildId(42), Some(ContainerId(7)), job) }
}

/// Uploads a folder as `drop`, and gives what was told meanwhile too.
async fn upload(
    artifacts: &Artifacts,
    folder: &Path,
    cancel: &CancellationToken,
) -> (Result<Option<Uploaded>, Error>, Vec<String>) {
    let properties = [].into();
    let new = NewArtifact { kind: Kind::Build, name: "drop", folder: "drop", source: folder, properties };
    let (log, mut told) = mpsc::channel(1);
    let (mut lines, uploading) = (Vec::new(), artifacts.upload(new, cancel, log));
    let telling = async {
        while let Some(line) = told.recv().await {
            lines.push(line);
        }
    };
    let (uploaded, ()) = tokio::join!(uploading, telling);
    (uploaded, lines)
}

/// Three files.
fn write_files(folder: &Path) {
    for name in ["a", "b", "c"] {
        std::fs::write(folder.join(name), format!("content of {name}")).expect("written");
    }
}

#[tokio::test]
async fn files_that_fail_are_tried_in_a_second_round() {
    let service = Service::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    write_files(folder.path());
    service.look(|told| told.put_off_uploads = 2);
    let artifacts = artifacts(&service, Duration::from_millis(10));
    let (uploaded, lines) = upload(&artifacts, folder.path(), &CancellationToken::new()).await;
    let uploaded = uploaded.expect("uploaded").expect("there are files");
    assert_eq!((uploaded.files, uploaded.bytes), (3, 36));
    assert_eq!(lines.iter().filter(|line| line.contains("failed: ")).count(), 2, "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("2 files failed; next attempt in ")), "{lines:?}");
    service.look(|told| {
        assert_eq!(told.items.len(), 3);
        for name in ["a", "b", "c"] {
            assert_eq!(told.items[&format!("drop/{name}")], format!("content of {name}").as_bytes());
        }
        assert_eq!(told.artifacts.len(), 1);
        assert_eq!(told.artifacts[0]["resource"]["properties"]["artifactsize"], "36");
    });
}

#[tokio::test]
async fn files_that_fail_twice_make_no_artifact() {
    let service = Service::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    write_files(folder.path());
    // All three, and then two of them.
    service.look(|told| told.put_off_uploads = 5);
    let artifacts = artifacts(&service, Duration::from_millis(10));
    let (uploaded, _) = upload(&artifacts, folder.path(), &CancellationToken::new()).await;
    let Err(Error::Incomplete { count, .. }) = uploaded else { panic!("{uploaded:?}") };
    assert_eq!(count, 2);
    service.look(|told| assert_eq!((told.items.len(), told.artifacts.len()), (1, 0)));
}

#[tokio::test]
async fn a_cancelled_step_does_not_wait_for_the_second_round() {
    let service = Service::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    write_files(folder.path());
    service.look(|told| told.put_off_uploads = 3);
    let artifacts = artifacts(&service, Duration::from_secs(3600));
    let cancel = CancellationToken::new();
    let upload = upload(&artifacts, folder.path(), &cancel);
    let cancelling = async {
        service.wait_for("the first round", |told| told.put_off_uploads == 0).await;
        cancel.cancel();
    };
    let ((uploaded, _), ()) =
        tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(upload, cancelling) })
            .await
            .expect("it ends");
    assert!(matches!(uploaded, Err(Error::Cancelled)), "{uploaded:?}");
}

#[tokio::test]
async fn what_is_refused_is_not_tried_again() {
    let service = Service::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    write_files(folder.path());
    service.look(|told| told.refused_upload = Some("/a"));
    let artifacts = artifacts(&service, Duration::from_secs(3600));
    let cancel = CancellationToken::new();
    let (uploaded, lines) =
        tokio::time::timeout(Duration::from_secs(60), upload(&artifacts, folder.path(), &cancel))
            .await
            .expect("it ends without a second round");
    let Err(error @ Error::Incomplete { count: 1, .. }) = uploaded else { panic!("{uploaded:?}") };
    let text = dayfly_client::describe(&error);
    assert!(text.starts_with("1 file could not be uploaded, the first is "), "{text}");
    assert!(text.ends_with(": the service answered 400: Never."), "{text}");
    assert_eq!(lines.len(), 2, "{lines:?}");
    service.look(|told| assert!(told.artifacts.is_empty()));
}
