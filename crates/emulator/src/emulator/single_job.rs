//! A job without a pipeline, for tests of agents and for measuring.

use std::collections::BTreeMap;
use std::time::Duration;

use dayfly_protocol::job::{
    AgentJobRequestMessage, EndpointAuthorization, JobResources, SYSTEM_CONNECTION, ServiceEndpoint,
};
use dayfly_protocol::plan::{TaskOrchestrationPlanReference, WORKER_REPORTS_FROM_VERSION};
use dayfly_protocol::timeline::TimelineReference;
use dayfly_protocol::{JobId, PlanId, PoolId, TimelineId};
use secrecy::ExposeSecret as _;
use uuid::Uuid;

use super::Emulator;
use crate::state::{self, jobs::NewJob, plans::NewPlan};

/// What a job of the service has to end when it is cancelled, unless YAML says otherwise.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5 * 60);

impl Emulator {
    /// Makes a plan of the first project with this one job, and returns the job as [`Emulator::queue_job`]
    /// takes it. Its message has no steps, and all that a worker needs to report: ids, plan, timeline and the
    /// system connection with the job's token.
    ///
    /// # Errors
    ///
    /// When no more plans can be kept.
    pub fn single_job(&self, pool: PoolId, name: &str) -> Result<NewJob, state::Error> {
        let project = self.app().state().projects.all()[0].id;
        let (plan, timeline, job) =
            (PlanId(Uuid::new_v4()), TimelineId(Uuid::new_v4()), JobId(Uuid::new_v4()));
        let reference = TaskOrchestrationPlanReference {
            scope_identifier: project,
            plan_type: "Build".to_owned(),
            version: WORKER_REPORTS_FROM_VERSION,
            plan_id: plan,
            ..TaskOrchestrationPlanReference::default()
        };
        let plan_type = reference.plan_type.clone();
        self.app().state().create_plan(NewPlan {
            id: plan,
            project,
            plan_type,
            timeline,
            ends_with_jobs: true,
        })?;
        let token = self.issue_job_token(plan, job)?.expose_secret().to_owned();
        let connection = ServiceEndpoint {
            name: Some(SYSTEM_CONNECTION.to_owned()),
            url: Some(self.url().clone()),
            authorization: Some(EndpointAuthorization {
                scheme: "OAuth".to_owned(),
                parameters: BTreeMap::from([("AccessToken".to_owned(), token)]),
            }),
            ..ServiceEndpoint::default()
        };
        let message = AgentJobRequestMessage {
            message_type: "PipelineAgentJobRequest".to_owned(),
            plan: reference,
            timeline: TimelineReference { id: timeline, ..TimelineReference::default() },
            job_id: job,
            job_display_name: name.to_owned(),
            job_name: "__default".to_owned(),
            resources: JobResources { endpoints: vec![connection], ..JobResources::default() },
            ..AgentJobRequestMessage::default()
        };
        Ok(NewJob {
            pool,
            demands: Vec::new(),
            message: Box::new(message),
            definition: None,
            owner: None,
            timeout: None,
            cancel_timeout: CANCEL_TIMEOUT,
        })
    }
}
