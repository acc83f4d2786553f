//! `connectionData`: who is calling, and where things are. The first call of every client.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use dayfly_protocol::connection::{AccessMapping, ConnectionData, Identity, LocationServiceData};
use uuid::Uuid;

use crate::app::App;
use crate::http::caller::Caller;
use crate::http::extract::Json;
use crate::http::locations;
use crate::http::query::Query;
use crate::state::named_id;
use crate::state::tokens::Principal;

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/_apis/connectiondata", get(get_connection_data))
}

async fn get_connection_data(State(app): State<App>, caller: Caller, query: Query) -> Json<ConnectionData> {
    let instance = app.state().organization_id();
    let user = identity(&app, &caller.0);
    let access_mappings = if wants_services(&query) { vec![access_mapping(&app)] } else { Vec::new() };
    // Clients cache all this on disk by the instance's id, so it changes with the table and the address.
    let cached = [locations::fingerprint(), app.base().as_str().into()].concat();
    Json(ConnectionData {
        authenticated_user: user.clone(),
        authorized_user: user,
        instance_id: Uuid::new_v5(&instance, &cached),
        deployment_id: named_id("deployment", "emulator"),
        deployment_type: "hosted".to_owned(),
        location_service_data: LocationServiceData {
            // Empty: clients look nowhere else (`LocationService.cs`).
            service_owner: Uuid::nil(),
            // .NET's clients fail with one that is not among the mappings (`LocationCacheManager.cs`).
            default_access_mapping_moniker: access_mappings.first().map(|mapping| mapping.moniker.clone()),
            access_mappings,
            last_change_id: 1,
            last_change_id64: 1,
            service_definitions: locations::service_definitions(),
        },
    })
}

/// Whether the client asks for services (`ConnectOptions.IncludeServices`, by name or number).
fn wants_services(query: &Query) -> bool {
    let options = query.text("connectOptions").unwrap_or_default().trim();
    let by_name = options.split(',').any(|option| option.trim().eq_ignore_ascii_case("includeServices"));
    by_name || options.parse::<u32>().is_ok_and(|options| options & 1 != 0)
}

/// The address by which clients reach this organization: the only one.
fn access_mapping(app: &App) -> AccessMapping {
    let mut server = app.base().clone();
    let directory = server.path().trim_matches('/').to_owned();
    server.set_path("/");
    AccessMapping {
        display_name: "Public Access Mapping".to_owned(),
        moniker: "PublicAccessMapping".to_owned(),
        access_point: server.into(),
        service_owner: Uuid::nil(),
        virtual_directory: directory,
    }
}

/// The identity of a caller, the same at each call: clients refuse to go on as somebody else.
pub(crate) fn identity(app: &App, principal: &Principal) -> Identity {
    let (id, kind, name) = match principal {
        Principal::Person { id, .. } => (*id, "aad", "Dayfly User".to_owned()),
        Principal::Agent { pool, agent, client } => {
            let name = app.state().agent(*pool, *agent).map(|agent| agent.name.clone()).ok();
            (*client, "svc", name.unwrap_or_else(|| format!("Agent {agent}")))
        }
        Principal::Job { project, .. } => {
            let id = named_id("build service", &project.to_string());
            (id, "svc", format!("Project Collection Build Service ({})", app.settings().organization))
        }
    };
    Identity {
        id,
        descriptor: format!("Microsoft.TeamFoundation.ServiceIdentity;{id}"),
        subject_descriptor: Some(format!("{kind}.{}", id.simple())),
        provider_display_name: name,
        is_active: true,
    }
}
