//! From a path and a method to a function. A plugin with regular paths lists them once, and gets 404, 405 with
//! `Allow`, OPTIONS, and HEAD for each GET. A refusal of the router is a failure like any other, in the plugin's own
//! form. A plugin with irregular paths matches [`Request::path`](crate::Request::path) by itself.
//!
//! Nothing is generated: a debugger steps from [`Router::handle`] into the handler.

use std::str::FromStr;

use crate::{Failure, Method, Reply, Request};

/// Handles one kind of request.
pub type Handler<S> = fn(Call<S>) -> Result<Reply, Failure>;

/// Paths with their handlers; the first that fits answers. `S` is the settings, or whatever else all handlers need.
///
/// ```
/// use keepgate_sdk::{BlobAnswer, Call, Failure, PutOptions, Reply, Router, Store, at};
///
/// #[derive(serde::Deserialize)]
/// struct Settings {}
///
/// fn routes() -> Router<Settings> {
///     Router::new().route("/{name}", at().get(fetch).put(save))
/// }
///
/// fn fetch(call: Call<Settings>) -> Result<Reply, Failure> {
///     let name: String = call.param("name")?;
///     BlobAnswer::of(&Store::open("main")?, &name)?.to(&call.request)
/// }
///
/// fn save(call: Call<Settings>) -> Result<Reply, Failure> {
///     let name: String = call.param("name")?;
///     Store::open("main")?.put(&name, call.request.body, &PutOptions::absent())?;
///     Ok(Reply::new(201))
/// }
/// ```
#[derive(Debug)]
pub struct Router<S> {
    routes: Vec<(Pattern, Methods<S>)>,
    /// The required forms of segments, by name.
    forms: Vec<(&'static str, Form)>,
    odd: fn(&str) -> Failure,
    options: bool,
}

/// Whether a segment has the required form.
type Form = fn(&str) -> bool;

/// A request with its settings and the named segments of its path.
#[derive(Debug)]
pub struct Call<S> {
    /// The request, with its body.
    pub request: Request,
    /// The mount's settings.
    pub settings: S,
    params: Vec<(&'static str, String)>,
}

impl<S> Call<S> {
    /// The segment of the path that the route calls `name`; `None` if the route has no such segment.
    pub fn segment(&self, name: &str) -> Option<&str> {
        let found = self.params.iter().find(|(known, _)| *known == name);
        found.map(|(_, text)| text.as_str())
    }

    /// The segment of the path that the route calls `name`, parsed. Fails with [`Failure::NotFound`] if it
    /// does not parse. To handle such paths differently, ask for a `String`.
    pub fn param<T: FromStr>(&self, name: &str) -> Result<T, Failure> {
        let text = self.segment(name).ok_or_else(|| {
            Failure::Internal(format!("the route has no segment {{{name}}} in its path"))
        })?;
        text.parse().map_err(|_| Failure::NotFound)
    }
}

/// The methods of a path, built from [`at`].
#[derive(Debug)]
pub struct Methods<S>(Vec<(Method, Handler<S>)>);

/// A path without methods.
pub fn at<S>() -> Methods<S> {
    Methods(Vec::new())
}

impl<S> Methods<S> {
    /// Handles GET, and HEAD unless that has a handler of its own: HEAD then gets the head of the reply to
    /// GET.
    #[must_use]
    pub fn get(self, handler: Handler<S>) -> Self {
        self.on(Method::Get, handler)
    }

    /// Handles HEAD.
    #[must_use]
    pub fn head(self, handler: Handler<S>) -> Self {
        self.on(Method::Head, handler)
    }

    /// Handles POST.
    #[must_use]
    pub fn post(self, handler: Handler<S>) -> Self {
        self.on(Method::Post, handler)
    }

    /// Handles PUT.
    #[must_use]
    pub fn put(self, handler: Handler<S>) -> Self {
        self.on(Method::Put, handler)
    }

    /// Handles DELETE.
    #[must_use]
    pub fn delete(self, handler: Handler<S>) -> Self {
        self.on(Method::Delete, handler)
    }

    /// Handles any method.
    #[must_use]
    pub fn on(mut self, method: Method, handler: Handler<S>) -> Self {
        self.0.push((method, handler));
        self
    }

    fn handler(&self, method: &Method) -> Option<Handler<S>> {
        self.0.iter().find(|(known, _)| known == method).map(|(_, handler)| *handler)
    }

    fn refusal(&self) -> Failure {
        Failure::method_not_allowed(&self.allow())
    }

    /// The value of `Allow`, such as `GET, HEAD, PUT`.
    fn allow(&self) -> String {
        let mut names: Vec<&str> = Vec::new();
        for (method, _) in &self.0 {
            names.push(method.as_str());
            if *method == Method::Get && self.handler(&Method::Head).is_none() {
                names.push("HEAD");
            }
        }
        names.join(", ")
    }
}

impl<S> Router<S> {
    /// A router without paths.
    pub fn new() -> Self {
        Self { routes: Vec::new(), forms: Vec::new(), odd: |_| Failure::NotFound, options: true }
    }

    /// Adds a path: `/`, or segments that are texts or `{names}`. `{*name}` at the end matches the rest of
    /// the path, at least one segment, joined by `/`. A trailing slash is part of the path.
    ///
    /// A named segment is never empty, `.` or `..`, and never contains a `/` or NUL; see
    /// [`odd_segments`](Self::odd_segments).
    #[must_use]
    pub fn route(mut self, path: &'static str, methods: Methods<S>) -> Self {
        self.routes.push((Pattern::new(path), methods));
        self
    }

    /// Requires a form for all segments of this name, in all routes. A path whose segment has another form is
    /// not found, whatever the method.
    ///
    /// ```
    /// use keepgate_sdk::{Router, is_sha256};
    ///
    /// let router = Router::<()>::new().segment("hash", is_sha256);
    /// ```
    #[must_use]
    pub fn segment(mut self, name: &'static str, form: Form) -> Self {
        self.forms.push((name, form));
        self
    }

    /// Treats OPTIONS like any other method: 405, unless the path has a handler for it. By default, the
    /// router replies with 204 and `Allow`.
    #[must_use]
    pub fn without_options(mut self) -> Self {
        self.options = false;
        self
    }

    /// Sets the failure for a path that would match, except that a segment is empty, `.` or `..`, or contains
    /// an encoded `/` or NUL, so it cannot be part of a key. By default, this is [`Failure::NotFound`];
    /// surfaces differ here. The function gets the segment.
    ///
    /// ```
    /// # use keepgate_sdk::{Failure, Router};
    /// let router = Router::<()>::new().odd_segments(|name| Failure::Invalid(format!("no name: {name:?}")));
    /// ```
    #[must_use]
    pub fn odd_segments(mut self, failure: fn(&str) -> Failure) -> Self {
        self.odd = failure;
        self
    }

    /// Handles a request. Fails with [`Failure::NotFound`] if no path matches, and with
    /// [`Failure::method_not_allowed`] if the path has no handler for the method.
    pub fn handle(&self, request: Request, settings: S) -> Result<Reply, Failure> {
        let (segments, trailing_slash) = (&request.segments, request.trailing_slash);
        let mut odd = None;
        let found = self.routes.iter().find_map(|(pattern, methods)| {
            match pattern.matches(segments, trailing_slash) {
                Fit::Fits(params) => self.has_form(&params).then_some((params, methods)),
                Fit::Odd(segment) => {
                    odd = odd.or(Some(segment));
                    None
                }
                Fit::No => None,
            }
        });
        let (params, methods) = found.ok_or_else(|| match odd {
            Some(segment) => (self.odd)(segment),
            None => Failure::NotFound,
        })?;
        if let Some(handler) = methods.handler(&request.method) {
            return handler(Call { request, settings, params });
        }
        match request.method {
            Method::Head => match methods.handler(&Method::Get) {
                Some(handler) => {
                    handler(Call { request, settings, params }).map(Reply::without_content)
                }
                None => Err(methods.refusal()),
            },
            Method::Options if self.options => Ok(Reply::new(204).header("allow", methods.allow())),
            _ => Err(methods.refusal()),
        }
    }
}

impl<S> Router<S> {
    fn has_form(&self, params: &[(&'static str, String)]) -> bool {
        let fits = |(name, text): &(&'static str, String)| {
            self.forms.iter().all(|(known, form)| known != name || form(text))
        };
        params.iter().all(fits)
    }
}

impl<S> Default for Router<S> {
    fn default() -> Self {
        Self::new()
    }
}

/// A path with named segments.
#[derive(Debug)]
struct Pattern {
    pieces: Vec<Piece>,
    trailing_slash: bool,
}

#[derive(Debug)]
enum Piece {
    Text(&'static str),
    Name(&'static str),
    Rest(&'static str),
}

impl Pattern {
    fn new(path: &'static str) -> Self {
        let path = path.strip_prefix('/').unwrap_or(path);
        let (path, trailing_slash) = match path.strip_suffix('/') {
            Some(path) => (path, true),
            // `/` alone has a trailing slash, as a request for the mount itself does.
            None => (path, path.is_empty()),
        };
        let name = |segment: &'static str| {
            let name = segment.strip_prefix('{')?.strip_suffix('}')?;
            Some(name.strip_prefix('*').map_or(Piece::Name(name), Piece::Rest))
        };
        let piece = |segment: &'static str| name(segment).unwrap_or(Piece::Text(segment));
        let pieces = path.split('/').filter(|segment| !segment.is_empty()).map(piece).collect();
        Self { pieces, trailing_slash }
    }

    fn matches<'r>(&self, segments: &'r [String], trailing_slash: bool) -> Fit<'r> {
        let is_top = segments.is_empty();
        if trailing_slash != self.trailing_slash && !is_top {
            return Fit::No;
        }
        let (mut params, mut odd) = (Vec::new(), None);
        let mut rest = segments;
        for piece in &self.pieces {
            let Some((first, after)) = rest.split_first() else { return Fit::No };
            match piece {
                Piece::Text(text) if first == text => {}
                Piece::Text(_) => return Fit::No,
                Piece::Name(name) => {
                    odd = odd.or(Some(first).filter(|segment| is_odd(segment)));
                    params.push((*name, first.clone()));
                }
                Piece::Rest(name) => {
                    odd = odd.or(rest.iter().find(|segment| is_odd(segment)));
                    params.push((*name, rest.join("/")));
                    rest = &[];
                    break;
                }
            }
            rest = after;
        }
        match odd {
            _ if !rest.is_empty() => Fit::No,
            Some(segment) => Fit::Odd(segment),
            None => Fit::Fits(params),
        }
    }
}

/// Whether a path matches a pattern.
enum Fit<'r> {
    No,
    /// It would, except for this segment.
    Odd(&'r str),
    Fits(Vec<(&'static str, String)>),
}

/// Whether a segment cannot be part of a key.
fn is_odd(segment: &str) -> bool {
    matches!(segment, "" | "." | "..") || segment.contains(['/', '\0'])
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "a handler owns its call, for the body in it")]
mod tests;
