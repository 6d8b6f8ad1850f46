//! HMAC-SHA256 against the vectors of RFC 4231.

#![allow(clippy::unwrap_used, reason = "tests")]

use keepgate_secrets::{HmacKey, MAC_LENGTH, Material};

fn key(bytes: &[u8]) -> HmacKey {
    HmacKey::new(&Material::of(bytes))
}

#[test]
fn the_vectors_of_rfc_4231_hold() {
    let counting: Vec<u8> = (1..=25).collect();
    let long = "This is a test using a larger than block-size key and a larger than block-size data. The \
                key needs to be hashed before being used by the HMAC algorithm.";
    let vectors: [(&[u8], &[u8], &str); 6] = [
        (
            &[0x0b; 20],
            b"Hi There",
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        ),
        (
            b"Jefe",
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (
            &[0xaa; 20],
            &[0xdd; 50],
            "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
        ),
        (
            &counting,
            &[0xcd; 50],
            "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
        ),
        (
            &[0xaa; 131],
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
        (
            &[0xaa; 131],
            long.as_bytes(),
            "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
        ),
    ];
    for (bytes, message, mac) in vectors {
        let key = key(bytes);
        assert_eq!(hex::encode(key.sign(message)), mac);
        assert!(key.verify(message, &hex::decode(mac).unwrap()));
    }
}

#[test]
fn a_mac_with_any_other_bit_or_length_is_wrong() {
    let key = key(b"a key for a test");
    let mac = key.sign(b"message");
    assert_eq!(mac.len(), MAC_LENGTH);
    for bit in 0..MAC_LENGTH * 8 {
        let mut wrong = mac.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        assert!(!key.verify(b"message", &wrong), "bit {bit}");
    }
    assert!(!key.verify(b"message", b"") && !key.verify(b"message", &mac[..MAC_LENGTH - 1]));
    assert!(!key.verify(b"message", &[&mac[..], &[0]].concat()));
    assert!(!key.verify(b"massage", &mac) && key.verify(b"message", &mac));
}
