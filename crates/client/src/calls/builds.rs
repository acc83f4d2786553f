//! Builds: which there are, number and tags.

use dayfly_protocol::build::{Build, BuildUpdate, Pipeline, Project};
use dayfly_protocol::{BuildId, ListOf, ProjectId};
use http::Method;

use crate::connection::Connection;
use crate::error::Result;
use crate::operation::Operation;
use crate::request::{Request, segments};

/// Which completed builds of a definition are looked for.
#[derive(Clone, Debug)]
pub struct BuildQuery<'a> {
    /// The definition.
    pub definition: i32,
    /// Results, as the API writes them, such as `succeeded`.
    pub results: &'a [&'a str],
    /// Tags, all of which they have.
    pub tags: &'a [&'a str],
    /// The branch in full; any if absent.
    pub branch: Option<&'a str>,
}

impl Connection {
    /// A project by its name or id.
    pub async fn project(&self, project: &str) -> Result<Project> {
        let path = segments!["_apis", "projects", project];
        let object = format!("{project:?}");
        self.call(Request::new(Operation::GetProject, object, Method::GET, self.url(), path)).await
    }

    /// The definitions of this name in a project; a star in the name stands for anything.
    pub async fn definitions(&self, project: ProjectId, name: &str) -> Result<Vec<Pipeline>> {
        let path = segments![project.to_string(), "_apis", "build", "definitions"];
        let object = format!("{name:?}");
        let request = Request::new(Operation::ListDefinitions, object, Method::GET, self.url(), path);
        let found: ListOf<Pipeline> = self.call(request.query("name", name)).await?;
        Ok(found.value)
    }

    /// The build that was completed last of those which are looked for.
    pub async fn newest_build(&self, project: ProjectId, wanted: &BuildQuery<'_>) -> Result<Option<Build>> {
        let path = segments![project.to_string(), "_apis", "build", "builds"];
        let object = format!("of the definition {}", wanted.definition);
        let mut request = Request::new(Operation::ListBuilds, object, Method::GET, self.url(), path)
            .query("definitions", wanted.definition)
            .query("resultFilter", wanted.results.join(","))
            .query("queryOrder", "finishTimeDescending")
            .query("$top", 1);
        if !wanted.tags.is_empty() {
            request = request.query("tagFilters", wanted.tags.join(","));
        }
        if let Some(branch) = wanted.branch {
            request = request.query("branchName", branch);
        }
        let found: ListOf<Build> = self.call(request).await?;
        Ok(found.value.into_iter().next())
    }

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
