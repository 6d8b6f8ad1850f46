//! What every plugin exports, bound to Rust. Its imports are bound by the capabilities.

pub(crate) use bindings::exports::keepgate::plugin::guest as exported;
pub(crate) use bindings::{Component as Guest, ComponentPre as GuestPre};

crate::contract::bindings! {
    inline: "package keepgate:runtime; world component { export keepgate:plugin/guest@0.1.0; }",
    world: "keepgate:runtime/component",
    exports: { default: async },
    with: {
        "keepgate:plugin/types": crate::capability::types::bindings::keepgate::plugin::types,
        "keepgate:plugin/http": crate::capability::http::bindings::keepgate::plugin::http,
    },
}
