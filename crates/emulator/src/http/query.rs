//! The query string, read as the service reads it: names without regard to case, unknown names ignored.

use std::collections::HashMap;
use std::convert::Infallible;
use std::str::FromStr;

use axum::extract::FromRequestParts;
use http::request::Parts;

use super::error::ApiError;

/// The parameters of a request's query string. Of a name given twice the first value counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(HashMap<String, String>);

impl Query {
    pub(crate) fn parse(query: &str) -> Self {
        let mut values = HashMap::new();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            values.entry(name.to_ascii_lowercase()).or_insert_with(|| value.into_owned());
        }
        Self(values)
    }

    /// The text of a parameter; `None` when it is absent or empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(&name.to_ascii_lowercase()).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The value of a parameter, or an error which names it when it does not parse.
    pub(crate) fn value<T: FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        self.text(name)
            .map(|text| text.trim().parse().map_err(|_| ApiError::invalid_parameter(name, text)))
            .transpose()
    }

    /// A parameter which has to be there.
    pub(crate) fn required<T: FromStr>(&self, name: &str) -> Result<T, ApiError> {
        self.value(name)?.ok_or_else(|| ApiError::missing_parameter(name))
    }

    /// Whether a flag is set; absent means not.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.text(name) {
            None => Ok(false),
            Some(text) if text.eq_ignore_ascii_case("true") || text == "1" => Ok(true),
            Some(text) if text.eq_ignore_ascii_case("false") || text == "0" => Ok(false),
            Some(text) => Err(ApiError::invalid_parameter(name, text)),
        }
    }

    /// The values of a list parameter, which are separated by commas.
    pub(crate) fn list<T: FromStr>(&self, name: &str) -> Result<Option<Vec<T>>, ApiError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        text.split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(|item| item.parse().map_err(|_| ApiError::invalid_parameter(name, text)))
            .collect::<Result<_, _>>()
            .map(Some)
    }
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_without_regard_to_case_and_values_are_typed() {
        let query = Query::parse("poolID=3&%24top=x&agentIds=1,%202&flag=True&empty=");
        assert_eq!(query.value::<i32>("poolId").unwrap(), Some(3));
        assert_eq!(query.list::<i32>("agentIds").unwrap(), Some(vec![1, 2]));
        assert!(query.flag("Flag").unwrap());
        assert_eq!(query.text("empty"), None);
        let error = query.value::<i32>("$top").unwrap_err();
        assert!(error.message().contains("$top"), "{}", error.message());
        assert!(query.required::<i32>("absent").is_err());
    }
}
