//! In place of the credentials in a build without the feature `aws`: there are none.

use std::convert::Infallible;

use super::Source;
use super::call::Unsigned;
use super::keys::Keys;
use crate::base::error::{Failure, Id, Result};
use crate::base::request::Limits;

pub(super) struct Credentials(Infallible);

#[expect(clippy::unused_async, reason = "the signatures of the other build")]
impl Credentials {
    /// Fails with OR0210.
    pub async fn find(_: &Source, _: Option<&str>, _: &Limits) -> Result<Self> {
        Err(Failure::new(Id::NoAwsSupport, "this outrigger was built without AWS support")
            .hint("use a build of outrigger with the default features")
            .hint("or make the VM yourself, and use --host USER@HOST"))
    }

    pub fn region(&self) -> &str {
        match self.0 {}
    }

    pub fn shown(&self) -> &str {
        match self.0 {}
    }

    pub fn renewal(&self) -> Option<&str> {
        match self.0 {}
    }

    pub async fn check(&self, _: &Limits) -> Result<()> {
        match self.0 {}
    }

    pub async fn keys(&self) -> Result<Keys> {
        match self.0 {}
    }

    pub fn forget(&self, _: &Keys) -> bool {
        match self.0 {}
    }

    pub fn sign(&self, _: &Keys, _: &Unsigned<'_>) -> Result<Vec<(String, String)>> {
        match self.0 {}
    }
}
