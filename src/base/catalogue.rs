//! The catalogue of failures: one row for each, and the only place where codes, exit codes and titles are
//! said. The page that `outrigger explain` shows for each is in `output/explain.txt`.
//!
//! A code is never reused. A new failure takes the next free one of its area: 01 outrigger itself, 02 input,
//! 03 refused before the first write, 04 rights, 05 left part-way, 06 locked, 07 in the way, 08 time, 09 proof,
//! 10 status.

use std::fmt;

use super::error::Kind;

macro_rules! catalogue {
    ($($name:ident = $code:literal, $kind:ident, $title:literal;)*) => {
        /// A failure that a user may meet. [`code`](Id::code) is what scripts see.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Id {
            $(#[doc = concat!($code, ": ", $title)] $name,)*
        }

        impl Id {
            /// All of them, in the order of their codes.
            pub const ALL: &[Id] = &[$(Id::$name),*];

            /// The stable code: `OR` and four digits, the first two name the area.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self { $(Id::$name => $code,)* }
            }

            /// Decides the exit code, unless [`Failure::with_kind`](super::error::Failure::with_kind) says more.
            #[must_use]
            pub fn kind(self) -> Kind {
                match self { $(Id::$name => Kind::$kind,)* }
            }

            /// One line, lower case, no full stop: what happened, without the values.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Id::$name => $title,)* }
            }
        }
    };
}

catalogue! {
    Internal = "OR0101", Unclassified, "something outrigger relies on did not work";
    Interrupted = "OR0102", Interrupted, "the run was interrupted";
    ClusterRefused = "OR0103", Unclassified, "the API server answered in a way outrigger has no better class for";
    GitlabUnclear = "OR0104", Unclassified, "GitLab answered in a way outrigger has no better class for";
    MissingInput = "OR0201", Usage, "values are missing, and nobody is there to ask";
    InvalidInput = "OR0202", Usage, "values cannot be used";
    SettingsFile = "OR0203", Usage, "the settings file cannot be used";
    WritableByOthers = "OR0204", Refused, "others may change a file that outrigger would have to trust";
    UnreadableRecord = "OR0205", Refused, "the record of this deployment cannot be read";
    MissingConsent = "OR0206", Usage, "consent is missing, which only the command line gives";
    NoRecord = "OR0207", Refused, "this machine has no record of the deployment";
    UnusableKubeconfig = "OR0301", Refused, "the kubeconfig cannot be used";
    ClusterUnreachable = "OR0302", Deadline, "the API server cannot be reached";
    ClusterCertificate = "OR0303", Refused, "the connection to the API server is not trustworthy";
    TlsVerificationOff = "OR0304", Refused, "the kubeconfig turns certificate checks off";
    AnotherCluster = "OR0305", Refused, "this is not the cluster, or not the GitLab, of this deployment";
    EndpointCertificate = "OR0306", Refused, "the runner would not accept the API server's certificate";
    BeingDeleted = "OR0307", Deadline, "a namespace, or an object in it, is being deleted";
    NotConfirmed = "OR0309", Refused, "you said no";
    NotGitlab = "OR0310", Refused, "what answers at GitLab's address is not GitLab's API";
    GitlabReadOnly = "OR0311", Refused, "GitLab can be read and not written to";
    GitlabNotFound = "OR0312", Refused, "GitLab does not show what was asked for";
    GitlabCertificate = "OR0313", Refused, "GitLab's certificate is not accepted";
    ClusterTlsUnsupported = "OR0314", Refused, "the runner could connect, but outrigger cannot";
    AnotherGitlab = "OR0315", Refused, "the deployment's runner is on another GitLab";
    NoPipelineFile = "OR0316", Refused, "there is no pipeline file to work with";
    PipelineLint = "OR0317", Refused, "GitLab's lint refuses the pipeline file";
    GitlabTooOld = "OR0318", Refused, "this GitLab is too old";
    MissingPrerequisite = "OR0319", Refused, "a step was asked for whose ground is not laid yet";
    AnotherScope = "OR0320", Refused, "the deployment's runner is for another project or group";
    NotKubernetes = "OR0321", Refused, "what answers is not a Kubernetes API server";
    NamespaceMissing = "OR0322", Refused, "a namespace does not exist";
    AnswerTooLarge = "OR0323", Refused, "a server sends more than outrigger reads";
    GitlabTlsUnsupported = "OR0330", Refused, "the runner could connect to GitLab, but outrigger cannot";
    AdmissionRefused = "OR0331", Refused, "a policy of the cluster refuses an object";
    QuotaExceeded = "OR0332", Refused, "a quota or a limit of the namespace refuses an object";
    CommitMessageRule = "OR0341", Refused, "the project's rules do not take the commit message";
    CommitRule = "OR0342", Refused, "the project's rules do not take this commit";
    PipelineFiltered = "OR0343", Refused, "the rules in the pipeline file leave no job to run";
    TooManyTags = "OR0344", Refused, "GitLab takes at most 50 tags for a runner";
    RunnerLimit = "OR0345", Refused, "no further runner can be created";
    GitlabInvalid = "OR0346", Refused, "GitLab does not take a request";
    GitlabMethodMissing = "OR0347", Refused, "this GitLab does not offer that";
    InvalidProxy = "OR0350", Refused, "a proxy setting cannot be used";
    UnknownCredentials = "OR0401", Denied, "the API server does not know you";
    MissingRights = "OR0402", Denied, "you may not do something that is needed";
    CannotGrant = "OR0403", Denied, "you may not grant the rights the runner needs";
    CredentialPlugin = "OR0404", Denied, "the program your kubeconfig uses to log in failed";
    UnprintableUser = "OR0405", Refused, "your user name cannot be shown as it is";
    GitlabTokenRefused = "OR0411", Denied, "GitLab does not take the token";
    GitlabTokenScope = "OR0412", Denied, "the GitLab token's scopes or permissions do not reach";
    GitlabForbidden = "OR0413", Denied, "GitLab does not let this user do that";
    UnfinishedCreation = "OR0415", Denied, "an unfinished creation cannot be looked into";
    RegistrationTokensOff = "OR0416", Denied, "GitLab has switched registration tokens off";
    IdentityVerification = "OR0421", Denied, "GitLab wants to know who you are before jobs run";
    ProtectedBranch = "OR0422", Denied, "GitLab does not let this user do that on this branch";
    GitlabProxyRefused = "OR0423", Denied, "something in front of GitLab refuses the request";
    NotRemoved = "OR0501", Partial, "teardown left something";
    TemporaryBindingLeft = "OR0502", Partial, "a right held for a moment could not be given back";
    FileNotWritten = "OR0503", Partial, "a file could not be written";
    StillDeleting = "OR0504", Deadline, "an object is still being deleted";
    ApiSilent = "OR0505", Deadline, "an API of the cluster does not answer";
    GeneratedObjects = "OR0506", Partial, "generators keep objects in a namespace";
    NotAnnounced = "OR0507", Partial, "a change is needed that the plan did not announce";
    Locked = "OR0601", Locked, "another run holds this deployment";
    ForeignObject = "OR0701", Foreign, "an object is in the way and is not ours";
    ForeignFile = "OR0702", Foreign, "a file is in the way and is not ours";
    AmbiguousRunner = "OR0703", Foreign, "a runner at GitLab carries our mark and is not provably ours";
    PipelineFileDiffers = "OR0704", Foreign, "the pipeline file says something else";
    RunnerTokenUnknown = "OR0705", Foreign, "the runner is in use, and its token is not known here";
    UnconfirmedOwner = "OR0706", Foreign, "objects carry an id of outrigger's, and nothing confirms that they are yours";
    SecretsInWorkTree = "OR0707", Refused, "a file with secrets would lie in a git work tree";
    Template = "OR0710", Unclassified, "the launch script's template does not render";
    ScriptValue = "OR0711", Refused, "a value cannot go into the launch script";
    RunnerConfig = "OR0712", Refused, "the file of --runner-config cannot be used";
    WaitTimeout = "OR0801", Deadline, "a wait ran out";
    TokenSecretEmpty = "OR0802", Deadline, "the token Secret stays empty";
    ClusterThrottled = "OR0803", Deadline, "the server is throttling";
    ClusterError = "OR0804", Deadline, "the server has a fault of its own";
    GitlabUnavailable = "OR0805", Deadline, "GitLab did not answer in time";
    PipelineTimeout = "OR0806", Deadline, "the pipeline has not ended within --wait";
    WebhookDown = "OR0821", Deadline, "an admission webhook does not answer";
    TokenClaims = "OR0901", Proof, "the token is not the one that was asked for";
    TokenIdentity = "OR0902", Proof, "the API server takes the token for somebody else";
    LifetimeShortened = "OR0903", Proof, "the cluster shortened the token's lifetime";
    ExtraRights = "OR0904", Proof, "the token may do more than the Role says";
    ForbiddenRights = "OR0905", Proof, "the token may do something it must never be able to";
    LackingRights = "OR0906", Proof, "the token works, but may not do what the runner must";
    PipelineFailed = "OR0910", Proof, "the pipeline, or our job in it, did not succeed";
    PipelineElsewhere = "OR0911", Proof, "the pipeline succeeded, but not on our runner";
    JobStuck = "OR0912", Proof, "the job cannot begin";
    ChangesPending = "OR1001", Pending, "there is something to change";
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
    fn codes_are_in_order_and_never_used_twice() {
        assert!(Id::ALL.windows(2).all(|pair| pair[0].code() < pair[1].code()));
        let digits = |id: &Id| {
            id.code().strip_prefix("OR").is_some_and(|rest| rest.len() == 4 && rest.parse::<u16>().is_ok())
        };
        assert!(Id::ALL.iter().all(digits));
    }
}
