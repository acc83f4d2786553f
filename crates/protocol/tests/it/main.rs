//! The cryptography against an independent implementation: OpenSSL's command line, which must be installed.

mod agent_files;
mod assertions;
mod keys;
mod openssl;
mod sessions;
