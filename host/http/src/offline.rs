//! Requests without a connection, for tools that call plugins directly: the code that serves sockets
//! parses their paths and answers their failures.

use http::Uri;
use keepgate_core::{CallError, Handler, Waiting};
use keepgate_store::Fields;

use crate::refusal::Refusal;
use crate::target::{Target, query};

/// The target of a request below a mount at `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Segments, percent-decoded.
    pub segments: Vec<String>,
    /// Whether the path ended with `/`.
    pub trailing_slash: bool,
    /// Decoded pairs.
    pub query: Fields,
}

/// Parses the target of a request, such as `/a/b?c=d`.
///
/// # Errors
///
/// Says what is wrong with the target; a client would receive a 400.
pub fn destination(target: &str) -> Result<Destination, String> {
    let uri: Uri = target.parse().map_err(|error: http::uri::InvalidUri| error.to_string())?;
    let read = Target::parse(&uri).map_err(|error| error.to_string())?;
    let Target { segments, trailing_slash } = read;
    Ok(Destination { segments, trailing_slash, query: query(&uri) })
}

/// The answer to a call without a reply: status, headers and body, in the form of the handler that was called.
/// `request` is the id of the request; `for_client` says that the call was waiting for the client.
pub fn refusal(
    error: &CallError,
    for_client: bool,
    called: &dyn Handler,
    request: &str,
) -> (u16, Fields, String) {
    let waiting = if for_client { Waiting::ForClient } else { Waiting::ForGateway };
    Refusal::from_call(error, waiting).into_parts(called.refusal_form(), request)
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;
    use keepgate_core::{Failure, Reply, Request};

    use super::*;

    /// A handler without a form.
    struct Plain;

    impl Handler for Plain {
        fn path(&self) -> &str {
            "/"
        }

        fn plugin(&self) -> &str {
            "plain"
        }

        fn call(&self, _: Request) -> BoxFuture<'_, Result<Reply, CallError>> {
            Box::pin(async { Err(Failure::NotFound.into()) })
        }
    }

    #[test]
    fn callers_without_a_connection_get_the_same_answers() {
        let found = destination("/a%2Fb/c/?d=+e").unwrap();
        assert_eq!((found.segments, found.trailing_slash), (vec!["a/b".into(), "c".into()], true));
        assert_eq!(found.query, [("d".to_owned(), " e".to_owned())]);
        assert!(destination("/%zz").unwrap_err().contains("percent sign"));

        let answer =
            |failure: Failure, for_client| refusal(&failure.into(), for_client, &Plain, "r-1");
        let (status, headers, text) = answer(Failure::OutOfRange(7), false);
        assert_eq!(status, 416);
        assert!(headers.contains(&("content-range".to_owned(), "bytes */7".to_owned())));
        assert!(headers.contains(&("content-length".to_owned(), text.len().to_string())));
        assert_eq!(answer(Failure::TimedOut, true).0, 408);
        assert_eq!(answer(Failure::TimedOut, false).0, 504);
    }
}
