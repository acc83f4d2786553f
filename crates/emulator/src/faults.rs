//! Faults on request: rules which make chosen requests fail in chosen ways, for tests of clients.
//!
//! A rule names requests by method and path pattern and says how often it strikes: with a probability (from a
//! seeded generator, so that a run can be repeated), after a number of matching requests, at most so many
//! times. The rules are looked at before authentication, in the order in which they were added; all that
//! strike apply.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use globset::{GlobBuilder, GlobMatcher};
use serde::{Deserialize, Serialize};

/// The most rules kept at a time.
pub(crate) const RULES_MAX: usize = 256;

/// What goes wrong with a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Fault {
    /// The request is answered with this status and is not handled.
    Status {
        /// The HTTP status, 100 to 999.
        status: u16,
        /// The `typeKey` of the error body, for example `TaskAgentAccessTokenExpiredException`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        type_key: Option<String>,
        /// The message of the error body.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
        /// Headers of the answer.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        headers: BTreeMap<String, String>,
    },
    /// The request is answered with this body and is not handled, as a proxy or a sign-in page would.
    Body {
        /// The HTTP status.
        status: u16,
        /// The media type of the body.
        content_type: String,
        /// The body.
        body: String,
    },
    /// The request is handled after a delay.
    Latency {
        /// The least delay in milliseconds.
        milliseconds: u64,
        /// Up to so many milliseconds more, drawn evenly.
        #[serde(default)]
        jitter: u64,
    },
    /// The connection is closed before the request is handled.
    DropBefore,
    /// The request is handled, then the connection is closed without an answer.
    DropAfter,
    /// The request is handled; its answer's body ends after so many bytes with a broken connection.
    Truncate {
        /// How many bytes of the body are sent.
        bytes: u64,
    },
    /// The token of the request is refused as expired (401); agent tokens are forgotten, so that the agent
    /// has to ask for a new one.
    ExpireToken,
    /// The session which the request names is ended before the request is handled.
    ExpireSession,
    /// The session which the request names is refused as expired (403), and kept: it is in the way of a new
    /// one.
    KeepSession,
    /// The request is refused (409) as if another process held the agent's session.
    RefuseSession,
    /// The request is refused with 429, `Retry-After` and the rate-limit headers.
    Throttle {
        /// `Retry-After`, in seconds.
        retry_after: u64,
    },
    /// The request is handled; its answer carries `Retry-After` and the rate-limit headers with this delay.
    Slow {
        /// `X-RateLimit-Delay`, in seconds.
        delay: f64,
    },
    /// The token endpoint judges assertions by a clock that is off by so many seconds (negative: behind).
    ClockSkew {
        /// How far the clock is off.
        seconds: i64,
    },
}

/// A fault, and when it strikes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FaultRule {
    /// The method it is for; none means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// A glob over the path below the collection's URL, as in `_apis/distributedtask/pools/*/messages`. `*`
    /// stays within a segment, `**` crosses them; case does not matter.
    pub path: String,
    /// How likely it strikes, 0 to 1.
    #[serde(default = "certain")]
    pub probability: f64,
    /// How many matching requests it lets pass first.
    #[serde(default)]
    pub after: u64,
    /// How often it strikes at most; none means without end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// What it does.
    pub fault: Fault,
}

fn certain() -> f64 {
    1.0
}

impl FaultRule {
    /// A rule which strikes at every request to `path`.
    pub fn new(path: impl Into<String>, fault: Fault) -> Self {
        Self { method: None, path: path.into(), probability: certain(), after: 0, count: None, fault }
    }

    /// For requests with this method only.
    pub fn method(mut self, method: impl Into<String>) -> Self {
        self.method = Some(method.into());
        self
    }

    /// Strikes at most `count` times.
    pub fn times(mut self, count: u64) -> Self {
        self.count = Some(count);
        self
    }

    /// Lets `requests` matching requests pass first.
    pub fn after(mut self, requests: u64) -> Self {
        self.after = requests;
        self
    }

    /// Strikes with this probability, 0 to 1.
    pub fn probability(mut self, probability: f64) -> Self {
        self.probability = probability;
        self
    }
}

/// A rule in use, as the admin endpoint shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActiveFault {
    /// The number by which it can be removed.
    pub id: u64,
    /// How many requests matched so far.
    pub matched: u64,
    /// How often it struck so far.
    pub struck: u64,
    /// The rule.
    pub rule: FaultRule,
}

/// Why a rule was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The path pattern is not a glob.
    #[error("fault rule's path `{path}` is not a valid pattern")]
    Pattern {
        /// The pattern.
        path: String,
        /// What is wrong with it.
        #[source]
        source: globset::Error,
    },
    /// The probability is no probability.
    #[error("fault rule's probability {0} is not between 0 and 1")]
    Probability(f64),
    /// The status is not an HTTP status.
    #[error("fault rule's status {0} is not an HTTP status")]
    Status(u16),
    /// Too many rules.
    #[error("there are already {RULES_MAX} fault rules; remove some first")]
    TooMany,
}

/// The rules in use.
#[derive(Debug)]
pub(crate) struct Faults(Mutex<Rules>);

#[derive(Debug)]
struct Rules {
    rules: Vec<(ActiveFault, GlobMatcher)>,
    next_id: u64,
    random: fastrand::Rng,
}

impl Faults {
    /// The given rules, with a generator seeded by `seed`.
    pub(crate) fn new(rules: &[FaultRule], seed: u64) -> Result<Self, Error> {
        let faults =
            Self(Mutex::new(Rules { rules: Vec::new(), next_id: 1, random: fastrand::Rng::with_seed(seed) }));
        for rule in rules {
            faults.add(rule.clone())?;
        }
        Ok(faults)
    }

    /// Adds a rule at the end and returns its number.
    pub(crate) fn add(&self, rule: FaultRule) -> Result<u64, Error> {
        if !(0.0..=1.0).contains(&rule.probability) {
            return Err(Error::Probability(rule.probability));
        }
        if let Fault::Status { status, .. } | Fault::Body { status, .. } = rule.fault
            && !(100..1000).contains(&status)
        {
            return Err(Error::Status(status));
        }
        let glob = GlobBuilder::new(&rule.path)
            .case_insensitive(true)
            .literal_separator(true)
            .build()
            .map_err(|source| Error::Pattern { path: rule.path.clone(), source })?;
        let mut rules = self.lock();
        if rules.rules.len() >= RULES_MAX {
            return Err(Error::TooMany);
        }
        let id = rules.next_id;
        rules.next_id += 1;
        rules.rules.push((ActiveFault { id, matched: 0, struck: 0, rule }, glob.compile_matcher()));
        Ok(id)
    }

    /// Removes the rule with this number; false if there is none.
    pub(crate) fn remove(&self, id: u64) -> bool {
        let mut rules = self.lock();
        let before = rules.rules.len();
        rules.rules.retain(|(active, _)| active.id != id);
        rules.rules.len() != before
    }

    /// Removes all rules.
    pub(crate) fn clear(&self) {
        self.lock().rules.clear();
    }

    /// The rules in use and how often they struck.
    pub(crate) fn list(&self) -> Vec<ActiveFault> {
        self.lock().rules.iter().map(|(active, _)| active.clone()).collect()
    }

    /// Decides which faults strike this request. `path` is relative to the collection's URL.
    pub(crate) fn strike(&self, method: &str, path: &str) -> Vec<Fault> {
        let mut rules = self.lock();
        let Rules { rules, random, .. } = &mut *rules;
        let mut struck = Vec::new();
        for (active, matcher) in rules.iter_mut() {
            let rule = &active.rule;
            if rule.method.as_ref().is_some_and(|wanted| !wanted.eq_ignore_ascii_case(method))
                || !matcher.is_match(path)
            {
                continue;
            }
            active.matched += 1;
            if active.matched <= rule.after
                || rule.count.is_some_and(|count| active.struck >= count)
                || (rule.probability < 1.0 && random.f64() >= rule.probability)
            {
                continue;
            }
            active.struck += 1;
            struck.push(match &rule.fault {
                // The jitter is drawn here, where the generator is, so that a seed fixes it too.
                Fault::Latency { milliseconds, jitter } => {
                    let more = random.u64(..=*jitter);
                    Fault::Latency { milliseconds: milliseconds.saturating_add(more), jitter: 0 }
                }
                fault => fault.clone(),
            });
        }
        struck
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Rules> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The sum of the latencies in `faults`.
pub(crate) fn latency(faults: &[Fault]) -> Duration {
    faults
        .iter()
        .map(|fault| match fault {
            Fault::Latency { milliseconds, .. } => Duration::from_millis(*milliseconds),
            _ => Duration::ZERO,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn struck(faults: &Faults, method: &str, path: &str) -> usize {
        faults.strike(method, path).len()
    }

    #[test]
    fn rule_strikes_after_the_given_requests_and_as_often_as_it_says() {
        let rule =
            FaultRule::new("_apis/*/pools/*/messages", Fault::DropBefore).method("GET").after(1).times(2);
        let faults = Faults::new(&[rule], 7).unwrap();
        let path = "_apis/DistributedTask/pools/1/messages";
        let hits: Vec<_> = (0..5).map(|_| struck(&faults, "get", path)).collect();
        assert_eq!(hits, [0, 1, 1, 0, 0]);
        assert_eq!(struck(&faults, "DELETE", path), 0);
        assert_eq!(faults.list()[0].matched, 5);
    }

    #[test]
    fn star_stays_within_a_segment_and_two_stars_cross_them() {
        let one = Faults::new(&[FaultRule::new("a/*", Fault::DropAfter)], 0).unwrap();
        assert_eq!((struck(&one, "GET", "a/b"), struck(&one, "GET", "a/b/c")), (1, 0));
        let all = Faults::new(&[FaultRule::new("a/**", Fault::DropAfter)], 0).unwrap();
        assert_eq!((struck(&all, "GET", "a/b"), struck(&all, "GET", "a/b/c")), (1, 1));
    }

    #[test]
    fn same_seed_makes_the_same_choices() {
        let choices = |seed| {
            let faults =
                Faults::new(&[FaultRule::new("**", Fault::DropAfter).probability(0.5)], seed).unwrap();
            (0..64).map(|_| struck(&faults, "GET", "x")).collect::<Vec<_>>()
        };
        assert_eq!(choices(1), choices(1));
        assert_ne!(choices(1), choices(2));
        let hits: usize = choices(3).iter().sum();
        assert!((10..54).contains(&hits), "about half of 64 requests should be struck, got {hits}");
    }

    #[test]
    fn bad_rules_are_refused() {
        let add = |rule| Faults::new(&[rule], 0).map(|_| ()).unwrap_err();
        assert!(matches!(add(FaultRule::new("a[", Fault::DropAfter)), Error::Pattern { .. }));
        assert!(matches!(
            add(FaultRule::new("a", Fault::DropAfter).probability(f64::NAN)),
            Error::Probability(_)
        ));
    }

    #[test]
    fn rule_reads_from_json_with_defaults() {
        let rule: FaultRule =
            serde_json::from_str(r#"{"path":"**","fault":{"kind":"throttle","retryAfter":3}}"#).unwrap();
        assert_eq!(rule, FaultRule::new("**", Fault::Throttle { retry_after: 3 }));
    }
}
