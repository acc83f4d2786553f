//! An agent whose registration, session and jobs are kept in a folder.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use dayfly_client::{AgentCredential, Connection, Credential, HttpSettings};
use dayfly_listener::{Agents, Description, ExistingAgent, OnDisk, RegisteredSet, Registrar, Registration};
use dayfly_protocol::crypto::AgentKey;

use super::Prepared;
use super::settings::{Mistake, NewAgent, Settings};

/// What is known of it before the folder was looked into.
pub(super) struct Kept<'a> {
    pub(super) folder: &'a Path,
    pub(super) new: Result<&'a NewAgent, &'a Mistake>,
    pub(super) settings: &'a Settings,
    pub(super) http: HttpSettings,
}

impl Kept<'_> {
    /// Takes the agent out of the folder, or registers it and puts it there. `describe` is told its name and
    /// its home.
    pub(super) async fn prepare(
        self,
        describe: impl FnOnce(&str, &Path) -> Description,
    ) -> anyhow::Result<Result<Prepared, Mistake>> {
        let state = OnDisk::open(self.folder)?;
        let work = self.settings.work.clone().unwrap_or_default();
        let home = work.parent().unwrap_or(&work).to_owned();
        let (set, key) = match (state.registered().await?, self.new) {
            (Some((set, key)), new) => {
                self.compare(&set, new.ok())?;
                (set, Arc::new(key))
            }
            (None, Ok(new)) => {
                let key = tokio::task::spawn_blocking(AgentKey::generate).await?;
                let key = Arc::new(key.context("could not make a key for the agent")?);
                let set = self.register(new, key.clone(), describe(&new.name, &home)).await?;
                state.register(set.clone(), &key).await?;
                (set, key)
            }
            (None, Err(mistake)) => return Ok(Err(mistake.clone())),
        };
        let Some(agent) = set.agents.into_iter().next() else {
            bail!("the state folder {} holds no agent; name another one", self.folder.display());
        };
        let name = agent.name.clone();
        let agent = existing(agent, key);
        let credential = Credential::Agent(agent.credential.clone());
        Ok(Ok(Prepared {
            agents: Agents::Registered {
                connection: Connection::new(&set.server_url, credential, self.http)?,
                pool: set.pool,
                pool_name: set.pool_name,
                agents: vec![agent],
            },
            url: set.server_url,
            name,
            work,
            home,
            token: self.new.ok().map(|new| new.token.clone()),
            state: Some(Arc::new(state)),
        }))
    }

    /// Who is told something else than the folder holds may have named the wrong folder.
    fn compare(&self, set: &RegisteredSet, new: Option<&NewAgent>) -> anyhow::Result<()> {
        let Some(new) = new else { return Ok(()) };
        let name = set.agents.first().map_or("", |agent| agent.name.as_str());
        let is_same = new.url == set.server_url
            && new.pool.eq_ignore_ascii_case(&set.pool_name)
            && new.name.eq_ignore_ascii_case(name);
        if !is_same {
            bail!(
                "the state folder {} holds agent `{name}` of pool `{}` at {}, not agent `{}` of pool `{}` \
                 at {}; name another --state-dir, or the agent that it holds",
                self.folder.display(),
                set.pool_name,
                set.server_url,
                new.name,
                new.pool,
                new.url
            );
        }
        Ok(())
    }

    async fn register(
        &self,
        new: &NewAgent,
        key: Arc<AgentKey>,
        description: Description,
    ) -> anyhow::Result<RegisteredSet> {
        let token = Credential::PersonalAccessToken(new.token.clone());
        let connection = Connection::new(&new.url, token, self.http.clone())?;
        let pool = connection.find_pool(&new.pool).await?;
        let service = connection
            .connection_data()
            .await
            .with_context(|| format!("could not connect to the service at {}", new.url))?;
        let (on_existing, url) = (new.on_existing(), new.url.clone());
        let registrar = Registrar::new(connection, pool.id, key, on_existing, description, &service, url);
        let agent = registrar.register(&new.name).await?;
        Ok(RegisteredSet {
            server_url: new.url.clone(),
            pool: pool.id,
            pool_name: pool.name,
            agents: vec![agent],
        })
    }
}

fn existing(agent: Registration, key: Arc<AgentKey>) -> ExistingAgent {
    ExistingAgent {
        id: agent.id,
        name: Arc::from(agent.name.as_str()),
        credential: AgentCredential {
            client_id: agent.client_id,
            authorization_url: agent.authorization_url.as_str().into(),
            token_url: Arc::new(agent.token_url),
            key,
        },
        session: agent.session,
    }
}
