//! Binds the listeners of a configuration.

use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use keepgate_http::{ListenerConfig, Server, Tls};

use crate::assemble::load_tls;
use crate::config::{self, Config};

/// Binds a listener. Also returns its certificate, if it has one.
pub(super) async fn bind(
    config: &Config,
    listener: &config::Listener,
) -> Result<(Server, Option<Arc<Tls>>)> {
    let address = config::address(&listener.address, listener.socket.as_ref())?;
    let tls = listener.tls.as_ref().map(load_tls).transpose()?;
    let mut http = ListenerConfig::new(address);
    http.tls = tls.clone();
    http.timeouts = config.timeouts.to_http();
    http.public_url = listener.public_url.as_ref().map(|url| url.get_ref().parse()).transpose()?;
    let proxies = listener.proxies.as_ref().map(|proxies| proxies.get_ref().to_http());
    http.proxies = proxies.transpose().context("proxies")?;
    if let Some(mode) = &listener.mode {
        let mode = config::octal(mode.get_ref());
        http.unix_mode = Some(mode.ok_or_else(|| anyhow!("the mode is not an octal number"))?);
    }
    if let Some(most) = listener.max_connections {
        http.max_connections = most;
    }
    Ok((Server::bind(http).await?, tls))
}

/// Binds the admin listener.
pub(super) async fn bind_admin(config: &Config, admin: &config::Admin) -> Result<Server> {
    let mut http = ListenerConfig::new(config::address(&admin.address, admin.socket.as_ref())?);
    http.timeouts = config.timeouts.to_http();
    http.unix_mode = Some(0o600);
    Server::bind(http).await.context("cannot bind the admin listener")
}
