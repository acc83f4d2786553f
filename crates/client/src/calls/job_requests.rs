//! Job requests: renewing their lock, and ending them.

use dayfly_protocol::job_request::TaskAgentJobRequest;
use dayfly_protocol::{DateTime, PoolId, RequestId, TaskResult};
use http::Method;
use serde::Serialize;
use uuid::Uuid;

use crate::connection::Connection;
use crate::error::Result;
use crate::operation::Operation;
use crate::request::{Request, segments};

/// What is sent of a request; the lock token, once of use, is always zero (`JobDispatcher.cs`).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestUpdate {
    request_id: RequestId,
    #[serde(skip_serializing_if = "Option::is_none")]
    finish_time: Option<DateTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<TaskResult>,
}

impl Connection {
    fn job_request(&self, operation: Operation, method: Method, pool: PoolId, request: RequestId) -> Request {
        let path = segments![
            "_apis",
            "distributedtask",
            "pools",
            pool.to_string(),
            "jobrequests",
            request.to_string()
        ];
        Request::new(operation, format!("{request} of pool {pool}"), method, self.url(), path)
    }

    /// A job request as it stands.
    pub async fn get_job_request(&self, pool: PoolId, request: RequestId) -> Result<TaskAgentJobRequest> {
        self.call(self.job_request(Operation::GetJobRequest, Method::GET, pool, request)).await
    }

    /// Renews the lock of a job request. `locked_until` of the answer says for how long. One attempt of at
    /// most 30 s: the lease's loop knows how much time is left.
    pub async fn renew_job_request(&self, pool: PoolId, request: RequestId) -> Result<TaskAgentJobRequest> {
        let update = RequestUpdate { request_id: request, finish_time: None, result: None };
        self.patch_job_request(Operation::RenewJobRequest, pool, &update).await
    }

    /// Ends a job request with a result: for plans before version 8, and for workers that died
    /// (`JobDispatcher.cs`).
    pub async fn finish_job_request(
        &self,
        pool: PoolId,
        request: RequestId,
        result: TaskResult,
        finish_time: DateTime,
    ) -> Result<TaskAgentJobRequest> {
        let update =
            RequestUpdate { request_id: request, finish_time: Some(finish_time), result: Some(result) };
        self.patch_job_request(Operation::FinishJobRequest, pool, &update).await
    }

    async fn patch_job_request(
        &self,
        operation: Operation,
        pool: PoolId,
        update: &RequestUpdate,
    ) -> Result<TaskAgentJobRequest> {
        let request = self
            .job_request(operation, Method::PATCH, pool, update.request_id)
            .query("lockToken", Uuid::nil())
            .json(update)?;
        self.call(request).await
    }
}
