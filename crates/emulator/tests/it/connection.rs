//! The first calls of every client: connectionData, the location service, feature flags, telemetry, projects.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

use crate::service::{PAT, SOON, Service, assert_error, success};

const CONNECTION_DATA: &str = "_apis/connectionData?connectOptions=1&lastChangeId=-1&lastChangeId64=-1";

#[tokio::test]
async fn without_a_token_the_answer_is_a_challenge() {
    let service = Service::start().await;
    for (method, path) in [(Method::GET, CONNECTION_DATA), (Method::HEAD, "_apis/connectiondata")] {
        let response = service.anonymous(method, path).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        let challenges: Vec<_> = response
            .headers()
            .get_all(header::WWW_AUTHENTICATE)
            .iter()
            .map(|value| value.to_str().unwrap())
            .collect();
        assert!(challenges.iter().any(|challenge| challenge.starts_with("Bearer authorization_uri=")));
        assert!(challenges.iter().any(|challenge| challenge.starts_with("Basic realm=")));
    }
    let wrong = service.bearer("wrong", Method::GET, CONNECTION_DATA).send().await.unwrap();
    assert_error(wrong, StatusCode::UNAUTHORIZED, "UnauthorizedRequestException").await;
}

#[tokio::test]
async fn connection_data_is_what_dotnet_clients_accept() {
    let service = Service::start().await;
    let data = service.get(CONNECTION_DATA).await;
    assert_eq!(data["deploymentType"], "hosted");
    assert_eq!(data["authenticatedUser"], data["authorizedUser"]);
    let locations = &data["locationServiceData"];
    assert_eq!(locations["serviceOwner"], "00000000-0000-0000-0000-000000000000");
    let mapping = &locations["accessMappings"][0];
    assert_eq!(locations["defaultAccessMappingMoniker"], mapping["moniker"], "clients look it up");
    let address = format!(
        "{}{}",
        mapping["accessPoint"].as_str().unwrap(),
        mapping["virtualDirectory"].as_str().unwrap()
    );
    assert_eq!(address, service.emulator.url().as_str().trim_end_matches('/'));
    let bare = service.get("_apis/connectionData").await;
    let locations_of_bare = bare["locationServiceData"].as_object().unwrap();
    for member in ["accessMappings", "defaultAccessMappingMoniker"] {
        assert!(!locations_of_bare.contains_key(member), "only for who asks for services: {member}");
    }
    let definitions = locations["serviceDefinitions"].as_array().unwrap();
    assert!(definitions.iter().all(|definition| definition["resourceVersion"].as_i64().unwrap() > 0));
    let agents = definitions
        .iter()
        .find(|definition| definition["identifier"] == "e298ef32-5878-4cab-993c-043836571f42")
        .unwrap();
    assert_eq!(agents["relativePath"], "/_apis/distributedtask/pools/{poolId}/agents/{agentId}");
    assert_eq!(agents["serviceType"], "distributedtask");

    let again = service.get(CONNECTION_DATA).await;
    assert_eq!(again, data, "clients refuse an identity that changes");
    let bearer = success(service.bearer(PAT, Method::GET, CONNECTION_DATA)).await;
    assert_eq!(bearer["authenticatedUser"], data["authenticatedUser"]);
}

#[tokio::test]
async fn each_credential_has_its_own_identity() {
    let service = Service::start().await;
    let agent = service.online("agent-1").await;
    let job = service.queue(&[]);
    let mut identities = BTreeMap::new();
    for token in [PAT, agent.token.as_str(), job.token.as_str()] {
        let data = success(service.bearer(token, Method::GET, CONNECTION_DATA)).await;
        let user = &data["authenticatedUser"];
        identities.insert(user["id"].to_string(), user["providerDisplayName"].as_str().unwrap().to_owned());
    }
    assert_eq!(identities.len(), 3);
    assert!(identities.values().any(|name| name == "agent-1"));
}

#[tokio::test]
async fn options_lists_the_routes_for_all_and_for_one_area() {
    let service = Service::start().await;
    for path in ["_apis", "_apis/"] {
        let all = success(service.admin(Method::OPTIONS, path)).await;
        assert!(all["count"].as_u64().unwrap() > 20);
        let pools = all["value"]
            .as_array()
            .unwrap()
            .iter()
            .find(|location| location["id"] == "a8c47e17-4d56-4a56-92bb-de7ea7dc65be")
            .unwrap();
        assert_eq!(
            pools,
            &json!({
                "id": "a8c47e17-4d56-4a56-92bb-de7ea7dc65be", "area": "distributedtask", "resourceName": "pools",
                "routeTemplate": "_apis/distributedtask/pools/{poolId}", "resourceVersion": 6,
                "minVersion": "1.0", "maxVersion": "12.0", "releasedVersion": "7.1",
            })
        );
    }
    let area = success(service.anonymous(Method::OPTIONS, "_apis/Location")).await;
    let names: Vec<_> =
        area["value"].as_array().unwrap().iter().map(|location| &location["resourceName"]).collect();
    assert_eq!(names, ["ConnectionData", "ResourceAreas"]);
}

#[tokio::test]
async fn every_listed_route_is_there() {
    let service = Service::start().await;
    let all = success(service.admin(Method::OPTIONS, "_apis")).await;
    let is_there = async |path: &str| {
        let response = service.admin(Method::GET, path).send().await.unwrap();
        let body: Value = response.json().await.unwrap_or_default();
        !body["message"].as_str().unwrap_or_default().contains("does not implement IController")
    };
    for location in all["value"].as_array().unwrap() {
        let template = location["routeTemplate"].as_str().unwrap();
        let fill = |segment: &str| if segment.starts_with('{') { "1".to_owned() } else { segment.to_owned() };
        let full = template.split('/').map(fill).collect::<Vec<_>>().join("/");
        // Clients leave out the last value where they have none.
        let mut path = full.as_str();
        while !is_there(path).await {
            path = path.strip_suffix("/1").unwrap_or_else(|| panic!("{template} should be there"));
        }
    }
}

#[tokio::test]
async fn resource_areas_are_at_this_address() {
    let service = Service::start().await;
    let areas = service.get("_apis/ResourceAreas").await;
    let task = areas["value"]
        .as_array()
        .unwrap()
        .iter()
        .find(|area| area["id"] == "a85b8835-c1a1-4aac-ae97-1c3d0ba72dbd")
        .unwrap();
    assert_eq!(task["name"], "distributedtask");
    assert_eq!(task["locationUrl"], format!("{}/", service.emulator.url()));
    let one = service.get("_apis/resourceAreas/5d6898bb-45ec-463f-95f9-54d49c71752e").await;
    assert_eq!(one["name"], "build");
    let feeds = service.get("_apis/ResourceAreas/4C83CFC1-F33A-477E-A789-29D38FFCA52E").await;
    assert_eq!(feeds["locationUrl"], task["locationUrl"], "where Microsoft's task Npm looks for feeds");
    let path = "_apis/resourceAreas/00000000-0000-0000-0000-000000000001";
    let unknown = service.admin(Method::GET, path).send().await.unwrap();
    assert_error(unknown, StatusCode::NOT_FOUND, "DataNotFoundException").await;
}

#[tokio::test]
async fn feature_flags_are_off_unless_set() {
    let service = Service::start_with(|settings| {
        settings.feature_flags =
            BTreeMap::from([("DistributedTask.Agent.UseEnhancedLogging".to_owned(), true)]);
    })
    .await;
    let flag = |name: &str| format!("_apis/FeatureFlags/{name}?checkFeatureExists=false");
    let on = service.get(&flag("DistributedTask.Agent.UseEnhancedLogging")).await;
    assert_eq!((&on["effectiveState"], &on["explicitState"]), (&json!("On"), &json!("On")));
    let off = service.get(&flag("Other")).await;
    assert_eq!((&off["effectiveState"], &off["explicitState"]), (&json!("Off"), &json!("Undefined")));
    let unknown = service.admin(Method::GET, "_apis/FeatureFlags/Other").send().await.unwrap();
    assert_error(unknown, StatusCode::NOT_FOUND, "MissingFeatureException").await;
}

#[tokio::test]
async fn telemetry_is_taken() {
    let service = Service::start().await;
    let agent = service.online("agent-1").await;
    let events = json!([{ "area": "pipelines-agent", "feature": "x", "properties": {} }]);
    let request = service.bearer(&agent.token, Method::POST, "_apis/CustomerIntelligence/Events");
    assert_eq!(request.json(&events).send().await.unwrap().status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn projects_and_queues_are_listed() {
    let service = Service::start_with(|settings| {
        settings.projects.push("second".to_owned());
        settings.pools.push("Linux".to_owned());
    })
    .await;
    let projects = service.get("_apis/projects").await;
    assert_eq!(projects["count"], 2);
    assert_eq!(projects["value"][0]["id"], json!(service.project()));
    assert_eq!(projects["value"][0]["state"], "wellFormed");
    assert_eq!(service.get("_apis/projects?$top=1&$skip=1").await["value"][0]["name"], "second");
    assert_eq!(service.get("_apis/projects/SECOND").await["name"], "second");
    let unknown = service.admin(Method::GET, "_apis/projects/third").send().await.unwrap();
    assert_error(unknown, StatusCode::NOT_FOUND, "ProjectDoesNotExistWithNameException").await;

    let queues = service.get("second/_apis/distributedtask/queues?queueName=linux").await;
    assert_eq!(queues["count"], 1);
    assert_eq!(queues["value"][0]["pool"]["name"], "Linux");
    let id = queues["value"][0]["id"].as_i64().unwrap();
    assert_eq!(service.get(&format!("second/_apis/distributedtask/queues/{id}")).await, queues["value"][0]);
    let first = service.get("dayfly/_apis/distributedtask/queues").await;
    assert!(
        first["value"].as_array().unwrap().iter().all(|queue| queue["id"] != id),
        "queues are per project"
    );
    let foreign = service
        .admin(Method::GET, &format!("dayfly/_apis/distributedtask/queues/{id}"))
        .send()
        .await
        .unwrap();
    assert_error(foreign, StatusCode::NOT_FOUND, "TaskAgentQueueNotFoundException").await;
}

#[tokio::test]
async fn unknown_addresses_methods_and_organizations_are_typed_errors() {
    let service = Service::start().await;
    let nothing = service.admin(Method::GET, "_apis/nothing").send().await.unwrap();
    assert_error(nothing, StatusCode::NOT_FOUND, "VssResourceNotFoundException").await;
    let method =
        service.admin(Method::PUT, "_apis/projects").header("content-length", "0").send().await.unwrap();
    assert_error(method, StatusCode::METHOD_NOT_ALLOWED, "VssRequestMethodNotSupportedException").await;
    let mut url = service.emulator.url().clone();
    url.set_path("other/_apis/projects");
    let organization = service.http.get(url).bearer_auth(PAT).send().await.unwrap();
    assert_error(organization, StatusCode::NOT_FOUND, "VssResourceNotFoundException").await;
    let number = service.admin(Method::GET, "_apis/distributedtask/pools/x").send().await.unwrap();
    assert_error(number, StatusCode::BAD_REQUEST, "InvalidArgumentValueException").await;
}

#[tokio::test]
async fn http2_with_prior_knowledge_is_spoken_on_the_same_port() {
    let service = Service::start().await;
    let http = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let url = format!("{}/{CONNECTION_DATA}", service.emulator.url());
    let response = http.get(url).bearer_auth(PAT).send().await.unwrap();
    assert_eq!(response.version(), reqwest::Version::HTTP_2);
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn request_whose_body_does_not_come_is_ended() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let service = Service::start_with(|settings| {
        settings.poll_hold = Duration::from_millis(50);
        settings.limits.request_timeout = Duration::from_millis(100);
    })
    .await;
    let address = service.emulator.url().socket_addrs(|| None).unwrap()[0];
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /dayfly/_apis/distributedtask/pools?api-version=7.1 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {PAT}\r\n\
         content-length: 100\r\n\r\n{{\"name\":"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    tokio::time::timeout(SOON, stream.read_exact(&mut answer)).await.expect("an answer comes").unwrap();
    assert_eq!(&answer, b"HTTP/1.1 503");
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_for_a_place() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let service = Service::start_with(|settings| settings.limits.connections = 1).await;
    let address = service.emulator.url().socket_addrs(|| None).unwrap()[0];
    let ask = async |stream: &mut tokio::net::TcpStream| {
        let head =
            format!("GET /dayfly/_apis/projects HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {PAT}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
    };
    let mut first = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut second = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut answer = [0; 12];
    ask(&mut first).await;
    first.read_exact(&mut answer).await.unwrap();
    ask(&mut second).await;
    let early = tokio::time::timeout(Duration::from_millis(100), second.read(&mut answer)).await;
    assert!(early.is_err(), "the second is not served while the first is open");
    drop(first);
    tokio::time::timeout(SOON, second.read_exact(&mut answer)).await.expect("an answer comes").unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

#[tokio::test]
async fn what_changes_something_names_the_version_of_the_api() {
    let service = Service::start().await;
    let pools = format!("{}/_apis/distributedtask/pools", service.emulator.url());
    let make = |url: &str| service.http.post(url).bearer_auth(PAT).json(&json!({ "name": "Linux" }));
    let refused = make(&pools).send().await.unwrap();
    let text = assert_error(refused, StatusCode::BAD_REQUEST, "VssVersionNotSpecifiedException").await;
    assert!(text.contains("\"POST\""), "{text}");
    let late = make(&format!("{pools}?api-version=99.0")).send().await.unwrap();
    assert_error(late, StatusCode::BAD_REQUEST, "VssVersionOutOfRangeException").await;
    // Who is not known learns nothing of versions.
    let unknown = service.http.post(&pools).json(&json!({})).send().await.unwrap();
    assert_eq!(unknown.status(), StatusCode::UNAUTHORIZED);
    let accept = "application/json;api-version=5.1-preview.1";
    success(make(&pools).header(header::ACCEPT, accept)).await;
    assert!(service.http.get(&pools).bearer_auth(PAT).send().await.unwrap().status().is_success());
}

#[tokio::test]
async fn every_answer_has_the_ids_of_its_request() {
    let service = Service::start().await;
    let ids = |response: &reqwest::Response| {
        ["activityid", "x-tfs-session", "x-vss-e2eid"]
            .map(|name| response.headers()[name].to_str().unwrap().to_owned())
    };
    let given = ["3d1f2ed4-6c2e-4f0c-b9a1-1a2b3c4d5e6f", "00000000-1111-4222-8333-444444444444"];
    let mut url = service.emulator.url().clone();
    url.set_path("other/_apis/projects");
    service
        .emulator
        .add_fault(dayfly_emulator::FaultRule::new(
            "**/queues",
            dayfly_emulator::Fault::Throttle { retry_after: 1 },
        ))
        .unwrap();
    for request in [
        service.admin(Method::GET, "_apis/projects"),
        service.anonymous(Method::GET, "_apis/projects"),
        service.admin(Method::GET, "dayfly/_apis/distributedtask/queues"),
        service.admin(Method::GET, "_apis/nothing"),
        service.http.get(url),
    ] {
        let [activity, session, chain] = ids(&request.try_clone().unwrap().send().await.unwrap());
        assert_eq!((&session, &chain), (&activity, &activity));
        let request = request.header("X-TFS-Session", given[0]).header("X-VSS-E2EID", given[1]);
        let [another, session, chain] = ids(&request.send().await.unwrap());
        assert_eq!([session.as_str(), chain.as_str()], given);
        assert_ne!(another, activity);
    }
    let body = service.admin(Method::GET, "_apis/nothing").send().await.unwrap();
    let body: Value = body.json().await.unwrap();
    assert_eq!(
        (&body["$id"], &body["innerException"], &body["eventId"]),
        (&json!("1"), &Value::Null, &json!(3000))
    );
    assert!(body.as_object().unwrap().contains_key("innerException"));
    assert!(body["typeName"].as_str().unwrap().starts_with("Microsoft.VisualStudio.Services.WebApi.Vss"));
}
