//! Why a file is not served, in words that say what is wrong, on which side, and what to do.

use super::MAX_FILE;
use crate::contract::{PACKAGE, VERSION};

/// Why a file is not served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// It cannot be read.
    #[error("the file cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// It is too large.
    #[error("the file has {size} bytes; a plugin has {MAX_FILE} at most")]
    TooLarge {
        /// In bytes.
        size: u64,
    },
    /// It ends within itself, which is how a file looks while it is copied.
    #[error("the file ends too early: it is still being copied, or the copy broke off")]
    EndsEarly,
    /// It is something else.
    #[error("this is not a WebAssembly component: it does not begin with `\\0asm`")]
    NotWasm,
    /// It is a core module.
    #[error(
        "this is a WebAssembly core module, not a component; build it with \
         `keepgate plugin build`, or wrap it with `wasm-tools component new`"
    )]
    CoreModule,
    /// It speaks another version of the contract.
    #[error(
        "this plugin speaks version {found} of {PACKAGE}, and this gateway {VERSION}: {advice}"
    )]
    OtherVersion {
        /// The plugin's version.
        found: String,
        /// Which side to renew.
        advice: &'static str,
    },
    /// It exports something else.
    #[error(
        "this component is no Keepgate plugin: it does not export {PACKAGE}/guest@{VERSION}, nor \
         wasi:http/incoming-handler@0.2; it exports {exports}"
    )]
    NoGuest {
        /// What it exports instead.
        exports: String,
    },
    /// It is a service of a later version of the standard.
    #[error(
        "this component exports {export}; of services this gateway serves those of \
         wasi:http/incoming-handler@0.2, which the same tools make: build it for that"
    )]
    NextHttp {
        /// What it exports.
        export: String,
    },
    /// It imports something that nobody offers here.
    #[error(
        "the plugin imports {import}, which this gateway does not offer; build the plugin without \
         it, or run it on a gateway that has it"
    )]
    NoSuchImport {
        /// The import's name.
        import: String,
    },
    /// It has the right names with other types.
    #[error(
        "the plugin was built against another text of {PACKAGE}@{VERSION} than this gateway's; \
         build it again with this gateway's `wit/`: {detail}"
    )]
    Mismatch {
        /// Each interface and function that differs; what the linker says where none can be named.
        detail: String,
    },
    /// It does not compile.
    #[error("the component does not compile: {0}")]
    Compile(String),
    /// It broke down when asked what it is.
    #[error("the plugin broke down in `{call}`: {detail}")]
    BrokeDown {
        /// Which call.
        call: &'static str,
        /// How.
        detail: String,
    },
    /// What it says of itself cannot be used.
    #[error("the plugin's description cannot be used: {0}")]
    Description(String),
    /// The operator's rules do not let it in.
    #[error("the plugin is not trusted: {0}")]
    Untrusted(String),
    /// The host's own engine failed.
    #[error("the WebAssembly engine: {0}")]
    Engine(String),
}

impl LoadError {
    #[expect(clippy::needless_pass_by_value, reason = "for map_err")]
    pub(crate) fn engine(error: wasmtime::Error) -> Self {
        Self::Engine(format!("{error:#}"))
    }

    #[expect(clippy::needless_pass_by_value, reason = "for map_err")]
    pub(crate) fn compile(error: wasmtime::Error) -> Self {
        Self::Compile(format!("{error:#}"))
    }
}
