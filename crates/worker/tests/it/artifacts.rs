//! Uploads of artifacts which the service does not take at first.

use std::path::Path;
use std::time::Duration;

use dayfly_client::{Connection, Credential, HttpSettings};
use dayfly_protocol::{BuildId, ContainerId, JobId, ProjectId};
use dayfly_worker::artifacts::{Artifacts, Error};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::service::{Service, TOKEN};

fn artifacts(service: &Service, retry_pause: Duration) -> Artifacts {
    let token = Credential::Bearer(TOKEN.to_owned().into());
    let connection = Connection::new(&service.url, token, HttpSettings::default()).expect("a connection");
    let (project, job) = (ProjectId(Uuid::new_v4()), JobId(Uuid::new_v4()));
    Artifacts { retry_pause, ..Artifacts::new(connection, project, BuildId(42), Some(ContainerId(7)), job) }
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
    service.look(|told| told.refuse_uploads = 2);
    let artifacts = artifacts(&service, Duration::from_millis(10));
    let (cancel, mut lines) = (CancellationToken::new(), Vec::new());
    let uploaded = artifacts.upload("drop", "drop", folder.path(), [].into(), &cancel, &mut lines).await;
    let uploaded = uploaded.expect("uploaded").expect("there are files");
    assert_eq!((uploaded.files, uploaded.bytes), (3, 36));
    assert_eq!(lines.iter().filter(|line| line.contains("failed: ")).count(), 2, "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("2 files failed and are tried again in ")), "{lines:?}");
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
    service.look(|told| told.refuse_uploads = 5);
    let artifacts = artifacts(&service, Duration::from_millis(10));
    let (cancel, mut lines) = (CancellationToken::new(), Vec::new());
    let uploaded = artifacts.upload("drop", "drop", folder.path(), [].into(), &cancel, &mut lines).await;
    let Err(Error::Incomplete { count, .. }) = uploaded else { panic!("{uploaded:?}") };
    assert_eq!(count, 2);
    service.look(|told| assert_eq!((told.items.len(), told.artifacts.len()), (1, 0)));
}

#[tokio::test]
async fn a_cancelled_step_does_not_wait_for_the_second_round() {
    let service = Service::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    write_files(folder.path());
    service.look(|told| told.refuse_uploads = 3);
    let artifacts = artifacts(&service, Duration::from_secs(3600));
    let (cancel, mut lines) = (CancellationToken::new(), Vec::new());
    let upload = artifacts.upload("drop", "drop", folder.path(), [].into(), &cancel, &mut lines);
    let cancelling = async {
        service.wait_for("the first round", |told| told.refuse_uploads == 0).await;
        cancel.cancel();
    };
    let (uploaded, ()) =
        tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(upload, cancelling) })
            .await
            .expect("it ends");
    assert!(matches!(uploaded, Err(Error::Cancelled)), "{uploaded:?}");
}
