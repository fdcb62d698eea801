//! The line of the CA, with its warnings.

use super::*;
use crate::steps::fixture::{self, World};

#[expect(clippy::unnecessary_wraps, reason = "the type of the observation")]
fn base(_: &mut World) -> Option<Trust> {
    let source = "the kubeconfig".to_owned();
    Some(Trust { ca_pem: Some("PEM".to_owned()), source, members: 1, ..fixture::trust() })
}

#[test]
fn decisions() {
    fixture::table(
        &ExtractCa,
        base,
        |act| match *act {},
        &[
            (
                "shows the certificate and its source",
                &[],
                |_, _| {},
                &["Keep: 1 certificate from the kubeconfig, 90 days left"],
            ),
            (
                "counts certificates that are not needed",
                &[],
                |_, seen| seen.as_mut().expect("one").left_out = 2,
                &["Keep: (2 other certificates not needed)"],
            ),
            (
                "no certificate if the system's roots verify the endpoint",
                &[],
                |_, seen| seen.as_mut().expect("one").ca_pem = None,
                &["Keep: not needed: the system's roots verify it"],
            ),
            (
                "shows warnings and the reason for a missing proof",
                &[],
                |_, seen| {
                    let trust = seen.as_mut().expect("one");
                    trust.warnings.push("it ends soon".to_owned());
                    trust.unproven = Some("it cannot be reached from here".to_owned());
                },
                &[
                    "Keep: 1 certificate",
                    "Warning!: it ends soon",
                    "Warning!: it cannot be reached from here",
                ],
            ),
            (
                "a CA that expires within a month is a problem",
                &[],
                |_, seen| seen.as_mut().expect("one").days_left = 29,
                &["Keep: 29 days left", "Unhealthy!: expires in 29 days | renew it"],
            ),
            ("no line for teardown", &[], |_, seen| *seen = None, &[]),
        ],
    );
}
