//! Tasks whose work is done by a service that a run on this machine does not have: their steps say so.

use dayfly_protocol::TaskResult;

use super::own_name;
use crate::context::StepContext;

/// Tasks of one kind.
#[derive(Debug)]
pub(crate) struct Elsewhere {
    tasks: &'static [&'static str],
    /// Whether the run is as good without them. If not, their steps are skipped with a warning.
    is_dispensable: bool,
    /// Why there is nothing to do here.
    why: &'static str,
}

static KINDS: &[Elsewhere] = &[
    Elsewhere {
        tasks: &[
            "NuGetAuthenticate",
            "npmAuthenticate",
            "PipAuthenticate",
            "MavenAuthenticate",
            "GradleAuthenticate",
            "TwineAuthenticate",
            "CargoAuthenticate",
            "CondaAuthenticate",
        ],
        is_dispensable: true,
        why: "there is no login for package feeds here",
    },
    Elsewhere {
        tasks: &[
            "SonarQubePrepare",
            "SonarQubeAnalyze",
            "SonarQubePublish",
            "SonarCloudPrepare",
            "SonarCloudAnalyze",
            "SonarCloudPublish",
            "ComponentGovernanceComponentDetection",
            "AdvancedSecurity-Codeql-Init",
            "AdvancedSecurity-Codeql-Autobuild",
            "AdvancedSecurity-Codeql-Analyze",
            "AdvancedSecurity-Dependency-Scanning",
            "AdvancedSecurity-Publish",
            "CodeQL3000Init",
            "CodeQL3000Finalize",
            "CredScan",
            "PoliCheck",
            "AntiMalware",
            "SdtReport",
            "PublishSecurityAnalysisLogs",
            "PostAnalysis",
            "MicrosoftSecurityDevOps",
            "WhiteSource",
            "SnykSecurityScan",
            "BuildQualityChecks",
        ],
        is_dispensable: true,
        why: "the analysis is a service that a run on this machine does not talk to",
    },
    Elsewhere {
        tasks: &["PublishSymbols", "PublishPipelineMetadata"],
        is_dispensable: true,
        why: "there is no server for them here",
    },
    Elsewhere {
        tasks: &["PublishHtmlReport", "PublishCucumberReport", "UploadPostmanHtmlReport"],
        is_dispensable: true,
        why: "what it publishes is a page of Azure DevOps",
    },
    Elsewhere {
        tasks: &[
            "AzureAppConfigurationExport",
            "AzureAppConfigurationImport",
            "AzureAppConfigurationSnapshot",
            "AzureAppServiceManage",
            "AzureAppServiceSettings",
            "AzureCLI",
            "AzureCloudPowerShellDeployment",
            "AzureContainerApps",
            "AzureFileCopy",
            "AzureFunction",
            "AzureFunctionApp",
            "AzureFunctionAppContainer",
            "AzureFunctionOnKubernetes",
            "AzureIoTEdge",
            "AzureKeyVault",
            "AzureMonitor",
            "AzureMysqlDeployment",
            "AzureNLBManagement",
            "AzurePowerShell",
            "AzureResourceGroupDeployment",
            "AzureResourceManagerTemplateDeployment",
            "AzureRmWebAppDeployment",
            "AzureSpringCloud",
            "AzureStaticWebApp",
            "AzureVmssDeployment",
            "AzureWebApp",
            "AzureWebAppContainer",
            "BicepDeploy",
            "SqlAzureDacpacDeployment",
        ],
        is_dispensable: false,
        why: "it acts on Azure by a service connection, which only Azure DevOps has",
    },
    Elsewhere {
        tasks: &[
            // Of the extensions for Terraform.
            "TerraformCLI",
            "TerraformTask",
            "TerraformTaskV1",
            "TerraformTaskV2",
            "TerraformTaskV3",
            "TerraformTaskV4",
            "TerraformTaskV5",
            // Of the AWS Toolkit.
            "AWSCLI",
            "AWSPowerShellModuleScript",
            "AWSShellScript",
            "BeanstalkCreateApplicationVersion",
            "BeanstalkDeployApplication",
            "CloudFormationCreateOrUpdateStack",
            "CloudFormationDeleteStack",
            "CloudFormationExecuteChangeSet",
            "CodeDeployDeployApplication",
            "ECRPullImage",
            "ECRPushImage",
            "LambdaDeployFunction",
            "LambdaInvokeFunction",
            "LambdaNETCoreDeploy",
            "S3Download",
            "S3Upload",
            "SecretsManagerCreateOrUpdateSecret",
            "SecretsManagerGetSecret",
            "SystemsManagerGetParameter",
            "SystemsManagerRunCommand",
            "SystemsManagerSetParameter",
        ],
        is_dispensable: false,
        why: "it acts on a cloud by a service connection, which only Azure DevOps has",
    },
    Elsewhere {
        tasks: &[
            "AppCenterDistribute",
            "CopyFilesOverSSH",
            "cURLUploader",
            "FtpUpload",
            "GitHubComment",
            "GitHubRelease",
            "JenkinsQueueJob",
            "NuGetPublisher",
            "PublishToAzureServiceBus",
            "PyPIPublisher",
            "ServiceFabricComposeDeploy",
            "ServiceFabricDeploy",
            "SSH",
            "UniversalPackages",
        ],
        is_dispensable: false,
        why: "it publishes by a service connection, which only Azure DevOps has",
    },
];

impl Elsewhere {
    /// What is known of the task of this name.
    pub(crate) fn of(task: &str) -> Option<&'static Self> {
        let task = own_name(task);
        KINDS.iter().find(|kind| kind.tasks.iter().any(|known| known.eq_ignore_ascii_case(task)))
    }

    /// Whether the steps of the task are skipped with a warning.
    pub(crate) fn is_missed(&self) -> bool {
        !self.is_dispensable
    }

    /// Says that there is nothing to do.
    pub(super) async fn run(&self, step: &StepContext) -> TaskResult {
        if self.is_dispensable {
            step.output(&format!("This step has nothing to do: {}.", self.why)).await;
            return TaskResult::Succeeded;
        }
        step.warning(&format!("This step is left out: {}.", self.why)).await;
        TaskResult::Skipped
    }
}
