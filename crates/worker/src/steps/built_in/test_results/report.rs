//! Reads the reports of test runners: how many tests passed, and which failed.

use std::fmt;

use roxmltree::{Document, Node};

/// Who wrote a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Format {
    JUnit,
    NUnit,
    VsTest,
    XUnit,
    CTest,
}

impl Format {
    /// The format that a step names.
    pub(super) fn named(name: &str) -> Result<Format, String> {
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
enum Outcome {
    Passed,
    Failed,
    Other,
}

/// The sum of one report or more.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    passed: usize,
    others: usize,
    /// The names of the tests that failed.
    pub(super) failed: Vec<String>,
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
        let mut report = Report::default();
        for (name, outcome) in document.descendants().filter_map(|node| test(node, format)) {
            match outcome {
                Outcome::Passed => report.passed += 1,
                Outcome::Failed => report.failed.push(name),
                Outcome::Other => report.others += 1,
            }
        }
        Ok(report)
    }

    /// Adds another report.
    pub(super) fn add(&mut self, other: Report) {
        self.passed += other.passed;
        self.others += other.others;
        self.failed.extend(other.failed);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.passed + self.failed.len() + self.others;
        write!(
            formatter,
            "{all} tests, {} passed, {} failed, {} others",
            self.passed,
            self.failed.len(),
            self.others
        )
    }
}

/// The name and outcome of a test, if the node is one.
fn test(node: Node<'_, '_>, format: Format) -> Option<(String, Outcome)> {
    let element = node.tag_name().name();
    let attribute = |name: &str| node.attribute(name).unwrap_or_default();
    let has = |name: &str| node.children().any(|child| child.tag_name().name() == name);
    match (format, element) {
        (Format::JUnit, "testcase") => {
            let outcome = match () {
                () if has("failure") || has("error") => Outcome::Failed,
                () if has("skipped") => Outcome::Other,
                () => Outcome::Passed,
            };
            let name = [attribute("classname"), attribute("name")];
            Some((name.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("."), outcome))
        }
        (Format::NUnit, "test-case") => {
            let name = node.attribute("fullname").unwrap_or(attribute("name"));
            Some((name.to_owned(), outcome(attribute("result"))))
        }
        (Format::VsTest, "UnitTestResult") => {
            // The results of a data-driven test are within its own.
            let is_whole = !has("InnerResults");
            is_whole.then(|| (attribute("testName").to_owned(), outcome(attribute("outcome"))))
        }
        (Format::XUnit, "test") => Some((attribute("name").to_owned(), outcome(attribute("result")))),
        (Format::CTest, "Test") => {
            let status = node.attribute("Status")?;
            let name = node.children().find(|child| child.tag_name().name() == "Name");
            Some((name.and_then(|name| name.text()).unwrap_or_default().to_owned(), outcome(status)))
        }
        _ => None,
    }
}

/// The outcome that a word means.
fn outcome(word: &str) -> Outcome {
    match word.to_ascii_lowercase().as_str() {
        "passed" | "pass" | "success" => Outcome::Passed,
        "failed" | "fail" | "failure" | "error" | "timeout" | "aborted" => Outcome::Failed,
        _ => Outcome::Other,
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
            assert_eq!(
                report,
                Report { passed: 1, others: 1, failed: vec![failed.to_owned()] },
                "{format:?}"
            );
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
