//! What wasmtime's `wasi:http` needs in the state of an instance, and a client that sends no requests.

use wasmtime_wasi_http::{
    Error, RequestOptions, Result as HttpResult, WasiBody, WasiHttpCtx, WasiHttpHooks,
};

/// The most bytes of a set of header fields, including the host's overhead.
const MAX_FIELDS: usize = 64 << 10;

/// The part of an instance's state that `wasi:http` uses.
#[derive(Debug)]
pub(crate) struct WasiHttpState {
    pub(super) context: WasiHttpCtx,
    pub(super) hooks: NoClient,
}

impl Default for WasiHttpState {
    fn default() -> Self {
        let mut context = WasiHttpCtx::new();
        context.set_field_size_limit(MAX_FIELDS);
        Self { context, hooks: NoClient }
    }
}

/// Refuses every outgoing request.
#[derive(Debug)]
pub(super) struct NoClient;

type Sent = HttpResult<(http::Response<WasiBody>, Box<dyn Future<Output = HttpResult<()>> + Send>)>;

impl WasiHttpHooks for NoClient {
    fn send_request(
        &mut self,
        _request: http::Request<WasiBody>,
        _options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = HttpResult<()>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        Box::new(std::future::ready(Err(Error::HttpRequestDenied)))
    }
}
