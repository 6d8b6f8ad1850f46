//! Whose header is whose. Those of one connection are hyper's, those of the length and the host are this crate's, those
//! with the operator's secrets are the operator's, and all others are the plugin's.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::{Fields, UpstreamError};

/// Headers that concern one connection, RFC 9110 section 7.6.1, with those of old.
const CONNECTION: [HeaderName; 6] = [
    header::CONNECTION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
];
const OF_OLD: [&str; 3] = ["keep-alive", "proxy-connection", "http2-settings"];

/// Headers of requests that the host makes.
const HOST: [HeaderName; 4] =
    [header::HOST, header::CONTENT_LENGTH, header::EXPECT, header::PROXY_AUTHORIZATION];

fn is_of_connection(name: &HeaderName) -> bool {
    CONNECTION.contains(name) || OF_OLD.contains(&name.as_str())
}

/// The headers of a plugin's request. `secret` has the names that the operator sets.
pub(crate) fn of_request(
    fields: &Fields,
    secret: &[HeaderName],
) -> Result<HeaderMap, UpstreamError> {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let parsed = HeaderName::from_bytes(name.as_bytes());
        let parsed =
            parsed.map_err(|_| invalid(format!("{name:?} is not the name of a header")))?;
        if is_of_connection(&parsed) || HOST.contains(&parsed) {
            let what = format!("the header {name:?} is the host's: leave it out of the request");
            return Err(UpstreamError::Denied(what));
        }
        if secret.contains(&parsed) {
            let what =
                format!("the header {name:?} is set by the operator: leave it out of the request");
            return Err(UpstreamError::Denied(what));
        }
        let value = HeaderValue::from_str(value);
        let value = value.map_err(|_| {
            invalid(format!(
                "the value of the header {name:?} contains control characters or is not ASCII"
            ))
        })?;
        headers.append(parsed, value);
    }
    Ok(headers)
}

fn invalid(what: String) -> UpstreamError {
    UpstreamError::Invalid(what)
}

/// The headers of a response for a plugin.
pub(crate) fn of_response(headers: &HeaderMap) -> Fields {
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let passes = |name: &HeaderName| {
        !is_of_connection(name) && !named.iter().any(|named| named == name.as_str())
    };
    let all = headers.iter().filter(|(name, _)| passes(name));
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    all.map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_request_has_none_of_the_hosts_or_the_operators_headers() {
        let secret = [header::AUTHORIZATION, HeaderName::from_static("x-api-key")];
        let good =
            fields(&[("X-LXD-name", "u2"), ("accept", "a"), ("accept", "b"), ("cookie", "c")]);
        assert_eq!(of_request(&good, &secret).unwrap().len(), 4);
        for name in [
            "Host",
            "content-length",
            "Transfer-Encoding",
            "connection",
            "keep-alive",
            "TE",
            "trailer",
            "upgrade",
            "proxy-connection",
            "proxy-authorization",
            "expect",
            "http2-settings",
            "Authorization",
            "X-API-KEY",
        ] {
            let error = of_request(&fields(&[(name, "x")]), &secret).unwrap_err();
            assert!(matches!(error, UpstreamError::Denied(_)), "{name}: {error:?}");
        }
        for (name, value) in
            [("", "x"), ("a b", "x"), ("a:", "x"), ("a", "x\r\ny: z"), ("a", "é\0"), (":path", "/")]
        {
            let error = of_request(&fields(&[(name, value)]), &secret).unwrap_err();
            assert!(matches!(error, UpstreamError::Invalid(_)), "{name}: {error:?}");
        }
        assert!(
            of_request(&fields(&[("authorization", "Bearer x")]), &[]).is_ok(),
            "no login is set"
        );
    }

    #[test]
    fn a_response_loses_what_concerns_its_connection() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("content-length", "3"),
            ("set-cookie", "a=b"),
            ("set-cookie", "c=d"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let left = of_response(&headers);
        let expected = [("content-length", "3"), ("set-cookie", "a=b"), ("set-cookie", "c=d")];
        assert_eq!(left, fields(&expected));
    }
}
