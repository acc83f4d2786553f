//! Projects, and their queues: a queue is a project's view of a pool.

use dayfly_protocol::pool::TaskAgentQueue;
use dayfly_protocol::{PoolId, ProjectId, QueueId};

use super::{Error, Result, State, named_id};

/// A project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Project {
    pub(crate) id: ProjectId,
    pub(crate) name: String,
}

/// The projects, in the order of the settings.
#[derive(Debug)]
pub(crate) struct Projects(Vec<Project>);

impl Projects {
    pub(crate) fn new(organization: &str, names: &[String]) -> Self {
        let mut projects: Vec<Project> = Vec::with_capacity(names.len());
        for name in names {
            if !projects.iter().any(|project| project.name.eq_ignore_ascii_case(name)) {
                let id = ProjectId(named_id("project", &format!("{organization}/{}", name.to_lowercase())));
                projects.push(Project { id, name: name.clone() });
            }
        }
        Self(projects)
    }

    pub(crate) fn all(&self) -> &[Project] {
        &self.0
    }

    /// A project by its id or its name in any case.
    pub(crate) fn find(&self, id_or_name: &str) -> Result<&Project> {
        self.0
            .iter()
            .find(|project| {
                project.name.eq_ignore_ascii_case(id_or_name)
                    || id_or_name.parse::<ProjectId>().is_ok_and(|id| id == project.id)
            })
            .ok_or_else(|| Error::ProjectNotFound(id_or_name.to_owned()))
    }
}

impl State {
    /// The queue of a pool in a project: there is one for each pair, so its number is made from both.
    pub(crate) fn queue_id(&self, project: ProjectId, pool: PoolId) -> QueueId {
        let projects = self.projects.all();
        let place = projects.iter().position(|other| other.id == project).unwrap_or_default();
        let number = (i64::from(pool.0) - 1) * projects.len().max(1) as i64 + place as i64 + 1;
        QueueId(i32::try_from(number).unwrap_or(i32::MAX))
    }

    /// The queues of a project, in the order of their pools.
    pub(crate) fn queues(&self, project: ProjectId) -> Vec<TaskAgentQueue> {
        self.pools
            .iter()
            .map(|pool| TaskAgentQueue {
                id: self.queue_id(project, pool.id),
                project_id: project,
                name: pool.name.clone(),
                pool: Some(pool.to_wire()),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn projects_are_found_by_name_in_any_case_and_by_id() {
        let names = ["One".to_owned(), "two".to_owned(), "ONE".to_owned()];
        let projects = Projects::new("org", &names);
        assert_eq!(projects.all().len(), 2);
        let one = projects.find("one").unwrap();
        assert_eq!(projects.find(&one.id.to_string().to_uppercase()).unwrap(), one);
        assert_eq!(projects.find("three"), Err(Error::ProjectNotFound("three".to_owned())));
    }
}
