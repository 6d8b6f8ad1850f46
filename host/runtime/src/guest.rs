//! What every plugin exports, with the types of its requests, replies and failures: the interfaces `guest`,
//! `http` and `types`, bound to Rust. Other interfaces are bound by their capabilities.

pub(crate) use bindings::exports::keepgate::plugin::guest as exported;
pub(crate) use bindings::{Component as Guest, ComponentPre as GuestPre};

crate::contract::bindings! {
    interface: "guest",
    imports: {
        "keepgate:plugin/types.[static]body.from-bytes": trappable,
        "keepgate:plugin/types.[method]body.length": trappable,
        "keepgate:plugin/http.[static]writer.start": trappable,
        "keepgate:plugin/http.inform": trappable,
        default: async | trappable,
    },
    exports: { default: async },
    with: {
        "keepgate:plugin/types.body": crate::capability::types::body::BodyHandle,
        "keepgate:plugin/http.writer": crate::capability::http::writer::WriterHandle,
    },
}
