//! The Azure Pipelines expression language; no I/O.
