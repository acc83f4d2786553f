//! How git logs in to a repository: a header made of its endpoint's token, handed over by the environment.
//!
//! The header never is an argument of a process and never is on disk, but for `persistCredentials`, where the
//! user asks for it and the post-job part takes it away again.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use dayfly_mask::Masker;
use dayfly_protocol::job::{EndpointAuthorization, EndpointReference, RepositoryResource, ServiceEndpoint};
use secrecy::{ExposeSecret, SecretString};

use super::StepError;

/// The `Authorization` header for a repository.
#[derive(Debug)]
pub(super) struct Header(SecretString);

impl Header {
    /// `AUTHORIZATION: …`, as git's configuration wants it.
    pub(super) fn value(&self) -> &str {
        self.0.expose_secret()
    }

    /// The header for a repository, or none if its endpoint has no credentials; secrets made on the way are
    /// masked.
    ///
    /// # Errors
    ///
    /// The repository names an endpoint which the job has not, or which logs in by a scheme this worker does
    /// not know.
    pub(super) fn of(
        repository: &RepositoryResource,
        endpoints: &[ServiceEndpoint],
        masker: &Masker,
    ) -> Result<Option<Header>, StepError> {
        let Some(reference) = &repository.endpoint else { return Ok(None) };
        let endpoint = endpoints.iter().find(|endpoint| is_meant(reference, endpoint)).ok_or_else(|| {
            StepError::Failed(format!(
                "The service connection of repository '{}' is not part of the job. Check that the pipeline \
                 may use it.",
                repository.alias
            ))
        })?;
        let Some(authorization) = &endpoint.authorization else { return Ok(None) };
        let is_azure_repos = repository
            .properties
            .repository_type
            .as_deref()
            .is_some_and(|kind| kind.eq_ignore_ascii_case("Git"));
        let Some((user, password)) = user_and_password(authorization)? else { return Ok(None) };
        let value = if is_azure_repos && authorization.scheme.eq_ignore_ascii_case("OAuth") {
            format!("AUTHORIZATION: bearer {password}")
        } else {
            let encoded = BASE64_STANDARD.encode(format!("{user}:{password}"));
            masker.add_value(&encoded);
            format!("AUTHORIZATION: basic {encoded}")
        };
        Ok(Some(Header(value.into())))
    }
}

fn is_meant(reference: &EndpointReference, endpoint: &ServiceEndpoint) -> bool {
    match reference.id.filter(|id| !id.is_nil()) {
        Some(id) => endpoint.id == Some(id),
        None => match (&reference.name, &endpoint.name) {
            (Some(wanted), Some(name)) => wanted.eq_ignore_ascii_case(name),
            _ => false,
        },
    }
}

/// User and password by the endpoint's scheme (`GitSourceProvider.cs`); none when it has no password at all.
fn user_and_password(authorization: &EndpointAuthorization) -> Result<Option<(String, String)>, StepError> {
    let parameter =
        |name: &str| authorization.parameter(name).filter(|value| !value.is_empty()).map(str::to_owned);
    let scheme = authorization.scheme.as_str();
    let pair = if scheme.eq_ignore_ascii_case("OAuth") || scheme.eq_ignore_ascii_case("PersonalAccessToken") {
        parameter("AccessToken").map(|token| (scheme.to_owned(), token))
    } else if scheme.eq_ignore_ascii_case("Token") {
        parameter("AccessToken")
            .map(|token| ("x-access-token".to_owned(), token))
            .or_else(|| parameter("ApiToken").map(|token| (scheme.to_owned(), token)))
    } else if scheme.eq_ignore_ascii_case("UsernamePassword") {
        parameter("Password").map(|password| (parameter("Username").unwrap_or_default(), password))
    } else if scheme.is_empty() || scheme.eq_ignore_ascii_case("None") {
        None
    } else {
        return Err(StepError::Failed(format!(
            "The repository's service connection uses the authentication scheme '{scheme}', which Dayfly's \
             native worker does not support; run this job on Microsoft's agent."
        )));
    };
    Ok(pair)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dayfly_protocol::job::RepositoryProperties;
    use std::collections::BTreeMap;

    fn header(kind: &str, scheme: &str, parameters: &[(&str, &str)]) -> Option<String> {
        let repository = RepositoryResource {
            alias: "self".to_owned(),
            endpoint: Some(EndpointReference { id: None, name: Some("systemvssconnection".to_owned()) }),
            properties: RepositoryProperties { repository_type: Some(kind.to_owned()), ..Default::default() },
        };
        let endpoint = ServiceEndpoint {
            name: Some("SystemVssConnection".to_owned()),
            authorization: Some(EndpointAuthorization {
                scheme: scheme.to_owned(),
                parameters: parameters
                    .iter()
                    .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                    .collect::<BTreeMap<_, _>>(),
            }),
            ..Default::default()
        };
        Header::of(&repository, &[endpoint], &Masker::new())
            .expect("a known scheme")
            .map(|header| header.value().to_owned())
    }

    #[test]
    fn headers_follow_the_scheme_and_the_kind_of_repository() {
        let basic = |pair: &str| Some(format!("AUTHORIZATION: basic {}", BASE64_STANDARD.encode(pair)));
        assert_eq!(
            header("Git", "OAuth", &[("AccessToken", "t0k")]).as_deref(),
            Some("AUTHORIZATION: bearer t0k")
        );
        assert_eq!(header("GitHub", "OAuth", &[("AccessToken", "t0k")]), basic("OAuth:t0k"));
        assert_eq!(header("GitHub", "Token", &[("accessToken", "t0k")]), basic("x-access-token:t0k"));
        assert_eq!(
            header("ExternalGit", "UsernamePassword", &[("username", "u"), ("password", "p")]),
            basic("u:p")
        );
        assert_eq!(header("ExternalGit", "UsernamePassword", &[("username", "u")]), None);
        assert_eq!(header("Git", "", &[]), None);
    }

    #[test]
    fn a_missing_endpoint_is_an_error() {
        let repository = RepositoryResource {
            alias: "lib".to_owned(),
            endpoint: Some(EndpointReference { id: Some(uuid::Uuid::new_v4()), name: None }),
            ..Default::default()
        };
        let error = Header::of(&repository, &[], &Masker::new()).expect_err("no endpoint");
        assert!(error.to_string().contains("repository 'lib'"));
    }
}
