//! azure-pipelines.yml to plan to job messages; no network.
