//! The Azure Pipelines expression language: conditions, `$[ ]` and `${{ }}`.
//!
//! An [`Expression`] is parsed once for a [`Scope`] (which names and functions exist where the text stands)
//! and evaluated any number of times against a [`Context`] (what those names hold and what those functions
//! answer). The result is a [`Value`]. Nothing here does I/O, reads a clock or keeps state, and every input
//! is bounded: see [`MAX_LENGTH`], [`MAX_DEPTH`] and [`MAX_MEMORY_BYTES`].
//!
//! The facts come from Microsoft's engine: `DistributedTask.Expressions` in the history of the
//! azure-pipelines-agent repository, and its successor `Sdk/DTExpressions` which the first published commit
//! of actions/runner holds in source form (filtered arrays, `coalesce`, `format`, `join`, dates, the longer
//! limit). The successor wins where they differ.
//!
//! Functions which only the documentation knows (`convertToJson`, `iif`, `length`, `lower`, `replace`,
//! `split`, `trim`, `upper`) follow it; where it is silent:
//!
//! - `replace` minds case, and refuses an empty text to replace; `split` without separators gives the whole
//!   text.
//! - `split` is taken at run time too, and `substring(text, start, length)`, which is in no documentation,
//!   everywhere.
//! - Lengths and positions count UTF-16 units, as everything of .NET's does.
//! - A date is text here (`2024-02-09 08:05:01+00:00`), which `format` reads when specifiers ask for it;
//!   without a zone it is UTC.
//! - A filtered array that has passed through a function is a plain list.
//! - Errors never quote values, since variables may be secrets; Microsoft's do.
//!
//! ```
//! use dayfly_expressions::{Expression, Object, Scope, Value, Values};
//!
//! let variables = Object::from_iter([("Build.Reason", Value::from("PullRequest"))]);
//! let context = Values::new().with("variables", Value::from(variables));
//! let expression = Expression::parse("eq(variables['build.reason'], 'pullrequest')", &Scope::runtime())?;
//! assert_eq!(expression.evaluate(&context)?, Value::Boolean(true));
//! # Ok::<(), dayfly_expressions::Error>(())
//! ```

mod ast;
mod context;
mod error;
mod eval;
mod explain;
mod format;
mod functions;
mod json;
mod lexer;
mod number;
mod object;
mod parser;
mod scope;
mod status;
mod template;
mod text;
mod value;
mod version;

pub use context::{Context, Values};
pub use error::{Error, ErrorKind, Result};
pub use eval::{Expression, MAX_MEMORY_BYTES};
pub use explain::Explanation;
pub use number::{InvalidNumber, Number};
pub use object::Object;
pub use parser::{MAX_DEPTH, MAX_LENGTH};
pub use scope::Scope;
pub use status::{InvalidStatus, Status};
pub use template::{Piece, runtime_expression, split_template};
pub use value::{Kind, Value};
pub use version::Version;
