//! Who is who in a cluster of the tests: keys, certificates, tokens.

use std::fmt::Write as _;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::common::bed::User;

/// Whom the harness itself authenticates as, so that the audit log tells its requests from outrigger's.
pub const HARNESS: &str = "test-harness";

/// Whom the controllers authenticate as.
pub const CONTROLLERS: &str = "system:kube-controller-manager";
/// Whom the scheduler authenticates as.
pub const SCHEDULER: &str = "system:kube-scheduler";
/// Whom the kubelet authenticates as, in the group of nodes.
pub const KUBELET: &str = "system:node:localhost";

/// The name of the one node. A loopback address is refused as a node's, so it is reached by this name.
pub const NODE: &str = "localhost";

/// A user's token. Its form makes it easy to search for, and it is good on this one cluster only.
pub fn token(cluster: &str, user: &str) -> String {
    let user: String = user.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("canary-{cluster}-{user}-W3xK8pQ2")
}

/// The token file: token, user, uid, groups.
pub fn tokens(cluster: &str) -> String {
    let users = [User::Admin, User::Binder, User::Limited, User::Nobody, User::Odd, User::Hostile];
    let users = users.map(User::name);
    let mut lines = String::new();
    for user in users.into_iter().chain([HARNESS, CONTROLLERS, SCHEDULER, KUBELET]) {
        let groups = match user {
            KUBELET => ",\"system:nodes\"",
            _ if user == HARNESS || user == User::Admin.name() => ",\"system:masters\"",
            _ => "",
        };
        let quoted = user.replace('"', "\"\"");
        let _ = writeln!(lines, "{},\"{quoted}\",\"{quoted}\"{groups}", token(cluster, user));
    }
    lines
}

/// The CA of one cluster, and the key that its ServiceAccounts' tokens are signed with.
pub struct Identity {
    /// The CA's certificate, PEM.
    pub ca: String,
    /// The key for ServiceAccount tokens, PEM.
    pub account_key: String,
    /// Its public half, PEM.
    pub account_public: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key, both PEM.
pub struct Signed {
    /// The certificate alone, without the CA's.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Identity {
    /// A new CA with new keys.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "outrigger tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let (ca_key, account) = (new_key(), new_key());
        let ca = params.self_signed(&ca_key).expect("a CA can be signed").pem();
        Self {
            ca,
            account_key: account.serialize_pem(),
            account_public: account.public_key_pem(),
            issuer: Issuer::new(params, ca_key),
        }
    }

    /// A certificate for a server on this machine.
    pub fn server(&self, name: &str) -> Signed {
        let names = ["127.0.0.1", NODE].map(str::to_owned);
        let params = CertificateParams::new(names).expect("these names are valid");
        self.sign(params, name, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate for a client with all rights.
    pub fn client(&self, name: &str) -> Signed {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationName, "system:masters");
        self.sign(params, name, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(&self, mut params: CertificateParams, name: &str, usage: ExtendedKeyUsagePurpose) -> Signed {
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let key = new_key();
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate can be signed").pem();
        Signed { certificate, key: key.serialize_pem() }
    }
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("a key can be made")
}
