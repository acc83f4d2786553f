//! What holds for any text that is taken for an expression.

use dayfly_expressions::{Context, Expression, Piece, Scope, Value, runtime_expression, split_template};

/// Parses, evaluates and explains a text in every scope.
pub(crate) fn expression(text: &str, scopes: &[Scope], context: &dyn Context) {
    for scope in scopes {
        match Expression::parse(text, scope) {
            Ok(parsed) => evaluated(&parsed, context),
            Err(error) => placed(&error, text),
        }
    }
}

fn evaluated(parsed: &Expression, context: &dyn Context) {
    let value = parsed.evaluate(context);
    if let Err(error) = &value {
        placed(error, parsed.text());
    }
    let explained = parsed.explain(context).map(|explanation| explanation.value);
    assert_eq!(
        explained.is_ok(),
        value.is_ok(),
        "explaining {:?} must agree with evaluating it",
        parsed.text()
    );
    if let Ok(value) = value {
        // A version comes back as text, a number as what a double holds of it; from then on nothing changes.
        let read = Value::from_json(&value.to_json());
        assert_eq!(Value::from_json(&read.to_json()), read, "JSON of {:?} must be stable", parsed.text());
    }
}

/// An error lies within its text, at the borders of characters, and can be shown.
fn placed(error: &dayfly_expressions::Error, text: &str) {
    assert!(text.get(error.position.clone()).is_some(), "{error:?} must lie within {text:?}");
    assert_eq!(error.render(text).matches('\n').count(), 1, "{error:?} must be shown in two lines");
}

/// Cuts a text at its expressions; the pieces must make up the text.
pub(crate) fn template(text: &str) {
    if let Some(inner) = runtime_expression(text) {
        assert!(text.get(inner).is_some(), "the inside of `$[ ]` must lie within {text:?}");
    }
    let Ok(pieces) = split_template(text).map_err(|error| placed(&error, text)) else { return };
    let mut at = 0;
    for piece in pieces {
        let (Piece::Text(range) | Piece::Expression { outer: range, .. }) = piece;
        assert!(range.start == at && range.end > at, "the pieces of {text:?} must follow each other");
        at = range.end;
    }
    assert_eq!(at, text.len(), "the pieces must make up {text:?}");
}
