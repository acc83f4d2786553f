//! The tools, with the tasks that install them.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::LazyLock;

use regex::Regex;
use semver::Version;

use crate::steps::Inputs;

/// A tool and what its tasks know.
#[derive(Debug)]
pub(super) struct Tool {
    /// What people call it.
    pub(super) name: &'static str,
    /// The tasks that install it.
    pub(super) tasks: &'static [&'static str],
    pub(super) program: Program,
    /// Inputs that say the version, with their defaults; the first that is set counts.
    pub(super) inputs: &'static [(&'static str, &'static str)],
    /// The variable that gets its place, and how many folders above the program that is.
    pub(super) location: Option<(&'static str, usize)>,
    /// Where other versions may be than the one on the PATH.
    pub(super) shelves: &'static [Shelf],
    /// Whether jobs install packages into it, which are to be theirs alone.
    pub(super) has_packages: bool,
}

/// A folder with one folder for each version of a tool, as version managers and distributions keep them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shelf {
    /// The variable that says where the manager is, if there is one.
    pub(super) variable: Option<&'static str>,
    /// Where it is otherwise, from the home folder.
    pub(super) usual: &'static str,
    /// The folder with the versions, from there.
    pub(super) versions: &'static str,
}

/// The Java versions of Debian, Fedora and their like.
const SYSTEM_JAVA: Shelf = Shelf { variable: None, usual: "/usr/lib/jvm", versions: "" };

const fn shelf(variable: &'static str, usual: &'static str, versions: &'static str) -> Shelf {
    Shelf { variable: Some(variable), usual, versions }
}

impl Shelf {
    /// Where it is for whoever has this environment.
    pub(super) fn folder(&self, environment: &BTreeMap<OsString, OsString>) -> Option<PathBuf> {
        let value = |name: &str| {
            environment.get(OsStr::new(name)).filter(|value| !value.is_empty()).map(PathBuf::from)
        };
        let manager = self.variable.and_then(value).or_else(|| Some(value("HOME")?.join(self.usual)))?;
        Some(manager.join(self.versions))
    }
}

/// What is to be found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Program {
    /// Its names, the one that scripts use at first.
    pub(super) names: &'static [&'static str],
    /// How it is asked for its version.
    pub(super) arguments: &'static [&'static str],
    /// Its folder in the tool cache.
    pub(super) cached_as: Option<&'static str>,
    /// The program that does its work where it is not.
    pub(super) instead: Option<&'static str>,
}

const fn program(
    names: &'static [&'static str],
    arguments: &'static [&'static str],
    cached_as: Option<&'static str>,
) -> Program {
    Program { names, arguments, cached_as, instead: None }
}

/// All of them; inputs and defaults by the `task.json` of each.
pub(super) static TOOLS: &[Tool] = &[
    Tool {
        name: "the .NET SDK",
        tasks: &["UseDotNet", "DotNetCoreInstaller"],
        program: program(&["dotnet"], &["--list-sdks"], None),
        inputs: &[("version", "")],
        location: Some(("DOTNET_ROOT", 1)),
        shelves: &[],
        has_packages: false,
    },
    Tool {
        name: "Python",
        tasks: &["UsePythonVersion"],
        program: program(&["python", "python3"], &["--version"], Some("Python")),
        inputs: &[("versionSpec", "3.x")],
        location: Some(("pythonLocation", 2)),
        shelves: &[shelf("PYENV_ROOT", ".pyenv", "versions")],
        has_packages: true,
    },
    Tool {
        name: "Node.js",
        tasks: &["NodeTool", "UseNode"],
        program: program(&["node"], &["--version"], Some("node")),
        inputs: &[("versionSpec", ""), ("version", "")],
        location: None,
        shelves: &[shelf("NVM_DIR", ".nvm", "versions/node")],
        has_packages: false,
    },
    Tool {
        name: "Go",
        tasks: &["GoTool"],
        program: program(&["go"], &["version"], Some("go")),
        inputs: &[("version", "")],
        location: Some(("GOROOT", 2)),
        shelves: &[],
        has_packages: false,
    },
    Tool {
        name: "Java",
        tasks: &["JavaToolInstaller"],
        program: program(&["java"], &["-version"], None),
        inputs: &[("versionSpec", "")],
        location: Some(("JAVA_HOME", 2)),
        shelves: &[shelf("SDKMAN_DIR", ".sdkman", "candidates/java"), SYSTEM_JAVA],
        has_packages: false,
    },
    Tool {
        name: "Ruby",
        tasks: &["UseRubyVersion"],
        program: program(&["ruby"], &["--version"], Some("Ruby")),
        inputs: &[("versionSpec", ">= 2.4")],
        location: None,
        shelves: &[shelf("RBENV_ROOT", ".rbenv", "versions")],
        has_packages: false,
    },
    Tool {
        name: "NuGet",
        tasks: &["NuGetToolInstaller"],
        // The step NuGetCommand restores by either.
        program: Program { instead: Some("dotnet"), ..program(&["nuget"], &["help"], Some("NuGet")) },
        inputs: &[("versionSpec", "")],
        location: None,
        shelves: &[],
        has_packages: false,
    },
    Tool {
        name: "Helm",
        tasks: &["HelmInstaller"],
        program: program(&["helm"], &["version", "--short"], Some("helm")),
        inputs: &[("helmVersionToInstall", ""), ("helmVersion", "")],
        location: None,
        shelves: &[],
        has_packages: false,
    },
    Tool {
        name: "kubectl",
        tasks: &["KubectlInstaller"],
        program: program(&["kubectl"], &["version", "--client"], Some("kubectl")),
        inputs: &[("kubectlVersion", "")],
        location: None,
        shelves: &[],
        has_packages: false,
    },
    Tool {
        name: "Yarn",
        tasks: &["YarnInstaller"],
        program: program(&["yarn"], &["--version"], Some("yarn")),
        inputs: &[("versionSpec", "")],
        location: None,
        shelves: &[],
        has_packages: false,
    },
    Tool {
        name: "Docker",
        tasks: &["DockerInstaller"],
        program: Program { instead: Some("podman"), ..program(&["docker"], &["--version"], None) },
        // Any will do: the default of `dockerVersion` is years old.
        inputs: &[],
        location: None,
        shelves: &[],
        has_packages: false,
    },
    Tool {
        name: "kubelogin",
        tasks: &["KubeloginInstaller"],
        program: program(&["kubelogin"], &["--version"], Some("kubelogin")),
        inputs: &[("kubeloginVersion", "")],
        location: None,
        shelves: &[],
        has_packages: false,
    },
    Tool {
        name: "Azure Functions Core Tools",
        tasks: &["FuncToolsInstaller"],
        program: program(&["func"], &["--version"], Some("func")),
        inputs: &[("version", "")],
        location: None,
        shelves: &[],
        has_packages: false,
    },
    Tool {
        name: "Open Policy Agent",
        tasks: &["OpenPolicyAgentInstaller"],
        program: program(&["opa"], &["version"], Some("opa")),
        inputs: &[("opaVersion", "")],
        location: None,
        shelves: &[],
        has_packages: false,
    },
    Tool {
        name: "Terraform",
        tasks: &["TerraformInstaller"],
        program: program(&["terraform"], &["version"], Some("terraform")),
        inputs: &[("terraformVersion", "")],
        location: None,
        shelves: &[],
        has_packages: false,
    },
];

impl Tool {
    /// The version that the step asks for, empty for any.
    pub(super) fn wish<'a>(&self, inputs: &'a Inputs) -> &'a str {
        self.inputs.iter().find_map(|(name, _)| inputs.get(name)).unwrap_or_default()
    }

    /// What scripts call its program.
    pub(super) fn usual_name(&self) -> Option<&'static str> {
        self.program.names.first().copied()
    }
}

/// The versions that a tool tells of itself: the first of each line, since some have several installed.
pub(super) fn versions_in(text: &str) -> Vec<Version> {
    static VERSION: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(\d+)\.(\d+)(?:\.(\d+))?").expect("it is a pattern"));
    let mut versions: Vec<Version> = Vec::new();
    for found in text.lines().filter_map(|line| VERSION.captures(line)) {
        let number = |index: usize| found.get(index).map_or(Some(0), |part| part.as_str().parse().ok());
        if let (Some(major), Some(minor), Some(patch)) = (number(1), number(2), number(3)) {
            let version = Version::new(major, minor, patch);
            // Java 8 still calls itself 1.8.
            let version = if (major, text.contains("java version") || text.contains("openjdk")) == (1, true) {
                Version::new(minor, patch, 0)
            } else {
                version
            };
            if !versions.contains(&version) {
                versions.push(version);
            }
        }
        // Only .NET lists what is installed; all others say more of themselves in further lines.
        if !text.contains("[/") {
            break;
        }
    }
    versions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_tell_their_versions_each_in_its_way() {
        for (said, expected) in [
            ("Python 3.11.2\n", vec![Version::new(3, 11, 2)]),
            ("v20.20.2\n", vec![Version::new(20, 20, 2)]),
            ("go version go1.19.8 linux/amd64\n", vec![Version::new(1, 19, 8)]),
            ("openjdk version \"17.0.9\" 2023-10-17\nOpenJDK Runtime 1.2.3\n", vec![Version::new(17, 0, 9)]),
            ("openjdk version \"1.8.0_392\"\n", vec![Version::new(8, 0, 0)]),
            (
                "8.0.100 [/usr/lib/sdk]\n9.0.1 [/usr/lib/sdk]\n",
                vec![Version::new(8, 0, 100), Version::new(9, 0, 1)],
            ),
            ("Client Version: v1.37.2\nKustomize Version: v5.8.0\n", vec![Version::new(1, 37, 2)]),
            ("no version\n", vec![]),
        ] {
            assert_eq!(versions_in(said), expected, "{said}");
        }
    }
}
