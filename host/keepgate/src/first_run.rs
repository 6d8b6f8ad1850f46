//! The first configuration: creates a folder with everything that a gateway needs, so that one command is
//! enough to serve. Nothing is ever overwritten.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType,
};

use crate::users;

/// The name of the configuration in its folder.
pub(crate) const FILE: &str = "keepgate.toml";
/// The certificate in its folder.
pub(crate) const CERTIFICATE: &str = "tls/certificate.pem";
/// The user that is created.
pub(crate) const USER: &str = "keepgate";
/// Years until the certificate expires. Nothing renews a self-signed certificate automatically.
const YEARS: i32 = 10;

/// What was created.
pub(crate) struct FirstRun {
    pub(crate) config: PathBuf,
    /// Shown once; the file contains only its hash.
    pub(crate) password: String,
}

/// Creates a configuration in a folder that has none. The configuration is written last, so that an
/// interrupted attempt is repeated.
pub(crate) fn make(folder: &Path, names: &[String]) -> Result<FirstRun> {
    let config = folder.join(FILE);
    if config.exists() {
        bail!("{} already exists; nothing was changed", config.display());
    }
    for part in ["", "tls", "state", "store", "plugins"] {
        let path = folder.join(part);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot create the folder {}", path.display()))?;
    }
    let (certificate, key) = self_signed(names)?;
    users::write_durably(&folder.join("tls/key.pem"), key.as_bytes())?;
    users::write_durably(&folder.join(CERTIFICATE), certificate.as_bytes())?;
    let password = users::make_password()?;
    let htpasswd = folder.join("htpasswd");
    let _ = fs::remove_file(&htpasswd);
    users::set(&htpasswd, USER, &password)?;
    copy_plugins(&folder.join("plugins"))?;
    users::write_durably(&config, CONFIGURATION.as_bytes())?;
    Ok(FirstRun { config, password })
}

/// A certificate that clients accept with `--cacert`.
fn self_signed(names: &[String]) -> Result<(String, String)> {
    let mut subjects: Vec<String> =
        ["localhost", "127.0.0.1", "::1"].into_iter().map(str::to_owned).collect();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    for name in std::iter::once(&host).chain(names) {
        if !name.is_empty() && !subjects.contains(name) {
            subjects.push(name.clone());
        }
    }
    let mut params =
        CertificateParams::new(subjects).context("invalid name for the certificate")?;
    params.subject_alt_names.extend(addresses_as_names(&params.subject_alt_names)?);
    params.distinguished_name.push(DnType::CommonName, "Keepgate");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let year = params.not_before.year().max(2026);
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(year + YEARS, 1, 1);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// IPv4 addresses, as DNS names. Clients of databacker look for the host of their URL among those, whatever it is.
fn addresses_as_names(subjects: &[SanType]) -> Result<Vec<SanType>> {
    let addresses = subjects.iter().filter_map(|subject| match subject {
        SanType::IpAddress(address) if address.is_ipv4() => Some(address.to_string()),
        _ => None,
    });
    addresses.map(|address| Ok(SanType::DnsName(address.try_into()?))).collect()
}

/// Copies the bundled plugins, if there are any, into the new folder, which belongs to the operator from
/// then on.
fn copy_plugins(folder: &Path) -> Result<()> {
    let Some(bundled) = crate::bundled_plugins::folder() else {
        return Ok(());
    };
    for entry in fs::read_dir(&bundled)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "wasm")
            && let Some(name) = path.file_name()
        {
            fs::copy(&path, folder.join(name))
                .with_context(|| format!("cannot copy {}", path.display()))?;
        }
    }
    Ok(())
}

/// The configuration that is written; its last section is an example that is commented out.
const CONFIGURATION: &str = include_str!("first_run.toml");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_configuration_is_valid_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("new");
        let made = make(&folder, &["backup.example.org".to_owned()]).unwrap();
        let config = Config::load(&made.config).unwrap();
        assert_eq!(config.store["main"].get_ref().path, Some(folder.join("store")));
        let tls = config.listener[0].tls.as_ref().unwrap();
        assert!(crate::assemble::load_tls(tls).is_ok());
        assert!(make(&folder, &[]).is_err(), "a second time");
        let is_example = |line: &&str| line.starts_with("#[");
        assert!(CONFIGURATION.lines().any(|line| is_example(&line)));
        // The example is valid as well. Comments have a space after the `#`.
        let activate = |line: &str| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        };
        let all: String = CONFIGURATION.lines().map(activate).collect();
        let config = Config::parse(&all, &made.config).unwrap();
        assert_eq!((config.mount.len(), config.schedule.len()), (1, 1));
        assert!(made.password.len() >= 20);
    }
}
