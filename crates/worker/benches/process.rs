//! Lines per second through a process's pipe, and how long a process takes to start.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dayfly_worker::process::{self, Command, Line, Sink};
use tokio_util::sync::CancellationToken;

const LINES: usize = 100_000;

/// Build output of about 100 bytes a line.
fn log() -> Vec<String> {
    let forms = [
        "   Compiling dayfly-worker v0.1.0 (/home/vsts/work/1/s/crates/worker) with features default, tls, and http2",
        "2026-01-31T23:59:59.1234567Z [INFO] org.example.build.Compiler - compiled 1234 classes in 5.67 s (cached 89 %)",
        "npm WARN deprecated har-validator@5.1.5: this library is no longer supported; see https://example.com/a/b?c=d",
        "test steps::continue_on_error_makes_an_issue_of_a_failure ... ok (0.123 s, 4 assertions, 0 retries) [thread 7]",
        "[ 42%] Building CXX object src/CMakeFiles/app.dir/main.cpp.o -O2 -g -Wall -Wextra -std=c++20 -fPIC -DNDEBUG=1",
    ];
    (0..LINES).map(|number| format!("{} #{number}", forms[number % forms.len()])).collect()
}

struct Count(usize);

impl Sink for Count {
    async fn line(&mut self, line: Line<'_>) {
        self.0 += usize::from(!line.continues);
    }
}

fn processes(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("log");
    std::fs::write(&file, log().join("\n") + "\n").expect("a file");
    let mut group = criterion.benchmark_group("process");
    group.throughput(Throughput::Elements(LINES as u64));
    group.bench_function("lines of cat", |bencher| {
        bencher.iter(|| {
            let mut command = Command::new("/bin/cat", "/");
            command.arguments = vec![file.clone().into()];
            let mut count = Count(0);
            runtime.block_on(process::run(command, &CancellationToken::new(), &mut count)).expect("it runs");
            assert_eq!(count.0, LINES);
        });
    });
    group.finish();
    let mut group = criterion.benchmark_group("start");
    group.bench_function("true by std", |bencher| {
        bencher.iter(|| std::process::Command::new("/bin/true").env_clear().output().expect("it runs"));
    });
    group.bench_function("true by process::run", |bencher| {
        bencher.iter(|| {
            let command = Command::new("/bin/true", "/");
            runtime
                .block_on(process::run(command, &CancellationToken::new(), &mut Count(0)))
                .expect("it runs")
        });
    });
    group.finish();
}

criterion_group!(benches, processes);
criterion_main!(benches);
