//! `upstreams`: exchanges with the HTTP systems that a mount grants. The client is in `keepgate_upstream`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use keepgate_store::Body;
use keepgate_upstream::{Exchanges, Request, UpstreamError, Wishes};
use wasmtime::component::{HasSelf, Linker, Resource};

use super::definition::{Capability, Granted, list};
use super::grants::{Grant, Grants};
use super::jobs::RunningJob;
use super::types::BodyHandle;
use crate::contract::ImportError;
use crate::guest_state::GuestState;
use crate::host_allocation::body_with;
use keepgate_core::Failure;

use bindings::keepgate::plugin::types::Fields;
use bindings::keepgate::plugin::upstreams;

crate::contract::bindings! {
    interface: "upstreams",
    imports: {
        "keepgate:plugin/upstreams.names": trappable,
        "keepgate:plugin/upstreams.check": trappable,
        "keepgate:plugin/upstreams.[method]exchange.status": trappable,
        "keepgate:plugin/upstreams.[method]exchange.headers": trappable,
        "keepgate:plugin/upstreams.[method]exchange.body": trappable,
        default: async | trappable,
    },
    with: {
        "keepgate:plugin/types": crate::guest::bindings::keepgate::plugin::types,
        "keepgate:plugin/upstreams.exchange": crate::capability::upstreams::ExchangeHandle,
    },
}

/// The upstreams that a mount grants, by the names under which the plugin asks for them.
#[derive(Clone, Debug, Default)]
pub struct Upstreams(pub BTreeMap<String, Arc<dyn Exchanges>>);

impl Grant for Upstreams {}

/// The key of a mount.
const KEY: &str = "upstreams";
/// A shorter body than this is a message and not what a job is about, so passing it is no progress.
const LONG: u64 = 1 << 20;

/// See the module.
pub(crate) struct UpstreamsCapability;

impl Capability for UpstreamsCapability {
    fn interface(&self) -> &'static str {
        "upstreams"
    }

    fn purpose(&self) -> &'static str {
        "HTTP systems"
    }

    fn since(&self) -> u32 {
        1
    }

    fn wit(&self) -> &'static str {
        crate::contract::wit!("upstreams.wit")
    }

    fn add_to_linker(&self, linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
        upstreams::add_to_linker::<_, HasSelf<GuestState>>(linker, |state| state)
    }

    fn granted(&self, grants: &Grants) -> Option<Granted> {
        let names: Vec<_> = grants.get::<Upstreams>()?.0.keys().cloned().collect();
        (!names.is_empty()).then_some(Granted { key: KEY, label: "upstream", names })
    }

    fn check_imports(&self, functions: &[String], grants: &Grants) -> Result<(), String> {
        let sends = functions.iter().any(|function| function.contains("send"));
        if sends && grants.get::<Upstreams>().is_none_or(|upstreams| upstreams.0.is_empty()) {
            return Err(format!(
                "the plugin can send requests to HTTP systems, and the mount grants none; if it needs one, add \
                 `{KEY} = {{ main = \"…\" }}` to the mount, with the name of an [upstream.NAME] table"
            ));
        }
        Ok(())
    }

    fn lacks_grant(&self, function: &str, failure: &str) -> bool {
        function == "send" && failure == "denied"
    }
}

/// The host's side of an exchange.
#[doc(hidden)]
pub struct ExchangeHandle {
    status: u16,
    headers: Fields,
    /// Until the guest takes it.
    body: Option<Body>,
}

impl fmt::Debug for ExchangeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExchangeHandle").field("status", &self.status).finish_non_exhaustive()
    }
}

impl upstreams::Host for GuestState {
    fn names(&mut self) -> wasmtime::Result<Vec<String>> {
        self.note("upstreams.names", |_| String::new());
        let granted = self.mount.grants.get::<Upstreams>();
        Ok(granted.map(|upstreams| upstreams.0.keys().cloned().collect()).unwrap_or_default())
    }

    fn check(
        &mut self,
        upstream: String,
        method: String,
        target: String,
    ) -> Result<(), ImportError> {
        self.note("upstreams.check", |_| format!("{upstream} {method} {target}"));
        Ok(self.upstream(&upstream)?.check(&method, &target)?)
    }
}

impl GuestState {
    /// The upstream that the mount grants under this name.
    fn upstream(&self, name: &str) -> Result<Arc<dyn Exchanges>, ImportError> {
        let granted = self.mount.grants.get::<Upstreams>().map(|upstreams| &upstreams.0);
        let Some(upstream) = granted.and_then(|granted| granted.get(name)) else {
            return Err(Failure::Denied(format!(
                "the mount {} grants no upstream {name:?}; granted: {}",
                self.mount.path,
                list(granted.into_iter().flat_map(BTreeMap::keys)),
            ))
            .into());
        };
        Ok(Arc::clone(upstream))
    }

    /// The same body; in a job, its progress is the job's if it is long.
    fn followed(&self, body: Body) -> Body {
        match self.call.get::<RunningJob>() {
            Some(job) if body.length().is_none_or(|length| length >= LONG) => job.follow(body),
            _ => body,
        }
    }
}

impl upstreams::HostExchange for GuestState {
    async fn send(
        &mut self,
        upstream: String,
        request: upstreams::Request,
        body: Option<Resource<BodyHandle>>,
        options: upstreams::Options,
    ) -> Result<Resource<ExchangeHandle>, ImportError> {
        let upstreams::Request { method, target, headers } = request;
        self.note("upstreams.send", |_| format!("{upstream} {method} {target}"));
        let body = body.map(|body| self.table.delete(body)).transpose()?;
        let body = body.map(|body| self.followed(body.into_body()));
        let granted = self.upstream(&upstream)?;
        let wishes = Wishes {
            answer_within: options.answer_within.map(Duration::from_millis),
            silent_for: options.silent_for.map(Duration::from_millis),
            max_body: options.max_body,
            resume: options.resume,
        };
        let open = self.allocation.open()?;
        let request = Request { method, target, headers, body, wishes };
        let response = self.cpu.free(granted.send(request)).await?;
        let body = Some(body_with(response.body, open));
        let handle = ExchangeHandle { status: response.status, headers: response.headers, body };
        Ok(self.table.push(handle)?)
    }

    fn status(&mut self, exchange: Resource<ExchangeHandle>) -> wasmtime::Result<u16> {
        Ok(self.table.get(&exchange)?.status)
    }

    fn headers(&mut self, exchange: Resource<ExchangeHandle>) -> wasmtime::Result<Fields> {
        Ok(self.table.get(&exchange)?.headers.clone())
    }

    fn body(
        &mut self,
        exchange: Resource<ExchangeHandle>,
    ) -> Result<Resource<BodyHandle>, ImportError> {
        self.note("upstreams.body", |_| String::new());
        let Some(body) = self.table.get_mut(&exchange)?.body.take() else {
            let why = "the body of this exchange has been taken already";
            return Err(Failure::Invalid(why.to_owned()).into());
        };
        let body = self.followed(body);
        Ok(self.table.push(BodyHandle::new(body))?)
    }

    async fn drop(&mut self, exchange: Resource<ExchangeHandle>) -> wasmtime::Result<()> {
        self.table.delete(exchange)?;
        Ok(())
    }
}

impl From<UpstreamError> for ImportError {
    fn from(error: UpstreamError) -> Self {
        let failure = match error {
            UpstreamError::Invalid(what) => Failure::Invalid(what),
            UpstreamError::Denied(what) => Failure::Denied(what),
            UpstreamError::Busy(what) => Failure::Busy(what),
            UpstreamError::Body(error) => error.into(),
            error => Failure::Unavailable(error.to_string()),
        };
        failure.into()
    }
}
