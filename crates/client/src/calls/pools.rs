//! Agent pools.

use dayfly_protocol::ListOf;
use dayfly_protocol::pool::TaskAgentPool;
use http::Method;

use crate::connection::Connection;
use crate::error::{Error, ErrorKind, Result};
use crate::operation::Operation;
use crate::request::{Request, segments};

impl Connection {
    /// The agent pool of that name, in any case. [`ErrorKind::PoolNotFound`] when there is none, or none that
    /// the credential may see.
    pub async fn find_pool(&self, name: &str) -> Result<TaskAgentPool> {
        let path = segments!["_apis", "distributedtask", "pools"];
        let request = Request::new(Operation::FindPool, format!("{name:?}"), Method::GET, self.url(), path)
            .query("poolName", name)
            .query("poolType", "automation");
        let call = request.call.clone();
        let pools: ListOf<TaskAgentPool> = self.call(request).await?;
        let found = pools.into_iter().find(|pool| pool.name.eq_ignore_ascii_case(name));
        let error = Error::NoneFound { call };
        debug_assert_eq!(error.kind(), ErrorKind::PoolNotFound);
        found.ok_or(error)
    }
}
