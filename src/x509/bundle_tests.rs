use super::*;

/// A real certificate; see `tests/data/certificates`.
const PEM: &str = include_str!("../../tests/data/certificates/no-key-ids.ca.pem");
const OTHER: &str = include_str!("../../tests/data/certificates/p-521-root.ca.pem");

fn read(text: &str) -> Bundle {
    read_bundle(text.as_bytes()).expect("a bundle")
}

fn fault(text: &str) -> BundleFault {
    read_bundle(text.as_bytes()).expect_err("no bundle")
}

#[test]
fn keeps_canonical_text() {
    let text = format!("{PEM}{OTHER}");
    let bundle = read(&text);
    assert_eq!(bundle.certificates.len(), 2);
    assert!(bundle.dropped.is_empty());
    assert_eq!(bundle.to_pem(), text);
}

#[test]
fn drops_carriage_returns_and_text_around_the_blocks() {
    let crlf = PEM.replace('\n', "\r\n");
    let around = format!("subject=/CN=x\n{PEM}\nsome more text\n{OTHER}trailing");
    assert_eq!(read(&crlf).to_pem(), PEM);
    assert_eq!(read(&around).to_pem(), format!("{PEM}{OTHER}"));
}

#[test]
fn repairs_blocks_that_go_skips() {
    let indented = PEM.lines().flat_map(|line| ["    ", line, "\n"]).collect::<String>();
    let joined = format!("{}{OTHER}", PEM.trim_end());
    let marked = format!("\u{feff}{PEM}");
    for (text, expected) in
        [(indented, PEM.to_owned()), (joined, format!("{PEM}{OTHER}")), (marked, PEM.to_owned())]
    {
        assert_eq!(read(&text).to_pem(), expected, "{text}");
    }
}

#[test]
fn drops_and_reports_bad_members() {
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let cut = &OTHER[..OTHER.len() / 2];
    let bundle = read(&format!("{garbage}{key}{PEM}{cut}"));
    assert_eq!(bundle.to_pem(), PEM);
    let [first, second, third] = bundle.dropped.as_slice() else { panic!("{:?}", bundle.dropped) };
    assert!(first.contains("block 1 of 4") && first.contains("well-formed"), "{first}");
    assert!(second.contains("PRIVATE KEY"), "{second}");
    assert!(third.contains("END line"), "{third}");
}

#[test]
fn distinguishes_faults() {
    assert_eq!(fault(""), BundleFault::Empty);
    assert_eq!(fault(" \r\n\t"), BundleFault::Empty);
    assert_eq!(fault("hello"), BundleFault::NotPem);
    assert_eq!(fault(&PEM[..PEM.len() - 30]), BundleFault::Truncated);
    assert_eq!(fault(&PEM.replace("CERTIFICATE", "TRUSTED CERTIFICATE")), BundleFault::Trusted);
    let der = read(PEM).certificates[0].der().to_vec();
    assert_eq!(read_bundle(&der), Err(BundleFault::Der));
    assert!(matches!(fault(&PEM.replace("MII", "!!!")), BundleFault::NoCertificate(_)));
    let headers = PEM.replacen("-----\n", "-----\nProc-Type: 4\n\n", 1);
    assert!(matches!(fault(&headers), BundleFault::NoCertificate(_)));
    for fault in [BundleFault::Empty, BundleFault::Der, BundleFault::Trusted, BundleFault::Truncated] {
        assert!(fault.to_string().starts_with("the CA bundle"));
    }
}

#[test]
fn a_broken_block_does_not_hide_the_next_one() {
    // A BEGIN without END before a good block; Go finds the block by searching backwards from its END.
    let text = format!("-----BEGIN CERTIFICATE-----\nAAAA\n{PEM}");
    assert_eq!(read(&text).to_pem(), PEM);
}

#[test]
fn base64_may_contain_line_breaks() {
    assert_eq!(decode_ca_data("aGVs\n  bG8=\r\n"), Ok(b"hello".to_vec()));
    assert!(matches!(decode_ca_data("aGVsbG8"), Err(BundleFault::Base64(_))), "Go requires the padding");
    assert!(matches!(decode_ca_data("%"), Err(BundleFault::Base64(_))));
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
        let _ = read_bundle(&bytes);
    }

    #[test]
    fn reads_back_its_own_output(
        pieces in proptest::collection::vec(
            proptest::sample::select(vec![
                PEM, OTHER, "-----BEGIN CERTIFICATE-----\n", "-----END CERTIFICATE-----", "\n", "  ", "a: b\n", "AAAA",
            ]),
            0..8,
        )
    ) {
        if let Ok(bundle) = read_bundle(pieces.concat().as_bytes()) {
            let again = read_bundle(bundle.to_pem().as_bytes()).expect("canonical");
            proptest::prop_assert_eq!(&again.certificates, &bundle.certificates);
            proptest::prop_assert!(again.dropped.is_empty());
        }
    }
}

#[test]
fn what_is_too_long_is_not_looked_at() {
    let text = "-----BEGIN CERTIFICATE-----\n".repeat(40_000);
    assert_eq!(read_bundle(text.as_bytes()), Err(BundleFault::TooLong));
}

#[test]
fn reports_a_limited_number_of_dropped_members() {
    let text = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".repeat(1000);
    let Err(BundleFault::NoCertificate(reasons)) = read_bundle(text.as_bytes()) else { panic!("no bundle") };
    assert_eq!((reasons.len(), reasons[8].as_str()), (9, "992 more blocks"));
}
