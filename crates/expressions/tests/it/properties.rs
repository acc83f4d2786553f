//! What holds for any text. The fuzz targets check the same.

use dayfly_expressions::{Expression, Scope, Value};
use proptest::prelude::*;

use crate::{World, checks, evaluate, scope};

fn check(text: &str) {
    checks::expression(text, &[scope(), Scope::step_condition()], &World::new());
    checks::template(text);
}

/// Text that looks like an expression often enough to get past the parser's first steps.
fn expression_like() -> impl Strategy<Value = String> {
    let token = prop_oneof![
        Just("(".to_owned()),
        Just(")".to_owned()),
        Just("[".to_owned()),
        Just("]".to_owned()),
        Just(",".to_owned()),
        Just(".".to_owned()),
        Just("*".to_owned()),
        Just("'".to_owned()),
        Just(" ".to_owned()),
        Just("parameters".to_owned()),
        Just("list".to_owned()),
        Just("eq".to_owned()),
        Just("format".to_owned()),
        Just("${{".to_owned()),
        Just("}}".to_owned()),
        Just("true".to_owned()),
        "[0-9.-]{1,6}",
        "'[a-z{}0-9']{0,6}'",
        any::<String>(),
    ];
    proptest::collection::vec(token, 0..30).prop_map(|tokens| tokens.concat())
}

/// Well-formed expressions of every function and access.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("true".to_owned()),
        Just("null".to_owned()),
        Just("''".to_owned()),
        Just("'{0}'".to_owned()),
        Just("'a,b'".to_owned()),
        Just("1.2.3".to_owned()),
        Just("parameters".to_owned()),
        Just("parameters.list".to_owned()),
        Just("parameters.map.*".to_owned()),
        Just("variables.number".to_owned()),
        Just("absent".to_owned()),
        Just("pipeline.startTime".to_owned()),
        "-?[0-9]{1,3}(\\.[0-9]{1,3})?",
        "'[a-zäß]{0,4}'",
    ];
    leaf.prop_recursive(4, 40, 3, |inner| {
        let two = prop::sample::select(vec![
            "and",
            "or",
            "xor",
            "eq",
            "ne",
            "gt",
            "ge",
            "lt",
            "le",
            "in",
            "notIn",
            "contains",
            "startsWith",
            "endsWith",
            "containsValue",
            "coalesce",
            "format",
            "join",
            "split",
        ]);
        let one = prop::sample::select(vec![
            "not",
            "length",
            "lower",
            "upper",
            "trim",
            "convertToJson",
            "in",
            "format",
        ]);
        let three = prop::sample::select(vec!["iif", "replace", "substring", "format", "and", "coalesce"]);
        prop_oneof![
            (one, inner.clone()).prop_map(|(name, a)| format!("{name}({a})")),
            (two, inner.clone(), inner.clone()).prop_map(|(name, a, b)| format!("{name}({a}, {b})")),
            (three, inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(name, a, b, c)| format!("{name}({a}, {b}, {c})")),
            inner.clone().prop_map(|a| format!("parameters[{a}]")),
            inner.clone().prop_map(|a| format!("parameters.nested.*[{a}]")),
            inner.prop_map(|a| format!("coalesce({a}, 1).*.x[0]")),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_parses_or_is_refused_with_a_place(text in any::<String>()) {
        check(&text);
    }

    #[test]
    fn any_expression_like_text_parses_or_is_refused_with_a_place(text in expression_like()) {
        check(&text);
    }

    #[test]
    fn any_expression_parses_and_evaluates_without_panic(text in expression()) {
        let parsed = Expression::parse(&text, &scope());
        prop_assert!(parsed.is_ok(), "{text}: {parsed:?}");
        check(&text);
    }

    #[test]
    fn text_literals_round_trip(text in any::<String>()) {
        let literal = Value::from(text.as_str()).to_string();
        prop_assert_eq!(evaluate(&literal), Ok(Value::from(text)));
    }

    #[test]
    fn numbers_round_trip_through_text(units: i64, digits in 0u32..=7) {
        let power = 10i64.pow(digits);
        let literal = format!("{}{}.{:0width$}", if units < 0 { "-" } else { "" }, units.unsigned_abs() / power.unsigned_abs(),
            units.unsigned_abs() % power.unsigned_abs(), width = digits as usize);
        let literal = literal.trim_end_matches('.');
        let text = format!("eq({literal}, format('{{0}}', {literal}))");
        prop_assert_eq!(evaluate(&text), Ok(Value::Boolean(true)), "{}", text);
    }

    #[test]
    fn eq_and_ne_are_opposites(a in expression(), b in expression()) {
        let (equal, different) = (evaluate(&format!("eq({a}, {b})")), evaluate(&format!("ne({a}, {b})")));
        match (equal, different) {
            (Ok(Value::Boolean(equal)), Ok(Value::Boolean(different))) => prop_assert_ne!(equal, different),
            (equal, different) => prop_assert!(equal.is_err() && different.is_err()),
        }
    }
}
