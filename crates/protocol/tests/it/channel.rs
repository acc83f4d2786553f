//! The frames of the job channel.

use dayfly_protocol::channel::{
    self, Cancel, CancelReason, Course, Decoder, FromWorker, Hello, JobStart, Key, LostContainer,
    MAX_FRAME_BYTES, OnLoss, Orders, PROTOCOL, Refusal, Remark, SecretJson, StepStarted, ToWorker, Welcome,
    WorkerSettings,
};

use crate::checks;

/// Every seed of the fuzz targets is read whole, so that a change of the frames changes the seeds as well.
#[test]
fn the_seeds_are_frames() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds");
    let read = |target: &str, check: fn(&[u8]), is_frame: fn(&channel::Line<'_>) -> bool| {
        for entry in std::fs::read_dir(format!("{folder}/{target}")).expect("there are seeds") {
            let bytes = std::fs::read(entry.expect("readable").path()).expect("readable");
            check(&bytes);
            let mut decoder = Decoder::new(MAX_FRAME_BYTES);
            decoder.push(&bytes);
            while let Some(line) = decoder.next_line() {
                assert!(is_frame(&line), "{}", line.text());
            }
        }
    };
    read("channel_to_worker", checks::frames_to_worker, |line| channel::decode::<ToWorker>(line).is_ok());
    read("channel_from_worker", checks::frames_from_worker, |line| {
        channel::decode::<FromWorker>(line).is_ok()
    });
}

fn text(frame: &impl serde::Serialize) -> String {
    String::from_utf8(channel::encode(frame).expect("it can be written").to_vec()).expect("UTF-8")
}

#[test]
fn frames_look_like_this() {
    let hello = Hello {
        protocol: PROTOCOL,
        version: "0.1.0".to_owned(),
        process: 7,
        claim: None,
        resume: Key::new("k"),
        job: None,
        course: Course::Waiting,
    };
    let step = StepStarted { name: "build".to_owned(), number: 1, total: 2 };
    let orders = Orders {
        cancel: Some(Cancel { reason: CancelReason::AgentShutdown, timeout_seconds: 60 }),
        flush_logs: true,
        feed_interval_millis: None,
        remarks: vec![Remark { text: "evicted".to_owned(), is_problem: true }],
        lost_containers: vec![LostContainer { name: "job".to_owned(), reason: "no image".to_owned() }],
    };
    let refusal = Refusal::Protocol { protocol: 3, version: "9".to_owned() };
    for (frame, expected) in [
        (
            text(&FromWorker::Hello(hello)),
            r#"{"hello":{"protocol":2,"version":"0.1.0","process":7,"resume":"k","course":"waiting"}}"#,
        ),
        (
            text(&FromWorker::Course(Course::Step(step))),
            r#"{"course":{"step":{"name":"build","number":1,"total":2}}}"#,
        ),
        (text(&FromWorker::Pong), r#""pong""#),
        (text(&ToWorker::Orders(Orders::default())), r#"{"orders":{}}"#),
        (
            text(&ToWorker::Orders(orders)),
            r#"{"orders":{"cancel":{"reason":"agentShutdown","timeoutSeconds":60},"flushLogs":true,"remarks":[{"text":"evicted","isProblem":true}],"lostContainers":[{"name":"job","reason":"no image"}]}}"#,
        ),
        (text(&ToWorker::Welcome(Welcome::Resumed)), r#"{"welcome":"resumed"}"#),
        (
            text(&ToWorker::Welcome(Welcome::Refused(refusal))),
            r#"{"welcome":{"refused":{"protocol":{"protocol":3,"version":"9"}}}}"#,
        ),
    ] {
        assert_eq!(frame, format!("{expected}\n"));
    }
}

#[test]
fn a_job_message_is_passed_on_as_it_came() {
    let body = "\u{feff}{\r\n  \"jobId\": \"1\",\n  \"OfTomorrow\": { \"big\": 12345678901234567890123, \"twice\": 1, \"twice\": 2 }\n}";
    let message = SecretJson::new(body.as_bytes()).expect("it is JSON");
    let start = JobStart { message, worker: WorkerSettings::default(), on_loss: OnLoss::CancelNow };
    let mut decoder = Decoder::new(MAX_FRAME_BYTES);
    decoder.push(text(&ToWorker::Welcome(Welcome::Job(Box::new(start)))).as_bytes());
    let line = decoder.next_line().expect("one line");
    let Ok(ToWorker::Welcome(Welcome::Job(start))) = channel::decode(&line) else {
        panic!("{}", line.text())
    };
    let unwrapped = body.trim_start_matches('\u{feff}').replace(['\r', '\n'], " ");
    assert_eq!(start.message.expose(), unwrapped);
    assert!(!format!("{start:?}").contains("OfTomorrow"));
    assert!(SecretJson::new(b"{").is_none() && SecretJson::new(b"\xff").is_none());
}

#[test]
fn what_a_later_version_adds_is_passed_over() {
    let mut decoder = Decoder::new(MAX_FRAME_BYTES);
    decoder.push(b"{\"orders\":{\"ofTomorrow\":[1],\"flushLogs\":true}}\n{\"ofTomorrow\":1}\n");
    let orders = decoder.next_line().map(|line| channel::decode(&line)).expect("a line");
    assert_eq!(orders, Ok(ToWorker::Orders(Orders { flush_logs: true, ..Orders::default() })));
    let unknown = decoder.next_line().map(|line| channel::decode::<ToWorker>(&line)).expect("a line");
    assert!(unknown.expect_err("it is not known").to_string().contains("must have the same version"));
}

#[test]
fn keys_are_drawn_anew_and_never_printed() {
    let (one, two) = (Key::draw().expect("random"), Key::draw().expect("random"));
    assert!(one != two && one == one.clone());
    assert_eq!(one.expose().len(), 32);
    assert!(!format!("{one:?}").contains(one.expose()));
}
