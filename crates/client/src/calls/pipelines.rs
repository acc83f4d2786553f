//! Pipelines and their runs, for those who queue and follow them.

use dayfly_protocol::build::{Build, Pipeline, RunPipelineParameters};
use dayfly_protocol::timeline::Timeline;
use dayfly_protocol::{BuildId, ListOf, LogId};
use http::Method;

use crate::connection::Connection;
use crate::error::Result;
use crate::operation::Operation;
use crate::request::{Request, segments};

impl Connection {
    /// The pipelines of a project.
    pub async fn pipelines(&self, project: &str) -> Result<Vec<Pipeline>> {
        let path = segments![project, "_apis", "pipelines"];
        let object = format!("of the project {project:?}");
        let request = Request::new(Operation::ListPipelines, object, Method::GET, self.url(), path);
        let pipelines: ListOf<Pipeline> = self.call(request).await?;
        Ok(pipelines.value)
    }

    /// Queues a run of a pipeline, which is a build by its newer name.
    pub async fn start_run(
        &self,
        project: &str,
        pipeline: &Pipeline,
        parameters: &RunPipelineParameters,
    ) -> Result<BuildId> {
        let path = segments![project, "_apis", "pipelines", pipeline.id.to_string(), "runs"];
        let object = format!("{:?}", pipeline.name);
        let request = Request::new(Operation::StartRun, object, Method::POST, self.url(), path);
        let run: Build = self.call(request.json(parameters)?).await?;
        Ok(run.id)
    }

    /// A build as it is now.
    pub async fn build(&self, project: &str, build: BuildId) -> Result<Build> {
        let path = segments![project, "_apis", "build", "builds", build.to_string()];
        self.call(Request::new(Operation::GetBuild, build.to_string(), Method::GET, self.url(), path)).await
    }

    /// The records of a build: stages, jobs and steps.
    pub async fn build_timeline(&self, project: &str, build: BuildId) -> Result<Timeline> {
        let path = segments![project, "_apis", "build", "builds", build.to_string(), "timeline"];
        let object = format!("of the build {build}");
        self.call(Request::new(Operation::GetTimeline, object, Method::GET, self.url(), path)).await
    }

    /// Lines of a log of a build, from number `first` to `last`, both included; the first one has number 1.
    pub async fn build_log(
        &self,
        project: &str,
        build: BuildId,
        log: LogId,
        first: u64,
        last: u64,
    ) -> Result<Vec<String>> {
        let path = segments![project, "_apis", "build", "builds", build.to_string(), "logs", log.to_string()];
        let object = format!("{log} of the build {build}");
        let request = Request::new(Operation::ReadLog, object, Method::GET, self.url(), path)
            .query("startLine", first)
            .query("endLine", last);
        let lines: ListOf<String> = self.call(request).await?;
        Ok(lines.value)
    }
}
