//! Azure DevOps over HTTP: authentication, retries, rate limits, typed calls.
