//! Which part of a pipeline is being walked.

/// Which part of a pipeline is being walked: it decides where variables become visible and where templates
/// may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Root,
    Stages,
    Jobs,
    Steps,
    Variables,
    /// The strategy of a job: the hooks of a deployment hold steps.
    Strategy,
    Extends,
    /// The arguments of a template: whatever is in them is for the template to place.
    Arguments,
    Other,
}

impl Level {
    /// Whether a mapping at this level has variables of its own.
    pub(super) fn is_scope(self) -> bool {
        matches!(self, Self::Root | Self::Stages | Self::Jobs)
    }

    /// The key under which a template for this list has its items.
    pub(super) fn list(self) -> Option<&'static str> {
        match self {
            Self::Stages => Some("stages"),
            Self::Jobs => Some("jobs"),
            Self::Steps => Some("steps"),
            Self::Variables => Some("variables"),
            Self::Root | Self::Strategy | Self::Extends | Self::Arguments | Self::Other => None,
        }
    }

    /// One entry of the list, for messages.
    pub(super) fn one(self) -> &'static str {
        match self {
            Self::Stages => "stage",
            Self::Jobs => "job",
            Self::Variables => "variable",
            _ => "step",
        }
    }

    /// Whether the values there are stages, jobs, steps or variables, in which templates may be placed.
    pub(super) fn is_placing(self) -> bool {
        !matches!(self, Self::Extends | Self::Arguments | Self::Other)
    }

    /// The level of the value of a key.
    pub(super) fn below(self, key: &str) -> Self {
        match (self, key) {
            (Self::Arguments, _) | (Self::Extends, "parameters") => Self::Arguments,
            (Self::Stages | Self::Jobs | Self::Steps | Self::Variables, "parameters") => Self::Arguments,
            (Self::Root, "stages") => Self::Stages,
            (Self::Root, "extends") => Self::Extends,
            (Self::Root | Self::Stages, "jobs") | (Self::Root, "phases") => Self::Jobs,
            (Self::Root | Self::Jobs | Self::Strategy, "steps") => Self::Steps,
            (Self::Root | Self::Stages | Self::Jobs, "variables") => Self::Variables,
            (Self::Jobs, "strategy") | (Self::Strategy, _) => Self::Strategy,
            _ => Self::Other,
        }
    }
}
