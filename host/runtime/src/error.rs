//! Why a plugin file is refused. Each message says what is wrong, on which side, and what to do.

use std::time::Duration;

use keepgate_core::{RefusalForm, RefusalFormError};

use crate::contract::{PACKAGE, VERSION};

/// The largest plugin file, in bytes.
pub(crate) const MAX_FILE: u64 = 256 << 20;

/// Why a plugin file is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// It cannot be read.
    #[error("the file cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// Its name is not one that a mount can have.
    #[error("no mount can name a plugin whose file is named so: {0}; rename the file")]
    Name(String),
    /// It is too large.
    // Without its size: while such a file grows, its refusal stays the same and is not reported again.
    #[error("the file is too large: a plugin may have at most {MAX_FILE} bytes")]
    TooLarge {
        /// In bytes.
        size: u64,
    },
    /// It is truncated, as a file is while it is copied.
    #[error("the file is truncated: it is still being copied, or the copy was interrupted")]
    EndsEarly,
    /// It has something that no component has.
    #[error(
        "from byte {at} on, the file is no component: it is damaged, or something was appended to it; copy or build it again"
    )]
    Trailing {
        /// How many bytes are those of a component.
        at: usize,
    },
    /// It is something else.
    #[error("this is not a WebAssembly component: it does not start with `\\0asm`")]
    NotWasm,
    /// It is a core module.
    #[error(
        "this is a WebAssembly core module, not a component; build it with \
         `keepgate plugin build`, or wrap it with `wasm-tools component new`"
    )]
    CoreModule,
    /// It was built for another version of the contract.
    #[error(
        "this plugin was built for version {found} of {PACKAGE}, this gateway has {VERSION}: {advice}"
    )]
    OtherVersion {
        /// The plugin's version.
        found: String,
        /// Which side to update.
        advice: &'static str,
    },
    /// It exports something else.
    #[error(
        "this component is not a Keepgate plugin: it does not export {PACKAGE}/guest@{VERSION} or \
         wasi:http/incoming-handler@0.2; it exports {exports}"
    )]
    NoGuest {
        /// What it exports instead.
        exports: String,
    },
    /// It is a service for a later version of `wasi:http`.
    #[error(
        "this component exports {export}; this gateway serves wasi:http/incoming-handler@0.2, for \
         which the same tools can build it"
    )]
    NextHttp {
        /// What it exports.
        export: String,
    },
    /// It imports something that this gateway does not offer.
    #[error(
        "the plugin imports {import}, which this gateway does not offer; build the plugin without \
         it, or run it on a gateway that has it"
    )]
    NoSuchImport {
        /// The import's name.
        import: String,
    },
    /// Its imports or exports have other types than the contract's.
    #[error(
        "the plugin was built for a {PACKAGE}@{VERSION} that differs from this gateway's; build it \
         again with this gateway's `wit/`: {detail}"
    )]
    Mismatch {
        /// Each interface and function that differs; what the linker says if none can be named.
        detail: String,
    },
    /// It does not compile.
    #[error("the component does not compile: {0}")]
    Compile(String),
    /// It takes too long to compile.
    #[error("the component takes more than {} seconds to compile", limit.as_secs())]
    CompileTime {
        /// The limit.
        limit: Duration,
    },
    /// It takes too much memory to compile.
    #[error("the component needs more than {} GiB of memory to compile", limit >> 30)]
    CompileMemory {
        /// The limit in bytes.
        limit: u64,
    },
    /// It broke down in `describe`.
    #[error("the plugin broke down in `{call}`: {detail}")]
    BrokeDown {
        /// Which call.
        call: &'static str,
        /// How.
        detail: String,
    },
    /// The form that it declares for refusals is rejected.
    #[error(
        "the plugin's form for refusals is rejected (section `{section}`, made of `{file}` beside its sources): {0}; \
         correct the file and build the plugin again",
        section = RefusalForm::SECTION,
        file = RefusalForm::FILE,
    )]
    RefusalForm(#[from] RefusalFormError),
    /// Its description is rejected.
    #[error("the plugin's description is rejected: {0}")]
    Description(String),
    /// The operator's rules do not trust it.
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
