//! The message queue of a session.

use dayfly_protocol::message::TaskAgentMessage;
use dayfly_protocol::{MessageId, PoolId, SessionId};
use http::Method;

use crate::connection::Connection;
use crate::error::{ErrorKind, Result};
use crate::operation::Operation;
use crate::request::{Request, segments};

impl Connection {
    /// Waits for the next message: a long poll, which the service answers with nothing (`None`) after about
    /// 50 s. `last_message` is the highest id seen by this process. One attempt; drop the future to cancel.
    /// The request is kept apart from ordinary calls, and its state on the heap.
    pub async fn next_message(
        &self,
        pool: PoolId,
        session: SessionId,
        last_message: Option<MessageId>,
    ) -> Result<Option<TaskAgentMessage>> {
        let path = segments!["_apis", "distributedtask", "pools", pool.to_string(), "messages"];
        let object = format!("of session {session} in pool {pool}");
        let mut request = Request::new(Operation::NextMessage, object, Method::GET, self.url(), path)
            .query("sessionId", session);
        if let Some(last) = last_message {
            request = request.query("lastMessageId", last);
        }
        Box::pin(self.poll(request)).await
    }

    /// Takes a message from the queue after it was handled; one that is not there any more counts as taken.
    pub async fn delete_message(&self, pool: PoolId, session: SessionId, message: MessageId) -> Result<()> {
        let path =
            segments!["_apis", "distributedtask", "pools", pool.to_string(), "messages", message.to_string()];
        let object = format!("{message} of session {session} in pool {pool}");
        let request = Request::new(Operation::DeleteMessage, object, Method::DELETE, self.url(), path)
            .query("sessionId", session);
        match self.call_without_answer(request).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            outcome => outcome,
        }
    }
}
