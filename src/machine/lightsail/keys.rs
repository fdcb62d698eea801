//! Credentials of AWS.

use jiff::Timestamp;

use crate::base::secret::Secret;

const MASK: &str = "[masked]";

/// What requests are signed with.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    /// The access key id.
    pub id: Secret,
    pub secret: Secret,
    /// The session token of temporary credentials.
    pub token: Option<Secret>,
    pub expires: Option<Timestamp>,
}

impl Keys {
    /// Fails with the reason for values that no header and no signature can have.
    pub fn new(
        id: &str,
        secret: &str,
        token: Option<&str>,
        expires: Option<Timestamp>,
    ) -> Result<Self, String> {
        let token = token.filter(|token| !token.is_empty());
        for (name, value) in [("access key id", id), ("secret access key", secret)]
            .into_iter()
            .chain(token.map(|token| ("session token", token)))
        {
            if value.is_empty() {
                return Err(format!("the {name} is empty"));
            }
            if value.len() > 16 * 1024 || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(format!("the {name} has a character that none has (a line break or blank?)"));
            }
        }
        Ok(Self { id: Secret::new(id), secret: Secret::new(secret), token: token.map(Secret::new), expires })
    }

    /// Whether they end within `seconds` from now.
    pub fn ends_within(&self, seconds: i64) -> bool {
        self.expires.is_some_and(|end| end.as_second() - Timestamp::now().as_second() <= seconds)
    }

    /// The text without these values. AWS quotes the canonical request, with the session token, when a signature is
    /// wrong.
    pub fn mask(&self, text: &str) -> String {
        let values = [&self.id, &self.secret].into_iter().chain(&self.token);
        values.fold(text.to_owned(), |text, value| text.replace(value.expose(), MASK))
    }
}

#[cfg(feature = "aws")]
impl Keys {
    /// In the form of AWS's library.
    pub fn for_library(&self) -> aws_credential_types::Credentials {
        let token = self.token.as_ref().map(|token| token.expose().to_owned());
        let expires = self.expires.map(std::time::SystemTime::from);
        aws_credential_types::Credentials::new(
            self.id.expose(),
            self.secret.expose(),
            token,
            expires,
            "outrigger",
        )
    }

    pub fn from_library(given: &aws_credential_types::Credentials) -> Result<Self, String> {
        let expires = given.expiry().map(jiff::Timestamp::try_from).transpose();
        let expires = expires.map_err(|_| "they end at an impossible time".to_owned())?;
        Self::new(given.access_key_id(), given.secret_access_key(), given.session_token(), expires)
    }
}
