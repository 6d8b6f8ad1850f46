//! What another server answers: paths that a pattern of the settings matches are redirected, before the routes are asked.
//!
//! Redirects are 308 for everything that has a body: most clients turn what was answered with a 301 into a GET.

use keepgate_sdk::{Call, Failure, Method, Reply, Request};
use serde_json::json;

use crate::problem::Answer;
use crate::settings::Settings;

/// What an `elsewhere` says instead of a URL.
pub(crate) const GONE: &str = "gone";

/// The reply to a request for what is elsewhere; none for all others.
pub(crate) fn answer(request: &Request, settings: &Settings) -> Option<Result<Reply, Failure>> {
    let matching = settings.elsewhere.iter().filter(|(pattern, _)| matches(pattern, request));
    // Of several patterns the most exact one counts.
    let (_, base) = matching.max_by_key(|(pattern, _)| precision(pattern))?;
    Some(match base.as_str() {
        GONE => Reply::new(410).json(&json!({"message": "this is not available any more"})),
        base => redirect(request, &format!("{base}{}", below_mount(request))),
    })
}

/// `/report/{instance}`, which the log of an instance was at first.
pub(crate) fn report(call: Call<Settings>) -> Answer {
    let id: String = call.param("instance")?;
    let segments = ["engines", "telemetry", &id, "log"];
    let url = call.settings.url(&call.request, &segments);
    let query = call.request.target.split_once('?').map(|(_, query)| format!("?{query}"));
    Ok(redirect(&call.request, &format!("{url}{}", query.unwrap_or_default()))?)
}

fn redirect(request: &Request, location: &str) -> Result<Reply, Failure> {
    let status = match request.method {
        Method::Get | Method::Head => 301,
        _ => 308,
    };
    let reply = Reply::new(status).json(&json!({"message": format!("this is at {location}")}))?;
    Ok(reply.header("location", location))
}

/// Whether the path below the mount fits a pattern: the same segments, of which `*` stands for any one, and at the end for
/// one or more.
fn matches(pattern: &str, request: &Request) -> bool {
    let mut segments = request.segments.iter();
    let mut pieces = pieces(pattern).peekable();
    while let Some(piece) = pieces.next() {
        match segments.next() {
            None => return false,
            Some(_) if piece == "*" && pieces.peek().is_none() => return true,
            Some(segment) if piece != "*" && piece != segment => return false,
            Some(_) => {}
        }
    }
    segments.next().is_none()
}

/// How exact a pattern is: the number of segments that it names, and then of all.
fn precision(pattern: &str) -> (usize, usize) {
    (pieces(pattern).filter(|piece| *piece != "*").count(), pieces(pattern).count())
}

fn pieces(pattern: &str) -> impl Iterator<Item = &str> {
    pattern.split('/').skip(1).filter(|piece| !piece.is_empty())
}

/// Path and query below the mount, as the client has encoded them, in ASCII.
fn below_mount(request: &Request) -> String {
    let (path, query) = match request.target.split_once('?') {
        Some((path, query)) => (path, format!("?{query}")),
        None => (request.target.as_str(), String::new()),
    };
    let count = request.segments.len() + usize::from(request.trailing_slash);
    let mut last: Vec<&str> = path.rsplit('/').take(count).collect();
    last.reverse();
    let slash = if last.is_empty() { "" } else { "/" };
    let below = format!("{slash}{}{query}", last.join("/"));
    let mut ascii = String::with_capacity(below.len());
    for byte in below.bytes() {
        match byte.is_ascii_graphic() {
            true => ascii.push(char::from(byte)),
            false => ascii.push_str(&format!("%{byte:02X}")),
        }
    }
    ascii
}

/// Whether this is a pattern: `/` and segments, without `*` in any that has anything else.
pub(crate) fn is_pattern(text: &str) -> bool {
    let is_piece = |piece: &str| {
        piece == "*" || !matches!(piece, "" | "." | "..") && !piece.contains(['*', '?', '#', '%'])
    };
    text == "/" || text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_piece))
}
