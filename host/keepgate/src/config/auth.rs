//! Authentication methods whose text must be parsed to be checked.

use anyhow::{Result, anyhow};
use keepgate_auth::{IpNet, ProxyHeader};

use super::Auth;

/// The header in which a proxy passes the user's name.
pub(crate) fn proxy_header(auth: &Auth) -> Result<ProxyHeader> {
    let header = auth.header.as_ref().ok_or_else(|| anyhow!("`header` is missing"))?;
    let header: ProxyHeader = header.get_ref().parse()?;
    let mut networks = Vec::new();
    for from in &auth.from {
        networks.push(network(from.get_ref())?);
    }
    Ok(header.trusted_from(networks))
}

/// `10.0.0.0/8`, or one address.
fn network(text: &str) -> Result<IpNet> {
    let network = text.parse().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from));
    network.map_err(|_| anyhow!("{text:?} is neither an address nor a network such as 10.0.0.0/8"))
}
