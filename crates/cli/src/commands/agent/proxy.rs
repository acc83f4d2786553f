//! Which proxy the agent takes: one for all addresses, given as Microsoft's agent takes it, or those of the
//! well-known variables.

use std::collections::BTreeMap;

use dayfly_client::ProxySettings;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::{
    config_sh::ConfigShArgs,
    settings::{Mistake, first, mistake},
};

/// The variables that steps do not see, since workers get what they need of them.
pub(super) const PASSWORD_VARIABLES: [&str; 2] =
    ["VSTS_AGENT_INPUT_PROXYPASSWORD", "VSTS_HTTP_PROXY_PASSWORD"];

/// The proxy that was given for all addresses, with its login: by flags or by the variables of the official
/// agent (`VstsAgentWebProxy.cs`).
pub(super) fn given(
    args: &ConfigShArgs,
    environment: &BTreeMap<String, String>,
) -> Result<Option<SecretString>, Mistake> {
    let variable = |names: &[&str]| first(environment, names).map(str::to_owned);
    let Some(text) =
        args.proxy_url.clone().or_else(|| variable(&["VSTS_AGENT_INPUT_PROXYURL", "VSTS_HTTP_PROXY"]))
    else {
        return Ok(None);
    };
    let not_a_proxy =
        || mistake("the proxy's address is not a URL; expected for example http://proxy.example:3128");
    let mut url = match Url::parse(&text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => url,
        // The address may hold a password, so it is not repeated.
        _ => return not_a_proxy(),
    };
    let user = args
        .proxy_user
        .clone()
        .or_else(|| variable(&["VSTS_AGENT_INPUT_PROXYUSERNAME", "VSTS_HTTP_PROXY_USERNAME"]));
    let password =
        args.proxy_password.clone().or_else(|| variable(&PASSWORD_VARIABLES).map(SecretString::from));
    if let Some(user) = user
        && (url.set_username(&user).is_err()
            || url.set_password(password.as_ref().map(|password| password.expose_secret())).is_err())
    {
        return not_a_proxy();
    }
    Ok(Some(SecretString::from(String::from(url))))
}

/// The proxies of the agent's own calls.
pub(super) fn settings(
    given: Option<&SecretString>,
    environment: &BTreeMap<String, String>,
) -> ProxySettings {
    let choose = |names: &[&str]| match given {
        Some(given) => Some(given.expose_secret().to_owned()),
        None => first(environment, names).map(str::to_owned),
    };
    ProxySettings {
        http: choose(&["http_proxy", "HTTP_PROXY"]),
        https: choose(&["https_proxy", "HTTPS_PROXY"]),
        no_proxy: first(environment, &["no_proxy", "NO_PROXY"]).map(str::to_owned),
    }
}
