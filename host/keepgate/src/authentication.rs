//! The ways in that a configuration names: files of users and fingerprints, authorities, headers of proxies. A reload
//! keeps the files that are open already, so that cached logins stay cached.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use keepgate_auth::certificate::CHECK_EVERY;
use keepgate_auth::{Access, Certificates, FingerprintList, Htpasswd, Method, htpasswd};
use keepgate_certificates::client::Authorities;
use toml::Spanned;

use crate::config::{self, Auth, Config, NO_AUTH, PLUGIN_AUTH, Way};

/// The methods of a configuration, with their files.
#[derive(Debug, Default)]
pub(crate) struct Authentication {
    users: BTreeMap<PathBuf, Arc<Htpasswd>>,
    lists: BTreeMap<PathBuf, Arc<FingerprintList>>,
    /// By the names of their tables.
    methods: BTreeMap<String, Method>,
}

impl Authentication {
    /// Reads every file that is not open in `before`, and every file of authorities.
    pub(crate) fn open(config: &Config, before: Option<&Self>) -> Result<Self> {
        let mut all = Self::default();
        for (name, auth) in &config.auth {
            let method = all.method(auth.get_ref(), before)?;
            all.methods.insert(name.clone(), method);
        }
        Ok(all)
    }

    fn method(&mut self, auth: &Auth, before: Option<&Self>) -> Result<Method> {
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
            _ => Ok(Method::ProxyHeader(config::proxy_header(auth)?)),
        }
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

    /// Reads users and fingerprints again, on SIGHUP. What cannot be read stays as it was.
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
