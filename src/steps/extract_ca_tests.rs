//! What verifies the endpoint is told, with all that is worth saying.

use super::*;
use crate::base::endpoint::Endpoint;
use crate::steps::fixture::{self, World};

#[expect(clippy::unnecessary_wraps, reason = "it is what the step sees")]
fn base(_: &mut World) -> Option<Trust> {
    Some(Trust {
        endpoint: Endpoint::parse("https://k.test:6443", "it").expect("a URL"),
        ca_pem: Some("PEM".to_owned()),
        fingerprint: "AA:BB:CC:DD".to_owned(),
        days_left: 90,
        source: "the kubeconfig".to_owned(),
        members: 1,
        left_out: 0,
        unproven: None,
        warnings: Vec::new(),
    })
}

#[test]
fn decisions() {
    fixture::table(
        &ExtractCa,
        base,
        |act| match *act {},
        &[
            ("one", &[], |_, _| {}, &["Keep: 1 certificate from the kubeconfig, 90 days left"]),
            (
                "one of several",
                &[],
                |_, seen| seen.as_mut().expect("one").left_out = 2,
                &["Keep: (2 other certificates not needed)"],
            ),
            (
                "the system's roots",
                &[],
                |_, seen| seen.as_mut().expect("one").ca_pem = None,
                &["Keep: not needed: the system's roots verify it"],
            ),
            (
                "warnings, and what could not be proven",
                &[],
                |_, seen| {
                    let trust = seen.as_mut().expect("one");
                    trust.warnings.push("it ends soon".to_owned());
                    trust.unproven = Some("it cannot be reached from here".to_owned());
                },
                &["Keep: it ends soon | it cannot be reached from here"],
            ),
            ("nothing was looked at", &[], |_, seen| *seen = None, &[]),
        ],
    );
}
