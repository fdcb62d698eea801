//! The credentials of a kubeconfig's user, validated before the library reads them.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::kubeconfig::{Provider, Selection, User};
use super::plugin::{BAD_TOKEN, fits_header};
use crate::base::error::{Command, Failure, Id, Result};
use crate::base::files::Intake;
use crate::x509;
use crate::x509::tls;

pub(super) fn unusable(context: &str, why: impl Into<String>) -> Failure {
    Failure::new(Id::UnusableKubeconfig, format!("cannot use context {context:?}")).detail("because", why)
}

/// The bytes of a value in base64 (`…-data`) or in a file; refuses both together, as kubectl does.
pub(super) async fn data(
    intake: &Intake,
    context: &str,
    what: &str,
    inline: &str,
    file: &str,
) -> Result<Option<Vec<u8>>> {
    let inline = inline.trim();
    match (inline.is_empty(), file.is_empty()) {
        (true, true) => Ok(None),
        (false, false) => Err(unusable(context, format!("it has both {what}-data and {what}"))),
        (false, true) => {
            complete(context, &format!("{what}-data"), inline)?;
            let bytes = x509::decode_ca_data(inline);
            bytes.map(Some).map_err(|fault| unusable(context, format!("invalid {what}-data: {fault}")))
        }
        (true, false) => match intake.file(Path::new(file)).await? {
            Some(bytes) => Ok(Some(bytes.to_vec())),
            None => Err(unusable(context, format!("{what} {file} does not exist"))),
        },
    }
}

/// Refuses the placeholders that `kubectl config view` prints instead of secrets.
fn complete(context: &str, what: &str, value: &str) -> Result<()> {
    let value = value.trim();
    if !["DATA+OMITTED", "REDACTED", "DATA OMITTED"].contains(&value) {
        return Ok(());
    }
    let why = format!("{what} is {value:?}: kubectl config view printed this kubeconfig without its secrets");
    let command = Command::Whole("kubectl config view --raw --minify --flatten".to_owned());
    Err(unusable(context, why).hint(("print it with its secrets", command)))
}

/// Credentials with a token only.
pub(super) fn bearer(token: &str) -> Result<kube::config::AuthInfo> {
    if !fits_header(token) {
        let text = "the token contains a character that is invalid in an HTTP header";
        return Err(Failure::new(Id::TokenIdentity, text));
    }
    Ok(kube::config::AuthInfo { token: Some(token.to_owned().into()), ..kube::config::AuthInfo::default() })
}

/// The user's credentials, validated, without those of an exec plugin.
pub(super) async fn auth_info(
    context: &str,
    user: &User,
    selection: &Selection<'_>,
    intake: &Intake,
) -> Result<kube::config::AuthInfo> {
    let unusable = |why: &str| unusable(context, why);
    let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let mut auth = kube::config::AuthInfo::default();
    let basic = !user.username.is_empty() || !user.password.is_empty();
    if basic && !(user.token.is_empty() && user.token_file.is_empty()) {
        return Err(unusable("its user has a token and a password"));
    }
    if user.exec.is_some() && user.auth_provider.is_some() {
        return Err(unusable("its user has an exec plugin and an auth-provider"));
    }
    if basic {
        complete(context, "password", &user.password)?;
        auth.username = Some(user.username.clone());
        auth.password = Some(user.password.clone().into());
    }
    let token = match (token(context, user, intake).await?, &user.auth_provider) {
        (None, Some(provider)) if !basic => Some(id_token(context, provider)?),
        (token, _) => token,
    };
    if let Some(token) = token {
        complete(context, "token", &token)?;
        if !fits_header(&token) {
            return Err(unusable(BAD_TOKEN));
        }
        auth.token = Some(token.into());
    }
    let (inline, file) = (&user.client_certificate_data, &user.client_certificate);
    if let Some(certificate) = data(intake, context, "client-certificate", inline, file).await? {
        let key = data(intake, context, "client-key", &user.client_key_data, &user.client_key)
            .await?
            .ok_or_else(|| unusable("its user has a client certificate without a key"))?;
        tls::check_identity(&certificate, &key).map_err(|why| unusable(&why))?;
        auth.client_certificate_data = Some(STANDARD.encode(certificate));
        auth.client_key_data = Some(STANDARD.encode(key).into());
    }
    auth.impersonate = selection.as_user.map(str::to_owned).or_else(|| given(&user.impersonate));
    auth.impersonate_uid = given(&user.as_uid);
    // As in kubectl, the groups of the command line replace those of the kubeconfig.
    let groups = if selection.as_groups.is_empty() { &user.as_groups } else { selection.as_groups };
    auth.impersonate_groups = (!groups.is_empty()).then(|| groups.to_vec());
    auth.impersonate_user_extra =
        (!user.as_user_extra.is_empty()).then(|| user.as_user_extra.clone().into_iter().collect());
    let more = auth.impersonate_uid.is_some()
        || auth.impersonate_groups.is_some()
        || auth.impersonate_user_extra.is_some();
    if more && auth.impersonate.is_none() {
        if !selection.as_groups.is_empty() {
            return Err(Failure::new(Id::InvalidInput, "--as-group requires --as")
                .hint("add --as USER: a group is impersonated together with a user"));
        }
        return Err(unusable("its user has as-uid, as-groups or as-user-extra without as"));
    }
    Ok(auth)
}

/// As in client-go, the token file has precedence if it can be read.
async fn token(context: &str, user: &User, intake: &Intake) -> Result<Option<String>> {
    let inline = Some(user.token.clone()).filter(|token| !token.is_empty());
    if user.token_file.is_empty() {
        return Ok(inline);
    }
    let unusable = |why: &str| unusable(context, format!("token file {} {why}", user.token_file));
    let text = match intake.secret_file(Path::new(&user.token_file)).await {
        Ok(Some(bytes)) => String::from_utf8_lossy(&bytes).trim().to_owned(),
        Ok(None) if inline.is_none() => return Err(unusable("does not exist")),
        Err(failure) if inline.is_none() => return Err(failure),
        _ => String::new(),
    };
    let token = Some(text).filter(|text| !text.is_empty()).or(inline);
    token.map(Some).ok_or_else(|| unusable("is empty"))
}

/// The ID token of `oidc`, the only auth-provider that kubectl still supports.
fn id_token(context: &str, provider: &Provider) -> Result<String> {
    if provider.name != "oidc" {
        let why = format!("its user has auth-provider {:?}, which kubectl no longer has", provider.name);
        let hint = "get a new kubeconfig, with an exec plugin (gke-gcloud-auth-plugin, kubelogin)";
        return Err(unusable(context, why).hint(hint));
    }
    provider.config.get("id-token").filter(|token| !token.is_empty()).cloned().ok_or_else(|| {
        unusable(context, "its auth-provider oidc has no id-token")
            .hint(("let kubectl log in with the same context", Command::kubectl("version")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn judged(user: &str) -> Result<kube::config::AuthInfo, String> {
        let user = serde_saphyr::from_str(user).expect("a user");
        auth_info("c", &user, &Selection::default(), &Intake::default())
            .await
            .map_err(|failure| failure.details[0].1.clone())
    }

    #[tokio::test]
    async fn every_token_is_validated() {
        for odd in ["a\\nb", "a b", "ab\\n", "é", "a\\u0000b"] {
            for user in [
                format!("{{token: \"{odd}\"}}"),
                format!("{{auth-provider: {{name: oidc, config: {{id-token: \"{odd}\"}}}}}}"),
            ] {
                assert!(judged(&user).await.expect_err(&user).contains("header"), "{user}");
            }
        }
        assert!(bearer("a\nb").is_err() && bearer("").is_err() && bearer("a.b-c_d").is_ok());
    }

    #[tokio::test]
    async fn groups_of_the_command_line_replace_those_of_the_kubeconfig() {
        let as_groups = ["g:a,b".to_owned(), "h".to_owned()];
        let judged = async |user: &str, as_user| {
            let user = serde_saphyr::from_str(user).expect("a user");
            let selection = Selection { as_user, as_groups: &as_groups, ..Selection::default() };
            auth_info("c", &user, &selection, &Intake::default()).await
        };
        let auth = judged("{token: a, as-groups: [x]}", Some("u")).await.expect("a user");
        assert_eq!(
            (auth.impersonate.as_deref(), auth.impersonate_groups),
            (Some("u"), Some(as_groups.to_vec()))
        );
        let auth = judged("{token: a, as: v}", None).await.expect("the user of the kubeconfig");
        assert_eq!(
            (auth.impersonate.as_deref(), auth.impersonate_groups),
            (Some("v"), Some(as_groups.to_vec()))
        );
        let failure = judged("{token: a}", None).await.expect_err("no user");
        assert_eq!((failure.id, failure.kind.exit_code()), (Id::InvalidInput, 2));
    }

    #[tokio::test]
    async fn users_are_refused_as_kubectl_refuses_them() {
        for (user, why) in [
            ("{token: a, username: b}", "a token and a password"),
            ("{exec: {}, auth-provider: {name: oidc}}", "an exec plugin and an auth-provider"),
            ("{auth-provider: {name: gcp}}", "no longer has"),
            ("{auth-provider: {name: oidc}}", "no id-token"),
            ("{as-groups: [g]}", "without as"),
            ("{token: REDACTED}", "kubectl config view"),
            ("{client-key-data: REDACTED, client-certificate-data: DATA+OMITTED}", "kubectl config view"),
            ("{client-certificate-data: YQ==, client-certificate: a}", "both"),
        ] {
            assert!(judged(user).await.expect_err(user).contains(why), "{user}");
        }
        assert!(
            judged("{token: a, auth-provider: {name: gcp}}").await.expect("the token counts").token.is_some()
        );
    }
}
