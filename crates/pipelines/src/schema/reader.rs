//! Reading nodes into typed values: each function reports what is wrong and then goes on with what makes
//! sense, so that one compilation finds all mistakes.

use std::collections::{BTreeMap, HashSet};

use crate::{
    diagnostics::{Collector, Span},
    tasks::TaskCatalog,
    yaml::{Entry, Kind, Node},
};

/// What every reader needs.
pub(crate) struct Reader<'a> {
    pub(crate) collector: &'a mut Collector,
    pub(crate) tasks: &'a dyn TaskCatalog,
    /// The variable groups whose values are known.
    pub(crate) known_groups: Option<&'a BTreeMap<String, BTreeMap<String, String>>>,
    /// Names of variable groups met so far.
    pub(crate) groups: Vec<String>,
    /// Aliases of the file's repository resources.
    pub(crate) repositories: Vec<String>,
    /// Those among them that say not which repository they are.
    pub(crate) nameless: Vec<String>,
    /// Aliases of the file's pipeline resources.
    pub(crate) pipelines: Vec<String>,
    /// Aliases of the file's container resources.
    pub(crate) containers: Vec<String>,
    /// A part is read without what is around it: names of resources, and of stages and jobs that it may
    /// depend on, are not known.
    pub(crate) is_part: bool,
    /// Tasks of which it was said that they may not exist.
    pub(crate) doubted: HashSet<(String, u32)>,
}

/// A mapping that is being read: keys are taken one by one, what is left over is unknown.
pub(crate) struct Fields<'n> {
    what: &'static str,
    pub(crate) span: Span,
    entries: &'n [Entry],
    taken: Vec<bool>,
    asked: Vec<&'static str>,
    /// The node itself was reported already.
    silent: bool,
}

impl<'n> Fields<'n> {
    /// Opens a mapping; anything else is reported and read like an empty one.
    pub(crate) fn open(node: &'n Node, what: &'static str, reader: &mut Reader<'_>) -> Self {
        let (entries, silent): (&[Entry], bool) = match &node.kind {
            Kind::Mapping(entries) => (entries, false),
            Kind::Invalid => (&[], true),
            _ => {
                reader.collector.error(node.span, format!("{what} must be a mapping, not {}", node.noun()));
                (&[], true)
            }
        };
        Self { what, span: node.span, entries, taken: vec![false; entries.len()], asked: Vec::new(), silent }
    }

    /// Whether nothing sensible was there (and that was reported).
    pub(crate) fn is_silent(&self) -> bool {
        self.silent
    }

    /// Takes the value of a key.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<&'n Node> {
        self.asked.push(key);
        let at = self.entries.iter().position(|entry| entry.key.text == key)?;
        self.taken[at] = true;
        Some(&self.entries[at].value)
    }

    /// Takes the value of a key together with the key's place.
    pub(crate) fn take_entry(&mut self, key: &'static str) -> Option<&'n Entry> {
        self.asked.push(key);
        let at = self.entries.iter().position(|entry| entry.key.text == key)?;
        self.taken[at] = true;
        Some(&self.entries[at])
    }

    /// Which of these keys is present, without taking it: the one in the first place, or else the first of
    /// the list.
    pub(crate) fn which(&mut self, keys: &[&'static str]) -> Option<&'static str> {
        self.asked.extend(keys);
        let leads = |key: &&str| self.entries.first().is_some_and(|entry| entry.key.text == **key);
        if let Some(key) = keys.iter().copied().find(leads) {
            return Some(key);
        }
        keys.iter().copied().find(|key| self.entries.iter().any(|entry| entry.key.text == *key))
    }

    /// Reports when `key` is there but not at the first place, as the service demands of the key that says
    /// what a mapping is.
    pub(crate) fn demand_first(&self, key: &str, reader: &mut Reader<'_>) {
        if let Some(first) = self.entries.first()
            && first.key.text != key
            && let Some(entry) = self.entries.iter().find(|entry| entry.key.text == key)
        {
            reader
                .collector
                .error(entry.key.span, format!("`{key}` must be the first key of {}", self.what))
                .help(format!("move it before `{}`", first.key.text));
        }
    }

    /// All entries that nobody took.
    pub(crate) fn take_rest(&mut self) -> Vec<&'n Entry> {
        let rest = self
            .entries
            .iter()
            .zip(&self.taken)
            .filter(|(_, taken)| !**taken)
            .map(|(entry, _)| entry)
            .collect();
        self.taken.fill(true);
        rest
    }

    /// Warns of the keys that nobody took, in a mapping that may have any.
    pub(crate) fn warn_of_rest(self, reader: &mut Reader<'_>) {
        for (entry, _) in self.entries.iter().zip(&self.taken).filter(|(_, taken)| !**taken) {
            let key = &entry.key.text;
            let best = reader.suggest(key, self.asked.iter().copied());
            let message = format!("`{key}` has no effect in {}", self.what);
            let diagnostic = reader.collector.warning(entry.key.span, message);
            if let Some(best) = best {
                diagnostic.help(format!("did you mean `{best}`?"));
            }
        }
    }

    /// Reports the keys that nobody took.
    pub(crate) fn finish(self, reader: &mut Reader<'_>) {
        for (entry, _) in self.entries.iter().zip(&self.taken).filter(|(_, taken)| !**taken) {
            let key = &entry.key.text;
            // Of several keys that say what a mapping is, one was taken.
            if let Some(first) = self.entries.first().filter(|_| self.asked.contains(&key.as_str())) {
                let text =
                    format!("`{key}` cannot be used together with `{}` in {}", first.key.text, self.what);
                reader.collector.error(entry.key.span, text);
                continue;
            }
            let best = reader.suggest(key, self.asked.iter().copied());
            let diagnostic =
                reader.collector.error(entry.key.span, format!("unknown key `{key}` in {}", self.what));
            if key.starts_with('-') {
                diagnostic.help("put a space after the `-`");
            } else if let Some(best) = best {
                diagnostic.help(format!("did you mean `{best}`?"));
            } else if !self.asked.is_empty() && self.asked.len() <= 8 {
                let mut known = self.asked.clone();
                known.dedup();
                diagnostic.help(format!("known keys: {}", listed(&known)));
            }
        }
    }
}

impl<'a> Reader<'a> {
    pub(crate) fn new(collector: &'a mut Collector, tasks: &'a dyn TaskCatalog) -> Self {
        Self {
            collector,
            tasks,
            known_groups: None,
            groups: Vec::new(),
            repositories: Vec::new(),
            nameless: Vec::new(),
            pipelines: Vec::new(),
            containers: Vec::new(),
            is_part: false,
            doubted: HashSet::new(),
        }
    }

    /// A reader of a stage, job or step that is not yet where it will be.
    pub(crate) fn of_a_part(collector: &'a mut Collector, tasks: &'a dyn TaskCatalog) -> Self {
        Self { is_part: true, ..Self::new(collector, tasks) }
    }

    /// The name that was most likely meant, as long as somebody reads it.
    pub(crate) fn suggest<'k>(&self, word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
        if self.collector.is_full() { None } else { closest(word, known) }
    }

    /// Whether a step may check this repository out: `self`, an alias, or `git://project/repo@ref` in place.
    pub(crate) fn has_repository(&self, name: &str) -> bool {
        let in_place = ["git://", "github://", "bitbucket://"].iter().any(|scheme| name.starts_with(scheme));
        in_place
            || self.is_part
            || name.eq_ignore_ascii_case("self")
            || self.repositories.iter().any(|alias| alias.eq_ignore_ascii_case(name))
    }

    /// Whether a container resource has this alias.
    pub(crate) fn has_container(&self, name: &str) -> bool {
        self.is_part || self.containers.iter().any(|alias| alias.eq_ignore_ascii_case(name))
    }

    /// A scalar's text. Reports lists and mappings.
    pub(crate) fn text(&mut self, node: &Node, what: &str) -> Option<String> {
        match &node.kind {
            Kind::Scalar(text) => Some(text.clone()),
            Kind::Invalid => None,
            _ => {
                self.collector.error(node.span, format!("{what} must be text, not {}", node.noun()));
                None
            }
        }
    }

    /// Text that may not be blank.
    pub(crate) fn filled(&mut self, node: &Node, what: &str) -> Option<String> {
        let text = self.text(node, what)?;
        if text.trim().is_empty() {
            self.collector.error(node.span, format!("{what} is empty"));
            return None;
        }
        Some(text)
    }

    /// Optional text: a blank value counts as missing.
    pub(crate) fn optional(&mut self, node: Option<&Node>, what: &str) -> Option<String> {
        self.text(node?, what).filter(|text| !text.is_empty())
    }

    /// A YAML boolean: `true`, `yes`, `y`, `on` or their opposites, in any case.
    pub(crate) fn boolean(&mut self, node: Option<&Node>, what: &str, default: bool) -> bool {
        let Some(node) = node.filter(|node| !node.is_blank()) else { return default };
        let Some(text) = self.text(node, what) else { return default };
        parse_boolean(&text).unwrap_or_else(|| {
            self.collector
                .error(node.span, format!("{what} must be `true` or `false`, not `{}`", short(&text)));
            default
        })
    }

    /// A whole number from 0 on.
    pub(crate) fn number(&mut self, node: Option<&Node>, what: &str, default: u32) -> u32 {
        let Some(node) = node.filter(|node| !node.is_blank()) else { return default };
        let Some(text) = self.text(node, what) else { return default };
        text.trim().parse().unwrap_or_else(|_| {
            self.collector.error(node.span, format!("{what} must be a whole number, not `{}`", short(&text)));
            default
        })
    }

    /// A list of texts; a single text is a list of one, blank texts are left out.
    pub(crate) fn texts(&mut self, node: Option<&Node>, what: &str) -> Vec<String> {
        self.spanned_texts(node, what).into_iter().map(|(text, _)| text).collect()
    }

    /// As [`texts`](Self::texts), with the places.
    pub(crate) fn spanned_texts(&mut self, node: Option<&Node>, what: &str) -> Vec<(String, Span)> {
        let Some(node) = node else { return Vec::new() };
        let nodes: &[Node] = match &node.kind {
            Kind::Sequence(items) => items,
            Kind::Scalar(_) => std::slice::from_ref(node),
            Kind::Invalid => return Vec::new(),
            Kind::Mapping(_) => {
                self.collector
                    .error(node.span, format!("{what} must be text or a list of texts, not a mapping"));
                return Vec::new();
            }
        };
        nodes
            .iter()
            .filter_map(|item| Some((self.text(item, &format!("an entry of {what}"))?, item.span)))
            .filter(|(text, _)| !text.is_empty())
            .collect()
    }

    /// A mapping of texts, in the order of the file.
    pub(crate) fn pairs(&mut self, node: Option<&Node>, what: &'static str) -> Vec<(String, String)> {
        let Some(node) = node.filter(|node| !node.is_blank()) else { return Vec::new() };
        let mut fields = Fields::open(node, what, self);
        fields
            .take_rest()
            .into_iter()
            .filter_map(|entry| {
                let value = self.text(&entry.value, &format!("`{}` in {what}", entry.key.text))?;
                Some((entry.key.text.clone(), value))
            })
            .collect()
    }

    /// The items of a list. Reports anything else; a blank value is an empty list.
    pub(crate) fn items<'n>(&mut self, node: &'n Node, what: &str) -> &'n [Node] {
        match &node.kind {
            Kind::Sequence(items) => items,
            Kind::Invalid => &[],
            _ if node.is_blank() => &[],
            _ => {
                self.collector
                    .error(node.span, format!("{what} must be a list, not {}", node.noun()))
                    .help("start each entry with `- `");
                &[]
            }
        }
    }
}

/// The words YAML 1.1 has for booleans, in any case, as the service takes them.
pub(crate) fn parse_boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "y" | "on" => Some(true),
        "false" | "no" | "n" | "off" => Some(false),
        _ => None,
    }
}

/// A node as JSON, scalars as text.
pub(crate) fn to_json(node: &Node) -> serde_json::Value {
    match &node.kind {
        Kind::Scalar(text) => serde_json::Value::String(text.clone()),
        Kind::Sequence(items) => items.iter().map(to_json).collect(),
        Kind::Mapping(entries) => entries
            .iter()
            .map(|entry| (entry.key.text.clone(), to_json(&entry.value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Kind::Invalid => serde_json::Value::Null,
    }
}

/// Cuts text for a message.
pub(crate) fn short(text: &str) -> String {
    const MOST: usize = 60;
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= MOST && line.len() == text.trim_end().len() {
        return line.to_owned();
    }
    let cut: String = line.chars().take(MOST).collect();
    format!("{cut}…")
}

/// "`a`, `b`, `c`"
pub(crate) fn listed<T: AsRef<str>>(names: &[T]) -> String {
    names.iter().map(|name| format!("`{}`", name.as_ref())).collect::<Vec<_>>().join(", ")
}

/// The name that was most likely meant.
pub(crate) fn closest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    // Long texts are no misspelt names, and the distance costs the product of the lengths.
    if word.chars().count() > 64 {
        return None;
    }
    let lower = word.to_lowercase();
    known
        .map(|candidate| (distance(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len().max(word.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Whether a word is most likely another one with a slip or two in it, where words of any kind are allowed.
pub(crate) fn is_slip(word: &str, meant: &str) -> bool {
    distance(&word.to_lowercase(), &meant.to_lowercase()) <= 2
}

/// Whether a word is another one but for the case of its letters and at most one slip.
pub(crate) fn is_near(word: &str, meant: &str) -> bool {
    // No longer word is that near, and the distance costs the product of the lengths.
    word.len() <= meant.len() + 4 && distance(&word.to_lowercase(), &meant.to_lowercase()) <= 1
}

/// Levenshtein distance, with a swap of neighbours counted as one.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let substitution = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = substitution.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_what_was_meant() {
        let known = ["dependsOn", "displayName", "condition", "pool"];
        for (word, expected) in [
            ("dependson", Some("dependsOn")),
            ("depends_on", Some("dependsOn")),
            ("dipslayName", Some("displayName")),
            ("conditon", Some("condition")),
            ("steps", None),
            ("polo", Some("pool")),
        ] {
            assert_eq!(closest(word, known.into_iter()), expected, "{word}");
        }
    }
}
