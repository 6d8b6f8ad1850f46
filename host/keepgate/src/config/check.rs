//! The rules of a configuration that its types cannot express: names that are used are defined, paths
//! and addresses are well-formed. Every violation is reported, each with its place in the file.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use keepgate_http::{Address, PublicUrl, is_mount_path};
use keepgate_store::memory::MemoryStore;
use keepgate_store::quota::{Amount, FolderRule, Rules};
use keepgate_store::{Clock, Folder};
use toml::Spanned;

use super::{
    Auth, AutoMount, Config, Listener, Metrics, Mount, NO_AUTH, PLUGIN_AUTH, Policy, Problems,
    Rule, Way, auth, bearer, capability, copy, cors, plugins, proxies, rate_limit, schedule, store,
};

pub(super) fn check(config: &Config, problems: &mut Problems) {
    if config.listener.is_empty() {
        problems.add(0..0, "no listener is configured; add a [[listener]] with an `address`");
    }
    for listener in &config.listener {
        check_listener(listener, problems);
    }
    if let Some(admin) = &config.admin {
        check_address(&admin.address, problems);
        check_private(&admin.address, problems);
    }
    for (name, auth) in &config.auth {
        check_method(name, auth, problems);
    }
    auth::check_certificates(config, problems);
    if let Some(table) = &config.plugins {
        plugins::check(table, problems);
    }
    store::check(config, problems);
    let mut paths = HashSet::new();
    for mount in &config.mount {
        if !paths.insert(mount.path.get_ref()) {
            let message =
                format!("mount {:?}: another mount has the same path", mount.path.get_ref());
            problems.add(mount.path.span(), message);
        }
        check_mount(config, mount, problems);
    }
    capability::check(config, problems);
    schedule::check(config, problems);
    copy::check(config, problems);
    if let Some(page) = &config.metrics {
        check_metrics(config, page, problems);
    }
    if let Some(auto) = &config.auto_mount {
        check_auto_mount(config, auto, problems);
    }
}

fn check_listener(listener: &Listener, problems: &mut Problems) {
    check_address(&listener.address, problems);
    if let Some(url) = &listener.public_url
        && let Err(error) = url.get_ref().parse::<PublicUrl>()
    {
        problems.add(url.span(), format!("public_url: {error}"));
    }
    if let Some(proxies) = &listener.proxies {
        proxies::check(proxies, problems);
    }
    if let Some(mode) = &listener.mode
        && octal(mode.get_ref()).is_none()
    {
        let message =
            "mode: write the permissions of the socket as octal digits, for example \"660\"";
        problems.add(mode.span(), message);
    }
    if let Some(version) = listener.tls.as_ref().and_then(|tls| tls.min_version.as_ref())
        && !["1.2", "1.3"].contains(&version.get_ref().as_str())
    {
        let message = format!(
            "min_version: {:?} is not supported; use \"1.2\" or \"1.3\"",
            version.get_ref()
        );
        problems.add(version.span(), message);
    }
}

fn check_mount(config: &Config, mount: &Mount, problems: &mut Problems) {
    let path = mount.path.get_ref();
    let about = format!("mount {path:?}");
    check_path(&mount.path, problems);
    let plugin = mount.plugin.get_ref();
    if plugin.contains(['/', '.']) || plugin.is_empty() {
        let message = format!(
            "{about}: plugin {plugin:?}: write the name of the file without folder and \".wasm\", for \
             example \"restic\""
        );
        problems.add(mount.plugin.span(), message);
    }
    if config.only_plugins().is_some_and(|only| !only.contains(mount.plugin.get_ref())) {
        let name = mount.plugin.get_ref();
        let message =
            format!("{about}: the plugin {name:?} is not loaded; add it to `only` of [plugins]");
        problems.add(mount.plugin.span(), message);
    }
    check_auth(config, &about, &mount.auth, mount.path.span(), problems);
    cors::check(&about, mount, problems);
    rate_limit::check(&about, mount, problems);
    for store in mount.stores.values() {
        check_store(config, &about, store, problems);
    }
    if let Some(calls) = &mount.limits.calls
        && *calls.get_ref() == 0
    {
        let message = format!("{about}: limits.calls must be at least 1, or no request is served");
        problems.add(calls.span(), message);
    }
    check_policy(&about, &mount.policy, mount.path.span(), problems);
    for rule in &mount.rule {
        check_rule(&about, rule, problems);
    }
}

fn check_path(path: &Spanned<String>, problems: &mut Problems) {
    let text = path.get_ref();
    if !is_mount_path(text) {
        let message = format!(
            "path {text:?}: a path is \"/\" or, for example, \"/restic\": it begins with / and does not \
             end with it"
        );
        problems.add(path.span(), message);
    }
}

/// Applies the policy to a store, which checks its patterns.
fn check_policy(about: &str, policy: &Policy, span: Range<usize>, problems: &mut Problems) {
    if let Err(error) = policy.to_store().guard(Arc::new(MemoryStore::new()), &Clock::default()) {
        problems.add(span.clone(), format!("{about}: policy: {error}"));
    }
    if policy.append_only && policy.retain.is_some() {
        let message = format!(
            "{about}: policy: has both `append_only`, which never lets blobs go, and `retain`, which does so after a \
             time; keep one of them"
        );
        problems.add(span.clone(), message);
    }
    if policy.quota.is_none() && policy.quota_entries.is_some() {
        problems.add(span, format!("{about}: policy: `quota_entries` needs `quota`"));
    }
}

fn check_rule(about: &str, rule: &Rule, problems: &mut Problems) {
    let (policy, span) = (rule.policy.get_ref(), rule.policy.span());
    check_policy(about, policy, span.clone(), problems);
    match (&rule.user, &rule.folder) {
        (Some(_), None) => {}
        (None, Some(folder)) => {
            let (quota, quota_entries) = (policy.quota, policy.quota_entries);
            let retain = policy.retain;
            let allowed = Policy { quota, quota_entries, retain, ..Policy::default() };
            if (quota.is_none() && retain.is_none()) || *policy != allowed {
                let message = format!(
                    "{about}: the policy of a folder is a `quota`, or `retain`, and nothing else"
                );
                problems.add(span, message);
            }
            let (pattern, limit) = (folder.get_ref().clone(), Amount::default());
            let rules = Rules { folders: vec![FolderRule { pattern, limit }], ..Rules::default() };
            if let Err(error) = rules.check() {
                problems.add(folder.span(), format!("{about}: folder: {error}"));
            }
        }
        _ => problems.add(span, format!("{about}: a rule needs either `user` or `folder`")),
    }
}

fn check_method(name: &str, auth: &Spanned<Auth>, problems: &mut Problems) {
    if [NO_AUTH, PLUGIN_AUTH].contains(&name) {
        let message = format!(
            "[auth.{name}] cannot be used: {name:?} has a meaning of its own in `auth`; choose another name"
        );
        problems.add(auth.span(), message);
    }
    if let Some(from) = auth.get_ref().from.first()
        && auth.get_ref().header.is_none()
    {
        let message = format!("[auth.{name}] `from` applies only to `header`; remove it");
        problems.add(from.span(), message);
    }
    bearer::check(name, auth, problems);
    match (auth.get_ref().way(), &auth.get_ref().header) {
        (Some(Way::Proxy), Some(header)) => {
            if let Err(error) = super::proxy_header(auth.get_ref()) {
                problems.add(header.span(), format!("[auth.{name}] {error}"));
            }
        }
        (Some(_), _) => {}
        (None, _) => {
            let message = format!(
                "[auth.{name}] needs either `htpasswd`, or `header`, or `issuer`, or one or more of `client_ca`, \
                 `fingerprints` and `any_key = true`"
            );
            problems.add(auth.span(), message);
        }
    }
}

fn check_metrics(config: &Config, page: &Metrics, problems: &mut Problems) {
    check_path(&page.path, problems);
    if config.mount.iter().any(|mount| mount.path.get_ref() == page.path.get_ref()) {
        let message = format!("[metrics] path: a mount already has {:?}", page.path.get_ref());
        problems.add(page.path.span(), message);
    }
    check_auth(config, "[metrics]", &page.auth, page.path.span(), problems);
}

fn check_auto_mount(config: &Config, auto: &AutoMount, problems: &mut Problems) {
    check_auth(config, "[auto_mount]", &auto.auth, auto.store.span(), problems);
    check_store(config, "[auto_mount]", &auto.store, problems);
}

fn check_auth(
    config: &Config,
    about: &str,
    methods: &[Spanned<String>],
    span: Range<usize>,
    problems: &mut Problems,
) {
    if methods.is_empty() {
        let message = format!(
            "{about}: `auth` is empty, so nobody has access; add the name of an [auth.NAME] table, or \
             \"{NO_AUTH}\" for access without a login"
        );
        problems.add(span, message);
    }
    for method in methods {
        let name = method.get_ref();
        if name == NO_AUTH {
            if methods.len() > 1 {
                let message = format!(
                    "{about}: auth \"{NO_AUTH}\" gives access to everybody; remove it or the other methods"
                );
                problems.add(method.span(), message);
            }
        } else if name == PLUGIN_AUTH {
            if !about.starts_with("mount ") {
                let message = format!(
                    "{about}: auth \"{PLUGIN_AUTH}\" is only for a [[mount]], whose plugin you know to judge \
                     credentials"
                );
                problems.add(method.span(), message);
            }
        } else if !config.auth.contains_key(name) {
            let known = names(config.auth.keys());
            let message = format!("{about}: unknown auth {name:?}; configured methods: {known}");
            problems.add(method.span(), message);
        }
    }
}

pub(super) fn check_store(
    config: &Config,
    about: &str,
    named: &Spanned<String>,
    problems: &mut Problems,
) {
    let (store, folder) = store_and_folder(named.get_ref());
    if !config.store.contains_key(store) {
        let known = names(config.store.keys());
        let message = format!("{about}: unknown store {store:?}; configured stores: {known}");
        problems.add(named.span(), message);
    }
    if let Err(error) = Folder::new(folder) {
        problems.add(named.span(), format!("{about}: store {:?}: {error}", named.get_ref()));
    }
}

fn check_address(address: &Spanned<String>, problems: &mut Problems) {
    if let Err(error) = address.get_ref().parse::<Address>() {
        problems.add(address.span(), format!("address: {error}"));
    }
}

/// The admin listener has no authentication.
fn check_private(address: &Spanned<String>, problems: &mut Problems) {
    let private = match address.get_ref().parse() {
        Ok(Address::Unix(_)) => true,
        Ok(Address::Tcp { host, .. }) => {
            host == "localhost"
                || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        Ok(Address::Systemd { .. }) => false,
        // Already reported.
        Err(_) => true,
    };
    if !private {
        problems.add(
            address.span(),
            "[admin] address: the admin listener asks for no password; use an address of this machine \
             only, for example \"127.0.0.1:9090\" or \"unix:/run/keepgate-admin.sock\"",
        );
    }
}

/// Splits `main` or `main/a/folder/of/it`.
pub(crate) fn store_and_folder(text: &str) -> (&str, &str) {
    text.split_once('/').unwrap_or((text, ""))
}

/// Parses octal permissions.
pub(crate) fn octal(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777)
}

/// Names for an error message: `a, b`, or `none`.
pub(super) fn names<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<&str> = names.map(String::as_str).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
