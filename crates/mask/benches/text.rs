//! Lines per second through masking with 50 secrets, beside a search for line ends over the same text.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dayfly_mask::Masker;

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

/// Fifty secrets of the kinds jobs have: passwords, tokens, keys of several lines.
fn masker() -> Masker {
    let masker = Masker::new();
    let secrets: Vec<String> = (0..50u64)
        .map(|number| {
            let word = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            match number % 5 {
                0 => format!("P@ssw0rd-{word:016x}"),
                1 => format!("{word:016x}{:016x}{:016x}", word.rotate_left(17), word.rotate_left(41)),
                2 => format!("ghp_{word:020}{:016X}", word.rotate_left(9)),
                3 => format!("Server=db{number};User Id=sa;Password={word:x};Encrypt=true"),
                _ => format!(
                    "-----BEGIN KEY {number}-----\n{word:064x}\n{:064x}\n-----END KEY {number}-----",
                    word.rotate_left(5)
                ),
            }
        })
        .collect();
    masker.add_values(secrets.iter().map(String::as_str));
    masker
}

fn masking(criterion: &mut Criterion) {
    let lines = log();
    let text = lines.join("\n");
    let masker = masker();
    let mut group = criterion.benchmark_group("masking");
    group.throughput(Throughput::Elements(LINES as u64));
    group.bench_function("memchr: count lines", |bencher| {
        bencher.iter(|| memchr::memchr_iter(b'\n', black_box(text.as_bytes())).count());
    });
    group.bench_function("50 secrets: stream of lines", |bencher| {
        let mut output = String::new();
        bencher.iter(|| {
            let mut stream = masker.stream();
            let mut length = 0;
            for line in &lines {
                output.clear();
                stream.push_line(black_box(line), &mut output);
                length += output.len();
            }
            length
        });
    });
    group.bench_function("50 secrets: single texts", |bencher| {
        bencher.iter(|| lines.iter().map(|line| masker.mask(black_box(line)).len()).sum::<usize>());
    });
    let single_line = Masker::new();
    single_line.add_values(
        (0..50)
            .map(|number| format!("P@ssw0rd-{number:08}-{}", number * 7919))
            .collect::<Vec<_>>()
            .iter()
            .map(String::as_str),
    );
    group.bench_function("50 secrets of one line: stream of lines", |bencher| {
        let mut output = String::new();
        bencher.iter(|| {
            let mut stream = single_line.stream();
            for line in &lines {
                output.clear();
                stream.push_line(black_box(line), &mut output);
            }
            output.len()
        });
    });
    group.finish();

    let mut group = criterion.benchmark_group("secrets");
    group.bench_function("set one beside 50", |bencher| {
        bencher.iter_batched(
            self::masker,
            |masker| masker.add_value("another-secret-value"),
            criterion::BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, masking);
criterion_main!(benches);
