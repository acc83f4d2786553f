//! How the service is reached: other logins than a personal access token, and a company's network.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dayfly_testing::{Authority, Proxy, TlsFront};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::world::{Cluster, Differences, PAT, World, eventually};

/// Everything that a test serves itself.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

/// Stands for Entra ID: who knows the client secret `right` gets a token that the emulator takes.
async fn entra(listener: TcpListener, asked: Arc<AtomicUsize>) {
    while let Ok((client, _)) = listener.accept().await {
        let _ = answer(client, asked.fetch_add(1, Ordering::SeqCst)).await;
    }
}

/// As Entra ID, it says something else each time.
async fn answer(mut client: TcpStream, number: usize) -> std::io::Result<()> {
    let mut request = Vec::new();
    let (status, body) = loop {
        let mut buffer = [0; 4096];
        let count = client.read(&mut buffer).await?;
        request.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&request);
        // The secret is the last field of the form.
        if text.contains("client_secret=right") {
            break ("200 OK", format!(r#"{{"access_token":"{PAT}","expires_in":3599}}"#));
        }
        if count == 0 || text.contains("client_secret=wrong") {
            let words = format!("AADSTS7000215: Invalid client secret provided. Trace ID: {number}");
            break (
                "401 Unauthorized",
                format!(r#"{{"error":"invalid_client","error_description":"{words}"}}"#),
            );
        }
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    client.write_all((head + &body).as_bytes()).await?;
    client.shutdown().await
}

#[test]
fn a_service_principal_logs_in_and_a_wrong_secret_is_told() {
    let runtime = runtime();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
    let authority = format!("http://{}", listener.local_addr().expect("an address"));
    let asked = Arc::<AtomicUsize>::default();
    runtime.spawn(entra(listener, asked.clone()));
    let connection = format!(
        "  auth:\n    servicePrincipal:\n      tenantId: contoso\n      clientId: builds\n      authorityHost: \
         {authority}\n      clientSecretRef: {{ name: principal, key: secret }}\n"
    );
    let secret = |value: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{ name: principal }}\nstringData: {{ secret: {value} }}\n"
        )
    };
    let differences = Differences { connection, objects: secret("wrong"), ..Differences::default() };
    let Some(world) = World::without_agents("entra", 1, &differences) else { return };
    for object in ["azuredevopsconnection/azure-devops", "agentset/linux"] {
        let message = world.has_condition(object, "Ready", "CredentialRejected");
        assert!(message.contains("AADSTS7000215") && !message.contains("wrong"), "{message}");
    }
    // Twice a look every second would be dozens by now.
    std::thread::sleep(Duration::from_secs(10));
    assert!(asked.load(Ordering::SeqCst) < 20, "asked {asked:?} times");
    world.apply(&secret("right"));
    world.has_condition("azuredevopsconnection/azure-devops", "Ready", "Connected");
    world.has_online(1);
    let (is_green, text) = world.queue("pool: k8s\nsteps:\n- script: echo let in\n").end();
    assert!(is_green && text.contains("let in"), "{text}");
}

/// The service has a certificate of the company's own authority, and is behind a proxy that wants a login.
/// The controller, the worker, git and what steps run all get through, in both containers.
/// Also by the agents that are online, one of which has a job.
#[test]
fn a_new_proxy_is_taken_up_while_a_job_runs() {
    const LOGIN: &str = "Basic YnVpbGRlcjpwcm94eS13b3Jk";
    let Some(cluster) = Cluster::find() else { return };
    let (runtime, authority) = (runtime(), Authority::new());
    let address: IpAddr = cluster.address.parse().expect("an address");
    let proxy = runtime.block_on(Proxy::start(address, LOGIN.to_owned()));
    let (_front, mut differences) = behind_tls(&runtime, address, &authority);
    differences.objects.push_str(
        "---\napiVersion: v1\nkind: Secret\nmetadata: { name: proxy }\n\
         stringData: { username: builder, password: proxy-word }\n",
    );
    let Some(world) = World::without_agents("proxy", 2, &differences) else { return };
    world.has_online(2);
    let run = world.queue(
        "pool: k8s\nsteps:\n- bash: touch /work/began; until test -e /work/end; do sleep 0.2; done; echo done\n",
    );
    let pod = world.pod_whose_step_began();
    assert_eq!(proxy.passed(), 0, "nobody knows of it yet");
    let spec = format!(r#"{{"url":"http://{}","credentialsSecretRef":{{"name":"proxy"}}}}"#, proxy.address);
    let patch = format!(r#"{{"spec":{{"proxy":{spec}}}}}"#);
    world.kubectl(&["patch", "azuredevopsconnection", "azure-devops", "--type=merge", "--patch", &patch]);
    eventually("the controller takes it up", || {
        world.controller_log().contains("the agents take up new certificates or another proxy").then_some(())
    });
    world.has_online(2);
    eventually("the agents come by it", || (proxy.passed() > 0).then_some(()));
    world.kubectl(&["exec", &pod, "--", "touch", "/work/end"]);
    let (is_green, text) = run.end();
    assert!(is_green && text.contains("done"), "{text}");
    let (is_green, text) = world.queue("pool: k8s\nsteps:\n- bash: echo by $https_proxy\n").end();
    assert!(is_green && text.contains("by http://builder:***@"), "{text}");
}

/// A service of which only the company's authority knows the certificate, as long as its front is there.
fn behind_tls(
    runtime: &tokio::runtime::Runtime,
    address: IpAddr,
    authority: &Authority,
) -> (TlsFront, Differences) {
    let front = runtime.block_on(TlsFront::start(address, authority));
    let listen = runtime.block_on(TcpListener::bind((address, 0))).expect("a port");
    let backend = listen.local_addr().expect("an address");
    drop(listen);
    front.is_front_of(backend);
    let pem = authority.pem().replace('\n', "\n    ");
    let differences = Differences {
        connection: "  tls: { caBundle: { configMapRef: { name: company, key: root.pem } } }\n".to_owned(),
        objects: format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: company }}\ndata:\n  root.pem: |\n    {pem}\n"
        ),
        listen: Some(backend.to_string()),
        public_url: Some(format!("https://{}", front.address)),
        ..Differences::default()
    };
    (front, differences)
}

#[test]
fn jobs_trust_the_companys_authority_and_take_its_proxy() {
    const LOGIN: &str = "Basic YnVpbGRlcjpwQHNzL3dvcmQ=";
    let Some(cluster) = Cluster::find() else { return };
    let (runtime, authority) = (runtime(), Authority::new());
    let address: IpAddr = cluster.address.parse().expect("an address");
    let proxy = runtime.block_on(Proxy::start(address, LOGIN.to_owned()));
    let (_front, mut differences) = behind_tls(&runtime, address, &authority);
    differences.connection.push_str(&format!(
        "  proxy: {{ url: \"http://{}\", credentialsSecretRef: {{ name: proxy }} }}\n",
        proxy.address
    ));
    differences.objects.push_str(
        "---\napiVersion: v1\nkind: Secret\nmetadata: { name: proxy }\n\
         stringData: { username: builder, password: p@ss/word }\n",
    );
    let Some(world) = World::without_agents("network", 1, &differences) else { return };
    world.has_online(1);
    let before = proxy.passed();
    let curl = "curl --silent --show-error --output /dev/null --write-out 'answer %{http_code}\\n' \
                $(System.CollectionUri)_apis/connectionData; echo by $https_proxy";
    let (is_green, text) = world
        .queue(&format!(
            "pool: k8s\nsteps:\n- checkout: self\n- bash: {curl}\n- bash: {curl}\n  target: host\n"
        ))
        .end();
    assert!(is_green, "{text}");
    assert_eq!(text.matches("answer 401").count() + text.matches("answer 200").count(), 2, "{text}");
    assert!(!text.contains("p@ss/word") && !text.contains("p%40ss%2Fword"), "{text}");
    assert!(text.contains("by http://builder:***@"), "{text}");
    assert!(proxy.passed() > before, "it was used");
}
