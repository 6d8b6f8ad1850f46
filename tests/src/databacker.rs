//! A stand-in for mysql-backup of databacker, which no package registry has. It sends what the real client was seen to
//! send, byte for byte, and judges servers and configurations by the same rules, with code of its own: nothing here is
//! shared with the plugin.
//!
//! | module | what it rebuilds |
//! | --- | --- |
//! | [`seed`] | the two keys of an instance, and its certificate of five minutes |
//! | [`pins`] | how it checks the server's certificate |
//! | [`wire`] | its requests: HTTP/1.1 for configurations, HTTP/2 for traces |
//! | [`config`] | how it reads configurations, with the known defect, and decrypts them |
//! | [`otlp`] | the messages of OTLP that it sends |
//! | [`spans`] | the spans of one run |
//! | [`exporter`] | how it sends spans and when it sends them again |
//! | [`logs`] | the log lines of old releases |
//! | [`oauth`] | assertions of instances with an ECDSA key |
//!
//! Not rebuilt: that the real client trusts the system's authorities before it looks at fingerprints, and that it follows
//! redirects.

pub mod config;
pub mod exporter;
pub mod logs;
pub mod oauth;
pub mod otlp;
pub mod pins;
pub mod seed;
pub mod spans;
pub mod wire;

/// Random bytes.
pub fn random<const LENGTH: usize>() -> [u8; LENGTH] {
    use ring::rand::SecureRandom as _;
    let mut bytes = [0; LENGTH];
    ring::rand::SystemRandom::new().fill(&mut bytes).unwrap();
    bytes
}

/// A random UUID.
pub fn uuid() -> String {
    let mut bytes: [u8; 16] = random();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let text = hex::encode(bytes);
    [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
}
