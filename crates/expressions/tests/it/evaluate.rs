//! Values: each row is an expression and its result, `Kind text` for scalars and JSON for the rest.

use dayfly_expressions::{ErrorKind, Expression, Object, Scope, Status, Value, Values};

use crate::{World, evaluate, scope};

fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) | Value::Object(_) => value.to_json().to_string(),
        Value::Null => "Null".to_owned(),
        Value::Version(version) => format!("Version {version}"),
        scalar => format!("{} {scalar}", scalar.kind()),
    }
}

#[track_caller]
fn check(rows: &[(&str, &str)]) {
    for (expression, expected) in rows {
        match evaluate(expression) {
            Ok(value) => assert_eq!(shown(&value), *expected, "{expression}"),
            Err(error) => panic!("{expression}: {error}\n{}", error.render(expression)),
        }
    }
}

/// Rows of conditions that hold.
#[track_caller]
fn holds(expressions: &[&str]) {
    for expression in expressions {
        check(&[(expression, "Boolean True")]);
    }
}

/// Rows of conditions that do not hold.
#[track_caller]
fn fails(expressions: &[&str]) {
    for expression in expressions {
        check(&[(expression, "Boolean False")]);
    }
}

#[test]
fn literals() {
    check(&[
        ("true", "Boolean True"),
        ("FALSE", "Boolean False"),
        ("Null", "Null"),
        ("1", "Number 1"),
        ("-.50", "Number -0.5"),
        ("00.5000", "Number 0.5"),
        ("-0.0", "Number 0"),
        ("0.12345678901", "Number 0.1234568"),
        ("1.2.3", "Version 1.2.3"),
        ("1.2.3.4", "Version 1.2.3.4"),
        ("''", "String ''"),
        ("'it''s'", "String 'it''s'"),
        ("'ünï \"code\" ${{ }}'", "String 'ünï \"code\" ${{ }}'"),
        (" \t\n true \r\n", "Boolean True"),
    ]);
}

#[test]
fn names_properties_and_indexes() {
    check(&[
        ("variables['build.reason']", "String 'PullRequest'"),
        ("VARIABLES . empty", "String ''"),
        ("variables.missing", "Null"),
        ("variables.missing.more['x'].y", "Null"),
        ("variables.empty.more", "Null"),
        ("absent", "Null"),
        ("absent.x[gt(1, 'x')]", "Null"),
        ("parameters.map.second.X", "String 'y'"),
        ("parameters.map['a-b']", "String 'dash'"),
        ("parameters.map[3]", "String 'three'"),
        ("parameters.map[parameters.list]", "Null"),
        ("parameters.map[true]", "Null"),
        ("parameters.list[0]", "String 'one'"),
        ("parameters.list['1']", "String 'Two'"),
        ("parameters.list[2.9]", "Number 3"),
        ("parameters.list[true]", "String 'Two'"),
        ("parameters.list[-1]", "Null"),
        ("parameters.list[5]", "Null"),
        ("parameters.list['x']", "Null"),
        ("parameters.list[parameters.map]", "Null"),
        ("parameters.list[79228162514264337593543950335]", "Null"),
        ("parameters.list.name", "Null"),
        ("parameters.nested[0][1]", "String 'b'"),
        ("parameters.list[parameters.count]", "Boolean True"),
        ("parameters.true", "Null"),
        ("parameters.nothing", "Null"),
        ("dependencies.a.outputs['step.value']", "String 'out'"),
        ("coalesce(parameters.map, 1).first", "String '1st'"),
        ("coalesce(parameters.list, 1)[1]", "String 'Two'"),
        ("parameters.map", r#"{"3":"three","Second":{"x":"y"},"a-b":"dash","first":"1st"}"#),
    ]);
}

#[test]
fn filtered_arrays() {
    check(&[
        ("parameters.steps.*.name", r#"["build","Test"]"#),
        ("parameters.steps[*].name", r#"["build","Test"]"#),
        ("parameters.steps.*.more.deep", r#"["y"]"#),
        ("parameters.steps.*['NAME']", r#"["build","Test"]"#),
        ("parameters.map.*", r#"["three",{"x":"y"},"dash","1st"]"#),
        ("parameters.map.*.x", r#"["y"]"#),
        ("parameters.list.*", r#"["one","Two",3,true,null]"#),
        ("parameters.nested.*.*", r#"["a","b","c","e"]"#),
        ("parameters.nested.*[0]", r#"["a","c"]"#),
        ("parameters.nested.*[0][0]", "[]"),
        ("parameters.count.*", "[]"),
        ("absent.*.x.*", "[]"),
        ("parameters.emptyMap.*", "[]"),
        ("join('+', parameters.steps.*.name)", "String 'build+Test'"),
        ("length(parameters.steps.*)", "Number 4"),
    ]);
    holds(&["containsValue(parameters.steps.*.name, 'TEST')"]);
}

#[test]
fn logic() {
    holds(&[
        "and(true, true, true)",
        "and(true, 1)",
        "and(true, 'false')",
        "and(true, 0.0.0)",
        "and(true, parameters.emptyMap)",
        "or(false, false, true)",
        "or(false, ' ')",
        "not(false)",
        "not(0)",
        "not('')",
        "not(null)",
        "not(absent)",
        "xor(false, true)",
        "xor(1, '')",
        "or(true, gt(1, 'x'))",
        "not(and(false, gt(1, 'x')))",
        "iif(parameters.flag, true, false)",
    ]);
    fails(&[
        "and(true, true, false)",
        "and(true, 0)",
        "and(true, '')",
        "and(null, true)",
        "or(false, 0, '', null)",
        "not(true)",
        "not(' ')",
        "not(1.2.3)",
        "xor(true, true)",
        "xor(false, false)",
        "xor(1, 'a')",
        "AND(TRUE, FALSE)",
    ]);
    check(&[
        ("iif('', 1, 'b')", "String 'b'"),
        ("iif(1, parameters.emptyList, 'b')", "[]"),
        ("and('a', 'b')", "Boolean True"),
    ]);
}

#[test]
fn equality_casts_the_right_side() {
    holds(&[
        // Boolean on the left
        "eq(true, 2)",
        "eq(true, 'false')",
        "eq(false, '')",
        "eq(false, null)",
        "eq(false, 0)",
        "eq(true, 0.0.0)",
        "eq(true, parameters.emptyList)",
        "ne(true, '')",
        "ne(false, ' ')",
        // Number
        "eq(1, true)",
        "eq(0, false)",
        "eq(0, '')",
        "eq(0, null)",
        "eq(123456.789, ' +123,456.7890 ')",
        "eq(-1000, '-1,000')",
        "ne(1, 'x')",
        "ne(0, 'not a number')",
        "ne(1.2, 1.2.0.0)",
        "ne(0, parameters.emptyMap)",
        "eq(1.50, 1.5)",
        "ne(1, '1e0')",
        // String
        "eq('TRue', true)",
        "eq('falSE', false)",
        "eq('', null)",
        "eq('abcDEF', 'ABCdef')",
        "eq('0.5', .50)",
        "eq('0', -0)",
        "eq('1.2.3', 1.2.3)",
        "ne('123456.000', 123456.000)",
        "ne('1.2.3.0', 1.2.3)",
        "ne('', parameters.emptyList)",
        "eq('ÄÖ', 'äö')",
        // Version
        "eq(1.2.3, '1.2.3')",
        "eq(1.2.0, ' 1.2.0 ')",
        "ne(1.2.0, '1.2')",
        "ne(1.2.0, 1.2)",
        "eq(version, 1.2)",
        "eq(version, '1.2')",
        "ne(1.2.3, false)",
        "ne(1.2.3, null)",
        "ne(1.2.3, 1.2.3.0)",
        "ne(1.2.3, parameters.map)",
        "ne(version, 1)",
        // Null
        "eq(null, null)",
        "eq(null, '')",
        "eq(variables.missing, '')",
        "ne(null, 0)",
        "ne(null, false)",
        "ne(null, ' ')",
        "ne(null, parameters.emptyList)",
        // Collections are equal to themselves only.
        "eq(parameters.list, parameters.list)",
        "eq(parameters.map, parameters.map)",
        "ne(parameters.list, parameters.nested)",
        "ne(parameters.emptyList, parameters.emptyMap)",
        "ne(parameters.list, 'x')",
        "ne(parameters.list.*, parameters.list.*)",
        // in and notIn
        "in(2, 1, '2', 3)",
        "in('a', 'b', 'A')",
        "in(true, false, 'x')",
        "notIn('a', 'b', 'c')",
        "notIn(1)",
        "in(true, true, gt(1, 'x'))",
        "not(notIn(true, true, gt(1, 'x')))",
        "in(1.2.2, 1.1.1, 1.2.2)",
        // containsValue casts the item to the value's kind.
        "containsValue(parameters.list, 'two')",
        "containsValue(parameters.list, '3')",
        "containsValue(parameters.map, '1ST')",
        "containsValue(parameters.list, null)",
    ]);
    fails(&[
        "eq('x', true)",
        "eq(1, 'x')",
        "eq(1, 2)",
        "in(1)",
        "in('a', 'b')",
        "containsValue('abc', 'b')",
        "containsValue(parameters.list, 'four')",
        "containsValue('x', gt(1, 'y'))",
        "containsValue(parameters.emptyMap, '')",
    ]);
}

#[test]
fn order_casts_the_right_side() {
    holds(&[
        "lt(false, true)",
        "ge(true, 'x')",
        "gt(true, '')",
        "le(false, false)",
        "lt(1, 2)",
        "gt(1000, '999.9')",
        "lt(-123456.79, ' -123,456.789 ')",
        "le(1, true)",
        "ge(0, null)",
        "gt(2, 1.9999999)",
        "lt('abc', 'DEF')",
        "le('a', 'A')",
        "gt('b', 'a')",
        "gt('a', '')",
        "gt('true', false)",
        "lt('10', 9)",
        "gt('a', null)",
        "lt(1.2.3, 4.5.6)",
        "lt(1.1.0, 1.2)",
        "lt(1.2.0, ' 1.2.1 ')",
        "gt(1.10.0, '1.9.9')",
        "lt(version, 1.2.0)",
        "gt(1.2.0, version)",
        "lt(null, 1)",
        "ge(null, '')",
        "gt(null, -1)",
        "ge(absent, false)",
    ]);
    fails(&["lt(true, true)", "gt(1, 1)", "lt('b', 'A')", "gt(1.2.3, 1.2.3)", "lt(1.3.0, 1.2)"]);
}

#[test]
fn text_functions() {
    holds(&[
        "contains('insensITIVE', 'SENS')",
        "contains('abc', '')",
        "contains(123456, 345)",
        "contains(true, 'RU')",
        "contains(1.2.3.4, '2.3')",
        "startsWith('Leading match', 'LEAD')",
        "startsWith(123456789, 123)",
        "startsWith('x', null)",
        "endsWith('trailing', 'ING')",
        "endsWith(1.2.3.4, 3.4)",
        "endsWith('ÄÖ', 'ö')",
        "startsWith(variables['Build.Reason'], 'pull')",
    ]);
    fails(&[
        "contains('abc', 'd')",
        "contains('', 'a')",
        "startsWith('abc', 'b')",
        "endsWith('abc', 'b')",
        "contains(absent, 'a')",
    ]);
    check(&[
        ("lower('ÀBC ß 1')", "String 'àbc ß 1'"),
        ("upper('àbc ß 1')", "String 'ÀBC ß 1'"),
        ("lower(true)", "String 'true'"),
        ("trim('  a b\t\n')", "String 'a b'"),
        ("trim(12)", "String '12'"),
        ("replace('banana', 'an', 'AN')", "String 'bANANa'"),
        ("replace('banana', 'AN', 'x')", "String 'banana'"),
        ("replace('a.b.c', '.', '')", "String 'abc'"),
        ("replace(1.5, '.', ',')", "String '1,5'"),
        ("length('äbc')", "Number 3"),
        ("length('𝄞')", "Number 2"),
        ("length(null)", "Number 0"),
        ("length(true)", "Number 4"),
        ("length(parameters.list)", "Number 5"),
        ("length(parameters.map)", "Number 4"),
        ("substring('dayfly', 3, 3)", "String 'fly'"),
        ("substring('dayfly', '0', 3.9)", "String 'day'"),
        ("substring('dayfly', 6, 0)", "String ''"),
        ("split('a;b,c', ',;')", r#"["a","b","c"]"#),
        ("split(';a;;b;', ';')", r#"["","a","","b",""]"#),
        ("split('', ',')", r#"[""]"#),
        ("split('a b', '')", r#"["a b"]"#),
        ("split(variables.list, ';')[1]", "String 'b'"),
        ("join(';', parameters.list)", "String 'one;Two;3;True;'"),
        ("join(';', parameters.nested)", "String ';;d;'"),
        ("join(';', parameters.emptyList)", "String ''"),
        ("join(';', 'text')", "String 'text'"),
        ("join(';', 12)", "String '12'"),
        ("join(';', parameters.map)", "String ''"),
        ("join(0, split('a,b', ','))", "String 'a0b'"),
        ("join(parameters.map, split('a', ','))", "String 'a'"),
        ("coalesce(null, '', variables.missing, 'x', 'y')", "String 'x'"),
        ("coalesce('', null)", "Null"),
        ("coalesce(null, '')", "String ''"),
        ("coalesce(0, 1)", "Number 0"),
        ("coalesce(false, 1)", "Boolean False"),
        ("coalesce('a', gt(1, 'x'))", "String 'a'"),
    ]);
}

#[test]
fn format_and_json() {
    check(&[
        ("format('plain')", "String 'plain'"),
        ("format('{0} {1} {0}', 'a', 1)", "String 'a 1 a'"),
        ("format('{{{0}}}', true)", "String '{True}'"),
        ("format('{0}{1}', null, 1.50)", "String '1.5'"),
        ("format('{0:yyyyMMdd}.{0:HHmm}', pipeline.startTime)", "String '20240209.0805'"),
        ("format('{0:yyyy\\-MM\\-dd K}', '2024/2/9T8:5:1.5-01:30')", "String '2024-02-09 -01:30'"),
        (
            "format('{1}', gt(1, 'x'), 'unused arguments are not evaluated')",
            "String 'unused arguments are not evaluated'",
        ),
        ("format('it''s {0}', variables.quote)", "String 'it''s it''s'"),
        ("convertToJson(null)", "String 'null'"),
        ("convertToJson('a\"b')", r#"String '"a\"b"'"#),
        ("convertToJson(1.50)", "String '1.5'"),
        ("convertToJson(0.123456789)", "String '0.123456789'"),
        ("convertToJson(1.2.3)", "String '\"1.2.3\"'"),
        ("convertToJson(parameters.emptyList)", "String '[]'"),
        ("convertToJson(parameters.emptyMap)", "String '{}'"),
        ("convertToJson(parameters.nested[1])", "String '[\n  \"c\"\n]'"),
        ("convertToJson(parameters.map.Second)", "String '{\n  \"x\": \"y\"\n}'"),
        ("convertToJson(parameters.flag)", "String 'true'"),
    ]);
}

#[test]
fn functions_of_the_caller() {
    holds(&["always()", "failed('A', 'B')", "SUCCEEDEDORFAILED()", "succeeded('A')"]);
    fails(&["canceled()", "succeeded()"]);
    check(&[("counter('x', 1)", r#"["x",1]"#), ("counter()", "[]"), ("counter('a', 'b')[1]", "String 'b'")]);
}

#[test]
fn values_answer_the_status_functions_of_a_step() {
    let condition = |text: &str, values: &Values| {
        Expression::parse(text, &Scope::job_condition()).unwrap().condition(values)
    };
    let failed = Values::new().with("variables", Value::Null).with_status(Status::Failed);
    assert_eq!(
        condition("and(failed(), not(succeeded()), succeededOrFailed(), not(variables))", &failed),
        Ok(true)
    );
    assert_eq!(condition("Failed('A')", &failed).unwrap_err().kind, ErrorKind::Host);
    assert_eq!(condition("failed()", &Values::new()).unwrap_err().kind, ErrorKind::Host);
}

#[test]
fn a_condition_is_cast_to_boolean() {
    for (text, expected) in
        [("'false'", true), ("0", false), ("variables.missing", false), ("parameters.emptyList", true)]
    {
        let expression = Expression::parse(text, &scope()).unwrap();
        assert_eq!(expression.text(), text);
        assert_eq!(expression.condition(&World::new()), Ok(expected), "{text}");
    }
}

#[test]
fn explained_conditions_show_what_was_read() {
    for (text, expected) in [
        ("and(succeeded(), eq(variables.missing, 'x'))", "and(False, eq(variables['missing'], 'x'))"),
        ("and(failed(), eq(variables['build.reason'], 'Manual'))", "and(True, eq('PullRequest', 'Manual'))"),
        ("or(false,eq(variables.missing,1))", "or(False, eq(Null, 1))"),
        ("In(length('abc'), 1, parameters.list)", "in(3, 1, Array)"),
        ("contains(format('{0}', variables.quote), lower('A'))", "contains('it''s', 'a')"),
        (
            "and(false, parameters.steps.*.name[succeeded('B')], absent)",
            "and(False, parameters['steps'][*]['name'][succeeded('B')], absent)",
        ),
        ("variables.number", "'42'"),
    ] {
        let explanation = Expression::parse(text, &scope()).unwrap().explain(&World::new()).unwrap();
        assert_eq!(explanation.expanded, expected, "{text}");
        assert_eq!(Ok(explanation.value), evaluate(text), "{text}");
    }
}

#[test]
fn long_text_is_not_cut_but_counted_in_explanations() {
    let context =
        Values::new().with("variables", Object::from_iter([("a", Value::from("ü".repeat(5000)))]).into());
    let expression = Expression::parse("eq(variables.a, 'x')", &Scope::runtime()).unwrap();
    assert_eq!(expression.explain(&context).unwrap().expanded, "eq(String of 5000 characters, 'x')");
}

#[test]
fn scopes_have_what_their_place_has() {
    let step = Scope::step_condition();
    let rows = [
        (&step, "and(succeeded(), eq(variables.a, 1))", true),
        (&step, "succeeded('A')", false),
        (&step, "dependencies.A.result", false),
        (&step, "counter()", false),
        (
            &Scope::job_condition(),
            "and(failed('A'), stageDependencies.S.J.result, dependencies.A.result, pipeline, resources)",
            true,
        ),
        (&Scope::job_condition(), "always('A')", false),
        (&Scope::job_condition(), "parameters.x", false),
        (&Scope::stage_condition(), "succeeded('A', 'B')", true),
        (&Scope::stage_condition(), "stageDependencies.S.J.result", true),
        (&Scope::runtime(), "counter(variables.prefix, 1)", true),
        (&Scope::runtime(), "counter(1, 2, 3)", false),
        (&Scope::runtime(), "succeeded()", false),
        (&Scope::template(), "parameters.x", true),
        (&Scope::template(), "variables.x", true),
        (&Scope::template(), "counter()", false),
        (&Scope::template(), "item.name", false),
        (&Scope::template().with_root("item"), "ITEM.name", true),
        // A loop variable may be named as a function is.
        (&Scope::template().with_root("format"), "format('{0}', format)", true),
        (&Scope::new(), "eq(1, 1)", true),
        (&Scope::new(), "variables", false),
    ];
    for (scope, text, allowed) in rows {
        assert_eq!(Expression::parse(text, scope).is_ok(), allowed, "{text}");
    }
}

#[test]
fn what_an_expression_reads_by_a_fixed_key_is_known() {
    let text = "and(eq(variables.one, variables['Two']), dependencies[variables.three].result, \
        failed(variables.four))";
    let expression = Expression::parse(text, &Scope::job_condition()).unwrap();
    for (root, key, expected) in [
        ("variables", "ONE", true),
        ("variables", "two", true),
        ("variables", "three", true),
        ("variables", "four", true),
        ("dependencies", "result", false),
        ("variables", "result", false),
        ("dependencies", "one", false),
    ] {
        assert_eq!(expression.reads(root, key), expected, "{root}.{key}");
    }
}
