//! `proxies` of a listener: who may say which client a request comes from, and how.

use anyhow::{Result, ensure};
use keepgate_http::{ClientAddress, Proxies};
use serde::Deserialize;
use toml::Spanned;

use super::auth::network;

/// `proxies = { from = ["10.0.0.0/8"], client_address = "x-forwarded-for" }`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListenerProxies {
    /// Networks.
    from: Vec<String>,
    client_address: Source,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum Source {
    ProxyProtocol,
    XForwardedFor,
    Forwarded,
}

impl ListenerProxies {
    pub(crate) fn to_http(&self) -> Result<Proxies> {
        ensure!(!self.from.is_empty(), "`from` is empty; list the networks of the proxies");
        let from = self.from.iter().map(|from| network(from)).collect::<Result<Vec<_>>>()?;
        Ok(Proxies::new(
            from,
            match self.client_address {
                Source::ProxyProtocol => ClientAddress::ProxyProtocol,
                Source::XForwardedFor => ClientAddress::XForwardedFor,
                Source::Forwarded => ClientAddress::Forwarded,
            },
        ))
    }
}

/// What is wrong with it.
pub(super) fn check(proxies: &Spanned<ListenerProxies>, problems: &mut super::Problems) {
    if let Err(error) = proxies.get_ref().to_http() {
        problems.add(proxies.span(), format!("proxies: {error}"));
    }
}
