//! `dayfly.toml` in `dayfly run`: variable groups, service connections, secure files.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::thread::JoinHandle;

use crate::project::{Ended, Project};

/// A server for one request, which it gives back: first line, headers in lower case, body.
fn server() -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/api", listener.local_addr().unwrap());
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let (mut request, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
            request.push_str(&line);
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        request.push_str(&String::from_utf8(body).unwrap());
        let answer = r#"{"state": "ready"}"#;
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{answer}", answer.len()).unwrap();
        request
    });
    (url, served)
}

const PIPELINE: &str = "
variables:
- group: prod
jobs:
- job: call
  pool: server
  steps:
  - task: InvokeRESTAPI@1
    inputs:
      serviceConnection: api
      urlSuffix: /deploy?host=$(host)
      body: '{\"token\": \"$(token)\"}'
      successCriteria: eq(root['state'], 'ready')
- job: use
  dependsOn: call
  steps:
  - checkout: none
  - bash: |
      echo \"host $(host), token $TOKEN, inherited [$PROD_TOKEN]\"
      echo \"file $(cat '$(key.secureFilePath)') $(stat -c %a '$(key.secureFilePath)')\"
    env: { TOKEN: $(token) }
  - task: DownloadSecureFile@1
    name: key
    condition: false
    inputs: { secureFile: signing.p12, retryCount: 2 }
- job: later
  dependsOn: use
  variables:
    place: $[ dependencies.use.outputs['key.secureFilePath'] ]
  steps:
  - checkout: none
  - bash: if [ ! -e '$(place)' ]; then echo gone $(basename '$(place)'); fi
";

const CONFIG: &str = "
[variable-groups.Prod]
host = 'example.org'
token = { env = 'PROD_TOKEN' }

[variable-groups.unused]
other = { env = 'NOT_SET' }

[service-connections.API]
url = 'URL'
scheme = 'UsernamePassword'
parameters = { username = 'ada', password = { file = 'secrets/password' } }

[service-connections.unused]
url = 'https://nowhere.invalid'
parameters = { password = { env = 'NOT_SET' } }

[secure-files]
'signing.p12' = 'secrets/key'
";

fn run(project: &Project, arguments: &[&str]) -> Ended {
    let mut command = project.command(&["run"]);
    Ended::from(command.args(arguments).env("PROD_TOKEN", "hunter2-token").output().unwrap())
}

#[test]
fn groups_connections_and_files_reach_the_jobs_and_secrets_stay_hidden() {
    let project = Project::with_pipeline(PIPELINE);
    let (url, served) = server();
    project.write("dayfly.toml", &CONFIG.replace("URL", &url));
    project.write("secrets/password", "hunter2-password\n");
    project.write("secrets/key", "content of the key");
    let ended = run(&project, &["--verbose", "--keep-work"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let request = served.join().unwrap();
    assert!(request.starts_with("POST /api/deploy?host=example.org HTTP/1.1"), "{request}");
    assert!(request.contains("Basic YWRhOmh1bnRlcjItcGFzc3dvcmQ="), "{request}");
    assert!(request.ends_with(r#"{"token": "hunter2-token"}"#), "{request}");
    for text in [
        r#"Request body: {"token": "***"}"#,
        "host example.org, token ***, inherited []",
        "Pre-job: DownloadSecureFile",
        "file content of the key 600",
        "Deleted secure file: ",
        "gone signing.p12",
    ] {
        assert!(ended.stdout.contains(text), "{text}: {ended:?}");
    }
    assert!(!format!("{ended:?}").contains("hunter2"), "{ended:?}");
    let folder = ended.stderr.lines().find_map(|line| line.strip_prefix("work folders: ")).unwrap();
    std::fs::remove_dir_all(std::path::Path::new(folder).parent().unwrap()).unwrap();
}

#[test]
fn secure_files_that_were_not_given_are_told_before_the_run() {
    let project = Project::with_pipeline(
        "steps:
- checkout: none
- task: DownloadSecureFile@1
  inputs: {secureFile: signing.p12}
- task: DownloadSecureFile@1
  inputs: {secureFile: Given.pem}
- task: DownloadSecureFile@1
  inputs: {secureFile: $(name)}
",
    );
    project.write("dayfly.toml", "[secure-files]\n'given.pem' = 'key'\n");
    project.write("key", "content");
    let ended = run(&project, &["--strict"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    let missing =
        "this run was not given the secure files `signing.p12` (azure-pipelines.yml:3): their steps";
    assert!(ended.stderr.contains(missing), "{ended:?}");
}

#[test]
fn mistakes_are_told_before_the_run_with_their_place() {
    let project = Project::with_pipeline(PIPELINE);
    project.write("secrets/password", "hunter2-password");
    let whole = CONFIG.replace("URL", "http://127.0.0.1:9");
    for (config, expected) in [
        (format!("secrets = 1\n{whole}"), "dayfly.toml:1:1: unknown field `secrets`"),
        (whole.clone(), "dayfly.toml:19:17: the secure file `signing.p12` is not there"),
        (
            whole.replace("secrets/password", "secrets/none"),
            "dayfly.toml:12:45: secret `password`: cannot read the file",
        ),
    ] {
        project.write("dayfly.toml", &config);
        if config.contains("secrets/none") {
            project.write("secrets/key", "");
        }
        let ended = run(&project, &[]);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains(expected), "{expected}: {ended:?}");
    }
    let ended = run(&project, &["--config", "elsewhere.toml"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("cannot read `elsewhere.toml`"), "{ended:?}");

    project.write("dayfly.toml", "");
    let ended = run(&project, &["--job", "use"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stdout.contains("The job was not given a secure file 'signing.p12'"), "{ended:?}");
}

#[test]
fn the_login_of_a_containers_registry_is_missed_before_the_run() {
    let project = Project::with_pipeline(
        "resources: { containers: [{ container: tools, image: tools:1, endpoint: Images }] }\n\
         steps:\n- script: echo never\n",
    );
    project.write(
        "dayfly.toml",
        "[service-connections.images]\nurl = 'http://127.0.0.1:9'\ntype = 'dockerregistry'\n\
         parameters = { username = 'ada', password = { file = 'none' } }\n",
    );
    let ended = run(&project, &[]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("secret `password`: cannot read the file"), "{ended:?}");
}

#[test]
fn a_cluster_that_its_environment_does_not_have_is_missed_before_the_run() {
    let project = Project::with_pipeline(
        "jobs:
- deployment: web
  environment: prod.web
  strategy: { runOnce: { deploy: { steps: [ { script: 'echo never' } ] } } }
",
    );
    for (config, expected) in [
        (
            "[environments.prod.resources.api]\ncontext = 'a'",
            "dayfly.toml: the job `web` deploys to `prod.web`, but of the resources of this environment there \
             is `api`",
        ),
        (
            "[environments.prod.resources.web]\nkubeconfig = 'none'",
            "dayfly.toml:1:1: the resource `web` of the environment `prod`: secret `kubeconfig`: cannot read \
             the file",
        ),
        (
            "[service-connections.c]\nurl = 'https://c'\nparameters = { apiToken = { file = 'none' } }\n\
             [environments.prod.resources]\nweb = { service-connection = 'C' }",
            "secret `apiToken`: cannot read the file",
        ),
    ] {
        project.write("dayfly.toml", config);
        let ended = run(&project, &[]);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains(expected), "{expected}: {ended:?}");
        assert_eq!(ended.stdout, "", "nothing was run");
    }
    // An environment that is not written down has nothing to miss.
    project.write("dayfly.toml", "[environments.other.resources]\n");
    let ended = run(&project, &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    // A job that is not wanted needs no cluster.
    project.write(
        "azure-pipelines.yml",
        &format!("{}- job: other\n  steps: [ {{ checkout: none }} ]\n", project.read("azure-pipelines.yml")),
    );
    project.write("dayfly.toml", "[environments.prod.resources.web]\nkubeconfig = 'none'");
    project.run(&["--job", "other"], 0);
}

#[test]
fn a_server_job_waits_for_the_callback_of_whom_it_calls() {
    let project = Project::with_pipeline(
        "jobs:
- job: call
  pool: server
  steps:
  - task: InvokeRESTAPI@1
    inputs: { serviceConnection: api, urlSuffix: /check, waitForCompletion: 'true' }
- job: after
  dependsOn: call
  steps: [ { checkout: none }, { script: echo went on } ]
",
    );
    let (url, served) = server();
    project.write("dayfly.toml", &format!("[service-connections.api]\nurl = '{url}'\n"));
    let running = project.command(&["run"]).spawn().unwrap();
    let request = served.join().unwrap();
    let header = |name: &str| {
        let lines = request.lines().filter_map(|line| line.split_once(':'));
        let mut values = lines.filter(|(known, _)| known.eq_ignore_ascii_case(name));
        values.next().unwrap_or_else(|| panic!("no {name} in {request}")).1.trim().to_owned()
    };
    let service = url::Url::parse(&header("PlanUrl")).unwrap();
    let event = format!(
        r#"{{"name": "TaskCompleted", "jobId": "{}", "taskId": "{}", "result": "succeeded"}}"#,
        header("JobId"),
        header("TaskInstanceId")
    );
    let address = service.socket_addrs(|| None).unwrap()[0];
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(
        stream,
        "POST {}{}/_apis/distributedtask/hubs/{}/plans/{}/events?api-version=7.1 HTTP/1.1\r\nhost: {address}\r\n\
         authorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{event}",
        service.path(),
        header("ProjectId"),
        header("HubName"),
        header("PlanId"),
        header("AuthToken"),
        event.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    let ended = Ended::from(running.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("went on"), "{ended:?}");
}
