//! Wire types and cryptography of the Azure Pipelines agent protocol; no I/O.
