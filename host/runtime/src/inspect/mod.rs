//! Inspects a file by its bytes alone: no server, no engine, nothing is run. It is for people who wonder why
//! a plugin is not served, so it explains what it finds and avoids raw parser messages.
//!
//! | module | what it is for |
//! | --- | --- |
//! | `anatomy` | sections, memories, tables, and the tools that made it |
//! | `interface` | an interface that a component imports or exports |
//! | `world` | imports and exports, as WIT and in words |
//! | `compare` | how a component's contract differs from this gateway's |
//! | `custom` | custom sections |

mod anatomy;
mod compare;
mod custom;
pub(crate) mod interface;
mod world;

use keepgate_core::RefusalForm;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::component_kind::{check_framing, is_supported, other_version};
use crate::contract::{PACKAGE, VERSION};
use crate::error::LoadError;

pub use anatomy::{Extent, Section};
pub use compare::{Difference, Side};
pub use custom::custom_section;
pub use interface::Interface;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Kind {
    /// A component that exports the contract's `guest`, of any version.
    Plugin,
    /// A component that serves HTTP requests through `wasi:http`.
    HttpService,
    /// A component that is a program: it exports `wasi:cli/run`.
    Program,
    /// A component of another world.
    OtherComponent,
    /// WIT in its binary form.
    WitPackage,
    /// A core module, not a component.
    CoreModule,
    /// Truncated WebAssembly.
    Truncated,
    /// Invalid WebAssembly.
    Damaged,
    /// Machine code, as `wasmtime compile` makes it.
    CompiledCode,
    /// Readable text.
    Text,
    /// Something else.
    Unknown,
}

/// What an inspection found.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// The kind of file.
    pub kind: Kind,
    /// Size of the file in bytes.
    pub size: u64,
    /// SHA-256 of the file in lower-case hex.
    pub digest: String,
    /// The version of `keepgate:plugin` that it was built for, if it was.
    pub contract: Option<String>,
    /// A component's imports, in order.
    pub imports: Vec<Interface>,
    /// A component's exports, in order.
    pub exports: Vec<Interface>,
    /// Linear memories that it defines.
    pub memories: Vec<Extent>,
    /// Tables that it defines.
    pub tables: Vec<Extent>,
    /// The languages and tools that it says it was made with.
    pub made_with: Vec<String>,
    /// Its sections in order, nested ones after the one that contains them.
    pub sections: Vec<Section>,
    /// How its contract differs from this gateway's; empty if it can be linked.
    pub differences: Vec<Difference>,
    /// Why it is not a plugin, and what to do; `None` if it is one.
    pub refusal: Option<String>,
}

impl Inspection {
    /// Inspects a file's bytes. Takes milliseconds for a file of a few megabytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut seen = Self {
            kind: Kind::Unknown,
            size: bytes.len() as u64,
            digest: hex::encode(Sha256::digest(bytes)),
            contract: None,
            imports: Vec::new(),
            exports: Vec::new(),
            memories: Vec::new(),
            tables: Vec::new(),
            made_with: Vec::new(),
            sections: Vec::new(),
            differences: Vec::new(),
            refusal: None,
        };
        match check_framing(bytes) {
            Ok(()) => seen.look_into_component(bytes),
            Err(LoadError::CoreModule) => seen.look_into_module(bytes),
            Err(LoadError::EndsEarly) => {
                seen.refuse(Kind::Truncated, format!("{}; copy it again", LoadError::EndsEarly));
            }
            Err(error @ LoadError::Trailing { .. }) => {
                seen.refuse(Kind::Damaged, error.to_string());
            }
            Err(_) => {
                let (kind, what) = foreign(bytes);
                let advice =
                    "a plugin is a WebAssembly component, as `keepgate plugin build` makes";
                seen.refuse(kind, format!("this is {what}, not WebAssembly; {advice}"));
            }
        }
        seen
    }

    fn refuse(&mut self, kind: Kind, why: String) {
        self.kind = kind;
        self.refusal = Some(why);
    }

    fn look_into_module(&mut self, bytes: &[u8]) {
        if self.dissect(bytes).is_none() {
            return;
        }
        let names = |name: &str| self.sections.iter().any(|section| section.name.contains(name));
        let how = if names("component-type") {
            "it was compiled for a component's world but not wrapped; use `keepgate plugin build`, which \
             does both, or wrap it with `wasm-tools component new`"
        } else {
            "build it with `keepgate plugin build`; code written for another host must be rewritten for \
             the contract"
        };
        self.refuse(Kind::CoreModule, format!("this is a core module, not a component: {how}"));
    }

    fn look_into_component(&mut self, bytes: &[u8]) {
        if self.dissect(bytes).is_none() {
            return;
        }
        let world = match world::World::decode(bytes) {
            Ok(Some(world)) => world,
            Ok(None) => {
                let what = "this is WIT in binary form, which describes a plugin but has no code; \
                            build a plugin for it";
                return self.refuse(Kind::WitPackage, what.to_owned());
            }
            Err(why) => return self.refuse(Kind::Damaged, damaged(&why)),
        };
        self.imports = world.imports();
        self.exports = world.exports();
        let ours = |interface: &&Interface| interface.package == PACKAGE;
        let guest = self.exports.iter().find(|i| ours(i) && i.name == "guest");
        let any = guest.or_else(|| self.exports.iter().chain(&self.imports).find(ours));
        self.contract = any.and_then(|interface| interface.version.clone());
        let http = self.exports.iter().any(|i| {
            i.package == "wasi:http" && matches!(i.name.as_str(), "incoming-handler" | "handler")
        });
        let program = self.exports.iter().any(|i| i.package == "wasi:cli" && i.name == "run");
        self.kind = match (guest, http, program) {
            (Some(_), ..) => Kind::Plugin,
            (None, true, _) => Kind::HttpService,
            (None, false, true) => Kind::Program,
            _ => Kind::OtherComponent,
        };
        match (&self.contract, self.kind) {
            (Some(found), Kind::Plugin) if is_supported(found) => {
                self.differences = compare::differences(&world);
            }
            (Some(found), Kind::Plugin) => {
                self.refusal = Some(other_version(found).to_string());
            }
            (_, Kind::Program) => {
                self.refusal = Some(format!(
                    "this is a program (it exports `wasi:cli/run`), not a plugin: a plugin exports \
                     {PACKAGE}/guest@{VERSION}"
                ));
            }
            (_, Kind::HttpService) => {}
            _ => {
                let exports: Vec<_> = self.exports.iter().map(Interface::full_name).collect();
                let exports =
                    if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") };
                self.refusal = Some(LoadError::NoGuest { exports }.to_string());
            }
        }
        if let Err(error) = refusal_form(bytes) {
            self.refusal.get_or_insert_with(|| error.to_string());
        }
    }

    /// Reads sections, memories and so on; `None` if the bytes are not valid WebAssembly.
    fn dissect(&mut self, bytes: &[u8]) -> Option<()> {
        match anatomy::dissect(bytes) {
            Ok(anatomy) => {
                self.sections = anatomy.sections;
                self.memories = anatomy.memories;
                self.tables = anatomy.tables;
                self.made_with = anatomy.made_with;
                Some(())
            }
            Err(why) => {
                self.refuse(Kind::Damaged, damaged(&why));
                None
            }
        }
    }

    /// Whether its bytes alone keep it from being served by this gateway.
    pub fn is_refused(&self) -> bool {
        self.refusal.is_some() || !self.differences.is_empty()
    }
}

/// A component's world as WIT. The error says why there is none.
pub fn wit(bytes: &[u8]) -> Result<String, String> {
    check_framing(bytes).map_err(|error| error.to_string())?;
    anatomy::dissect(bytes).map_err(|why| damaged(&why))?;
    world::text(bytes).map_err(|why| damaged(&why))
}

/// The linear memory, in bytes, that an instance of a component begins with.
pub(crate) fn initial_memory(bytes: &[u8]) -> u64 {
    anatomy::initial_memory(bytes)
}

/// The form that a component declares for refusals, if it does.
pub(crate) fn refusal_form(component: &[u8]) -> Result<Option<RefusalForm>, LoadError> {
    let declaration = custom_section(component, RefusalForm::SECTION);
    declaration.map(RefusalForm::parse).transpose().map_err(LoadError::from)
}

/// How a component that the linker refuses differs from the contract; `None` if no difference is found.
pub(crate) fn explain(bytes: &[u8]) -> Option<String> {
    let world = world::World::decode(bytes).ok()??;
    let differences = compare::differences(&world);
    let texts: Vec<_> = differences.iter().map(ToString::to_string).collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}

fn damaged(why: &str) -> String {
    format!(
        "the file is damaged, or uses a WebAssembly feature that this gateway does not support: {why}"
    )
}

/// What a file that is not WebAssembly is, judging by its first bytes.
fn foreign(bytes: &[u8]) -> (Kind, &'static str) {
    let known: [(&[u8], Kind, &str); 4] = [
        (
            b"\x7fELF",
            Kind::CompiledCode,
            "machine code (an ELF file, perhaps from `wasmtime compile`)",
        ),
        (b"\x1f\x8b", Kind::Unknown, "a gzip archive (unpack it first)"),
        (b"PK\x03\x04", Kind::Unknown, "a zip archive (unpack it first)"),
        (
            b"(component",
            Kind::Text,
            "WebAssembly in text form (`wasm-tools parse` makes it binary)",
        ),
    ];
    if let Some((_, kind, what)) = known.iter().find(|(magic, ..)| bytes.starts_with(magic)) {
        return (*kind, what);
    }
    let start = bytes.get(..bytes.len().min(4096)).unwrap_or_default();
    let readable = |byte: &u8| !byte.is_ascii_control() || byte.is_ascii_whitespace();
    match start.iter().all(readable) {
        true => (Kind::Text, "a text file"),
        false => (Kind::Unknown, "a file of another kind"),
    }
}

#[cfg(test)]
mod tests;
