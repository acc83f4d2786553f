//! What Microsoft's `config.sh` and `run.sh` take and `dayfly agent` knows under other names or not at all,
//! so that entry points built round them need not be rewritten: taken when it makes sense here, else refused
//! with the reason. The names are those of the official agent's `Constants.cs` (`CommandLine.Args` and
//! `Flags`), as people write them and in lower case.

use clap::{Arg, ArgAction, ArgMatches, Command, error::Result};
use secrecy::SecretString;

/// Taken without any effect here. Where an option has several spellings, they are separated by spaces.
const IGNORED: &[&str] =
    &["unattended", "acceptTeeEula accept-tee-eula acceptteeeula", "disableupdate", "gituseschannel"];

/// Taken with a value, without any effect here.
const IGNORED_VALUES: &[&str] = &["startuptype", "notificationpipename", "notificationsocketaddress"];

/// What is refused, and why.
const REFUSED: &[(&[&str], &str)] = &[
    (
        &[
            "deploymentGroup deploymentgroup",
            "deploymentGroupName deploymentgroupname",
            "deploymentPool deploymentpool",
            "deploymentPoolName deploymentpoolname",
            "addDeploymentGroupTags adddeploymentgrouptags",
            "deploymentGroupTags deploymentgrouptags",
            "machineGroup machinegroup",
        ],
        "deployment groups are not supported; give an agent pool with --pool",
    ),
    (
        &[
            "environment",
            "environmentName environmentname",
            "addVirtualMachineResourceTags addvirtualmachineresourcetags",
            "virtualMachineResourceTags virtualmachineresourcetags",
            "projectName projectname",
            "collectionName collectionname",
        ],
        "environments with virtual machines are not supported; give an agent pool with --pool",
    ),
    (
        &[
            "runAsService runasservice",
            "runAsAutoLogon runasautologon",
            "windowsLogonAccount windowslogonaccount",
            "windowsLogonPassword windowslogonpassword",
            "overwriteAutoLogon overwriteautologon",
            "noRestart norestart",
            "preventServiceStart preventservicestart",
        ],
        "the agent does not install itself as a service; let systemd or the container's runtime start \
         `dayfly agent`",
    ),
    (&["sslskipcertvalidation"], "certificates are always checked; trust the server's with --ca-file FILE"),
    (
        &["sslclientcert", "sslclientcertkey", "sslclientcertarchive", "sslclientcertpassword"],
        "client certificates are not supported",
    ),
    (
        &[
            "userName username",
            "password",
            "clientId clientid",
            "clientSecret clientsecret",
            "tenantId tenantid",
        ],
        "only personal access tokens are supported; give one with --token-file, AZ_PAT or AZP_TOKEN",
    ),
    (&["diagnostics"], "use --log debug to see what the agent does"),
    (
        &["disableloguploads", "reStreamLogsToFiles restreamlogstofiles"],
        "logs always go to the service, and nowhere else",
    ),
];

/// What was given of these.
#[derive(Debug, Default)]
pub(super) struct ConfigShArgs {
    /// The first that is refused, and why.
    pub(super) refused: Option<(&'static str, &'static str)>,
    pub(super) proxy_url: Option<String>,
    pub(super) proxy_user: Option<String>,
    pub(super) proxy_password: Option<SecretString>,
}

/// An option that is in no help text; its id is its first spelling.
fn hidden(spellings: &'static str) -> Arg {
    let name = first(spellings);
    Arg::new(name).long(name).aliases(spellings.split(' ').skip(1)).hide(true)
}

fn first(spellings: &'static str) -> &'static str {
    spellings.split(' ').next().unwrap_or(spellings)
}

impl clap::Args for ConfigShArgs {
    fn augment_args(command: Command) -> Command {
        let ignored = IGNORED.iter().map(|name| hidden(name).action(ArgAction::SetTrue));
        let refused = REFUSED.iter().flat_map(|(names, _)| *names);
        // With a value or without, whichever it has there: what matters is its name.
        let refused = refused.map(|name| hidden(name).num_args(0..=1));
        let values = IGNORED_VALUES.iter().chain(&["proxyurl", "proxyusername", "proxypassword"]);
        command.args(ignored).args(refused).args(values.map(|name| hidden(name)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for ConfigShArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self> {
        let mut args = Self::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<()> {
        let refused = REFUSED.iter().flat_map(|(names, reason)| names.iter().map(move |name| (name, reason)));
        self.refused = refused
            .into_iter()
            .find(|(name, _)| matches.contains_id(first(name)))
            .map(|(name, reason)| (first(name), *reason));
        let value = |name: &str| matches.get_one::<String>(name).cloned();
        self.proxy_url = value("proxyurl");
        self.proxy_user = value("proxyusername");
        self.proxy_password = value("proxypassword").map(SecretString::from);
        Ok(())
    }
}
