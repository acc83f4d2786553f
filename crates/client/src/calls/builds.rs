//! Builds: number and tags.

use dayfly_protocol::build::BuildUpdate;
use dayfly_protocol::{BuildId, ListOf, ProjectId};
use http::Method;

use crate::connection::Connection;
use crate::error::Result;
use crate::operation::Operation;
use crate::request::{Request, segments};

impl Connection {
    /// Gives a build another number (`build.updatebuildnumber`).
    pub async fn update_build_number(&self, project: ProjectId, build: BuildId, number: &str) -> Result<()> {
        let path = segments![project.to_string(), "_apis", "build", "builds", build.to_string()];
        let update =
            BuildUpdate { id: build, build_number: Some(number.to_owned()), ..BuildUpdate::default() };
        let request =
            Request::new(Operation::UpdateBuild, build.to_string(), Method::PATCH, self.url(), path)
                .json(&update)?;
        self.call_without_answer(request).await
    }

    /// Adds a tag to a build (`build.addbuildtag`); gives all its tags.
    pub async fn add_build_tag(&self, project: ProjectId, build: BuildId, tag: &str) -> Result<Vec<String>> {
        let path = segments![project.to_string(), "_apis", "build", "builds", build.to_string(), "tags", tag];
        let request = Request::new(Operation::AddBuildTag, build.to_string(), Method::PUT, self.url(), path);
        let tags: ListOf<String> = self.call(request).await?;
        Ok(tags.value)
    }
}
