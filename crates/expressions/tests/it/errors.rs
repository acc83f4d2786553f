//! Mistakes: each row is an expression, the kind of its mistake, and the part at fault.

use dayfly_expressions::{ErrorKind, MAX_LENGTH};

use crate::evaluate;

#[track_caller]
fn check(rows: &[(&str, ErrorKind, &str)]) {
    for (text, kind, at_fault) in rows {
        match evaluate(text) {
            Ok(value) => panic!("{text}: no error but {value}"),
            Err(error) => {
                let position = error.position.clone();
                assert_eq!(
                    (error.kind, &text[position]),
                    (*kind, *at_fault),
                    "{text}: {error}\n{}",
                    error.render(text)
                );
            }
        }
    }
}

#[test]
fn symbols_in_the_wrong_place() {
    use ErrorKind::UnexpectedSymbol;
    check(&[
        ("eq(1 2)", UnexpectedSymbol, "2"),
        ("eq(1,,2)", UnexpectedSymbol, ","),
        ("eq(,1)", UnexpectedSymbol, ","),
        ("eq(1,)", UnexpectedSymbol, ")"),
        ("eq(1, 2))", UnexpectedSymbol, ")"),
        ("eq(1, 2]", UnexpectedSymbol, "]"),
        ("(1)", UnexpectedSymbol, "("),
        ("1 1", UnexpectedSymbol, "1"),
        ("true false", UnexpectedSymbol, "false"),
        ("true.x", UnexpectedSymbol, "."),
        ("'a'[0]", UnexpectedSymbol, "["),
        ("1 .x", UnexpectedSymbol, "."),
        ("variables variables", UnexpectedSymbol, "variables"),
        ("variables.a.(", UnexpectedSymbol, "("),
        ("variables.'a'", UnexpectedSymbol, "'a'"),
        ("variables.0", UnexpectedSymbol, "0"),
        ("variables.a-b", UnexpectedSymbol, "a-b"),
        ("variables[]", UnexpectedSymbol, "]"),
        ("variables[0, 1]", UnexpectedSymbol, ","),
        ("variables[0)", UnexpectedSymbol, ")"),
        ("variables[* x]", UnexpectedSymbol, "x"),
        ("variables.**", UnexpectedSymbol, "*"),
        ("*", UnexpectedSymbol, "*"),
        (",", UnexpectedSymbol, ","),
        ("]", UnexpectedSymbol, "]"),
        ("eq(*, 1)", UnexpectedSymbol, "*"),
    ]);
}

#[test]
fn words_that_are_not_known() {
    use ErrorKind::{ExpectedParenthesis, ExpectedPropertyName, UnrecognizedFunction, UnrecognizedValue};
    check(&[
        ("nosuch", UnrecognizedValue, "nosuch"),
        ("eq(1, nosuch.x)", UnrecognizedValue, "nosuch"),
        ("nosuch(1)", UnrecognizedFunction, "nosuch"),
        ("variables(1)", UnrecognizedFunction, "variables"),
        ("true()", UnrecognizedFunction, "true"),
        ("eq", ExpectedParenthesis, "eq"),
        ("succeeded", ExpectedParenthesis, "succeeded"),
        ("eq[1]", ExpectedParenthesis, "eq"),
        ("variables.", ExpectedPropertyName, "."),
        ("variables.a. ", ExpectedPropertyName, "."),
        ("1x", UnrecognizedValue, "1x"),
        ("-", UnrecognizedValue, "-"),
        ("1.2.3.4.5", UnrecognizedValue, "1.2.3.4.5"),
        ("1e3", UnrecognizedValue, "1e3"),
        ("79228162514264337593543950336", UnrecognizedValue, "79228162514264337593543950336"),
        ("\"text\"", UnrecognizedValue, "\"text\""),
        ("eq(1, $(x))", UnrecognizedValue, "$"),
        ("variables.a == 'b'", UnrecognizedValue, "=="),
        ("!true", UnrecognizedValue, "!true"),
        ("ünknown", UnrecognizedValue, "ünknown"),
        ("variables* ", UnrecognizedValue, "variables*"),
    ]);
}

#[test]
fn things_left_open() {
    use ErrorKind::{Empty, UnclosedFunction, UnclosedIndex, UnclosedString};
    check(&[
        ("", Empty, ""),
        (" \t\n", Empty, ""),
        ("eq(", UnclosedFunction, "eq"),
        ("eq(1", UnclosedFunction, "eq"),
        ("eq(1,", UnclosedFunction, "eq"),
        ("and(true, eq(1, 2)", UnclosedFunction, "and"),
        ("variables[", UnclosedIndex, "["),
        ("variables[0", UnclosedIndex, "["),
        ("variables[*", UnclosedIndex, "["),
        ("eq(variables['a', 1)", ErrorKind::UnexpectedSymbol, ","),
        ("'abc", UnclosedString, "'abc"),
        ("eq('a', 'it''s)", UnclosedString, "'it''s)"),
    ]);
}

#[test]
fn numbers_of_arguments() {
    use ErrorKind::{TooFewArguments, TooManyArguments};
    let functions: [(&str, usize, Option<usize>); 31] = [
        ("and", 2, None),
        ("coalesce", 2, None),
        ("contains", 2, Some(2)),
        ("containsValue", 2, Some(2)),
        ("convertToJson", 1, Some(1)),
        ("endsWith", 2, Some(2)),
        ("eq", 2, Some(2)),
        ("format", 1, None),
        ("ge", 2, Some(2)),
        ("gt", 2, Some(2)),
        ("iif", 3, Some(3)),
        ("in", 1, None),
        ("join", 2, Some(2)),
        ("le", 2, Some(2)),
        ("length", 1, Some(1)),
        ("lower", 1, Some(1)),
        ("lt", 2, Some(2)),
        ("ne", 2, Some(2)),
        ("not", 1, Some(1)),
        ("notIn", 1, None),
        ("or", 2, None),
        ("replace", 3, Some(3)),
        ("split", 2, Some(2)),
        ("startsWith", 2, Some(2)),
        ("substring", 3, Some(3)),
        ("trim", 1, Some(1)),
        ("upper", 1, Some(1)),
        ("xor", 2, Some(2)),
        ("always", 0, Some(0)),
        ("counter", 0, Some(2)),
        ("failed", 0, None),
    ];
    let call = |name: &str, count: usize| format!("{name}({})", vec!["'1'"; count].join(", "));
    for (name, min, max) in functions {
        if min > 0 {
            let text = call(name, min - 1);
            check(&[(&text, TooFewArguments, &text)]);
        }
        if let Some(max) = max {
            check(&[(&call(name, max + 1), TooManyArguments, "'1'")]);
        }
        let most = max.unwrap_or(20);
        for count in min..=most {
            if let Err(error) = evaluate(&call(name, count)) {
                assert!(
                    !matches!(error.kind, TooFewArguments | TooManyArguments),
                    "{name} with {count}: {error}"
                );
            }
        }
    }
}

#[test]
fn casts_that_do_not_exist() {
    use ErrorKind::Cast;
    check(&[
        ("lt(1, 'not a number')", Cast, "'not a number'"),
        ("lt(1.2, 1.2.0.0)", Cast, "1.2.0.0"),
        ("gt(1.2.3, false)", Cast, "false"),
        ("ge(1.2.3, null)", Cast, "null"),
        ("lt(1.2.0, 2147483648.1)", Cast, "2147483648.1"),
        ("le(1.2.1, 'not a version')", Cast, "'not a version'"),
        ("lt(version, 1)", Cast, "1"),
        ("gt('a', parameters.list)", Cast, "parameters.list"),
        ("gt(parameters.map, 1)", Cast, "parameters.map"),
        ("gt(null, 'x')", Cast, "'x'"),
        ("contains(parameters.list, 'x')", Cast, "parameters.list"),
        ("startsWith('x', parameters.map)", Cast, "parameters.map"),
        ("lower(parameters.list.*)", Cast, "parameters.list.*"),
        ("format('{0}', parameters.map)", Cast, "parameters.map"),
        ("format(parameters.list)", Cast, "parameters.list"),
        ("join(parameters.map, parameters.list)", Cast, "parameters.map"),
        ("substring('abc', 'x', 1)", Cast, "'x'"),
        ("not(gt(1, variables['Build.Reason']))", Cast, "variables['Build.Reason']"),
    ]);
}

#[test]
fn arguments_of_no_use() {
    use ErrorKind::{Argument, Host, Memory};
    check(&[
        ("format('{')", Argument, "'{'"),
        ("format('{0}')", Argument, "format('{0}')"),
        ("format('{1}', 'a')", Argument, "format('{1}', 'a')"),
        ("format('{0:yyyy}', 'no date')", Argument, "'no date'"),
        ("format('{0:yyyy}', 1)", Argument, "1"),
        ("format('{0:yyyy-MM}', pipeline.startTime)", Argument, "pipeline.startTime"),
        ("replace('a', '', 'b')", Argument, "''"),
        ("substring('abc', 2, 2)", Argument, "substring('abc', 2, 2)"),
        ("substring('abc', -1, 2)", Argument, "substring('abc', -1, 2)"),
        (
            "substring('abc', 9223372036854775807, 9223372036854775807)",
            Argument,
            "substring('abc', 9223372036854775807, 9223372036854775807)",
        ),
        ("substring('abc', 9223372036854775808, 1)", Argument, "9223372036854775808"),
        ("and(true, refuse())", Host, "refuse()"),
        ("unknown()", Host, "unknown()"),
    ]);
    let mut bomb = "'0123456789'".to_owned();
    for _ in 0..12 {
        bomb = format!("format('{{0}}{{0}}{{0}}{{0}}{{0}}', {bomb})");
    }
    assert_eq!(evaluate(&bomb).unwrap_err().kind, Memory);
}

#[test]
fn limits() {
    let nested = |depth: usize| format!("{}true{}", "not(".repeat(depth), ")".repeat(depth));
    assert!(evaluate(&nested(49)).is_ok());
    assert_eq!(evaluate(&nested(50)).unwrap_err().kind, ErrorKind::TooDeep);
    assert_eq!(evaluate(&nested(4000)).unwrap_err().kind, ErrorKind::TooDeep);
    let indexed = |depth: usize| format!("{}0{}", "variables[".repeat(depth), "]".repeat(depth));
    assert!(evaluate(&indexed(49)).is_ok());
    assert_eq!(evaluate(&indexed(50)).unwrap_err().kind, ErrorKind::TooDeep);
    // A chain is not nesting.
    assert!(evaluate(&format!("variables{}", ".a".repeat(10_000))).is_ok());
    assert!(evaluate(&format!("variables{}", "[0]".repeat(6_000))).is_ok());

    let padded = |length: usize| format!("'{}'", "ü".repeat(length - 2));
    assert!(evaluate(&padded(MAX_LENGTH)).is_ok());
    assert_eq!(evaluate(&padded(MAX_LENGTH + 1)).unwrap_err().kind, ErrorKind::TooLong);
}

#[test]
fn errors_never_show_values() {
    let error = evaluate("gt(1, variables['Build.Reason'])").unwrap_err();
    assert_eq!(error.to_string(), "cannot convert this String to Number at position 7");
    assert_eq!(
        error.render("gt(1, variables['Build.Reason'])"),
        "gt(1, variables['Build.Reason'])\n      ^^^^^^^^^^^^^^^^^^^^^^^^^"
    );
}
