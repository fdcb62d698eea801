//! The catalogue of failures: the only definition of codes, exit codes and titles, one row per failure. The
//! pages of `outrigger explain` are in `output/explain.txt`.
//!
//! A code is never reused. A new failure takes the next free code of its area: 01 outrigger itself, 02 input,
//! 03 refused before the first write, 04 rights, 05 left part-way, 06 locked, 07 in the way, 08 time, 09 proof,
//! 10 status.

use std::fmt;

use super::error::Kind;

macro_rules! catalogue {
    ($($name:ident = $code:literal, $kind:ident, $title:literal;)*) => {
        /// A failure that a user can see. Scripts see its [`code`](Id::code).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Id {
            $(#[doc = concat!($code, ": ", $title)] $name,)*
        }

        impl Id {
            /// In the order of their codes.
            pub const ALL: &[Id] = &[$(Id::$name),*];

            /// The stable code: `OR` and four digits, of which the first two are the area.
            pub fn code(self) -> &'static str {
                match self { $(Id::$name => $code,)* }
            }

            /// Decides the exit code, unless [`Failure::with_kind`](super::error::Failure::with_kind) replaces it.
            pub fn kind(self) -> Kind {
                match self { $(Id::$name => Kind::$kind,)* }
            }

            /// One line in lower case without a full stop and without values.
            pub fn title(self) -> &'static str {
                match self { $(Id::$name => $title,)* }
            }
        }
    };
}

catalogue! {
    Internal = "OR0101", Unclassified, "internal error";
    Interrupted = "OR0102", Interrupted, "the run was interrupted";
    ClusterRefused = "OR0103", Unclassified, "the API server refused a request";
    GitlabUnclear = "OR0104", Unclassified, "unexpected response from GitLab";
    MissingInput = "OR0201", Usage, "required values are missing";
    InvalidInput = "OR0202", Usage, "invalid values";
    SettingsFile = "OR0203", Usage, "invalid settings file";
    WritableByOthers = "OR0204", Refused, "other users can change a file that outrigger relies on";
    UnreadableRecord = "OR0205", Refused, "cannot read the record of this deployment";
    MissingConsent = "OR0206", Usage, "consent is required on the command line";
    NoRecord = "OR0207", Refused, "this machine has no record of the deployment";
    NoDeployment = "OR0208", Refused, "no such deployment";
    NoSsh = "OR0209", Usage, "ssh cannot be started";
    NoAwsSupport = "OR0210", Usage, "this outrigger was built without AWS support";
    NoAwsCredentials = "OR0211", Usage, "there are no AWS credentials";
    AwsSettings = "OR0212", Usage, "invalid AWS settings";
    UnusableKubeconfig = "OR0301", Refused, "cannot use the kubeconfig";
    ClusterUnreachable = "OR0302", Deadline, "cannot reach the API server";
    ClusterCertificate = "OR0303", Refused, "the API server's certificate is not trusted";
    TlsVerificationOff = "OR0304", Refused, "the kubeconfig disables TLS verification";
    AnotherCluster = "OR0305", Refused, "another cluster than the recorded one";
    EndpointCertificate = "OR0306", Refused, "the runner would reject the API server's certificate";
    BeingDeleted = "OR0307", Deadline, "a namespace or an object is being deleted";
    NotConfirmed = "OR0309", Refused, "not confirmed";
    NotGitlab = "OR0310", Refused, "the GitLab URL does not lead to a GitLab API";
    GitlabReadOnly = "OR0311", Refused, "GitLab is read-only";
    GitlabNotFound = "OR0312", Refused, "not found in GitLab, or not visible to the token";
    GitlabCertificate = "OR0313", Refused, "GitLab's certificate is not trusted";
    ClusterTlsUnsupported = "OR0314", Refused, "outrigger's TLS library does not support the API server's certificate";
    AnotherGitlab = "OR0315", Refused, "the deployment's runner is on another GitLab instance";
    NoPipelineFile = "OR0316", Refused, "there is no pipeline file";
    PipelineLint = "OR0317", Refused, "the pipeline file is invalid according to GitLab's lint";
    GitlabTooOld = "OR0318", Refused, "the GitLab version is too old";
    MissingPrerequisite = "OR0319", Refused, "a prerequisite step has not run yet";
    AnotherScope = "OR0320", Refused, "the deployment's runner is for another project or group";
    NotKubernetes = "OR0321", Refused, "the server is not a Kubernetes API server";
    NamespaceMissing = "OR0322", Refused, "a namespace does not exist";
    AnswerTooLarge = "OR0323", Refused, "a server's response is too large";
    GitlabTlsUnsupported = "OR0330", Refused, "outrigger's TLS library does not support GitLab's certificate";
    AdmissionRefused = "OR0331", Refused, "an admission policy rejects an object";
    QuotaExceeded = "OR0332", Refused, "a ResourceQuota or LimitRange rejects an object";
    CommitMessageRule = "OR0341", Refused, "a push rule rejects the commit message";
    CommitRule = "OR0342", Refused, "a push rule or server hook rejects the commit";
    PipelineFiltered = "OR0343", Refused, "the rules in the pipeline file exclude all jobs";
    TooManyTags = "OR0344", Refused, "a runner can have at most 50 tags";
    RunnerLimit = "OR0345", Refused, "the runner limit is reached";
    GitlabInvalid = "OR0346", Refused, "GitLab rejects a request";
    GitlabMethodMissing = "OR0347", Refused, "this GitLab does not support the request";
    InvalidProxy = "OR0350", Refused, "invalid proxy setting";
    HostKeyUnknown = "OR0351", Refused, "the host key of the machine is not known";
    UnusableHost = "OR0352", Refused, "the machine cannot be used";
    SshSettings = "OR0353", Refused, "ssh's own configuration is invalid";
    AwsInvalid = "OR0354", Refused, "AWS rejects a request";
    AwsAccount = "OR0355", Refused, "the AWS account or its region is not ready";
    AwsQuota = "OR0356", Refused, "a quota of the AWS account is reached";
    AwsCertificate = "OR0357", Refused, "the certificate of an AWS endpoint is not trusted";
    NotAws = "OR0358", Refused, "a response is not that of AWS's API";
    AwsNotFound = "OR0359", Refused, "not found in the AWS account and region";
    AnotherAccount = "OR0360", Refused, "another AWS account or region than the recorded one";
    VmStopped = "OR0361", Refused, "the VM is not running";
    NotOffered = "OR0362", Refused, "the AWS region does not offer this";
    PrivateEndpoint = "OR0363", Refused, "a VM elsewhere cannot reach the runner's endpoint";
    UnknownCredentials = "OR0401", Denied, "the API server rejects your credentials";
    MissingRights = "OR0402", Denied, "you lack required permissions";
    CannotGrant = "OR0403", Denied, "you cannot grant the permissions the runner needs";
    CredentialPlugin = "OR0404", Denied, "the kubeconfig's credential plugin failed";
    UnprintableUser = "OR0405", Refused, "your user name is empty or contains control or invisible characters";
    GitlabTokenRefused = "OR0411", Denied, "GitLab rejects the token";
    GitlabTokenScope = "OR0412", Denied, "the GitLab token lacks scopes or permissions";
    GitlabForbidden = "OR0413", Denied, "the GitLab user lacks permission";
    UnfinishedCreation = "OR0415", Denied, "cannot check an unfinished runner creation";
    RegistrationTokensOff = "OR0416", Denied, "registration tokens are disabled in GitLab";
    IdentityVerification = "OR0421", Denied, "GitLab requires identity verification";
    ProtectedBranch = "OR0422", Denied, "the branch is protected";
    GitlabProxyRefused = "OR0423", Denied, "a proxy or firewall in front of GitLab refuses the request";
    SshDenied = "OR0424", Denied, "the machine does not accept the login";
    NoRoot = "OR0425", Denied, "the login on the machine has no root rights";
    AwsCredentials = "OR0426", Denied, "a source of AWS credentials failed";
    AwsUnknown = "OR0427", Denied, "AWS rejects the credentials";
    AwsForbidden = "OR0428", Denied, "the AWS user or role lacks a permission";
    AwsExpired = "OR0429", Denied, "the AWS credentials have expired";
    AwsClock = "OR0430", Denied, "this machine's clock differs from that of AWS";
    NotRemoved = "OR0501", Partial, "teardown did not remove everything";
    TemporaryBindingLeft = "OR0502", Partial, "cannot delete the temporary RoleBinding";
    FileNotWritten = "OR0503", Partial, "cannot write a file";
    StillDeleting = "OR0504", Deadline, "an object is still being deleted";
    ApiUnresponsive = "OR0505", Deadline, "an API of the cluster does not respond";
    GeneratedObjects = "OR0506", Partial, "a controller recreates objects in a namespace";
    NotAnnounced = "OR0507", Partial, "a required change is not in the plan";
    ScriptFailed = "OR0508", Partial, "the script failed on the machine";
    AwsOperation = "OR0509", Partial, "AWS could not carry out an operation";
    PortsLeft = "OR0510", Partial, "a port of the VM may still be open";
    Locked = "OR0601", Locked, "another run holds this deployment";
    HostLocked = "OR0602", Locked, "another script runs on the machine";
    ForeignObject = "OR0701", Foreign, "an existing object was not created by this deployment";
    ForeignFile = "OR0702", Foreign, "an existing file was not written by this deployment";
    AmbiguousRunner = "OR0703", Foreign, "cannot confirm that a marked runner in GitLab belongs to this deployment";
    PipelineFileDiffers = "OR0704", Foreign, "the pipeline file has other content";
    RunnerTokenUnknown = "OR0705", Foreign, "the token of the runner in use is not known on this machine";
    UnconfirmedOwner = "OR0706", Foreign, "cannot confirm that the deployment's objects are yours";
    SecretsInWorkTree = "OR0707", Refused, "a file with secrets would be written into a git work tree";
    HostForeign = "OR0708", Foreign, "the machine has a GitLab Runner or an entry that is not this deployment's";
    ForeignVm = "OR0709", Foreign, "an existing instance was not created by this deployment";
    Template = "OR0710", Unclassified, "cannot render the launch script's template";
    ScriptValue = "OR0711", Refused, "a value is invalid in the launch script";
    RunnerConfig = "OR0712", Refused, "invalid --runner-config file";
    AwsNameTaken = "OR0713", Foreign, "another resource of the AWS region has the name";
    WaitTimeout = "OR0801", Deadline, "timed out";
    TokenSecretEmpty = "OR0802", Deadline, "the cluster did not fill the token Secret";
    ClusterThrottled = "OR0803", Deadline, "the API server throttles requests";
    ClusterError = "OR0804", Deadline, "the API server reports an internal error";
    GitlabUnavailable = "OR0805", Deadline, "GitLab did not respond in time";
    PipelineTimeout = "OR0806", Deadline, "the pipeline did not finish within --wait";
    SshUnreachable = "OR0807", Deadline, "cannot connect to the machine with ssh";
    NoContact = "OR0808", Deadline, "the runner on the machine did not contact GitLab in time";
    HostCannotReach = "OR0810", Deadline, "the machine does not reach the API server";
    HostWithoutGitlab = "OR0811", Deadline, "the machine does not reach GitLab";
    AwsUnavailable = "OR0812", Deadline, "AWS did not respond in time";
    VmNotReady = "OR0813", Deadline, "the VM is not ready in time";
    WebhookDown = "OR0821", Deadline, "an admission webhook does not respond";
    TokenClaims = "OR0901", Proof, "the token's claims do not match the ServiceAccount";
    TokenIdentity = "OR0902", Proof, "the API server maps the token to another account";
    LifetimeShortened = "OR0903", Proof, "the cluster shortened the token's lifetime";
    ExtraRights = "OR0904", Proof, "the token has more permissions than the Role grants";
    ForbiddenRights = "OR0905", Proof, "the token has forbidden permissions";
    LackingRights = "OR0906", Proof, "the token lacks permissions the runner needs";
    PipelineFailed = "OR0910", Proof, "the pipeline, or the job on this deployment's runner, did not succeed";
    PipelineElsewhere = "OR0911", Proof, "the pipeline ran on another runner";
    JobStuck = "OR0912", Proof, "the job cannot start";
    HostKeyChanged = "OR0913", Proof, "the machine has another host key";
    HostProof = "OR0914", Proof, "the runner's credentials are refused on the machine";
    RolledBack = "OR0915", Proof, "the new version of gitlab-runner did not work, and the old one is back";
    ChangesPending = "OR1001", Pending, "changes are pending";
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::Id;

    #[test]
    fn codes_are_unique_and_in_order() {
        assert!(Id::ALL.windows(2).all(|pair| pair[0].code() < pair[1].code()));
        let digits = |id: &Id| {
            id.code().strip_prefix("OR").is_some_and(|rest| rest.len() == 4 && rest.parse::<u16>().is_ok())
        };
        assert!(Id::ALL.iter().all(digits));
    }
}
