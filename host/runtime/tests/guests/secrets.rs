//! Signing and sealing as a plugin uses them, tested with the guest `secrets`, which does what its requests say.

use keepgate_runtime::capability::secrets::Secrets;
use keepgate_secrets::{HmacKey, Material, NotSealed, SealKeys};

use super::*;

/// A mount with these keys to sign and to seal with.
async fn mount(hmac: &[(&str, &[u8])], seal: &[u8]) -> Arc<Mount> {
    let mut bench = Bench::new();
    bench.put("secrets.wasm", &guest("secrets"));
    let seal: Vec<_> = seal.iter().map(|number| Material::of(&[*number; 32])).collect();
    let hmac = hmac
        .iter()
        .map(|(name, key)| ((*name).to_owned(), Arc::new(HmacKey::new(&Material::of(key)))));
    let granted =
        Secrets { hmac: hmac.collect(), seal: SealKeys::new("test", &seal).ok().map(Arc::new) };
    let spec = spec("/", "secrets", |spec| {
        spec.grants.insert(granted);
        // Sealing a mebibyte takes milliseconds, and much longer on a busy machine.
        spec.limits.cpu = Duration::from_secs(20);
    });
    let generation = bench.generation(&[spec]).await;
    assert_eq!(generation.refused, []);
    generation.mounts[0].clone()
}

/// What the guest replies to a path, whose query is `name=value`, and a body.
async fn ask(
    mount: &Mount,
    path: &str,
    query: (&str, &str),
    body: &[u8],
) -> Result<Vec<u8>, Failure> {
    let mut request = request("POST", path, body);
    request.query = vec![(query.0.to_owned(), query.1.to_owned())];
    match mount.call(request).await {
        Ok(reply) => Ok(reply.body.collect(4 << 20).await.unwrap().to_vec()),
        Err(CallError::Failure(failure)) => Err(failure),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn what_a_plugin_signs_others_can_verify_and_the_other_way_round() {
    let mount = mount(&[("jefe", b"Jefe"), ("bob", b"another key of sixteen")], &[]).await;
    assert_eq!(ask(&mount, "/keys", ("", ""), b"").await.unwrap(), b"[\"bob\",\"jefe\"]");
    // The second vector of RFC 4231.
    let message = b"what do ya want for nothing?";
    let mac = ask(&mount, "/sign", ("key", "jefe"), message).await.unwrap();
    let known = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    assert_eq!(hex(&mac), known);
    let verify = async |mac: &[u8], message: &[u8], key: &str| {
        ask(&mount, "/verify", ("key", key), &[mac, message].concat()).await.unwrap() == b"true"
    };
    assert!(verify(&mac, message, "jefe").await);
    assert!(!verify(&mac, b"something else", "jefe").await);
    assert!(!verify(&mac, message, "bob").await);
    assert!(!verify(&mac[..31], b"", "jefe").await, "a MAC of another length");
}

#[tokio::test]
async fn what_a_plugin_seals_opens_for_the_same_context_and_with_older_keys() {
    let before = mount(&[], &[1]).await;
    let sealed = ask(&before, "/seal", ("context", "ann"), b"open sesame").await.unwrap();
    let again = ask(&before, "/seal", ("context", "ann"), b"open sesame").await.unwrap();
    assert_ne!(sealed, again, "it differs each time");
    assert!(sealed.len() <= 11 + 64 && !sealed.windows(11).any(|found| found == b"open sesame"));
    let not_sealed = Err(Failure::Invalid(NotSealed.to_string()));
    for (mount, opens) in
        [(&before, true), (&mount(&[], &[2, 1]).await, true), (&mount(&[], &[2]).await, false)]
    {
        let opened = ask(mount, "/open", ("context", "ann"), &sealed).await;
        assert_eq!(opened, if opens { Ok(b"open sesame".to_vec()) } else { not_sealed.clone() });
        assert_eq!(ask(mount, "/open", ("context", "bob"), &sealed).await, not_sealed);
    }
    let mut changed = sealed.clone();
    changed[sealed.len() - 1] ^= 1;
    assert_eq!(ask(&before, "/open", ("context", "ann"), &changed).await, not_sealed);
    assert_eq!(ask(&before, "/open", ("context", "ann"), b"").await, not_sealed);
}

#[tokio::test]
async fn limits_and_missing_grants_are_failures_that_say_so() {
    let (most, more) = (vec![0; 1 << 20], vec![0; (1 << 20) + 1]);
    let (longest, longer) = ("c".repeat(1 << 10), "c".repeat((1 << 10) + 1));
    let granted = mount(&[("a", b"key"), ("b", b"key")], &[1]).await;
    let too_large = |limit: u64| Err(Failure::TooLarge(limit));
    assert!(ask(&granted, "/sign", ("key", "a"), &most).await.is_ok());
    assert_eq!(ask(&granted, "/sign", ("key", "a"), &more).await, too_large(1 << 20));
    let sealed = ask(&granted, "/seal", ("context", &longest), &most).await.unwrap();
    assert_eq!(ask(&granted, "/open", ("context", &longest), &sealed).await, Ok(most));
    assert_eq!(ask(&granted, "/seal", ("context", "c"), &more).await, too_large(1 << 20));
    assert_eq!(ask(&granted, "/seal", ("context", &longer), b"").await, too_large(1 << 10));
    assert_eq!(ask(&granted, "/open", ("context", &longer), b"").await, too_large(1 << 10));
    let huge = vec![0; 2 << 20];
    let not_sealed = Err(Failure::Invalid(NotSealed.to_string()));
    assert_eq!(ask(&granted, "/open", ("context", "c"), &huge).await, not_sealed);

    let denied = |why: &str| Err(Failure::Denied(why.to_owned()));
    assert_eq!(
        ask(&granted, "/sign", ("key", "c"), b"").await,
        denied("the mount / grants no key \"c\"; granted: a, b")
    );
    let nothing = mount(&[], &[]).await;
    assert_eq!(ask(&nothing, "/keys", ("", ""), b"").await.unwrap(), b"[]");
    assert_eq!(
        ask(&nothing, "/verify", ("key", "a"), b"").await,
        denied("the mount / grants no key \"a\"; granted: (none)")
    );
    for path in ["/seal", "/open"] {
        let failed = ask(&nothing, path, ("context", "c"), b"").await;
        assert_eq!(failed, denied("the mount / grants no key for sealing"));
    }
}

/// Neither `/status` nor `Debug` of a mount has more than the names of keys.
#[tokio::test]
async fn operators_see_the_names_of_keys_and_nothing_else() {
    let mount = mount(&[("hook", b"a key that is confidential")], &[1]).await;
    let granted = keepgate_runtime::capability::granted(&mount.spec().grants);
    let secrets = granted.iter().find(|granted| granted.key == "secrets").unwrap();
    assert_eq!(secrets.names, ["hmac hook", "seal test"]);
    let shown = format!("{:?}", mount.spec());
    assert!(shown.contains("hook") && !shown.contains("confidential"), "{shown}");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
