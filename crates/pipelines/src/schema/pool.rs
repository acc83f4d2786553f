//! `pool:`.

use super::reader::{Fields, Reader, is_near, to_json};
use crate::{
    plan::Pool,
    yaml::{Entry, Kind, Node},
};

/// Reads a pool: its name, `server`, or a mapping.
pub(super) fn pool(node: &Node, reader: &mut Reader<'_>) -> Option<Pool> {
    match &node.kind {
        Kind::Invalid => None,
        Kind::Scalar(text) if text.trim().is_empty() => None,
        Kind::Scalar(text) if text.trim().eq_ignore_ascii_case("server") => {
            Some(Pool { server: true, ..Pool::default() })
        }
        Kind::Scalar(text) => Some(Pool { name: Some(text.clone()), ..Pool::default() }),
        _ => {
            let mut fields = Fields::open(node, "pool", reader);
            if fields.is_silent() {
                return None;
            }
            let mut pool = Pool {
                name: reader.optional(fields.take("name"), "the pool's `name`"),
                vm_image: reader.optional(fields.take("vmImage"), "`vmImage`"),
                ..Pool::default()
            };
            for (text, span) in reader.spanned_texts(fields.take("demands"), "demands") {
                match demand(&text) {
                    Some(demand) => pool.demands.push(demand),
                    None => {
                        reader
                            .collector
                            .error(span, format!("`{}` is not a demand", super::reader::short(&text)))
                            .help("write `name`, or `name -equals value`");
                    }
                }
            }
            // Other keys have a meaning for some pools (managed pools, 1ES) only.
            for entry in fields.take_rest() {
                warn_of_slip(entry, reader);
                pool.other.insert(entry.key.text.clone(), to_json(&entry.value));
            }
            fields.finish(reader);
            Some(pool)
        }
    }
}

/// Warns of a key that is most likely a known one: the service takes any key of a pool and says nothing.
fn warn_of_slip(entry: &Entry, reader: &mut Reader<'_>) {
    let key = &entry.key.text;
    let Some(meant) = ["name", "vmImage", "demands"].into_iter().find(|known| is_near(key, known)) else {
        return;
    };
    reader
        .collector
        .warning(entry.key.span, format!("`{key}` has no effect in a pool"))
        .help(format!("did you mean `{meant}`?"));
}

/// A demand with its blanks put in order.
fn demand(text: &str) -> Option<String> {
    let mut words = text.split_whitespace();
    let name = words.next()?;
    let Some(operator) = words.next() else { return Some(name.to_owned()) };
    let value = words.collect::<Vec<_>>().join(" ");
    let operator =
        ["-equals", "-gtVersion"].into_iter().find(|known| known.eq_ignore_ascii_case(operator))?;
    (!value.is_empty()).then(|| format!("{name} {operator} {value}"))
}
