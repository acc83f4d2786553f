//! The ids by which a request is found again: people quote them, clients put them into their errors.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

/// The request's own id.
const ACTIVITY: HeaderName = HeaderName::from_static("activityid");
/// The id of what the client does, over several requests.
const SESSION: HeaderName = HeaderName::from_static("x-tfs-session");
/// The id of what all services do for one cause.
const END_TO_END: HeaderName = HeaderName::from_static("x-vss-e2eid");

/// The ids of one request. Those that the client sends come back; without them the request's own stands for
/// all.
pub(crate) struct Trace {
    activity: HeaderValue,
    session: Option<HeaderValue>,
    end_to_end: Option<HeaderValue>,
}

impl Trace {
    /// Of a new request with these headers.
    pub(crate) fn new(headers: &HeaderMap) -> Self {
        let given = |name| headers.get(name)?.to_str().ok()?.parse().ok().map(header);
        Self { activity: header(Uuid::new_v4()), session: given(SESSION), end_to_end: given(END_TO_END) }
    }

    /// Puts the ids into the answer.
    pub(crate) fn mark(self, answer: &mut HeaderMap) {
        let Self { activity, session, end_to_end } = self;
        answer.insert(SESSION, session.unwrap_or_else(|| activity.clone()));
        answer.insert(END_TO_END, end_to_end.unwrap_or_else(|| activity.clone()));
        answer.insert(ACTIVITY, activity);
    }
}

fn header(id: Uuid) -> HeaderValue {
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    HeaderValue::from_str(id.hyphenated().encode_lower(&mut text))
        .expect("an id has letters, digits and hyphens only")
}
