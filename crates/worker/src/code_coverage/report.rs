//! Reads reports of code coverage: how many lines and branches were run.

use std::fmt;

use roxmltree::{Document, Node, ParsingOptions};

/// What was run of how much.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Share {
    run: u64,
    all: u64,
}

/// The sum of one report or more.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Coverage {
    lines: Share,
    branches: Share,
}

impl Coverage {
    /// Reads a report of Cobertura, JaCoCo or Clover; else says what is wrong with it.
    pub(super) fn read(text: &str) -> Result<Coverage, String> {
        // Both name a document type, which is not looked at.
        let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
        let document = Document::parse_with_options(text.trim_start_matches('\u{feff}'), options)
            .map_err(|error| error.to_string())?;
        let root = document.root_element();
        match root.tag_name().name() {
            "coverage" if root.has_attribute("generated") => Ok(clover(root)),
            "coverage" => Ok(cobertura(root)),
            "report" => Ok(jacoco(root)),
            other => {
                Err(format!("<{other}> is not the beginning of a report of Cobertura, JaCoCo or Clover"))
            }
        }
    }

    /// Adds another report.
    pub(crate) fn add(&mut self, other: Coverage) {
        for (own, other) in [(&mut self.lines, other.lines), (&mut self.branches, other.branches)] {
            own.run = own.run.saturating_add(other.run);
            own.all = own.all.saturating_add(other.all);
        }
    }

    /// Whether there is no line that could be run.
    pub(crate) fn is_empty(&self) -> bool {
        self.lines.all == 0
    }

    /// What is counted, how much was run, and how much there is.
    pub(super) fn shares(&self) -> impl Iterator<Item = (&'static str, u64, u64)> {
        let shares = [("Lines", self.lines), ("Branches", self.branches)];
        shares
            .into_iter()
            .filter(|(_, share)| share.all > 0)
            .map(|(label, share)| (label, share.run, share.all))
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} lines", self.lines)?;
        if self.branches.all > 0 {
            write!(formatter, ", {} branches", self.branches)?;
        }
        Ok(())
    }
}

impl fmt::Display for Share {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hundredths = u128::from(self.run) * 10_000 / u128::from(self.all.max(1));
        write!(formatter, "{}.{:02} % ({} of {})", hundredths / 100, hundredths % 100, self.run, self.all)
    }
}

fn number(node: Node<'_, '_>, name: &str) -> u64 {
    node.attribute(name).and_then(|value| value.trim().parse().ok()).unwrap_or_default()
}

/// Its sums, or those of its lines where a tool leaves the sums out.
fn cobertura(root: Node<'_, '_>) -> Coverage {
    let share = |run, all| Share { run: number(root, run), all: number(root, all) };
    let lines = share("lines-covered", "lines-valid");
    let branches = share("branches-covered", "branches-valid");
    if lines.all > 0 {
        return Coverage { lines, branches };
    }
    // Each line is told of by its class, and once more by its method.
    let is_of_class = |node: &Node<'_, '_>| {
        let class = node.parent().and_then(|lines| lines.parent());
        node.has_tag_name("line") && class.is_some_and(|class| class.has_tag_name("class"))
    };
    let hits = || root.descendants().filter(is_of_class).map(|line| number(line, "hits"));
    let (run, all) = (hits().filter(|hits| *hits > 0).count(), hits().count());
    Coverage { lines: Share { run: run as u64, all: all as u64 }, branches }
}

fn jacoco(root: Node<'_, '_>) -> Coverage {
    let share = |kind| {
        let counter = root
            .children()
            .find(|child| child.has_tag_name("counter") && child.attribute("type") == Some(kind));
        counter.map_or(Share::default(), |counter| {
            let run = number(counter, "covered");
            Share { run, all: run.saturating_add(number(counter, "missed")) }
        })
    };
    Coverage { lines: share("LINE"), branches: share("BRANCH") }
}

fn clover(root: Node<'_, '_>) -> Coverage {
    let project = root.children().find(|child| child.has_tag_name("project"));
    let metrics = project.and_then(|project| project.children().find(|child| child.has_tag_name("metrics")));
    let share = |run, all| {
        metrics.map_or(Share::default(), |node| Share { run: number(node, run), all: number(node, all) })
    };
    Coverage {
        lines: share("coveredstatements", "statements"),
        branches: share("coveredconditionals", "conditionals"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reports_of_all_tools_are_summed_up() {
        let cases = [
            (
                "<?xml version='1.0'?><!DOCTYPE coverage SYSTEM 'x.dtd'><coverage lines-covered='7' \
                 lines-valid='8' branches-covered='1' branches-valid='3'/>",
                "87.50 % (7 of 8) lines, 33.33 % (1 of 3) branches",
            ),
            (
                "<coverage><packages><package><classes><class><methods><method><lines><line hits='1'/></lines>\
                 </method></methods><lines><line hits='1'/><line hits='0'/></lines></class></classes></package>\
                 </packages></coverage>",
                "50.00 % (1 of 2) lines",
            ),
            (
                "<report name='x'><package><counter type='LINE' missed='9' covered='9'/></package>\
                 <counter type='LINE' missed='1' covered='3'/><counter type='BRANCH' missed='1' covered='0'/></report>",
                "75.00 % (3 of 4) lines, 0.00 % (0 of 1) branches",
            ),
            (
                "<coverage generated='1'><project><metrics statements='4' coveredstatements='4' conditionals='0' \
                 coveredconditionals='0'/></project></coverage>",
                "100.00 % (4 of 4) lines",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(Coverage::read(text).map(|coverage| coverage.to_string()).as_deref(), Ok(expected));
        }
        let mut sum = Coverage::read(cases[0].0).unwrap();
        sum.add(Coverage::read(cases[1].0).unwrap());
        assert_eq!(sum.to_string(), "80.00 % (8 of 10) lines, 33.33 % (1 of 3) branches");
    }

    #[test]
    fn what_is_no_report_is_refused() {
        assert!(Coverage::read("<coverage").is_err() && Coverage::read("<testsuite/>").is_err());
        assert!(Coverage::read("<coverage/>").unwrap().is_empty());
    }
}
