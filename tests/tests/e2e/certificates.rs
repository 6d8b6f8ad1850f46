//! The gateway's own certificates: operators learn in time that one expires, and files are read as tools
//! write them.

use std::fs;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keepgate_tests::gateway::{Setup, text};
use keepgate_tests::program::keepgate;
use keepgate_tests::tools;

/// A self-signed certificate that is valid until this many days and some hours from now. Returns that time in seconds
/// since 1970.
fn write_certificate(setup: &Setup, days: i64) -> u64 {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    let length = DAY * u32::try_from(days.abs()).unwrap() + DAY / 2;
    let now = SystemTime::now();
    let end = if days < 0 { now - length } else { now + length };
    params.not_before = (end - 100 * DAY).into();
    params.not_after = end.into();
    let key = rcgen::KeyPair::generate().unwrap();
    fs::write(setup.certificate(), params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(setup.path("key.pem"), key.serialize_pem()).unwrap();
    end.duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn check(setup: &Setup) -> tools::Finished {
    tools::run(keepgate(&["check", "--config", text(&setup.config())]))
}

#[test]
fn operators_learn_when_a_certificate_expires() {
    let setup = Setup::restic().tls();
    let soon = write_certificate(&setup, 10);
    setup.write();
    let file = setup.certificate().display().to_string();
    let said = check(&setup).success();
    let warning = said.lines().find(|line| line.starts_with("warning: "));
    let warning = warning.unwrap_or_else(|| panic!("{said}"));
    assert!(warning.contains(&file) && warning.contains("expires in 10 days; renew"), "{warning}");

    let gateway = setup.start();
    let log = gateway.program.stderr.text();
    let line = log.lines().find(|line| line.contains("certificate expires soon"));
    let line = line.unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains(&file) && line.contains("days=10"), "{line}");
    let metric = || {
        gateway.metric(&format!("keepgate_certificate_expiry_timestamp_seconds{{file=\"{file}\"}}"))
    };
    let is = |time: u64| (metric() - f64::from(u32::try_from(time).unwrap())).abs() < 2.0;
    assert!(is(soon), "{} instead of {soon}", metric());

    // What counts is what connections get, so a renewed file changes it at the reload.
    let renewed = write_certificate(&setup, 90);
    assert!(is(soon), "{}", metric());
    gateway.reload();
    assert!(is(renewed), "{} instead of {renewed}", metric());
    assert!(!check(&setup).success().contains("warning"));
    gateway.stop();
}

#[test]
fn an_expired_certificate_is_wrong_and_is_served_all_the_same() {
    let setup = Setup::restic().tls();
    write_certificate(&setup, -2);
    setup.write();
    let finished = check(&setup);
    assert_eq!(finished.status.code(), Some(1), "{}", finished.stdout);
    let wrong = finished.stdout.lines().find(|line| line.starts_with("wrong: "));
    let wrong = wrong.unwrap_or_else(|| panic!("{}", finished.stdout));
    assert!(wrong.contains("has expired; renew it"), "{wrong}");
    let gateway = setup.start();
    let log = gateway.program.stderr.text();
    assert!(log.contains("certificate has expired"), "{log}");
    gateway.stop();
}

#[test]
fn certificates_and_keys_are_read_as_tools_write_them() {
    let what = "certificates in DER, with CRLF, of P-521";
    let (Some(openssl), Some(curl)) = (tools::find("openssl"), tools::find_for("curl", what))
    else {
        return tools::skip(what, "openssl is not installed");
    };
    let setup = Setup::restic().tls();
    let run = |arguments: &str| {
        let mut command = Command::new(&openssl);
        command.current_dir(setup.path("")).args(arguments.split(' '));
        tools::run(command).success();
    };
    run("ecparam -name secp521r1 -genkey -noout -out p521.key");
    run("req -x509 -new -key p521.key -out p521.pem -days 100 -subj /CN=localhost \
         -addext subjectAltName=DNS:localhost");
    run("x509 -in p521.pem -outform der -out p521.der");
    let windows = fs::read_to_string(setup.path("p521.pem")).unwrap().replace('\n', "\r\n");
    fs::write(setup.path("windows.pem"), format!("\u{feff}{windows}")).unwrap();
    setup.write();
    for file in ["p521.pem", "p521.der", "windows.pem"] {
        fs::copy(setup.path(file), setup.certificate()).unwrap();
        fs::copy(setup.path("p521.key"), setup.path("key.pem")).unwrap();
        let gateway = setup.start();
        let mut client = Command::new(&curl);
        client.args([
            "--silent",
            "--show-error",
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code}",
        ]);
        client.arg("--cacert").arg(setup.path("p521.pem"));
        client.arg(format!("https://localhost:{}/config", gateway.port()));
        assert_eq!(tools::run(client).success().trim(), "404", "{file}");
        gateway.stop();
    }
}
