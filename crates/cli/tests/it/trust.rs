//! A company's certificate authority is trusted by what people use in steps: the real programs against a real
//! server.

use std::ffi::OsString;
use std::process::Stdio;

use dayfly_testing::{Authority, TlsFront};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::process::Command;

/// Answers every request with `ok`.
async fn answer(listener: TcpListener) {
    while let Ok((mut client, _)) = listener.accept().await {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match client.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
        let _ =
            client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
    }
}

/// What a program says, and whether it was content.
async fn run(command: &str, environment: &[(OsString, OsString)]) -> (bool, String) {
    let output = Command::new("bash")
        .args(["-c", command])
        .env_clear()
        .envs(environment.iter().cloned())
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test]
async fn git_curl_openssl_python_and_node_trust_a_companys_authority() {
    let authority = Authority::new();
    let front = TlsFront::start([127, 0, 0, 1].into(), &authority).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    front.is_front_of(listener.local_addr().unwrap());
    let serving = tokio::spawn(answer(listener));
    let folder = tempfile::tempdir().unwrap();
    let more = folder.path().join("company.pem");
    std::fs::write(&more, authority.pem()).unwrap();
    let plain: Vec<(OsString, OsString)> =
        std::env::vars_os().filter(|(name, _)| name == "PATH" || name == "HOME").collect();
    let mut trusting = plain.clone();
    dayfly_worker::trust(&more, &folder.path().join("all.pem"), &mut trusting).unwrap();
    let (url, address) = (format!("https://{}/", front.address), front.address);
    for command in [
        format!("curl --silent --show-error --fail {url}"),
        // It finds no repository there, but gets that far.
        format!("! git ls-remote {url} 2>&1 | grep -q certificate"),
        format!("openssl s_client -connect {address} -verify_return_error"),
        format!("python3 -c 'import urllib.request as u; print(u.urlopen(\"{url}\").read())'"),
        format!("node -e 'require(\"https\").get(\"{url}\").on(\"error\", error => {{ throw error }})'"),
    ] {
        let (is_content, text) = run(&command, &plain).await;
        assert!(!is_content, "without the authority: {command}: {text}");
        let (is_content, text) = run(&command, &trusting).await;
        assert!(is_content, "{command}: {text}");
    }
    serving.abort();
}
