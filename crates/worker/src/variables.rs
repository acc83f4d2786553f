//! The job's variables: case-insensitive names, secrets, read-only names, and recursive expansion.
//!
//! Two maps are kept, as in Microsoft's `Variables.cs`: values as they were set, and values with every
//! `$(name)` replaced. Expansion is repeated before every step, since a step may have set what another
//! variable refers to.

use dayfly_mask::Masker;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// How deeply variables may refer to each other (`Variables.cs`).
const MAX_DEPTH: usize = 50;
/// Size beyond which an expanded value is left as it was set.
const MAX_EXPANDED_BYTES: usize = 4 * 1024 * 1024;
/// How many references one variable may reach. Fifty levels of `$(a)$(a)` would otherwise take for ever.
const MAX_REFERENCES: usize = 10_000;

/// One variable. Its value may be secret, so it has no derived `Debug`.
#[derive(Clone)]
pub(crate) struct Variable {
    /// The name with the case it was first set with.
    pub(crate) name: String,
    /// The value.
    pub(crate) value: String,
    /// Whether the value must never be shown, nor put into a step's environment unasked.
    pub(crate) secret: bool,
    /// Whether steps are warned (or refused) when they set it.
    pub(crate) read_only: bool,
    /// Whether the environment name keeps the variable's case.
    pub(crate) preserve_case: bool,
}

impl fmt::Debug for Variable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = if self.secret { "***" } else { &self.value };
        formatter
            .debug_struct("Variable")
            .field("name", &self.name)
            .field("value", &value)
            .finish_non_exhaustive()
    }
}

/// Flags of a variable being set.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flags {
    pub(crate) secret: bool,
    pub(crate) read_only: bool,
    pub(crate) preserve_case: bool,
}

/// The variables of a job, or the task variables of one step.
#[derive(Debug)]
pub(crate) struct Variables {
    set: BTreeMap<String, Variable>,
    expanded: BTreeMap<String, Variable>,
    masker: Masker,
}

impl Variables {
    /// No variables; secrets set later are registered with `masker`.
    pub(crate) fn new(masker: Masker) -> Variables {
        Variables { set: BTreeMap::new(), expanded: BTreeMap::new(), masker }
    }

    /// The expanded value.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.expanded.get(&key(name)).map(|variable| variable.value.as_str())
    }

    /// The value as a .NET boolean: `true` or `false` in any case, surrounding white space ignored; anything
    /// else is none.
    pub(crate) fn get_boolean(&self, name: &str) -> Option<bool> {
        parse_boolean(self.get(name)?)
    }

    /// The value as a number.
    pub(crate) fn get_number(&self, name: &str) -> Option<i64> {
        self.get(name)?.trim().parse().ok()
    }

    /// Whether a switch is on, by the rule of the agent's knobs: `1`, `true` or `$true`
    /// (`StringUtil.ConvertToBoolean`).
    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.get(name).is_some_and(convert_to_boolean)
    }

    /// Sets a variable. Overwriting a secret keeps it secret and overwriting a read-only name keeps it
    /// read-only.
    pub(crate) fn set(&mut self, name: &str, value: &str, flags: Flags) {
        let key = key(name);
        let present = self.expanded.get(&key);
        let secret = flags.secret || present.is_some_and(|variable| variable.secret);
        let read_only = flags.read_only || present.is_some_and(|variable| variable.read_only);
        if secret && !value.is_empty() {
            self.masker.add_value(value);
        }
        let variable = Variable {
            name: name.to_owned(),
            value: value.to_owned(),
            secret,
            read_only,
            preserve_case: flags.preserve_case,
        };
        self.expanded.insert(key.clone(), variable.clone());
        self.set.insert(key, variable);
    }

    /// Removes a variable.
    pub(crate) fn unset(&mut self, name: &str) {
        let key = key(name);
        self.expanded.remove(&key);
        self.set.remove(&key);
    }

    /// Whether steps may not set this name: set as read-only, or one of the names which belong to the agent.
    pub(crate) fn is_read_only(&self, name: &str) -> bool {
        let key = key(name);
        self.expanded
            .get(&key)
            .is_some_and(|variable| variable.read_only || AGENT_OWNED.contains(&key.as_str()))
    }

    /// The public variable that steps may not set, is not called `name` and has the same name in the
    /// environment.
    pub(crate) fn read_only_namesake(&self, name: &str) -> Option<&str> {
        let (own, in_environment) = (key(name), environment_name(name, false));
        self.expanded
            .iter()
            .filter(|(key, variable)| **key != own && !variable.secret && self.is_read_only(key))
            .map(|(_, variable)| variable.name.as_str())
            .find(|other| environment_name(other, false) == in_environment)
    }

    /// Every variable with its expanded value, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Variable> {
        self.expanded.values()
    }

    /// Replaces `$(name)` in a text by the variable's expanded value, once; unknown names stay as they are.
    pub(crate) fn expand(&self, text: &str) -> String {
        expand_macros(text, |name| self.get(name).map(Cow::Borrowed)).into_owned()
    }

    /// Expands all variables anew and answers the warnings for those which cannot be.
    pub(crate) fn recalculate(&mut self) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut expanded = self.set.clone();
        for (key, variable) in &self.set {
            if !variable.value.contains("$(") {
                continue;
            }
            let mut secret = variable.secret;
            let mut stack = vec![key.as_str()];
            let mut references = 0;
            match self.expand_nested(&variable.value, &mut stack, &mut secret, &mut references) {
                Ok(value) if value == variable.value => {}
                Ok(value) => {
                    if secret && !value.is_empty() {
                        self.masker.add_value(&value);
                    }
                    if let Some(entry) = expanded.get_mut(key) {
                        entry.value = value;
                        entry.secret = secret;
                    }
                }
                Err(Problem::Depth) => warnings.push(format!(
                    "Unable to expand variable '{}'. The max expansion depth ({MAX_DEPTH}) was exceeded.",
                    variable.name
                )),
                Err(Problem::Cycle) => warnings.push(format!(
                    "Unable to expand variable '{}'. A cyclical reference was detected.",
                    variable.name
                )),
                Err(Problem::Size) => warnings.push(format!(
                    "Unable to expand variable '{}'. It would be larger than {MAX_EXPANDED_BYTES} bytes or \
                        reach more than {MAX_REFERENCES} other variables.",
                    variable.name
                )),
            }
        }
        self.expanded = expanded;
        warnings
    }

    fn expand_nested<'a>(
        &'a self,
        value: &'a str,
        stack: &mut Vec<&'a str>,
        secret: &mut bool,
        references: &mut usize,
    ) -> Result<String, Problem> {
        let mut output = String::with_capacity(value.len());
        let mut rest = value;
        while let Some((before, name, after)) = next_macro(rest) {
            output.push_str(before);
            let nested = if name.is_empty() { None } else { self.set.get_key_value(&key(name)) };
            if let Some((nested_key, nested)) = nested {
                if stack.len() == MAX_DEPTH {
                    return Err(Problem::Depth);
                }
                if stack.contains(&nested_key.as_str()) {
                    return Err(Problem::Cycle);
                }
                *references += 1;
                if *references > MAX_REFERENCES {
                    return Err(Problem::Size);
                }
                *secret = *secret || nested.secret;
                stack.push(nested_key);
                output.push_str(&self.expand_nested(&nested.value, stack, secret, references)?);
                stack.pop();
                rest = after;
            } else {
                // The search goes on one character after the prefix's start, so that `$($(inner))` finds the
                // inner one.
                output.push('$');
                rest = &rest[before.len() + 1..];
            }
            if output.len() > MAX_EXPANDED_BYTES {
                return Err(Problem::Size);
            }
        }
        output.push_str(rest);
        Ok(output)
    }
}

enum Problem {
    Depth,
    Cycle,
    Size,
}

/// Names compare without regard to case.
fn key(name: &str) -> String {
    name.to_lowercase()
}

/// Splits at the first `$(`...`)`: what is before it, the name, what follows.
fn next_macro(text: &str) -> Option<(&str, &str, &str)> {
    let start = text.find("$(")?;
    let length = text[start + 2..].find(')')?;
    Some((&text[..start], &text[start + 2..start + 2 + length], &text[start + 3 + length..]))
}

/// Replaces `$(name)` by what `lookup` answers; not recursive, unknown names stay (`VarUtil.ExpandValues`).
pub(crate) fn expand_macros<'t, 'v>(
    text: &'t str,
    mut lookup: impl FnMut(&str) -> Option<Cow<'v, str>>,
) -> Cow<'t, str> {
    if !text.contains("$(") {
        return Cow::Borrowed(text);
    }
    let mut output = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, name, after)) = next_macro(rest) {
        output.push_str(before);
        match if name.is_empty() { None } else { lookup(name) } {
            Some(value) => {
                output.push_str(&value);
                rest = after;
            }
            None => {
                output.push('$');
                rest = &rest[before.len() + 1..];
            }
        }
    }
    output.push_str(rest);
    Cow::Owned(output)
}

/// The environment name of a variable: `.` and space become `_`, upper case unless the case is kept
/// (`VarUtil.ConvertToEnvVariableFormat`).
pub(crate) fn environment_name(name: &str, preserve_case: bool) -> String {
    name.chars()
        .map(|character| match character {
            '.' | ' ' => '_',
            other if preserve_case => other,
            other => {
                // .NET's invariant upper-casing maps one character to one character.
                let mut upper = other.to_uppercase();
                match (upper.next(), upper.next()) {
                    (Some(single), None) => single,
                    _ => other,
                }
            }
        })
        .collect()
}

/// .NET's `Boolean.TryParse`.
pub(crate) fn parse_boolean(text: &str) -> Option<bool> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// The agent's lenient boolean (`StringUtil.ConvertToBoolean`): `1`, `true`, `$true`.
pub(crate) fn convert_to_boolean(text: &str) -> bool {
    matches!(text.trim().to_ascii_lowercase().as_str(), "1" | "true" | "$true")
}

/// Lower-case names which belong to the agent (`Constants.cs`, `ReadOnlyVariables`).
const AGENT_OWNED: &[&str] = &[
    "agent.acceptteeeula",
    "agent.builddirectory",
    "agent.cainfo",
    "agent.clean.builddirectory",
    "agent.clientcert",
    "agent.clientcertarchive",
    "agent.clientcertkey",
    "agent.clientcertpassword",
    "agent.cloudid",
    "agent.containerid",
    "agent.containermapping",
    "agent.containernetwork",
    "agent.diagnostic",
    "agent.gituseschannel",
    "agent.homedirectory",
    "agent.id",
    "agent.isselfhosted",
    "agent.jobname",
    "agent.jobstatus",
    "agent.machinename",
    "agent.name",
    "agent.os",
    "agent.osarchitecture",
    "agent.osversion",
    "agent.proxybypasslist",
    "agent.proxypassword",
    "agent.proxyurl",
    "agent.proxyusername",
    "agent.readonlyvariables",
    "agent.releasedirectory",
    "agent.retaindefaultencoding",
    "agent.rootdirectory",
    "agent.runmode",
    "agent.serveromdirectory",
    "agent.services",
    "agent.skipcertvalidation",
    "agent.source.git.lfs",
    "agent.source.git.shallowfetchdepth",
    "agent.source.skip",
    "agent.tempdirectory",
    "agent.toolsdirectory",
    "agent.usebasicauthforproxy",
    "agent.version",
    "agent.workfolder",
    "agent.workingdirectory",
    "build.artifactstagingdirectory",
    "build.binariesdirectory",
    "build.buildnumber",
    "build.clean",
    "build.definitionname",
    "build.gated.runci",
    "build.gated.shelvesetname",
    "build.repository.clean",
    "build.repository.git.submodulecheckout",
    "build.repository.id",
    "build.repository.localpath",
    "build.repository.name",
    "build.repository.provider",
    "build.repository.tfvc.workspace",
    "build.repository.uri",
    "build.sourcebranch",
    "build.sourcesdirectory",
    "build.sourcetfvcshelveset",
    "build.sourceversion",
    "build.sourceversionauthor",
    "build.sourceversionmessage",
    "build.stagingdirectory",
    "build.syncsources",
    "build.useserverworkspaces",
    "common.testresultsdirectory",
    "fix_possible_git_out_of_memory_problem",
    "pipeline.repository.name",
    "pipeline.workspace",
    "release.artifact.download.buffersize",
    "release.artifact.download.parallellimit",
    "system.accesstoken",
    "system.artifactsdirectory",
    "system.collectionid",
    "system.culture",
    "system.debug",
    "system.defaultworkingdirectory",
    "system.definitionid",
    "system.definitionname",
    "system.enableaccesstoken",
    "system.hosttype",
    "system.isazurevm",
    "system.isdockercontainer",
    "system.jobattempt",
    "system.jobdisplayname",
    "system.jobid",
    "system.jobname",
    "system.phaseattempt",
    "system.phasedisplayname",
    "system.phasename",
    "system.planid",
    "system.prefergitfrompath",
    "system.pullrequest.targetbranch",
    "system.selfmanagegitcreds",
    "system.servertype",
    "system.sourceversionmessage",
    "system.stageattempt",
    "system.stagedisplayname",
    "system.stagename",
    "system.teamfoundationserveruri",
    "system.teamproject",
    "system.teamprojectid",
    "system.workfolder",
    "task.displayname",
    "task.publishtelemetry",
    "task.skiptranslatorforcheckout",
    "use_git_long_paths",
    "use_git_single_thread",
];

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: Flags = Flags { secret: true, read_only: false, preserve_case: false };

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        let mut variables = Variables::new(Masker::new());
        for (name, value) in pairs {
            variables.set(name, value, Flags::default());
        }
        variables
    }

    fn check(pairs: &[(&str, &str)], name: &str, expected: &str) {
        let mut variables = variables(pairs);
        variables.recalculate();
        assert_eq!(variables.get(name), Some(expected), "{pairs:?}");
    }

    #[test]
    fn variables_expand_recursively_and_without_regard_to_case() {
        check(&[("a", "1$(B)3"), ("b", "2$(C)"), ("c", "x")], "A", "12x3");
        check(&[("a", "$(missing)")], "a", "$(missing)");
        check(&[("a", "$($(b))"), ("b", "c"), ("c", "value")], "a", "$(c)");
        check(&[("a", "$(b"), ("b", "x")], "a", "$(b");
        check(&[("a", "$()$(b)"), ("b", "x")], "a", "$()x");
        check(&[("a", "é$(b)é"), ("b", "ü")], "a", "éüé");
    }

    #[test]
    fn a_cycle_leaves_the_values_and_warns_for_each() {
        let mut variables = variables(&[("a", "$(b)"), ("b", "$(a)"), ("c", "$(c)"), ("d", "fine")]);
        let warnings = variables.recalculate();
        assert_eq!(warnings.len(), 3);
        assert!(warnings.iter().all(|warning| warning.contains("cyclical")));
        assert_eq!(variables.get("a"), Some("$(b)"));
        assert_eq!(variables.get("d"), Some("fine"));
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let names: Vec<(String, String)> =
            (0..60).map(|n| (format!("v{n}"), format!("$(v{})", n + 1))).collect();
        let pairs: Vec<(&str, &str)> = names.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        let mut chain = variables(&pairs);
        let warnings = chain.recalculate();
        assert!(warnings.iter().any(|warning| warning.contains("max expansion depth (50)")));
        assert_eq!(chain.get("v0"), Some("$(v1)"));

        let doubled: Vec<(String, String)> = (0..45)
            .map(|n| (format!("v{n}"), format!("$(v{0})$(v{0})", n + 1)))
            .chain([("v45".to_owned(), "boom".to_owned())])
            .collect();
        let pairs: Vec<(&str, &str)> = doubled.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        let mut doubled = variables(&pairs);
        assert!(doubled.recalculate().iter().any(|warning| warning.contains("larger than")));
    }

    #[test]
    fn secrecy_is_contagious_and_sticky() {
        let masker = Masker::new();
        let mut variables = Variables::new(masker.clone());
        variables.set("token", "hunter2hunter2", SECRET);
        variables.set("url", "https://host/$(token)", Flags::default());
        variables.recalculate();
        let url = variables.iter().find(|variable| variable.name == "url").expect("the variable was set");
        assert!(url.secret);
        variables.set("TOKEN", "changed-value", Flags::default());
        assert!(variables.iter().any(|variable| variable.name == "TOKEN" && variable.secret));
        assert_eq!(masker.mask("a changed-value b"), "a *** b");
        assert!(!format!("{variables:?}").contains("changed-value"));
    }

    #[test]
    fn read_only_is_sticky_and_the_agents_own_names_are_read_only() {
        let mut variables = variables(&[("Agent.Name", "x"), ("mine", "y")]);
        assert!(variables.is_read_only("agent.name"));
        assert!(!variables.is_read_only("mine"));
        assert!(!variables.is_read_only("agent.os"), "not set yet, so it may be set");
        variables.set("mine", "z", Flags { read_only: true, ..Flags::default() });
        variables.set("MINE", "w", Flags::default());
        assert!(variables.is_read_only("mine"));
    }

    #[test]
    fn macros_in_inputs_expand_once() {
        let variables = variables(&[("a", "$(b)"), ("b", "x"), ("my.var", "v")]);
        for (text, expected) in [
            ("$(a)", "$(b)"),
            ("$(b)$(B)", "xx"),
            ("$(nope) $(my.var)", "$(nope) v"),
            ("$($(b))", "$(x)"),
            ("$(", "$("),
            ("$()", "$()"),
            ("cost $5 (b)", "cost $5 (b)"),
        ] {
            assert_eq!(variables.expand(text), expected, "{text}");
        }
    }

    #[test]
    fn environment_names_change_only_dots_and_spaces() {
        for (name, preserve, expected) in [
            ("Build.SourcesDirectory", false, "BUILD_SOURCESDIRECTORY"),
            ("my var", false, "MY_VAR"),
            ("my-var", false, "MY-VAR"),
            ("My.Var", true, "My_Var"),
            ("straße", false, "STRAßE"),
        ] {
            assert_eq!(environment_name(name, preserve), expected);
        }
    }

    #[test]
    fn the_two_kinds_of_booleans_differ() {
        assert_eq!(parse_boolean(" TRUE "), Some(true));
        assert_eq!(parse_boolean("1"), None);
        assert!(convert_to_boolean("1"));
        assert!(convert_to_boolean("$TRUE"));
        assert!(!convert_to_boolean("yes"));
    }
}
