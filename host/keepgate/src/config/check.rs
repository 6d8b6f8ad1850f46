//! What must hold between the parts of a configuration: names that are used are defined, paths
//! are of the right form. Each complaint comes with the place in the file that it is about.

use std::collections::HashSet;
use std::sync::Arc;

use keepgate_http::{Address, PublicUrl};
use keepgate_store::Folder;
use keepgate_store::memory::MemoryStore;
use keepgate_store::quota::{FolderRule, Rules};
use toml::Spanned;

use super::{Auth, Config, Metrics, NO_AUTH, Policy, Rule, capability, plugins, schedule};

/// What is wrong, and at which byte of the file.
pub(crate) type Complaint = (usize, String);

pub(super) fn check(config: &Config) -> Result<(), Complaint> {
    if config.listener.is_empty() {
        return Err((0, "nothing to listen at: add a [[listener]] with an address".to_owned()));
    }
    for listener in &config.listener {
        check_address(&listener.address)?;
        if let Some(url) = &listener.public_url {
            url.get_ref()
                .parse::<PublicUrl>()
                .map_err(|error| complain(url, &error.to_string()))?;
        }
        if let Some(mode) = &listener.mode {
            octal(mode.get_ref()).ok_or_else(|| {
                complain(mode, "write the mode of a socket as octal digits, as in \"660\"")
            })?;
        }
        if let Some(version) = listener.tls.as_ref().and_then(|tls| tls.min_version.as_ref())
            && !["1.2", "1.3"].contains(&version.get_ref().as_str())
        {
            return Err(complain(version, "the oldest TLS version may be \"1.2\" or \"1.3\""));
        }
    }
    if let Some(admin) = &config.admin {
        check_address(&admin.address)?;
        check_private(&admin.address)?;
    }
    for (name, auth) in &config.auth {
        check_method(name, auth)?;
    }
    if let Some(table) = &config.plugins {
        plugins::check(table)?;
    }
    check_mounts(config)?;
    capability::check(config)?;
    schedule::check(config)?;
    if let Some(page) = &config.metrics {
        check_page(config, page)?;
    }
    if let Some(auto) = &config.auto_mount {
        check_auth(config, &auto.auth, auto.store.span().start)?;
        check_store(config, &auto.store)?;
    }
    Ok(())
}

fn check_mounts(config: &Config) -> Result<(), Complaint> {
    let mut paths = HashSet::new();
    for mount in &config.mount {
        check_path(&mount.path)?;
        if !paths.insert(mount.path.get_ref()) {
            return Err(complain(&mount.path, "another mount has this path already"));
        }
        if mount.plugin.get_ref().contains(['/', '.']) || mount.plugin.get_ref().is_empty() {
            return Err(complain(
                &mount.plugin,
                "the plugin is named by its file without folder and `.wasm`, as in \"restic\"",
            ));
        }
        check_auth(config, &mount.auth, mount.path.span().start)?;
        for store in mount.stores.values() {
            check_store(config, store)?;
        }
        if let Some(calls) = &mount.limits.calls
            && *calls.get_ref() == 0
        {
            return Err(complain(calls, "a mount that allows no call serves nothing"));
        }
        check_policy(&mount.policy, mount.path.span().start)?;
        for rule in &mount.rule {
            check_rule(rule)?;
        }
    }
    Ok(())
}

fn check_path(path: &Spanned<String>) -> Result<(), Complaint> {
    let text = path.get_ref();
    let plain = |part: &str| !matches!(part, "" | "." | "..");
    if text == "/" || (text.starts_with('/') && text.split('/').skip(1).all(plain)) {
        return Ok(());
    }
    let form = "a mount's path is / or, say, /restic: it begins with / and does not end with it";
    Err(complain(path, form))
}

/// Guarding anything at all tells whether the patterns are right.
fn check_policy(policy: &Policy, place: usize) -> Result<(), Complaint> {
    let guarded = policy.to_store().guard(Arc::new(MemoryStore::new()));
    guarded.map_err(|error| (place, format!("policy: {error}")))?;
    Ok(())
}

fn check_rule(rule: &Rule) -> Result<(), Complaint> {
    let (policy, place) = (rule.policy.get_ref(), rule.policy.span().start);
    check_policy(policy, place)?;
    match (&rule.user, &rule.folder) {
        (Some(_), None) => Ok(()),
        (None, Some(folder)) => {
            let only_quota = Policy { quota: policy.quota, ..Policy::default() };
            if policy.quota.is_none() || *policy != only_quota {
                return Err((place, "the policy of a folder is a quota, and nothing else".into()));
            }
            let (pattern, limit) = (folder.get_ref().clone(), 0);
            let rules = Rules { folders: vec![FolderRule { pattern, limit }], ..Rules::default() };
            rules.check().map_err(|error| complain(folder, &error.to_string()))
        }
        _ => Err((place, "a rule is about a `user` or about a `folder`: write one of them".into())),
    }
}

fn check_method(name: &str, auth: &Auth) -> Result<(), Complaint> {
    match (&auth.htpasswd, &auth.header) {
        (Some(_), None) => match auth.from.first() {
            Some(from) => Err(complain(from, "`from` is for a `header` that a proxy sets")),
            None => Ok(()),
        },
        (None, Some(header)) => {
            let read = super::proxy_header(auth);
            read.map(|_| ()).map_err(|error| complain(header, &error.to_string()))
        }
        _ => Err((0, format!("[auth.{name}] needs `htpasswd` or `header`, and not both"))),
    }
}

fn check_page(config: &Config, page: &Metrics) -> Result<(), Complaint> {
    check_path(&page.path)?;
    if config.mount.iter().any(|mount| mount.path.get_ref() == page.path.get_ref()) {
        return Err(complain(&page.path, "a mount has this path already"));
    }
    check_auth(config, &page.auth, page.path.span().start)
}

fn check_auth(config: &Config, names: &[Spanned<String>], place: usize) -> Result<(), Complaint> {
    if names.is_empty() {
        return Err((
            place,
            format!(
                "`auth` is empty, so nobody could come in; name an [auth.…], or \"{NO_AUTH}\" to let everybody in"
            ),
        ));
    }
    for name in names {
        if name.get_ref() == NO_AUTH {
            if names.len() > 1 {
                return Err(complain(name, "\"none\" lets everybody in and stands alone"));
            }
        } else if !config.auth.contains_key(name.get_ref()) {
            return Err(complain(name, &format!("there is no [auth.{}]", name.get_ref())));
        }
    }
    Ok(())
}

fn check_store(config: &Config, name: &Spanned<String>) -> Result<(), Complaint> {
    let (store, folder) = store_and_folder(name.get_ref());
    if config.store.contains_key(store) {
        Folder::new(folder).map_err(|error| complain(name, &error.to_string()))?;
        return Ok(());
    }
    let known =
        config.store.keys().map(|name| format!("[store.{name}]")).collect::<Vec<_>>().join(", ");
    let known = if known.is_empty() { "none".to_owned() } else { known };
    Err(complain(name, &format!("there is no [store.{store}]; there is {known}")))
}

fn check_address(address: &Spanned<String>) -> Result<(), Complaint> {
    address.get_ref().parse::<Address>().map_err(|error| complain(address, &error.to_string()))?;
    Ok(())
}

/// The admin listener asks nobody who they are.
fn check_private(address: &Spanned<String>) -> Result<(), Complaint> {
    let private = match address.get_ref().parse() {
        Ok(Address::Unix(_)) => true,
        Ok(Address::Tcp { host, .. }) => {
            host == "localhost"
                || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        Ok(Address::Systemd { .. }) | Err(_) => false,
    };
    if private {
        return Ok(());
    }
    Err(complain(
        address,
        "the admin listener asks for no password: give it an address of this machine only, as in \
         \"127.0.0.1:9090\", or \"unix:/run/keepgate-admin.sock\"",
    ))
}

/// `main`, or `main/a/folder/of/it`.
pub(crate) fn store_and_folder(text: &str) -> (&str, &str) {
    text.split_once('/').unwrap_or((text, ""))
}

/// Octal digits as a mode.
pub(crate) fn octal(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777)
}

pub(super) fn complain<T>(place: &Spanned<T>, what: &str) -> Complaint {
    (place.span().start, what.to_owned())
}
