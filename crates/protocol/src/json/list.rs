//! The wrapper around every list on the wire.

use serde::{Deserialize, Serialize};

/// A list as the service sends and takes it: `{"count":2,"value":[…]}`. Bare arrays are not accepted by
/// .NET's client (`VssHttpClientBase.cs`), neither as answers nor as bodies of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
pub struct ListOf<T> {
    /// Number of values; informative, readers go by `value`.
    #[serde(default)]
    pub count: usize,
    /// The values.
    #[serde(default = "Vec::new")]
    pub value: Vec<T>,
}

impl<T> From<Vec<T>> for ListOf<T> {
    fn from(value: Vec<T>) -> Self {
        ListOf { count: value.len(), value }
    }
}

impl<T> FromIterator<T> for ListOf<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        values.into_iter().collect::<Vec<_>>().into()
    }
}

impl<T> IntoIterator for ListOf<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.value.into_iter()
    }
}
