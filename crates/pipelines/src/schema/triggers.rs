//! `trigger`, `pr`, `schedules`: parsed, checked and kept. A local run does not use them.

use super::reader::{Fields, Reader};
use crate::{
    plan::{Filter, PullRequestTrigger, Schedule, Trigger},
    yaml::{Kind, Node},
};

/// `trigger:`, also the one of a repository resource.
pub(super) fn trigger(node: &Node, reader: &mut Reader<'_>) -> Trigger {
    match &node.kind {
        Kind::Invalid => Trigger::Default,
        Kind::Scalar(text) if text.trim().eq_ignore_ascii_case("none") => Trigger::None,
        Kind::Scalar(_) | Kind::Sequence(_) => {
            let include = reader.texts(Some(node), "trigger");
            let branches = Filter { include, exclude: Vec::new() };
            Trigger::Filters { batch: false, branches, paths: Filter::default(), tags: Filter::default() }
        }
        Kind::Mapping(_) => {
            let mut fields = Fields::open(node, "trigger", reader);
            let trigger = Trigger::Filters {
                batch: reader.boolean(fields.take("batch"), "`batch`", false),
                branches: filter(fields.take("branches"), "branches", reader),
                paths: filter(fields.take("paths"), "paths", reader),
                tags: filter(fields.take("tags"), "tags", reader),
            };
            // Allowed on resources by the schema: a switch for the whole trigger.
            let enabled = reader.boolean(fields.take("enabled"), "`enabled`", true);
            fields.finish(reader);
            if enabled { trigger } else { Trigger::None }
        }
    }
}

/// `pr:`.
pub(super) fn pull_request(node: &Node, reader: &mut Reader<'_>) -> PullRequestTrigger {
    match &node.kind {
        Kind::Invalid => PullRequestTrigger::Default,
        Kind::Scalar(text) if text.trim().eq_ignore_ascii_case("none") => PullRequestTrigger::None,
        Kind::Scalar(_) | Kind::Sequence(_) => PullRequestTrigger::Filters {
            auto_cancel: true,
            drafts: true,
            branches: Filter { include: reader.texts(Some(node), "pr"), exclude: Vec::new() },
            paths: Filter::default(),
        },
        Kind::Mapping(_) => {
            let mut fields = Fields::open(node, "pr", reader);
            let trigger = PullRequestTrigger::Filters {
                auto_cancel: reader.boolean(fields.take("autoCancel"), "`autoCancel`", true),
                drafts: reader.boolean(fields.take("drafts"), "`drafts`", true),
                branches: filter(fields.take("branches"), "branches", reader),
                paths: filter(fields.take("paths"), "paths", reader),
            };
            fields.finish(reader);
            trigger
        }
    }
}

/// `schedules:`.
pub(super) fn schedules(node: &Node, reader: &mut Reader<'_>) -> Vec<Schedule> {
    reader
        .items(node, "schedules")
        .iter()
        .filter_map(|item| {
            let mut fields = Fields::open(item, "a schedule", reader);
            if fields.is_silent() {
                return None;
            }
            fields.demand_first("cron", reader);
            let cron = cron(fields.take("cron"), &fields, reader);
            let schedule = Schedule {
                cron: cron.unwrap_or_default(),
                display_name: reader.optional(fields.take("displayName"), "`displayName`"),
                branches: filter(fields.take("branches"), "branches", reader),
                batch: reader.boolean(fields.take("batch"), "`batch`", false),
                always: reader.boolean(fields.take("always"), "`always`", false),
            };
            fields.finish(reader);
            Some(schedule)
        })
        .collect()
}

fn cron(node: Option<&Node>, fields: &Fields<'_>, reader: &mut Reader<'_>) -> Option<String> {
    let Some(node) = node else {
        reader.collector.error(fields.span, "a schedule needs `cron`");
        return None;
    };
    let text = reader.filled(node, "`cron`")?;
    if text.split_whitespace().count() != 5 {
        reader
            .collector
            .error(
                node.span,
                format!("`{}` is not a cron schedule: it needs five fields", super::reader::short(&text)),
            )
            .help("minute, hour, day of the month, month, day of the week; for example `0 3 * * 1-5`");
    }
    Some(text)
}

fn filter(node: Option<&Node>, what: &'static str, reader: &mut Reader<'_>) -> Filter {
    let Some(node) = node.filter(|node| !node.is_blank()) else { return Filter::default() };
    if matches!(node.kind, Kind::Sequence(_) | Kind::Scalar(_)) {
        return Filter { include: reader.texts(Some(node), what), exclude: Vec::new() };
    }
    let mut fields = Fields::open(node, what, reader);
    let filter = Filter {
        include: reader.texts(fields.take("include"), "`include`"),
        exclude: reader.texts(fields.take("exclude"), "`exclude`"),
    };
    fields.finish(reader);
    filter
}
