//! From the configuration's listeners to bound sockets.

use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use keepgate_http::{Address, ListenerConfig, Server, Tls};

use crate::assemble::load_tls;
use crate::config::{self, Config};

/// A listener, and its certificate where it has one.
pub(super) async fn bind(
    config: &Config,
    listener: &config::Listener,
) -> Result<(Server, Option<Arc<Tls>>)> {
    let address: Address = listener.address.get_ref().parse()?;
    let tls = listener.tls.as_ref().map(load_tls).transpose()?;
    let mut http = ListenerConfig::new(address);
    http.tls = tls.clone();
    http.timeouts = config.timeouts.to_http();
    http.public_url = listener.public_url.as_ref().map(|url| url.get_ref().parse()).transpose()?;
    if let Some(mode) = &listener.mode {
        let mode = config::octal(mode.get_ref());
        http.unix_mode = Some(mode.ok_or_else(|| anyhow!("the mode is no octal number"))?);
    }
    if let Some(most) = listener.max_connections {
        http.max_connections = most;
    }
    Ok((Server::bind(http).await?, tls))
}

/// The operators' own listener.
pub(super) async fn bind_admin(config: &Config, admin: &config::Admin) -> Result<Server> {
    let mut http = ListenerConfig::new(admin.address.get_ref().parse()?);
    http.timeouts = config.timeouts.to_http();
    http.unix_mode = Some(0o600);
    Server::bind(http).await.context("the admin listener")
}
