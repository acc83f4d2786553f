//! Secrets in what the service tells of a run.
//!
//! The worker masks all that it writes. What it sets on the service's side, such as the build number, it sets
//! as it is, as the official worker does; and a terminal may be left with colours taken out of a line, which
//! would put a secret together again. So everything is masked once more before it is shown, with the secrets
//! that are known here: those given to the run and the secret outputs of steps.

use std::borrow::Cow;

use dayfly_emulator::runs::RunEvent;
use dayfly_mask::Masker;
use dayfly_protocol::job::{EndpointAuthorization, ServiceEndpoint};
use secrecy::{ExposeSecret as _, SecretString};

use super::change::Change;

/// The secrets known here.
pub(crate) struct KnownSecrets(Masker);

impl KnownSecrets {
    /// Those given to the run, and those of its service connections.
    pub(crate) fn new(secrets: &[(String, SecretString)], endpoints: &[ServiceEndpoint]) -> Self {
        let masker = Masker::new();
        masker.add_values(secrets.iter().map(|(_, value)| value.expose_secret()));
        let logins = endpoints.iter().filter_map(|endpoint| endpoint.authorization.as_ref());
        masker.add_values(logins.flat_map(EndpointAuthorization::secrets));
        Self(masker)
    }

    /// Learns what an event tells of further ones.
    pub(crate) fn learn(&self, event: &RunEvent) {
        if let RunEvent::Record { record, .. } = event {
            let secret = record.variables.values().filter(|variable| variable.is_secret);
            self.0.add_values(secret.filter_map(|variable| variable.value.as_deref()));
        }
    }

    /// Masks what is shown.
    pub(crate) fn mask(&self, mut changes: Vec<Change>) -> Vec<Change> {
        for change in &mut changes {
            self.mask_one(change);
        }
        changes
    }

    fn mask_one(&self, change: &mut Change) {
        match change {
            Change::Warning(warning) => self.text(&mut warning.message),
            Change::RunStarted { run, .. } | Change::RunCompleted { run, .. } => self.text(run),
            Change::StageStarted { display_name, .. }
            | Change::StageCompleted { display_name, .. }
            | Change::JobQueued { display_name, .. }
            | Change::JobStarted { display_name, .. } => self.text(display_name),
            Change::StepProgress { operation, .. } => operation.iter_mut().for_each(|text| self.text(text)),
            Change::StepStarted { step, .. } => self.text(step),
            Change::Line { line, .. } => self.text(line),
            Change::JobCompleted { display_name: name, errors, warnings, .. }
            | Change::StepCompleted { step: name, errors, warnings, .. } => {
                self.text(name);
                errors.iter_mut().chain(warnings).for_each(|text| self.text(text));
            }
        }
    }

    fn text(&self, text: &mut String) {
        if let Cow::Owned(masked) = self.0.mask_coloured(text) {
            *text = masked;
        }
        if let Cow::Owned(masked) = self.0.mask(text) {
            *text = masked;
        }
    }
}
