//! Real processes: output, exit, cancellation, children left behind.

use std::path::Path;
use std::time::Duration;

use dayfly_worker::platform;
use dayfly_worker::process::{
    self, Background, Command, Ended, Error, Exit, Ladder, Line, Reach, Sink, Stream, Stubborn,
};
use tokio_util::sync::CancellationToken;

#[derive(Default)]
struct Lines(Vec<(Stream, String)>);

impl Sink for Lines {
    async fn line(&mut self, line: Line<'_>) {
        self.0.push((line.stream, line.text.to_owned()));
    }
}

impl Lines {
    fn of(&self, stream: Stream) -> Vec<&str> {
        self.0.iter().filter(|line| line.0 == stream).map(|line| line.1.as_str()).collect()
    }
}

/// Cancels when a line with this text comes.
struct CancelAt {
    text: &'static str,
    token: CancellationToken,
    lines: Vec<String>,
}

impl CancelAt {
    fn new(text: &'static str) -> CancelAt {
        CancelAt { text, token: CancellationToken::new(), lines: Vec::new() }
    }
}

impl Sink for CancelAt {
    async fn line(&mut self, line: Line<'_>) {
        if line.text == self.text {
            self.token.cancel();
        }
        self.lines.push(line.text.to_owned());
    }
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("/bin/sh", "/");
    command.arguments = vec!["-c".into(), script.into()];
    command.environment.insert("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into());
    command
}

/// A shell which SIGINT reaches, also when these tests run in the background of a script: children of whoever
/// ignores a signal ignore it too.
fn interruptible_shell(script: &str) -> Command {
    let mut command = shell(script);
    let shell = std::mem::replace(&mut command.program, "/usr/bin/env".into());
    command.arguments.splice(0..0, ["--default-signal=INT".into(), shell.into_os_string()]);
    command
}

fn quick() -> Ladder {
    Ladder {
        interrupt: Duration::from_millis(300),
        terminate: Duration::from_millis(300),
        stubborn: Stubborn::Kill,
        reach: Reach::Process,
    }
}

async fn run(command: Command) -> (Ended, Lines) {
    let mut lines = Lines::default();
    let ended = process::run(command, &CancellationToken::new(), &mut lines).await.expect("it runs");
    (ended, lines)
}

fn is_alive(process_id: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{process_id}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(')').expect("as proc(5) says").1.trim_start().starts_with('Z'))
}

async fn wait_until_gone(process_id: &str) {
    for _ in 0..1000 {
        if !is_alive(process_id) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("process {process_id} is still there");
}

#[tokio::test]
async fn both_outputs_and_the_exit_code_arrive() {
    let (ended, lines) = run(shell("echo out; echo err >&2; printf 'no end'; exit 7")).await;
    assert_eq!(ended.exit, Exit::Code(7));
    assert_eq!((ended.cancelled, ended.killed, ended.left_children), (false, false, false));
    assert_eq!(lines.of(Stream::Stdout), ["out", "no end"]);
    assert_eq!(lines.of(Stream::Stderr), ["err"]);
}

#[tokio::test]
async fn a_signal_becomes_128_and_its_number() {
    let (ended, _) = run(shell("kill -9 $$")).await;
    assert_eq!(ended.exit, Exit::Signal(9));
    assert_eq!(ended.exit.code(), 137);
}

#[tokio::test]
async fn the_environment_is_exactly_what_was_given() {
    let mut command = Command::new("/usr/bin/env", "/");
    command.environment.insert("ONLY".into(), "this".into());
    let (_, lines) = run(command).await;
    assert_eq!(lines.of(Stream::Stdout), ["ONLY=this"]);
}

#[tokio::test]
async fn input_is_written_and_closed() {
    let mut command = shell("cat; echo end");
    command.stdin = Some(b"hello\n".to_vec());
    let (_, lines) = run(command).await;
    assert_eq!(lines.of(Stream::Stdout), ["hello", "end"]);
    let (_, lines) = run(shell("cat; echo end")).await;
    assert_eq!(lines.of(Stream::Stdout), ["end"]);
}

#[tokio::test]
async fn input_that_nobody_reads_does_not_matter() {
    let mut command = shell("exit 3");
    command.stdin = Some(vec![b'x'; 4 * 1024 * 1024]);
    let (ended, _) = run(command).await;
    assert_eq!(ended.exit, Exit::Code(3));
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let cancel = CancellationToken::new();
    let missing = process::run(Command::new("/no/such/program", "/"), &cancel, &mut Lines::default())
        .await
        .unwrap_err();
    assert!(matches!(missing, Error::Start { .. }));
    assert_eq!(missing.to_string(), "cannot start '/no/such/program'");
    let nowhere = process::run(Command::new("/bin/sh", "/no/such/folder"), &cancel, &mut Lines::default())
        .await
        .unwrap_err();
    assert_eq!(
        nowhere.to_string(),
        "the working directory '/no/such/folder' does not exist or is not a directory"
    );
}

#[tokio::test]
async fn all_lines_of_much_output_arrive_in_order() {
    let (_, lines) = run(shell("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done")).await;
    let expected: Vec<String> = (0..20_000).map(|number| format!("line {number}")).collect();
    assert_eq!(lines.of(Stream::Stdout), expected);
}

#[tokio::test]
async fn sigint_comes_first_and_goes_to_the_process_itself() {
    let mut command =
        interruptible_shell("trap 'echo interrupted; exit 5' INT; echo ready; while :; do sleep 0.05; done");
    command.cancel = Ladder { interrupt: Duration::from_secs(60), ..quick() };
    let mut sink = CancelAt::new("ready");
    let ended = process::run(command, &sink.token.clone(), &mut sink).await.unwrap();
    assert_eq!(ended.exit, Exit::Code(5));
    assert_eq!((ended.cancelled, ended.killed), (true, false));
    assert_eq!(sink.lines, ["ready", "interrupted"]);
}

#[tokio::test]
async fn a_group_gets_its_signals_as_from_a_terminal_each_member_once() {
    // The outer shell waits for the inner one, as for a program that a script runs.
    let inner = "trap 'echo inner; exit 0' INT; echo ready; while :; do sleep 0.05; done";
    let mut command =
        interruptible_shell(&format!("trap 'echo outer' INT; sh -c \"{inner}\"; echo after; exit 7"));
    command.cancel = Ladder { interrupt: Duration::from_secs(60), reach: Reach::Group, ..quick() };
    let mut sink = CancelAt::new("ready");
    let ended = process::run(command, &sink.token.clone(), &mut sink).await.unwrap();
    assert_eq!((ended.exit, ended.killed), (Exit::Code(7), false));
    assert_eq!(sink.lines, ["ready", "inner", "outer", "after"]);
}

#[tokio::test]
async fn sigterm_comes_second() {
    let mut command =
        shell("trap '' INT; trap 'echo terminated; exit 6' TERM; echo ready; while :; do sleep 0.05; done");
    command.cancel = Ladder { terminate: Duration::from_secs(60), ..quick() };
    let mut sink = CancelAt::new("ready");
    let ended = process::run(command, &sink.token.clone(), &mut sink).await.unwrap();
    assert_eq!(ended.exit, Exit::Code(6));
    assert_eq!((ended.cancelled, ended.killed), (true, false));
}

#[tokio::test]
async fn the_whole_tree_is_killed_in_the_end() {
    // The second child leaves the group and is still a descendant.
    let mut command = shell(
        "trap '' INT TERM; sleep 1000 & echo $!; setsid sh -c 'echo $$; trap \"\" INT TERM; while :; do sleep 0.1; done' & sleep 0.2; echo ready; while :; do sleep 0.05; done",
    );
    command.cancel = quick();
    let mut sink = CancelAt::new("ready");
    let ended = process::run(command, &sink.token.clone(), &mut sink).await.unwrap();
    assert_eq!(ended.exit, Exit::Signal(9));
    assert!(ended.killed);
    let children: Vec<&String> = sink.lines.iter().filter(|line| line.parse::<i32>().is_ok()).collect();
    assert_eq!(children.len(), 2, "{:?}", sink.lines);
    for child in children {
        wait_until_gone(child).await;
    }
}

#[tokio::test]
async fn children_that_outlive_a_cancelled_process_are_killed() {
    let mut command = interruptible_shell(
        "trap 'exit 1' INT; sleep 1000 & echo $!; echo ready; while :; do sleep 0.05; done",
    );
    command.cancel = Ladder::default();
    let mut sink = CancelAt::new("ready");
    let ended = process::run(command, &sink.token.clone(), &mut sink).await.unwrap();
    assert_eq!(ended.exit, Exit::Code(1));
    assert!(ended.left_children);
    wait_until_gone(&sink.lines[0]).await;
}

#[tokio::test]
async fn a_child_that_holds_the_output_open_does_not_hold_the_step_and_lives_on() {
    let background = Background::new();
    let mut command = shell("(while :; do echo tick; sleep 0.05; done) & echo child $!");
    command.background = Some(background.clone());
    let (ended, lines) = run(command).await;
    assert_eq!(ended.exit, Exit::Code(0));
    assert!(ended.left_children);
    let child = lines.0.iter().find_map(|line| line.1.strip_prefix("child ")).unwrap().to_owned();
    // It writes every 50 ms: without a reader it would have died of SIGPIPE.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(is_alive(&child));
    background.stop().await;
    wait_until_gone(&child).await;
}

#[tokio::test]
async fn a_slow_sink_slows_the_process_down_and_loses_nothing() {
    struct Slow {
        gate: tokio::sync::mpsc::Receiver<()>,
        lines: usize,
    }
    impl Sink for Slow {
        async fn line(&mut self, _: Line<'_>) {
            if self.lines == 0 {
                self.gate.recv().await;
            }
            self.lines += 1;
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let marker = folder.path().join("done");
    // 4 MB do not fit into the pipe and our buffers.
    let command = shell(&format!(
        "i=0; while [ $i -lt 40 ]; do head -c 100000 /dev/zero | tr '\\0' x; echo; i=$((i+1)); done; touch {}",
        marker.display()
    ));
    let (open, gate) = tokio::sync::mpsc::channel(1);
    let mut sink = Slow { gate, lines: 0 };
    let cancel = CancellationToken::new();
    let ended = {
        let run = process::run(command, &cancel, &mut sink);
        tokio::pin!(run);
        assert!(tokio::time::timeout(Duration::from_millis(300), &mut run).await.is_err());
        assert!(!Path::new(&marker).exists(), "the process was not held back");
        open.send(()).await.unwrap();
        run.await.unwrap()
    };
    assert_eq!(ended.exit, Exit::Code(0));
    assert_eq!(sink.lines, 40);
}

#[tokio::test]
async fn lines_written_before_the_exit_arrive_however_slow_the_sink_is() {
    struct Slow(usize);
    impl Sink for Slow {
        async fn line(&mut self, _: Line<'_>) {
            tokio::time::sleep(Duration::from_millis(2)).await;
            self.0 += 1;
        }
    }
    let mut sink = Slow(0);
    process::run(
        shell("i=0; while [ $i -lt 500 ]; do echo $i; i=$((i+1)); done"),
        &CancellationToken::new(),
        &mut sink,
    )
    .await
    .unwrap();
    assert_eq!(sink.0, 500);
}

#[tokio::test]
async fn a_dropped_run_kills_its_tree() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("child");
    let command = shell(&format!("sleep 1000 & echo $! > {0}.new; mv {0}.new {0}; wait", file.display()));
    let cancel = CancellationToken::new();
    let mut sink = Lines::default();
    let child = {
        let run = process::run(command, &cancel, &mut sink);
        tokio::pin!(run);
        loop {
            assert!(tokio::time::timeout(Duration::from_millis(10), &mut run).await.is_err());
            if let Ok(child) = std::fs::read_to_string(&file) {
                break child.trim().to_owned();
            }
        }
    };
    wait_until_gone(&child).await;
}

#[tokio::test]
async fn orphans_are_found_by_their_lookup_id() {
    let lookup_id = format!("vsts_{}", uuid::Uuid::new_v4());
    let mut command = shell("setsid sleep 1000 > /dev/null 2>&1 & echo $!");
    command.environment.insert("VSTS_PROCESS_LOOKUP_ID".into(), lookup_id.clone().into());
    let (_, lines) = run(command).await;
    let child = lines.0[0].1.clone();
    // The shell's child may be on its way to become `sleep`.
    let mut orphans = Vec::new();
    for _ in 0..100 {
        orphans.extend(platform::kill_orphans(&lookup_id));
        if !is_alive(&child) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(orphans.iter().any(|orphan| orphan.process_id.to_string() == child), "{orphans:?}");
    wait_until_gone(&child).await;
    assert_eq!(platform::kill_orphans("vsts_nobody"), []);
}

#[tokio::test]
async fn captured_output_is_bounded() {
    let captured =
        process::capture(shell("echo one; echo two >&2; echo three"), &CancellationToken::new(), 1000)
            .await
            .unwrap();
    assert_eq!((captured.stdout.as_str(), captured.stderr.as_str()), ("one\nthree\n", "two\n"));
    let captured = process::capture(shell("seq 100000"), &CancellationToken::new(), 1000).await.unwrap();
    assert!(captured.stdout.len() <= 1000);
    assert_eq!(captured.ended.exit, Exit::Code(0));
}
