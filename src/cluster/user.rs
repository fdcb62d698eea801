//! The credentials of a kubeconfig's user, checked before any library sees them.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::kubeconfig::{Provider, User};
use super::plugin::fits_header;
use crate::base::error::{Failure, Id, Result};
use crate::base::files::Intake;
use crate::x509;
use crate::x509::tls;

/// Why a part of a context cannot be used.
pub(super) enum Fault {
    Words(String),
    Hinted(String, &'static str),
    Whole(Failure),
}

impl Fault {
    pub fn into_failure(self, context: &str) -> Failure {
        match self {
            Self::Words(why) => unusable(context, why),
            Self::Hinted(why, hint) => unusable(context, why).hint(hint),
            Self::Whole(failure) => failure,
        }
    }
}

pub(super) fn unusable(context: &str, why: String) -> Failure {
    Failure::new(Id::UnusableKubeconfig, format!("the context {context:?} cannot be used"))
        .detail("because", why)
}

/// The bytes of a value that stands in the kubeconfig in base64 (`…-data`) or in a file; both is refused, as
/// by kubectl.
pub(super) async fn data(
    intake: &Intake,
    what: &str,
    inline: &str,
    file: &str,
) -> Result<Option<Vec<u8>>, Fault> {
    let inline = inline.trim();
    match (inline.is_empty(), file.is_empty()) {
        (true, true) => Ok(None),
        (false, false) => Err(Fault::Words(format!("it has both {what}-data and {what}: kubectl takes one"))),
        (false, true) => {
            complete(&format!("{what}-data"), inline)?;
            let bytes = x509::decode_ca_data(inline);
            bytes.map(Some).map_err(|fault| Fault::Words(format!("its {what}-data {fault}")))
        }
        (true, false) => intake
            .file(Path::new(file))
            .await
            .map_err(Fault::Whole)?
            .map(|bytes| Some(bytes.to_vec()))
            .ok_or_else(|| Fault::Words(format!("its {what} {file} does not exist"))),
    }
}

/// Refuses what `kubectl config view` prints in place of a secret.
fn complete(what: &str, value: &str) -> Result<(), Fault> {
    if ["DATA+OMITTED", "REDACTED", "DATA OMITTED"].contains(&value.trim()) {
        return Err(Fault::Hinted(
            format!(
                "its {what} is {:?}: the file was printed by kubectl config view, which leaves secrets out",
                value.trim()
            ),
            "print it with them: kubectl config view --raw --minify --flatten",
        ));
    }
    Ok(())
}

/// Credentials that are a token and nothing else.
pub(super) fn bearer(token: &str) -> Result<kube::config::AuthInfo> {
    if !fits_header(token) {
        let text = "the token holds a character that no header can carry";
        return Err(Failure::new(Id::TokenIdentity, text));
    }
    Ok(kube::config::AuthInfo { token: Some(token.to_owned().into()), ..kube::config::AuthInfo::default() })
}

/// The user's credentials, checked, but for what a plugin gives.
pub(super) async fn auth_info(
    user: &User,
    as_user: Option<&str>,
    intake: &Intake,
) -> Result<kube::config::AuthInfo, Fault> {
    let words = |why: &str| Fault::Words(why.to_owned());
    let mut auth = kube::config::AuthInfo::default();
    let basic = !user.username.is_empty() || !user.password.is_empty();
    if basic && !(user.token.is_empty() && user.token_file.is_empty()) {
        return Err(words("its user has a token and a password: kubectl takes one"));
    }
    if user.exec.is_some() && user.auth_provider.is_some() {
        return Err(words("its user has an exec plugin and an auth-provider: kubectl takes one"));
    }
    if basic {
        complete("password", &user.password)?;
        auth.username = Some(user.username.clone());
        auth.password = Some(user.password.clone().into());
    }
    let token = match (token(user, intake).await?, &user.auth_provider) {
        (None, Some(provider)) if !basic => Some(id_token(provider)?),
        (token, _) => token,
    };
    if let Some(token) = token {
        complete("token", &token)?;
        if !fits_header(&token) {
            return Err(words(
                "its token holds a character that no header can carry (a line break or blank?)",
            ));
        }
        auth.token = Some(token.into());
    }
    let certificate =
        data(intake, "client-certificate", &user.client_certificate_data, &user.client_certificate).await?;
    if let Some(certificate) = certificate {
        let key = data(intake, "client-key", &user.client_key_data, &user.client_key)
            .await?
            .ok_or_else(|| words("its user has a client certificate without a key"))?;
        tls::check_identity(&certificate, &key).map_err(Fault::Words)?;
        auth.client_certificate_data = Some(STANDARD.encode(certificate));
        auth.client_key_data = Some(STANDARD.encode(key).into());
    }
    let more = !user.as_uid.is_empty() || !user.as_groups.is_empty() || !user.as_user_extra.is_empty();
    auth.impersonate =
        as_user.map(str::to_owned).or_else(|| Some(user.impersonate.clone()).filter(|name| !name.is_empty()));
    if more && auth.impersonate.is_none() {
        return Err(words("its user has as-uid, as-groups or as-user-extra without as"));
    }
    auth.impersonate_uid = Some(user.as_uid.clone()).filter(|uid| !uid.is_empty());
    auth.impersonate_groups = Some(user.as_groups.clone()).filter(|groups| !groups.is_empty());
    auth.impersonate_user_extra = (!user.as_user_extra.is_empty())
        .then(|| user.as_user_extra.iter().map(|(key, values)| (key.clone(), values.clone())).collect());
    Ok(auth)
}

/// The token as client-go takes it: the file wins as long as it can be read.
async fn token(user: &User, intake: &Intake) -> Result<Option<String>, Fault> {
    let inline = Some(user.token.clone()).filter(|token| !token.is_empty());
    if user.token_file.is_empty() {
        return Ok(inline);
    }
    let file = Path::new(&user.token_file);
    let read = intake.secret_file(file).await;
    let text = match read {
        Ok(Some(bytes)) => String::from_utf8_lossy(&bytes).trim().to_owned(),
        Ok(None) if inline.is_none() => {
            return Err(Fault::Words(format!("its token file {} does not exist", user.token_file)));
        }
        Err(failure) if inline.is_none() => return Err(Fault::Whole(failure)),
        _ => String::new(),
    };
    match (text.is_empty(), inline) {
        (false, _) => Ok(Some(text)),
        (true, Some(inline)) => Ok(Some(inline)),
        (true, None) => Err(Fault::Words(format!("its token file {} is empty", user.token_file))),
    }
}

/// The token of kubectl's one provider that is left, as it stands in the kubeconfig.
fn id_token(provider: &Provider) -> Result<String, Fault> {
    if provider.name != "oidc" {
        return Err(Fault::Hinted(
            format!("it logs in through the auth-provider {:?}, which kubectl no longer has", provider.name),
            "fetch the kubeconfig anew: it then names an exec plugin (gke-gcloud-auth-plugin, kubelogin)",
        ));
    }
    provider.config.get("id-token").filter(|token| !token.is_empty()).cloned().ok_or_else(|| {
        Fault::Hinted(
            "its auth-provider oidc has no id-token".to_owned(),
            "kubectl version with the same context fetches one",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same for every way in which a user may be written: judged before the library sees it.
    async fn judged(user: &str) -> Result<kube::config::AuthInfo, String> {
        let user = serde_saphyr::from_str(user).expect("a user");
        auth_info(&user, None, &Intake::default()).await.map_err(|fault| match fault {
            Fault::Words(why) | Fault::Hinted(why, _) => why,
            Fault::Whole(failure) => failure.message,
        })
    }

    #[tokio::test]
    async fn no_way_leads_a_token_past_the_check() {
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
