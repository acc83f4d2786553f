//! What a connection costs: to be made, and to be used first. A worker pays it at its start.
//!
//! The first call goes to a port where nobody listens, so that only our own work is measured: making the HTTP
//! client, and for `https` reading the system's certificate authorities.

use std::hint::black_box;
use std::net::TcpListener;

use criterion::{Criterion, criterion_group, criterion_main};
use dayfly_client::{Connection, Credential, HttpSettings, RetryPolicy};
use url::Url;

fn settings() -> HttpSettings {
    HttpSettings { retry: RetryPolicy { attempts: 1, ..RetryPolicy::default() }, ..HttpSettings::default() }
}

fn credential() -> Credential {
    Credential::Bearer("token".into())
}

/// The address of a port that was free a moment ago.
fn nobody(scheme: &str) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let port = listener.local_addr().expect("it is bound").port();
    format!("{scheme}://127.0.0.1:{port}/dayfly").parse().expect("it is a URL")
}

fn connections(criterion: &mut Criterion) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    let mut group = criterion.benchmark_group("connection");
    let url = nobody("https");
    group.bench_function("new", |bencher| {
        bencher.iter(|| {
            Connection::new(black_box(&url), credential(), settings()).expect("the settings are good")
        });
    });
    let connection = Connection::new(&url, credential(), settings()).expect("the settings are good");
    group.bench_function("with another credential", |bencher| {
        bencher.iter(|| black_box(&connection).with_credential(credential()));
    });
    for scheme in ["http", "https"] {
        let url = nobody(scheme);
        group.bench_function(format!("new and first call by {scheme}"), |bencher| {
            bencher.iter(|| {
                let connection =
                    Connection::new(&url, credential(), settings()).expect("the settings are good");
                runtime.block_on(connection.find_pool("Default")).expect_err("nobody listens")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, connections);
criterion_main!(benches);
