//! `resources:`, and containers written in place.

use std::collections::{BTreeMap, HashSet};

use super::{
    reader::{Fields, Reader, closest, to_json},
    triggers,
};
use crate::{
    expression,
    plan::{
        Container, ContainerResource, OtherResource, PipelineResource, RepositoryResource, Resources, Service,
    },
    yaml::{Kind, Node},
};

/// Options of a checkout that a repository resource may set.
const CHECKOUT_OPTIONS: &[&str] =
    &["clean", "fetchDepth", "fetchTags", "lfs", "submodules", "persistCredentials"];

/// Reads `resources:` in its present form, and the old one (a list of `repo: self`).
pub(super) fn resources(node: &Node, reader: &mut Reader<'_>) -> Resources {
    let mut resources = Resources::default();
    if node.is_blank() {
        return resources;
    }
    if let Kind::Sequence(items) = &node.kind {
        resources.repositories.extend(items.iter().filter_map(|item| legacy(item, reader)));
        return resources;
    }
    let mut fields = Fields::open(node, "resources", reader);
    if let Some(node) = fields.take("repositories") {
        resources.repositories = list(node, "repositories", reader, repository);
        unique(resources.repositories.iter().map(|one| &one.alias), node, "repository", reader);
    }
    if let Some(node) = fields.take("containers") {
        resources.containers = list(node, "containers", reader, container_resource);
        unique(resources.containers.iter().map(|one| &one.alias), node, "container", reader);
    }
    if let Some(node) = fields.take("pipelines") {
        resources.pipelines = list(node, "pipelines", reader, pipeline);
        unique(resources.pipelines.iter().map(|one| &one.alias), node, "pipeline", reader);
    }
    for kept in ["builds", "packages", "webhooks"] {
        if let Some(node) = fields.take(kept) {
            let entries = reader.items(node, kept).iter();
            resources.others.extend(
                entries.map(|entry| OtherResource { list: kept.to_owned(), settings: to_json(entry) }),
            );
        }
    }
    fields.finish(reader);
    resources
}

fn list<T>(
    node: &Node,
    what: &str,
    reader: &mut Reader<'_>,
    read: impl Fn(&Node, &mut Reader<'_>) -> Option<T>,
) -> Vec<T> {
    reader.items(node, what).iter().filter_map(|item| read(item, reader)).collect()
}

fn unique<'a>(aliases: impl Iterator<Item = &'a String>, node: &Node, what: &str, reader: &mut Reader<'_>) {
    let mut seen: HashSet<String> = HashSet::new();
    for alias in aliases {
        if !seen.insert(alias.to_lowercase()) {
            reader.collector.error(node.span, format!("two {what} resources are called `{alias}`"));
        }
    }
}

fn alias(fields: &mut Fields<'_>, key: &'static str, reader: &mut Reader<'_>) -> Option<String> {
    fields.demand_first(key, reader);
    match fields.take(key) {
        Some(node) => reader.filled(node, &format!("`{key}`")),
        None => {
            reader
                .collector
                .error(fields.span, format!("this resource needs `{key}`, the name it is used by"));
            None
        }
    }
}

fn repository(node: &Node, reader: &mut Reader<'_>) -> Option<RepositoryResource> {
    let mut fields = Fields::open(node, "a repository resource", reader);
    if fields.is_silent() {
        return None;
    }
    let alias = alias(&mut fields, "repository", reader);
    // Versions in Team Foundation Version Control have mappings, which nothing here uses.
    fields.take("mappings");
    let mut resource = RepositoryResource {
        alias: alias.clone().unwrap_or_default(),
        kind: reader.optional(fields.take("type"), "`type`"),
        name: reader.optional(fields.take("name"), "`name`"),
        reference: reader.optional(fields.take("ref"), "`ref`"),
        endpoint: reader.optional(fields.take("endpoint"), "`endpoint`"),
        checkout: BTreeMap::new(),
        trigger: fields.take("trigger").map(|node| triggers::trigger(node, reader)),
    };
    if let Some(node) = fields.take("checkoutOptions").filter(|node| !node.is_blank()) {
        let mut options = Fields::open(node, "checkoutOptions", reader);
        checkout_options(&mut options, &mut resource, reader);
        options.finish(reader);
    }
    checkout_options(&mut fields, &mut resource, reader);
    if let Some(kind) = &resource.kind {
        const KINDS: [&str; 6] =
            ["git", "github", "githubenterprise", "bitbucket", "tfsgit", "tfsversioncontrol"];
        if !KINDS.iter().any(|known| known.eq_ignore_ascii_case(kind)) {
            let diagnostic = reader.collector.error(fields.span, format!("unknown repository type `{kind}`"));
            if let Some(best) = closest(kind, KINDS.into_iter()) {
                diagnostic.help(format!("did you mean `{best}`?"));
            }
        }
    }
    fields.warn_of_rest(reader);
    alias.map(|_| resource)
}

/// The options of checkouts, beside the other keys of a repository or in a mapping of their own.
fn checkout_options(fields: &mut Fields<'_>, resource: &mut RepositoryResource, reader: &mut Reader<'_>) {
    for option in CHECKOUT_OPTIONS {
        if let Some(text) = reader.optional(fields.take(option), option) {
            resource.checkout.insert((*option).to_owned(), text);
        }
    }
}

fn legacy(node: &Node, reader: &mut Reader<'_>) -> Option<RepositoryResource> {
    let mut fields = Fields::open(node, "a resource", reader);
    if fields.is_silent() {
        return None;
    }
    let alias = alias(&mut fields, "repo", reader)?;
    let mut resource = RepositoryResource { alias, ..RepositoryResource::default() };
    checkout_options(&mut fields, &mut resource, reader);
    fields.finish(reader);
    Some(resource)
}

pub(super) fn container_resource(node: &Node, reader: &mut Reader<'_>) -> Option<ContainerResource> {
    let mut fields = Fields::open(node, "a container resource", reader);
    if fields.is_silent() {
        return None;
    }
    let alias = alias(&mut fields, "container", reader);
    let mut resource = container_fields(&mut fields, reader);
    for ignored in ["trigger", "azureSubscription", "resourceGroup", "registry", "repository"] {
        fields.take(ignored);
    }
    if resource.image.is_empty() && resource.kind.is_none() {
        reader.collector.error(fields.span, "a container resource needs `image`");
    }
    fields.warn_of_rest(reader);
    resource.alias = alias?;
    Some(resource)
}

/// The keys that container resources and containers in place have in common.
fn container_fields(fields: &mut Fields<'_>, reader: &mut Reader<'_>) -> ContainerResource {
    ContainerResource {
        alias: String::new(),
        image: reader.optional(fields.take("image"), "`image`").unwrap_or_default(),
        endpoint: reader.optional(fields.take("endpoint"), "`endpoint`"),
        kind: reader.optional(fields.take("type"), "`type`"),
        env: reader.pairs(fields.take("env"), "env").into_iter().collect(),
        options: reader.optional(fields.take("options"), "`options`"),
        ports: reader.texts(fields.take("ports"), "ports"),
        volumes: reader.texts(fields.take("volumes"), "volumes"),
        map_docker_socket: fields
            .take("mapDockerSocket")
            .map(|node| reader.boolean(Some(node), "`mapDockerSocket`", false)),
        mount_read_only: mounts(fields.take("mountReadOnly"), reader),
        local_image: fields.take("localImage").map(|node| reader.boolean(Some(node), "`localImage`", false)),
    }
}

fn mounts(node: Option<&Node>, reader: &mut Reader<'_>) -> BTreeMap<String, bool> {
    let Some(node) = node.filter(|node| !node.is_blank()) else { return BTreeMap::new() };
    let mut fields = Fields::open(node, "mountReadOnly", reader);
    let mut mounts = BTreeMap::new();
    for name in ["work", "externals", "tools", "tasks"] {
        if let Some(node) = fields.take(name) {
            mounts.insert(name.to_owned(), reader.boolean(Some(node), name, false));
        }
    }
    fields.finish(reader);
    mounts
}

fn pipeline(node: &Node, reader: &mut Reader<'_>) -> Option<PipelineResource> {
    let mut fields = Fields::open(node, "a pipeline resource", reader);
    if fields.is_silent() {
        return None;
    }
    let alias = alias(&mut fields, "pipeline", reader);
    let resource = PipelineResource {
        alias: alias.clone().unwrap_or_default(),
        project: reader.optional(fields.take("project"), "`project`"),
        source: reader.optional(fields.take("source"), "`source`"),
        version: reader.optional(fields.take("version"), "`version`"),
        branch: reader.optional(fields.take("branch"), "`branch`"),
        tags: reader.texts(fields.take("tags"), "`tags`"),
    };
    fields.take("trigger");
    fields.finish(reader);
    alias.map(|_| resource)
}

/// `container:` of a job, or the value of an entry of `services:`.
pub(super) fn container(node: &Node, reader: &mut Reader<'_>) -> Option<Container> {
    match &node.kind {
        Kind::Invalid => None,
        Kind::Scalar(text) if text.trim().is_empty() => None,
        Kind::Scalar(text) => {
            expression::check_runtime(node, reader);
            Some(Container::Text(text.trim().to_owned()))
        }
        _ => {
            let mut fields = Fields::open(node, "container", reader);
            if fields.is_silent() {
                return None;
            }
            // `alias:` points to a resource; the other keys describe a container without one.
            let alias = reader.optional(fields.take("alias"), "`alias`");
            let mut resource = container_fields(&mut fields, reader);
            if resource.image.is_empty() && alias.is_none() {
                reader.collector.error(fields.span, "a container needs `image` or `alias`");
            }
            fields.finish(reader);
            match alias {
                Some(alias) if resource.image.is_empty() => Some(Container::Text(alias)),
                alias => {
                    resource.alias = alias.unwrap_or_default();
                    Some(Container::Inline(Box::new(resource)))
                }
            }
        }
    }
}

/// `services:`.
pub(super) fn services(node: Option<&Node>, reader: &mut Reader<'_>) -> Vec<Service> {
    let Some(node) = node.filter(|node| !node.is_blank()) else { return Vec::new() };
    let mut fields = Fields::open(node, "services", reader);
    fields
        .take_rest()
        .into_iter()
        .filter_map(|entry| {
            Some(Service { name: entry.key.text.clone(), container: container(&entry.value, reader)? })
        })
        .collect()
}
