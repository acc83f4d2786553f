//! Bad input from outside: web pages in place of answers, broken keys, broken messages, a full disk. A clear
//! error each, and nothing lost.

use std::process::Command;

use dayfly_emulator::{Fault, FaultRule};
use dayfly_protocol::{TaskResult, crypto::AgentKey};

use crate::project::{Ended, Project};
use crate::service::{PAT, Process, Service};

const POLLS: &str = "_apis/distributedtask/pools/*/messages";
const TOKENS: &str = "_apis/oauth2/token";
const KEY: &str = ".credentials_rsaparams";

const PAGE: &str =
    "<!DOCTYPE html><html><head><title>Sign in to your account</title></head><body>…</body></html>";

fn page(status: u16) -> Fault {
    Fault::Body { status, content_type: "text/html; charset=utf-8".to_owned(), body: PAGE.to_owned() }
}

fn redirect(to: &str) -> Fault {
    let headers = [("Location".to_owned(), to.to_owned())].into();
    Fault::Status { status: 302, type_key: None, message: None, headers }
}

fn document(text: &str) -> Fault {
    Fault::Body { status: 200, content_type: "application/json".to_owned(), body: text.to_owned() }
}

fn assert_says(text: &str, wanted: &[&str]) {
    for wanted in wanted {
        assert!(text.contains(wanted), "no `{wanted}` in {text}");
    }
    assert!(!text.contains(PAT) && !text.contains("panicked"), "{text}");
}

#[tokio::test]
async fn a_web_page_in_place_of_an_answer_ends_the_agent_with_what_to_do() {
    let sign_in = "with a sign-in page; check the address and the credential";
    for (fault, wanted) in [
        (
            page(200),
            "the answer 200 is a web page titled \"Sign in to your account\", not of Azure DevOps; check the address and the proxy",
        ),
        (page(203), sign_in),
        (redirect("https://login.microsoftonline.com/oauth2/authorize?client_id=x"), sign_in),
        (
            redirect("https://elsewhere.example/"),
            "points to another address; check the organization's address",
        ),
    ] {
        let service =
            Service::new(|settings| settings.faults = vec![FaultRule::new("**", fault.clone())]).await;
        let (code, output, error) = Process::spawn(&mut service.agent("lost", &[])).ended().await;
        assert_eq!(code, Some(1), "{fault:?} {output}{error}");
        assert_says(&error, &["cannot find the agent pool \"Default\"", wanted]);
    }
}

#[tokio::test]
async fn a_web_page_that_goes_away_again_is_outlived() {
    let mut service = Service::new(|settings| {
        settings.faults = vec![
            FaultRule::new(TOKENS, page(200)).method("POST").times(1),
            FaultRule::new(POLLS, page(200)).method("GET").times(1),
        ];
    })
    .await;
    let folder = service.register("patient", &AgentKey::generate().unwrap()).await;
    let agent = Process::spawn(&mut service.registered_agent(&folder, &["--once"]));
    service.online("patient").await;
    let job = service.queue("After the pages", &["true"]);
    assert_eq!(service.result(job).await, TaskResult::Succeeded);
    let (code, output, error) = agent.ended().await;
    assert_eq!(code, Some(0), "{output}{error}");
    // The second page belongs to the same outage, which is told once.
    assert_says(&error, &["cannot get a token", "is a web page titled \"Sign in to your account\""]);
    assert_eq!(error.matches("Agent connect error").count(), 1, "{error}");
}

#[tokio::test]
async fn a_registered_agent_with_a_wrong_key_ends_with_the_reason() {
    let service = Service::new(|_| {}).await;
    let folder = service.register("keyed", &AgentKey::generate().unwrap()).await;
    let own = std::fs::read_to_string(folder.join(KEY)).unwrap();
    let other = service.register("other", &AgentKey::generate().unwrap()).await;
    let without = |member: &str| {
        let mut key: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&own).unwrap();
        key.remove(member).unwrap();
        serde_json::to_string(&key).unwrap()
    };
    let swapped = own.replace("\"p\":", "\"x\":").replace("\"q\":", "\"p\":").replace("\"x\":", "\"q\":");
    for (key, wanted) in [
        (
            std::fs::read_to_string(other.join(KEY)).unwrap(),
            &[
                "its login is refused; register it again: cannot get a token",
                "400 (invalid_client)",
                "the client assertion is not valid",
            ][..],
        ),
        (
            own[..own.len() / 2].to_owned(),
            &["the agent's file .credentials_rsaparams cannot be read as JSON"],
        ),
        (String::new(), &["the agent's file .credentials_rsaparams cannot be read as JSON"]),
        (
            without("dq"),
            &["the agent's file .credentials_rsaparams cannot be read as JSON", "missing field `dq`"],
        ),
        (
            without("modulus"),
            &["the agent's file .credentials_rsaparams cannot be read as JSON", "missing field `modulus`"],
        ),
        (swapped, &["the agent's file .credentials_rsaparams holds no usable key"]),
        (
            own.replace(r#""exponent":"AQAB""#, r#""exponent":"AA==""#),
            &["the agent's file .credentials_rsaparams holds no usable key"],
        ),
    ] {
        std::fs::write(folder.join(KEY), &key).unwrap();
        let (code, output, error) = Process::spawn(&mut service.registered_agent(&folder, &[])).ended().await;
        assert_eq!(code, Some(1), "{wanted:?} {output}{error}");
        assert_says(&error, wanted);
        let secret = key.get(20..60).unwrap_or("nothing of a key");
        assert!(!error.contains(secret), "the key is shown: {error}");
    }
    // With its own key the same folder works.
    std::fs::write(folder.join(KEY), &own).unwrap();
    let agent = Process::spawn(&mut service.registered_agent(&folder, &[]));
    service.online("keyed").await;
    agent.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(agent.ended().await.0, Some(0));
}

/// Runs two jobs on an agent whose messages are broken by these faults: both must run exactly once.
async fn jobs_survive(faults: Vec<FaultRule>) -> String {
    let mut service = Service::new(|settings| settings.faults = faults).await;
    let agent = Process::spawn(&mut service.agent("a", &[]));
    service.online("a").await;
    for name in ["first", "second"] {
        let job = service.queue(name, &[&format!("echo {name} >> {}", service.path("ran").display())]);
        assert_eq!(service.result(job).await, TaskResult::Succeeded);
        service.look();
        assert_eq!(service.results(job).len(), 1, "{name}");
    }
    agent.signal(nix::sys::signal::Signal::SIGTERM);
    let (code, output, error) = agent.ended().await;
    assert_eq!(code, Some(0), "{output}{error}");
    assert_eq!(std::fs::read_to_string(service.path("ran")).unwrap(), "first\nsecond\n", "each runs once");
    assert_eq!(service.emulator.statistics().refused_completions, 0);
    assert_says(&error, &[]);
    error
}

#[tokio::test]
async fn a_message_that_is_cut_short_comes_again() {
    // The first cut is that of the real job's message, which the poll that is open brings.
    let cut = |bytes| FaultRule::new(POLLS, Fault::Truncate { bytes }).method("GET");
    let error = jobs_survive(vec![cut(60).times(1), cut(5).after(1).times(1)]).await;
    assert_says(
        &error,
        &["cannot get the next message", "the connection broke before the answer was complete"],
    );
}

#[tokio::test]
async fn a_message_that_cannot_be_decrypted_comes_again_under_a_new_key() {
    let iv = "AAAAAAAAAAAAAAAAAAAAAA==";
    let message = |body: &str| {
        document(&format!(
            r#"{{"messageId":900,"messageType":"PipelineAgentJobRequest","iv":"{iv}","body":"{body}"}}"#
        ))
    };
    let error = jobs_survive(vec![
        // Half of a block, and no base64.
        FaultRule::new(POLLS, message("AAAAAAAAAAA=")).method("GET").times(1),
        FaultRule::new(POLLS, message("{}")).method("GET").after(1).times(1),
    ])
    .await;
    assert_says(&error, &["could not decrypt message 900"]);
}

#[tokio::test]
async fn messages_of_the_wrong_form_do_not_stop_the_agent() {
    let faults = [
        r#"{"messageId":"first","messageType":7}"#,
        "[]",
        // Plain text, and not even the ids of a job in it.
        r#"{"messageId":0,"messageType":"PipelineAgentJobRequest","body":"{\"jobId\":"}"#,
        r#"{"messageId":0,"messageType":"JobCancellation","body":"7"}"#,
        r#"{"messageId":0,"messageType":"JobMetadataUpdate","body":"7"}"#,
        r#"{"messageId":0,"messageType":"AgentRefresh","body":"\"x\""}"#,
    ];
    let rules = (0..)
        .zip(faults)
        .map(|(number, text)| FaultRule::new(POLLS, document(text)).method("GET").after(number).times(1));
    let error = jobs_survive(rules.collect()).await;
    assert_says(
        &error,
        &[
            "cannot get the next message",
            "the answer is not of the expected form",
            "giving up on a job, because its message is not JSON",
            "could not read a cancellation",
        ],
    );
}

#[tokio::test]
async fn an_agent_that_can_decrypt_nothing_gives_up_and_says_why() {
    let text =
        r#"{"messageId":1,"messageType":"JobCancellation","iv":"AAAAAAAAAAAAAAAAAAAAAA==","body":"AAAA"}"#;
    let rule = FaultRule::new(POLLS, document(text)).method("GET");
    let service = Service::new(|settings| settings.faults = vec![rule]).await;
    let (code, output, error) = Process::spawn(&mut service.agent("deaf", &[])).ended().await;
    assert_eq!(code, Some(1), "{output}{error}");
    assert_says(&error, &["could not decrypt message 1", "replace the agent"]);
    assert_eq!(service.emulator.statistics().sessions, 0, "no session is left behind");
}

#[tokio::test]
async fn a_log_the_service_does_not_take_is_told_on_the_job_and_by_the_agent() {
    let full = Fault::Status {
        status: 507,
        type_key: Some("VssServiceException".to_owned()),
        message: Some("The disk is full.".to_owned()),
        headers: Default::default(),
    };
    let mut service = Service::new(|settings| {
        settings.faults = vec![FaultRule::new("**/logs/*", full).method("POST")];
    })
    .await;
    let agent = Process::spawn(&mut service.agent("writer", &["--once"]));
    service.online("writer").await;
    let job = service.queue("Lost log", &["echo hello"]);
    assert_eq!(service.result(job).await, TaskResult::Succeeded);
    let records = service.records(job).await;
    let record = records.iter().find(|record| record.id == job.into()).unwrap();
    assert_eq!((record.error_count, record.warning_count), (Some(0), Some(1)), "{record:?}");
    let told = "Not all reports of this job reached the service. ";
    let because = ["lines of the log of ", " could not be sent: ", "The disk is full."];
    assert!(record.issues[0].message.starts_with(told), "{record:?}");
    assert_says(&record.issues[0].message, &because);
    let (code, output, error) = agent.ended().await;
    assert_eq!(code, Some(0), "{output}{error}");
    assert_says(&error, &[&format!("job `Lost log`: {told}")]);
    assert_says(&error, &because);
}

/// `dayfly run` with a small disk of its own for temporary files, if this machine lets us make one: root may,
/// others in a user namespace perhaps.
fn on_a_disk(project: &Project, options: &str) -> Option<Command> {
    let privileges = if nix::unistd::geteuid().is_root() { "--mount" } else { "-rm" };
    let disk = tempfile::tempdir().unwrap().keep();
    let script = "disk=$1 options=$2; shift 2; mount -t tmpfs -o \"$options\" none \"$disk\" && TMPDIR=$disk exec \"$@\"";
    let command = |program: &str| {
        let mut command = Command::new("unshare");
        command.args([privileges, "sh", "-c", script, "sh"]).arg(&disk).args([options, program]);
        command
    };
    let can = command("true").output().is_ok_and(|output| output.status.success());
    if !can {
        std::fs::remove_dir(&disk).unwrap();
        return None;
    }
    let mut command = command(env!("CARGO_BIN_EXE_dayfly"));
    command.arg("run").current_dir(project.path()).stdin(std::process::Stdio::null());
    command.env_remove("DAYFLY_LOG").env_remove("CLICOLOR_FORCE");
    Some(command)
}

/// Its exit code is 1, and it tells about the disk, in whichever of both streams.
fn assert_fails_clearly(ended: &Ended, wanted: &[&str]) {
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_says(&format!("{}{}", ended.stdout, ended.stderr), wanted);
}

const FULL: &str = "No space left on device";

#[test]
fn a_full_disk_fails_the_run_wherever_it_gets_full() {
    let project = Project::with_pipeline(
        "steps:
- checkout: none
- script: echo before; dd if=/dev/zero of=\"$AGENT_TEMPDIRECTORY/big\" bs=64k && echo not reached
  displayName: Fill the disk
- script: echo never
  condition: always()
  displayName: Afterwards
",
    );
    let Some(mut none_at_all) = on_a_disk(&project, "size=64k,nr_inodes=1") else {
        // Not in our power here: what else can be wrong with that folder is told in the same way.
        eprintln!(
            "no disk of our own can be made here, so a folder that is not there stands in for a full disk"
        );
        let mut command = project.command(&["run"]);
        let ended = Ended::from(command.env("TMPDIR", project.path().join("nowhere")).output().unwrap());
        return assert_fails_clearly(
            &ended,
            &["could not make a temporary folder", "No such file or directory"],
        );
    };
    let ended = Ended::from(none_at_all.output().unwrap());
    assert_fails_clearly(&ended, &["could not make a temporary folder", FULL]);

    project.write("large", &"no two of these lines are the same\n".repeat(4000));
    let mut noise = std::process::id();
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (noise >> 24) as u8
    })
    .take(256 * 1024)
    .collect();
    std::fs::write(project.path().join("noise"), noise).unwrap();
    let ended = Ended::from(on_a_disk(&project, "size=256k").unwrap().output().unwrap());
    assert_fails_clearly(&ended, &["could not snapshot the repository", FULL]);
    std::fs::remove_file(project.path().join("noise")).unwrap();

    let ended = Ended::from(on_a_disk(&project, "size=4m").unwrap().output().unwrap());
    assert_fails_clearly(&ended, &["before", FULL, "failed in"]);
    // The service has no room for the log either, which the job's record says.
    let told = "Not all reports of this job reached the service. ";
    assert_fails_clearly(&ended, &[told, "lines of the log of 'Fill the disk' could not be sent: "]);
    assert!(!ended.stdout.contains("not reached"), "{ended:?}");
}
