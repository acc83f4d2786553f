//! A real API server for tests: the one that `KUBECONFIG` names, or one started from the programs in
//! `KUBEBUILDER_ASSETS` (`etcd` and `kube-apiserver`, as envtest has them).

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use dayfly_kubernetes::api::definitions;
use dayfly_testing::skip;
use k8s_openapi::{
    api::core::v1::Namespace, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Config,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::{conditions::is_crd_established, wait::await_condition},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::json;
use tempfile::TempDir;

/// An API server in which Dayfly's definitions are applied.
pub(crate) struct ApiServer {
    config: Config,
    own: Option<Processes>,
}

impl ApiServer {
    /// The one that is there, or one of our own; `None`, with a word on how to run the test, if there is
    /// none.
    pub(crate) async fn find() -> Option<Self> {
        if std::env::var_os("KUBECONFIG").is_some() {
            let config = Config::from_kubeconfig(&KubeConfigOptions::default()).await;
            let server = Self { config: config.expect("KUBECONFIG is readable"), own: None };
            server.apply_definitions().await;
            return Some(server);
        }
        Self::start().await
    }

    /// One of our own, which may be killed.
    pub(crate) async fn start() -> Option<Self> {
        let Some(assets) = std::env::var_os("KUBEBUILDER_ASSETS") else {
            skip(
                "there is no API server; set KUBEBUILDER_ASSETS to a folder with etcd and kube-apiserver \
                 (`setup-envtest use -p path`), or, for most tests, KUBECONFIG to a cluster's",
            );
            return None;
        };
        let own = Processes::start(Path::new(&assets));
        let server = Self { config: own.config().await, own: Some(own) };
        server.until_ready().await;
        server.apply_definitions().await;
        Some(server)
    }

    /// A client that tries nothing again.
    pub(crate) fn client(&self) -> Client {
        Client::try_from(self.client_config()).expect("the configuration is whole")
    }

    /// For clients that are made in another runtime.
    pub(crate) fn client_config(&self) -> Config {
        let mut config = self.config.clone();
        config.default_retry = false;
        config
    }

    /// A new namespace.
    pub(crate) async fn namespace(&self) -> String {
        let name = format!("dayfly-test-{:08x}", fastrand::u32(..));
        let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        let api = Api::<Namespace>::all(self.client());
        api.create(&PostParams::default(), &namespace).await.expect("a namespace can be made");
        name
    }

    /// Kills the API server, and leaves its data.
    pub(crate) fn kill(&mut self) {
        end(&mut self.own.as_mut().expect("it is our own").api_server);
    }

    /// Starts it again.
    pub(crate) async fn start_again(&mut self) {
        let own = self.own.as_mut().expect("it is our own");
        own.api_server = own.api_server_command().spawn().expect("kube-apiserver starts");
        self.until_ready().await;
    }

    async fn until_ready(&self) {
        let client = self.client();
        let ready = async {
            let request = || http::Request::get("/readyz").body(Vec::new()).expect("a request");
            while client.request_text(request()).await.is_err() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), ready).await.expect("the API server becomes ready");
    }

    async fn apply_definitions(&self) {
        let api = Api::<CustomResourceDefinition>::all(self.client());
        for definition in definitions() {
            let name = definition.metadata.name.clone().expect("it has one");
            let parameters = PatchParams::apply("dayfly-test").force();
            api.patch(&name, &parameters, &Patch::Apply(&definition)).await.expect("it can be applied");
            let established = await_condition(api.clone(), &name, is_crd_established());
            tokio::time::timeout(Duration::from_secs(60), established)
                .await
                .expect("it is established in time")
                .expect("it can be watched");
        }
    }
}

struct Processes {
    assets: PathBuf,
    folder: TempDir,
    etcd: Child,
    api_server: Child,
    etcd_port: u16,
    port: u16,
}

impl Processes {
    fn start(assets: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (etcd_port, peer_port, port) = (free_port(), free_port(), free_port());
        let client = format!("http://127.0.0.1:{etcd_port}");
        let peer = format!("http://127.0.0.1:{peer_port}");
        let etcd = Command::new(assets.join("etcd"))
            .arg(format!("--data-dir={}", folder.path().join("etcd").display()))
            .args([format!("--listen-client-urls={client}"), format!("--advertise-client-urls={client}")])
            .args([format!("--listen-peer-urls={peer}"), format!("--initial-advertise-peer-urls={peer}")])
            .args([format!("--initial-cluster=default={peer}"), "--unsafe-no-fsync".to_owned()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd starts");
        certificates(folder.path());
        let command = |assets, folder: &TempDir| api_server_command(assets, folder.path(), etcd_port, port);
        let api_server = command(assets, &folder).spawn().expect("kube-apiserver starts");
        Self { assets: assets.to_owned(), folder, etcd, api_server, etcd_port, port }
    }

    fn api_server_command(&self) -> Command {
        api_server_command(&self.assets, self.folder.path(), self.etcd_port, self.port)
    }

    async fn config(&self) -> Config {
        let file = |name| self.folder.path().join(name);
        let kubeconfig: Kubeconfig = serde_json::from_value(json!({
            "clusters": [{ "name": "test", "cluster": {
                "server": format!("https://127.0.0.1:{}", self.port),
                "certificate-authority": file("ca.crt"),
            }}],
            "users": [{ "name": "admin", "user": {
                "client-certificate": file("admin.crt"),
                "client-key": file("admin.key"),
            }}],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "admin" }}],
            "current-context": "test",
        }))
        .expect("it is a kubeconfig");
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("it is whole")
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        end(&mut self.api_server);
        end(&mut self.etcd);
    }
}

fn api_server_command(assets: &Path, folder: &Path, etcd_port: u16, port: u16) -> Command {
    let file = |option: &str, name: &str| format!("--{option}={}", folder.join(name).display());
    let log = std::fs::File::options().create(true).append(true).open(folder.join("api-server.log"));
    let mut command = Command::new(assets.join("kube-apiserver"));
    command
        .arg(format!("--etcd-servers=http://127.0.0.1:{etcd_port}"))
        .args(["--bind-address=127.0.0.1".to_owned(), format!("--secure-port={port}")])
        .args([file("client-ca-file", "ca.crt"), file("tls-cert-file", "server.crt")])
        .args([file("tls-private-key-file", "server.key"), file("service-account-key-file", "server.pub")])
        .arg(file("service-account-signing-key-file", "server.key"))
        .args(["--service-account-issuer=https://test.invalid", "--service-cluster-ip-range=10.0.0.0/24"])
        .args(["--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount"])
        .stdout(Stdio::null())
        .stderr(log.expect("a log"));
    command
}

/// A root, the server's certificate, and an administrator's.
fn certificates(folder: &Path) {
    let write =
        |name: &str, text: String| std::fs::write(folder.join(name), text).expect("it can be written");
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.distinguished_name.push(DnType::CommonName, "root");
    let root = CertifiedIssuer::self_signed(root, KeyPair::generate().expect("a key")).expect("a root");
    write("ca.crt", root.pem());
    let server = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
    let mut admin = CertificateParams::default();
    admin.distinguished_name.push(DnType::CommonName, "admin");
    admin.distinguished_name.push(DnType::OrganizationName, "system:masters");
    for (name, parameters) in [("server", server), ("admin", admin)] {
        let key = KeyPair::generate().expect("a key");
        let certificate = parameters.signed_by(&key, &root).expect("a certificate");
        write(&format!("{name}.crt"), certificate.pem());
        write(&format!("{name}.key"), key.serialize_pem());
        write(&format!("{name}.pub"), key.public_key_pem());
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    listener.local_addr().expect("it is bound").port()
}

fn end(child: &mut Child) {
    // It may have ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}
