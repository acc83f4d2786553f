//! Reads the reports of test runners: how many tests passed, and which failed.

use std::fmt;

use roxmltree::{Document, Node};

/// Who wrote a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    JUnit,
    NUnit,
    VsTest,
    XUnit,
    CTest,
}

impl Format {
    /// The format that a step names.
    pub(crate) fn named(name: &str) -> Result<Format, String> {
        let all = [
            ("JUnit", Format::JUnit),
            ("NUnit", Format::NUnit),
            ("VSTest", Format::VsTest),
            ("XUnit", Format::XUnit),
            ("CTest", Format::CTest),
        ];
        let found = all.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, format)| *format);
        found.ok_or_else(|| {
            let names = all.map(|(own, _)| own).join(", ");
            format!("The test result format '{name}' is not known. Use one of {names}.")
        })
    }

    /// The elements at the top of a report.
    fn roots(self) -> &'static [&'static str] {
        match self {
            Format::JUnit => &["testsuites", "testsuite"],
            Format::NUnit => &["test-run", "test-results"],
            Format::VsTest => &["TestRun"],
            Format::XUnit => &["assemblies", "assembly"],
            Format::CTest => &["Site"],
        }
    }
}

/// What became of one test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    Failed,
    NotExecuted,
}

/// One test of a report.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Test {
    /// What people call it.
    pub(super) title: String,
    pub(super) full_name: String,
    /// The class, file or assembly it is in.
    pub(super) storage: String,
    pub(super) outcome: Outcome,
    pub(super) milliseconds: f64,
    /// Why it failed, and where.
    pub(super) message: String,
    pub(super) stack: String,
}

/// The tests of one report or more.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Report {
    pub(super) tests: Vec<Test>,
}

impl Report {
    /// Reads a report; else says what is wrong with it.
    pub(super) fn read(text: &str, format: Format) -> Result<Report, String> {
        // Some runners begin their files with a byte order mark.
        let document =
            Document::parse(text.trim_start_matches('\u{feff}')).map_err(|error| error.to_string())?;
        let root = document.root_element().tag_name().name();
        if !format.roots().contains(&root) {
            return Err(format!("<{root}> is not the beginning of a report of {format:?}"));
        }
        Ok(Report { tests: document.descendants().filter_map(|node| test(node, format)).collect() })
    }

    /// The names of the tests that failed, with the class where the title alone says little.
    pub(super) fn failed(&self) -> Vec<&str> {
        let failed = self.tests.iter().filter(|test| test.outcome == Outcome::Failed);
        failed.map(|test| test.full_name.as_str()).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |outcome| self.tests.iter().filter(|test| test.outcome == outcome).count();
        write!(
            formatter,
            "{} tests, {} passed, {} failed, {} others",
            self.tests.len(),
            count(Outcome::Passed),
            count(Outcome::Failed),
            count(Outcome::NotExecuted),
        )
    }
}

/// The test that a node tells of, if it does.
fn test(node: Node<'_, '_>, format: Format) -> Option<Test> {
    match (format, node.tag_name().name()) {
        (Format::JUnit, "testcase") => Some(of_junit(node)),
        (Format::NUnit, "test-case") => Some(of_nunit(node)),
        // The results of a data-driven test are within its own.
        (Format::VsTest, "UnitTestResult") if child(node, "InnerResults").is_none() => Some(of_vstest(node)),
        (Format::XUnit, "test") => Some(of_xunit(node)),
        (Format::CTest, "Test") => of_ctest(node),
        _ => None,
    }
}

/// `JunitResultReader.cs`.
fn of_junit(node: Node<'_, '_>) -> Test {
    let failure = child(node, "failure").or_else(|| child(node, "error"));
    let outcome = match () {
        () if failure.is_some() => Outcome::Failed,
        () if child(node, "skipped").is_some() => Outcome::NotExecuted,
        () => Outcome::Passed,
    };
    let (title, class) = (attribute(node, "name"), attribute(node, "classname"));
    let full_name = [class, title].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".");
    Test {
        title: title.to_owned(),
        full_name,
        storage: class.to_owned(),
        outcome,
        milliseconds: seconds(attribute(node, "time")) * 1000.0,
        message: failure.map_or("", |failure| attribute(failure, "message")).to_owned(),
        stack: failure.map(all_text).unwrap_or_default(),
    }
}

/// `NunitResultReader.cs`; versions 2 and 3 differ in their attributes.
fn of_nunit(node: Node<'_, '_>) -> Test {
    let title = attribute(node, "name");
    let assembly = node.ancestors().find(|suite| {
        suite.has_tag_name("test-suite") && suite.attribute("type").is_some_and(|kind| kind == "Assembly")
    });
    let time = node.attribute("duration").unwrap_or(attribute(node, "time"));
    let failure = child(node, "failure");
    Test {
        title: title.to_owned(),
        full_name: node.attribute("fullname").unwrap_or(title).to_owned(),
        storage: assembly.map_or("", |assembly| attribute(assembly, "name")).to_owned(),
        outcome: outcome(attribute(node, "result")),
        milliseconds: seconds(time) * 1000.0,
        message: failure.and_then(|node| child(node, "message")).map(all_text).unwrap_or_default(),
        stack: failure.and_then(|node| child(node, "stack-trace")).map(all_text).unwrap_or_default(),
    }
}

/// `TrxResultReader.cs`, without the definitions of the tests, which are elsewhere in the file.
fn of_vstest(node: Node<'_, '_>) -> Test {
    let title = attribute(node, "testName");
    let error = child(node, "Output").and_then(|output| child(output, "ErrorInfo"));
    let duration = attribute(node, "duration").split(':').fold(0.0, |sum, part| sum * 60.0 + seconds(part));
    Test {
        title: title.to_owned(),
        full_name: title.to_owned(),
        storage: String::new(),
        outcome: outcome(attribute(node, "outcome")),
        milliseconds: duration * 1000.0,
        message: error.and_then(|node| child(node, "Message")).map(all_text).unwrap_or_default(),
        stack: error.and_then(|node| child(node, "StackTrace")).map(all_text).unwrap_or_default(),
    }
}

/// `XunitResultReader.cs`.
fn of_xunit(node: Node<'_, '_>) -> Test {
    let name = attribute(node, "name");
    let assembly = node.ancestors().find(|node| node.has_tag_name("assembly"));
    let storage = assembly.map_or("", |assembly| attribute(assembly, "name"));
    let failure = child(node, "failure");
    Test {
        title: node.attribute("method").unwrap_or(name).to_owned(),
        full_name: name.to_owned(),
        storage: storage.rsplit(['/', '\\']).next().unwrap_or_default().to_owned(),
        outcome: outcome(attribute(node, "result")),
        milliseconds: seconds(attribute(node, "time")) * 1000.0,
        message: failure.and_then(|node| child(node, "message")).map(all_text).unwrap_or_default(),
        stack: failure.and_then(|node| child(node, "stack-trace")).map(all_text).unwrap_or_default(),
    }
}

/// `CtestResultReader.cs`. In the list of tests the same element has no status.
fn of_ctest(node: Node<'_, '_>) -> Option<Test> {
    let status = node.attribute("Status")?;
    let text = |name| child(node, name).map(all_text).unwrap_or_default();
    let results = child(node, "Results");
    let time = results
        .into_iter()
        .flat_map(|results| results.children())
        .find(|measurement| measurement.attribute("name").is_some_and(|name| name == "Execution Time"));
    let output = results.and_then(|results| child(results, "Measurement")).map(all_text);
    let outcome = outcome(status);
    Some(Test {
        title: text("Name"),
        full_name: Some(text("FullName")).filter(|name| !name.is_empty()).unwrap_or_else(|| text("Name")),
        storage: text("Path"),
        outcome,
        milliseconds: seconds(time.map(all_text).unwrap_or_default().trim()) * 1000.0,
        message: String::new(),
        stack: output.filter(|_| outcome == Outcome::Failed).unwrap_or_default(),
    })
}

fn attribute<'a>(node: Node<'a, '_>, name: &str) -> &'a str {
    node.attribute(name).unwrap_or_default()
}

fn child<'a, 'input>(node: Node<'a, 'input>, name: &str) -> Option<Node<'a, 'input>> {
    node.children().find(|child| child.tag_name().name() == name)
}

/// The text in a node and in all below it.
fn all_text(node: Node<'_, '_>) -> String {
    let texts = node.descendants().filter(Node::is_text).filter_map(|text| text.text());
    texts.collect::<String>().trim().to_owned()
}

/// What is not a time took none.
fn seconds(text: &str) -> f64 {
    text.trim()
        .parse::<f64>()
        .ok()
        .filter(|seconds| seconds.is_finite() && *seconds >= 0.0)
        .unwrap_or_default()
}

/// The outcome that a word means.
fn outcome(word: &str) -> Outcome {
    match word.to_ascii_lowercase().as_str() {
        "passed" | "pass" | "success" => Outcome::Passed,
        "failed" | "fail" | "failure" | "error" | "timeout" | "aborted" => Outcome::Failed,
        _ => Outcome::NotExecuted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reports_of_all_runners_are_summed_up() {
        let cases = [
            (
                Format::JUnit,
                "<testsuites><testsuite><testcase classname='a.B' name='c'/><testcase name='d'><failure/>\
                 </testcase><testcase name='e'><skipped/></testcase></testsuite></testsuites>",
                "d",
            ),
            (
                Format::NUnit,
                "<test-run><test-suite><test-case fullname='N.a' result='Passed'/>\
                 <test-case fullname='N.b' result='Failed'/>\
                 <test-case name='c' result='Skipped'/></test-suite>\
                 </test-run>",
                "N.b",
            ),
            (
                Format::VsTest,
                "\u{feff}<TestRun xmlns='http://microsoft.com/schemas/VisualStudio/TeamTest/2010'><Results>\
                 <UnitTestResult testName='a' outcome='Passed'/>\
                 <UnitTestResult testName='b' outcome='Failed'/>\
                 <UnitTestResult testName='c' outcome='NotExecuted'/></Results></TestRun>",
                "b",
            ),
            (
                Format::XUnit,
                "<assemblies><assembly><collection><test name='X.a' result='Pass'/>\
                 <test name='X.b' result='Fail'/><test name='X.c' result='Skip'/></collection></assembly>\
                 </assemblies>",
                "X.b",
            ),
            (
                Format::CTest,
                "<Site><Testing><TestList><Test>./a</Test></TestList>\
                 <Test Status='passed'><Name>a</Name></Test>\
                 <Test Status='failed'><Name>b</Name></Test>\
                 <Test Status='notrun'><Name>c</Name></Test></Testing></Site>",
                "b",
            ),
        ];
        for (format, text, failed) in cases {
            let report = Report::read(text, format).unwrap();
            assert_eq!(report.to_string(), "3 tests, 1 passed, 1 failed, 1 others", "{format:?}");
            assert_eq!(report.failed(), [failed], "{format:?}");
        }
    }

    #[test]
    fn the_details_of_a_failure_are_read() {
        let cases = [
            (
                Format::JUnit,
                "<testsuite><testcase classname='C' name='t' time='1.5'><failure message='no'>at line 1</failure>\
                 </testcase></testsuite>",
                ("t", "C", 1500.0),
            ),
            (
                Format::NUnit,
                "<test-run><test-suite type='Assembly' name='a.dll'><test-case name='t' result='Failed' \
                 duration='0.25'><failure><message>no</message><stack-trace>at line 1</stack-trace></failure>\
                 </test-case></test-suite></test-run>",
                ("t", "a.dll", 250.0),
            ),
            (
                Format::VsTest,
                "<TestRun><Results><UnitTestResult testName='t' outcome='Failed' duration='00:01:00.5'><Output>\
                 <ErrorInfo><Message>no</Message><StackTrace>at line 1</StackTrace></ErrorInfo></Output>\
                 </UnitTestResult></Results></TestRun>",
                ("t", "", 60500.0),
            ),
            (
                Format::XUnit,
                "<assemblies><assembly name='/x/a.dll'><collection><test name='N.t' method='t' result='Fail' \
                 time='nonsense'><failure><message>no</message><stack-trace>at line 1</stack-trace></failure>\
                 </test></collection></assembly></assemblies>",
                ("t", "a.dll", 0.0),
            ),
        ];
        for (format, text, (title, storage, milliseconds)) in cases {
            let report = Report::read(text, format).unwrap();
            let [test] = report.tests.as_slice() else { panic!("{report:?}") };
            assert_eq!((test.title.as_str(), test.storage.as_str()), (title, storage), "{format:?}");
            assert_eq!((test.message.as_str(), test.stack.as_str()), ("no", "at line 1"), "{format:?}");
            assert!((test.milliseconds - milliseconds).abs() < 0.001, "{format:?}: {}", test.milliseconds);
        }
    }

    #[test]
    fn what_is_no_report_is_refused() {
        let of_other = Report::read("<TestRun/>", Format::JUnit).unwrap_err();
        assert_eq!(of_other, "<TestRun> is not the beginning of a report of JUnit");
        for broken in ["", "<testsuite>", "no xml"] {
            assert!(Report::read(broken, Format::JUnit).is_err(), "{broken}");
        }
        assert!(Format::named("Mocha").unwrap_err().contains("JUnit, NUnit"));
    }
}
