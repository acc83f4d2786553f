//! Sessions: while an agent has one it is online.

use dayfly_protocol::session::TaskAgentSession;
use dayfly_protocol::{PoolId, SessionId};
use http::Method;

use crate::connection::Connection;
use crate::error::Result;
use crate::operation::Operation;
use crate::request::{Request, segments};

impl Connection {
    /// Makes a session for an agent; the answer has its id and, still wrapped, the key of its messages. One
    /// attempt: what to do about a conflict and when to try again is the caller's loop to decide.
    pub async fn create_session(&self, pool: PoolId, session: &TaskAgentSession) -> Result<TaskAgentSession> {
        let path = segments!["_apis", "distributedtask", "pools", pool.to_string(), "sessions"];
        let object = format!("for the agent {:?} of pool {pool}", session.agent.name);
        let request =
            Request::new(Operation::CreateSession, object, Method::POST, self.url(), path).json(session)?;
        self.call(request).await
    }

    /// Ends a session: the agent goes offline.
    pub async fn delete_session(&self, pool: PoolId, session: SessionId) -> Result<()> {
        let path =
            segments!["_apis", "distributedtask", "pools", pool.to_string(), "sessions", session.to_string()];
        let object = format!("{session} of pool {pool}");
        self.call_without_answer(Request::new(
            Operation::DeleteSession,
            object,
            Method::DELETE,
            self.url(),
            path,
        ))
        .await
    }
}
