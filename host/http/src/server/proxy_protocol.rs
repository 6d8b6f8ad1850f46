//! The header of the PROXY protocol: who the client of a proxy is, before the first byte of the connection. Not one byte
//! more is read, so that whatever follows begins with its own first byte.

use std::io;
use std::net::SocketAddr;

use ppp::{HeaderResult, v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::peer::Peer;

/// What version 2 begins with. No header of version 1 is shorter.
const SIGNATURE: usize = v2::PROTOCOL_PREFIX.len();
/// Bytes of the longest header of version 1, with its line end.
const LONGEST_LINE: usize = 107;
/// Bytes of version 2 before its addresses.
const FIXED: usize = 16;
/// Bytes that may follow in version 2: addresses, and what a proxy knows about TLS, for example.
const LONGEST: usize = 4096;

/// Reads the header. `None` if the proxy speaks for itself, as in a health check.
///
/// # Errors
///
/// If there is no such header; the text is for the log.
pub(super) async fn read(socket: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Peer>> {
    let mut header = vec![0; SIGNATURE];
    socket.read_exact(&mut header).await?;
    if header == v2::PROTOCOL_PREFIX {
        rest_of_version_2(socket, &mut header).await?;
    } else if header.starts_with(v1::PROTOCOL_PREFIX.as_bytes()) {
        rest_of_line(socket, &mut header).await?;
    } else {
        return Err(invalid("no PROXY header"));
    }
    let client = match HeaderResult::parse(&header) {
        HeaderResult::V1(Ok(header)) => match header.addresses {
            v1::Addresses::Tcp4(tcp) => Some((tcp.source_address.into(), tcp.source_port)),
            v1::Addresses::Tcp6(tcp) => Some((tcp.source_address.into(), tcp.source_port)),
            v1::Addresses::Unknown => None,
        },
        HeaderResult::V2(Ok(v2::Header { command: v2::Command::Local, .. })) => None,
        HeaderResult::V2(Ok(header)) => match header.addresses {
            v2::Addresses::IPv4(ip) => Some((ip.source_address.into(), ip.source_port)),
            v2::Addresses::IPv6(ip) => Some((ip.source_address.into(), ip.source_port)),
            v2::Addresses::Unix(_) | v2::Addresses::Unspecified => None,
        },
        HeaderResult::V1(Err(error)) => return Err(invalid(&error.to_string())),
        HeaderResult::V2(Err(error)) => return Err(invalid(&error.to_string())),
    };
    Ok(client.map(|(address, port)| Peer::tcp(SocketAddr::new(address, port))))
}

async fn rest_of_version_2(
    socket: &mut (impl AsyncRead + Unpin),
    header: &mut Vec<u8>,
) -> io::Result<()> {
    header.resize(FIXED, 0);
    let fixed = header.get_mut(SIGNATURE..).unwrap_or_default();
    socket.read_exact(fixed).await?;
    let length = fixed.last_chunk().map_or(0, |length| u16::from_be_bytes(*length).into());
    if length > LONGEST {
        return Err(invalid("the PROXY header is too long"));
    }
    header.resize(FIXED + length, 0);
    socket.read_exact(header.get_mut(FIXED..).unwrap_or_default()).await?;
    Ok(())
}

async fn rest_of_line(
    socket: &mut (impl AsyncRead + Unpin),
    header: &mut Vec<u8>,
) -> io::Result<()> {
    // Byte by byte: the line is short, and what follows is not ours.
    while !header.ends_with(b"\r\n") {
        if header.len() == LONGEST_LINE {
            return Err(invalid("the PROXY header is too long"));
        }
        header.push(socket.read_u8().await?);
    }
    Ok(())
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of these bytes, and what is left.
    async fn read_of(bytes: &[u8]) -> (Result<Option<String>, String>, Vec<u8>) {
        let mut rest = bytes;
        let client = read(&mut rest).await;
        let client = client.map(|client| client.map(|client| client.to_string()));
        (client.map_err(|error| error.to_string()), rest.to_vec())
    }

    fn version_2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let mut header = v2::PROTOCOL_PREFIX.to_vec();
        header.extend([0x20 | command, family]);
        header.extend(u16::try_from(addresses.len()).unwrap().to_be_bytes());
        header.extend(addresses);
        header
    }

    #[tokio::test]
    async fn both_versions_say_who_the_client_is_and_nothing_else_is_read() {
        let four = [198, 51, 100, 7, 10, 0, 0, 1, 0x12, 0x67, 1, 187];
        let mut six = vec![0x20, 0x01, 0x0d, 0xba];
        six.extend([0; 11]);
        six.push(1);
        six.extend([0; 20]);
        let mut with_more = four.to_vec();
        with_more.extend([4, 0, 3, 1, 2, 3]);
        for (header, client) in [
            (b"PROXY TCP4 198.51.100.7 10.0.0.1 4711 443\r\n".to_vec(), Some("198.51.100.7")),
            (b"PROXY TCP6 2001:dba::1 2001:db8::1 4711 443\r\n".to_vec(), Some("2001:dba::1")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
            (version_2(1, 0x11, &four), Some("198.51.100.7")),
            (version_2(1, 0x11, &with_more), Some("198.51.100.7")),
            (version_2(1, 0x21, &six), Some("2001:dba::1")),
            (version_2(0, 0x11, &four), None),
            (version_2(0, 0, &[]), None),
            (version_2(1, 0x31, &[0; 216]), None),
        ] {
            for rest in [&b""[..], b"GET / HTTP/1.1\r\n", b"\x16\x03\x01"] {
                let bytes = [&header, rest].concat();
                let (read, left) = read_of(&bytes).await;
                assert_eq!((read.unwrap().as_deref(), &*left), (client, rest), "{header:?}");
            }
            for length in 0..header.len() {
                assert!(read_of(&header[..length]).await.0.is_err(), "{length} of {header:?}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let long = format!("PROXY TCP4 {}", "1".repeat(200));
        for bytes in [
            &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00",
            b"PROXY TCP4 198.51.100.7\r\n",
            b"PROXY TCP4 198.51.100.777 10.0.0.1 4711 443\r\n",
            b"PROXY TCP4 2001:dba::1 2001:db8::1 4711 443\r\n",
            b"PROXY TCP4 198.51.100.7 10.0.0.1 4711 70000\r\n",
            long.as_bytes(),
            &version_2(1, 0x11, &[1, 2, 3]),
            &version_2(7, 0x11, &[0; 12]),
            &version_2(1, 0x11, &[0; 5000]),
        ] {
            let (read, _) = read_of(bytes).await;
            assert!(read.is_err(), "{read:?} of {bytes:?}");
        }
    }
}
