use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// A token or key. `Debug` and `Display` print a fixed text, `Serialize` is not implemented, and the memory is
/// zeroed on drop (except copies in TLS buffers or the terminal).
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// The value becomes unreadable except through [`Self::expose`].
    pub fn new(value: impl Into<String>) -> Self {
        Self(SecretString::from(value.into()))
    }

    /// The value. Call it only where the value is used.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn no_rendering_shows_it() {
        let secret = Secret::new("canary-4711");
        assert!(!format!("{secret} {secret:?} {:?}", Some(&secret)).contains("canary"));
        assert_eq!(secret.expose(), "canary-4711");
    }
}
