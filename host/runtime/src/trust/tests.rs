//! What is trusted and what is not. The signatures were made with minisign 0.11, in both of its
//! formats.

use super::*;

const SAMPLE: &[u8] = b"a component, as far as a signature is concerned\n";
const KEY: &str = "RWTR6gsW/UUAK7Qugdeeu39laHVl9pDlWU5ryv7F3GGdyLJZ7C72J6m5";
/// A key that signed nothing here.
const OTHER_KEY: &str = "RWRz6dssQcIgrxDfN63OxD8wAOtaOEgGQmO7zSRTBJ9s0pQ5H1nlIbGr";
const PREHASHED: &str = "untrusted comment: signature from minisign secret key
RUTR6gsW/UUAKyjbfUtcdjndURcu2Yr9pAlAi5TrlXf9Rj1a/BDjDnSdb48zgTStUuF99QMp3LnEhbCMd2rBkGlitw9dmN5I1gg=
trusted comment: version 1.2
MIF0Vw2g3SqeoTxPlbTIbWwPSbH7pXDCKVOcr3A69vTI793OVjmBDvAi+JYVcvvM9KDBq37DVzr/nppitrvtBA==
";
const LEGACY: &str = "untrusted comment: signature from minisign secret key
RWTR6gsW/UUAK47EDQZEyX9eBnV+MwuAFOyWQCBfcUm3VLB7h/4WvYxoSnV8zRm5rof/AYU3asPpyBW9Epgusqzaj+/L7HK9wAE=
trusted comment: version 1.1
WtFfXq5/UhaszIjPRTJiPCVNeUEhwB6TYZcfY+Q438U/TFGfWGKae+8IyPT1mYUL6UiDrJ58+t6j4AW+iM0KCA==
";

fn digest() -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(SAMPLE)))
}

fn vet(trust: &Trust, bytes: &[u8], signature: Option<&str>) -> Result<TrustDecision, String> {
    let file = Path::new("/plugins/sample.wasm");
    let vetted = trust.vet(file, bytes.to_vec(), signature.map(str::as_bytes));
    vetted.map(|vetted| vetted.decision)
}

#[test]
fn without_rules_everything_is_trusted() {
    let trust = Trust::new([], []).unwrap();
    assert!(!trust.has_rules());
    assert_eq!(vet(&trust, SAMPLE, None), Ok(TrustDecision::NoRules));
    assert_eq!(vet(&trust, SAMPLE, Some("nonsense")), Ok(TrustDecision::NoRules));
}

#[test]
fn a_digest_is_enough_and_one_other_byte_is_not() {
    let digest = digest();
    let upper = format!("sha256:{}", digest.split_at(7).1.to_uppercase());
    for written in [&digest, &upper] {
        let trust = Trust::new([written.as_str()], []).unwrap();
        assert_eq!(vet(&trust, SAMPLE, None), Ok(TrustDecision::Digest));
        assert_eq!(vet(&trust, SAMPLE, Some("nonsense")), Ok(TrustDecision::Digest));
        let why = vet(&trust, &SAMPLE[1..], None).unwrap_err();
        assert!(why.contains("its digest is not allowed"), "{why}");
        // Nobody can sign for a gateway that knows no key.
        assert!(!why.contains("minisign"), "{why}");
        let other = hex::encode(Sha256::digest(&SAMPLE[1..]));
        assert!(why.contains(&format!("add \"sha256:{other}\" to `allow`")), "{why}");
    }
}

#[test]
fn signatures_of_both_formats_are_taken_with_what_they_say() {
    let trust = Trust::new([], [OTHER_KEY, KEY]).unwrap();
    for (signature, said) in [(PREHASHED, "version 1.2"), (LEGACY, "version 1.1")] {
        let (key, comment) = (KEY.to_owned(), said.to_owned());
        let signed = Ok(TrustDecision::Signature { key, comment });
        assert_eq!(vet(&trust, SAMPLE, Some(signature)), signed);
        assert_eq!(vet(&trust, SAMPLE, Some(&signature.replace('\n', "\r\n"))), signed);
    }
}

#[test]
fn what_is_not_signed_so_is_refused_with_the_reason() {
    let trust = Trust::new([], [KEY]).unwrap();
    let not_signed = vet(&trust, SAMPLE, None).unwrap_err();
    assert!(not_signed.contains("it is not signed"), "{not_signed}");
    assert!(not_signed.contains("`minisign -S -m sample.wasm`"), "{not_signed}");
    for signature in [PREHASHED, LEGACY] {
        // Cut off at each line, the last one apart: then it is whole.
        for (end, _) in signature.match_indices('\n').take(3) {
            let why = vet(&trust, SAMPLE, Some(&signature[..end])).unwrap_err();
            assert!(why.contains("not a minisign signature"), "{why}");
        }
        let why = vet(&trust, b"another", Some(signature)).unwrap_err();
        assert!(why.contains("not of these bytes"), "{why}");
        // What a signature says is signed too.
        let why = vet(&trust, SAMPLE, Some(&signature.replace("1.", "9."))).unwrap_err();
        assert!(why.contains("not of these bytes"), "{why}");
        let stranger = Trust::new([], [OTHER_KEY]).unwrap();
        let why = vet(&stranger, SAMPLE, Some(signature)).unwrap_err();
        assert!(why.contains("a key that the configuration does not name"), "{why}");
    }
    // One format's signature does not pass for the other's.
    let swapped = PREHASHED.replacen("RUTR", "RWTR", 1);
    assert!(vet(&trust, SAMPLE, Some(&swapped)).is_err());
    assert!(vet(&trust, SAMPLE, Some("\u{fffd}")).is_err());
}

#[test]
fn what_serves_is_judged_by_new_rules() {
    let file = Path::new("/plugins/sample.wasm");
    let digest = digest();
    let digits = digest.strip_prefix("sha256:").unwrap();
    let signed = TrustDecision::Signature { key: KEY.to_owned(), comment: "1".to_owned() };
    let rules = |digests: &[&str], keys: &[&str]| {
        Trust::new(digests.iter().copied(), keys.iter().copied()).unwrap()
    };
    let renew = |trust: Trust, decision: &TrustDecision| trust.renew(file, digits, decision).ok();
    assert_eq!(renew(rules(&[], &[KEY]), &signed), Some(signed.clone()));
    assert_eq!(renew(rules(&[], &[OTHER_KEY]), &signed), None);
    assert_eq!(renew(rules(&[&digest], &[OTHER_KEY]), &signed), Some(TrustDecision::Digest));
    assert_eq!(renew(rules(&[], &[]), &signed), Some(TrustDecision::NoRules));
    assert_eq!(renew(rules(&[], &[KEY]), &TrustDecision::NoRules), None);
    assert_eq!(renew(rules(&[], &[KEY]), &TrustDecision::Digest), None);
}

#[test]
fn rules_that_make_no_sense_are_refused() {
    let short = digest().split_at(20).0.to_owned();
    let bare = digest().split_at(7).1.to_owned();
    for digest in
        ["", "sha256:", "md5:abc", &short, &bare, &format!("{}g", digest().split_at(70).0)]
    {
        let refused = Trust::new([digest], []);
        assert_eq!(refused, Err(TrustError::Digest(digest.to_owned())));
    }
    for key in ["", "RW", "untrusted comment: minisign public key", &KEY[1..], &KEY[..40]] {
        assert_eq!(Trust::new([], [key]), Err(TrustError::Key(key.to_owned())));
    }
}
