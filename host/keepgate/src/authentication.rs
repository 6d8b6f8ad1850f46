//! The ways in that a configuration names: files of users and fingerprints, authorities, headers of proxies, issuers of
//! tokens. A reload keeps the files that are open already, so that cached logins stay cached, and the keys that were
//! fetched.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, anyhow};
use keepgate_auth::bearer::{Clock, Keys, KeysStatus};
use keepgate_auth::certificate::CHECK_EVERY;
use keepgate_auth::{Access, Certificates, FingerprintList, Htpasswd, Issuer, Method, htpasswd};
use keepgate_certificates::client::Authorities;
use serde_json::{Value, json};
use toml::Spanned;

use crate::config::capability::{Probe, StatusPart};
use crate::config::{self, Auth, Config, NO_AUTH, PLUGIN_AUTH, Way};

/// The methods of a configuration, with their files.
#[derive(Debug, Default)]
pub(crate) struct Authentication {
    users: BTreeMap<PathBuf, Arc<Htpasswd>>,
    lists: BTreeMap<PathBuf, Arc<FingerprintList>>,
    /// The keys of issuers, by the names of their tables.
    keys: BTreeMap<String, Arc<Keys>>,
    /// By the names of their tables.
    methods: BTreeMap<String, Method>,
}

impl Authentication {
    /// Reads every file that is not open in `before`, and every file of authorities.
    pub(crate) fn open(config: &Config, before: Option<&Self>) -> Result<Self> {
        let mut all = Self::default();
        for (name, auth) in &config.auth {
            let method = all.method(name, auth.get_ref(), before)?;
            all.methods.insert(name.clone(), method);
        }
        Ok(all)
    }

    fn method(&mut self, name: &str, auth: &Auth, before: Option<&Self>) -> Result<Method> {
        match (auth.way(), &auth.htpasswd) {
            (Some(Way::Htpasswd), Some(file)) => {
                let users = match before.and_then(|before| before.users.get(file)) {
                    Some(users) => users.clone(),
                    None => Htpasswd::load(file, htpasswd::Options::default())?,
                };
                self.users.insert(file.clone(), users.clone());
                Ok(Method::Htpasswd(users))
            }
            (Some(Way::Certificates), _) => {
                let certificates = self.certificates(auth, before)?;
                Ok(Method::Certificates(Arc::new(certificates)))
            }
            (Some(Way::Bearer), _) => {
                let issuer = self.issuer(name, auth, before);
                let issuer = issuer.with_context(|| format!("[auth.{name}]"))?;
                Ok(Method::Bearer(Arc::new(issuer)))
            }
            _ => Ok(Method::ProxyHeader(config::proxy_header(auth)?)),
        }
    }

    fn issuer(&mut self, name: &str, auth: &Auth, before: Option<&Self>) -> Result<Issuer> {
        let missing = || anyhow!("`issuer` is missing");
        let source = auth.key_source().ok_or_else(missing)?;
        let rules = auth.token_rules().ok_or_else(missing)?.map_err(|why| anyhow!(why))?;
        let known = before.and_then(|before| before.keys.get(name));
        let keys = match known.filter(|keys| *keys.source() == source) {
            Some(keys) => keys.clone(),
            None => Keys::open(name, source, Clock::system()).map_err(|why| anyhow!(why))?,
        };
        self.keys.insert(name.to_owned(), keys.clone());
        Ok(Issuer::new(rules, keys, Clock::system()))
    }

    fn certificates(&mut self, auth: &Auth, before: Option<&Self>) -> Result<Certificates> {
        let authorities = match auth.client_ca.as_slice() {
            [] => None,
            files => Some(Arc::new(Authorities::load(files)?)),
        };
        let list = match &auth.fingerprints {
            None => None,
            Some(file) => {
                let list = match before.and_then(|before| before.lists.get(file)) {
                    Some(list) => list.clone(),
                    None => FingerprintList::load(file, CHECK_EVERY)?,
                };
                self.lists.insert(file.clone(), list.clone());
                Some(list)
            }
        };
        Ok(Certificates { list, authorities, any_key: auth.any_key })
    }

    /// The access rules of a mount that names these methods.
    pub(crate) fn access(&self, names: &[Spanned<String>]) -> Result<Access> {
        let mut methods = Vec::new();
        for name in names {
            if name.get_ref() == NO_AUTH {
                return Ok(Access::Open);
            }
            if name.get_ref() == PLUGIN_AUTH {
                methods.push(Method::Plugin);
                continue;
            }
            let method = self.methods.get(name.get_ref());
            let method = method.ok_or_else(|| anyhow!("unknown auth {:?}", name.get_ref()))?;
            methods.push(method.clone());
        }
        Ok(Access::Methods(methods))
    }

    /// Begins to fetch the keys of issuers, so that the first token need not wait. Needs a runtime.
    pub(crate) fn prefetch(&self) {
        self.keys.values().for_each(Keys::prefetch);
    }

    /// Fetches the keys of issuers, for `keepgate check --connect`.
    pub(crate) async fn probe(&self) -> Probe {
        let mut probe = Probe::default();
        for (name, keys) in &self.keys {
            match keys.probe().await {
                Ok(line) => probe.lines.push(format!("auth {name}  {line}")),
                Err(why) => probe.problems.push(format!("[auth.{name}] {why}")),
            }
        }
        probe
    }

    /// What operators see of the issuers, if there are any.
    pub(crate) fn status(&self) -> Option<StatusPart> {
        let keys = self.keys.clone();
        let status =
            move || keys.iter().map(|(name, keys)| (name.clone(), shown(keys.status()))).collect();
        (!self.keys.is_empty()).then(|| -> StatusPart { ("issuers", Arc::new(status)) })
    }

    /// Reads users, fingerprints and keys again, on SIGHUP. What cannot be read stays as it was. Needs a runtime.
    pub(crate) fn reload(&self) {
        for users in self.users.values() {
            if let Err(error) = users.reload() {
                tracing::error!(%error, "users rejected, the current ones stay active");
            }
        }
        for list in self.lists.values() {
            if let Err(error) = list.reload() {
                tracing::error!(%error, "fingerprints rejected, the current ones stay active");
            }
        }
        self.keys.values().for_each(Keys::reload);
    }

    /// Invalid lines of the files.
    pub(crate) fn problems(&self) -> Vec<String> {
        let users = self.users.values().map(|users| (users.path(), users.problems()));
        let lists = self.lists.values().map(|list| (list.path(), list.problems()));
        let all = users.chain(lists).flat_map(|(path, problems)| {
            problems.into_iter().map(move |problem| format!("{}: {problem}", path.display()))
        });
        all.collect()
    }
}

fn shown(status: KeysStatus) -> Value {
    let KeysStatus { source, keys, fetched, failing } = status;
    let fetched = fetched.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
    let fetched = fetched.map(|time| humantime::format_rfc3339_seconds(time).to_string());
    let mut shown = json!({ "source": source, "keys": keys, "fetched": fetched });
    if let (Value::Object(shown), Some(reason)) = (&mut shown, failing) {
        shown.insert("reason".to_owned(), json!(reason));
    }
    shown
}
