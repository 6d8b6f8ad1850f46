//! What a file is, by its bytes alone: no server, no engine, nothing is run. Everything that a person
//! who wonders why a plugin is not served may want to know; never a raw message of a parser where
//! there is something to say in words.
//!
//! | module | what it is for |
//! | --- | --- |
//! | `anatomy` | sections, memories, tables, what it was made with |
//! | `world` | imports and exports, as WIT and in words |
//! | `compare` | where a component's idea of the contract differs from this gateway's |
//! | `custom` | custom sections |

mod anatomy;
mod compare;
mod custom;
mod world;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::contract::{PACKAGE, VERSION};
use crate::load::{LoadError, check_framing};

pub use anatomy::{Extent, Section};
pub use compare::{Difference, Side};
pub use custom::custom_section;
pub use world::Interface;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Kind {
    /// A component that exports the contract's `guest`, of whatever version.
    Plugin,
    /// A component that answers HTTP requests by WASI's interfaces.
    HttpService,
    /// A component that is a program: it exports `wasi:cli/run`.
    Program,
    /// A component of another world.
    OtherComponent,
    /// WIT in its binary form.
    WitPackage,
    /// A WebAssembly module that is no component.
    CoreModule,
    /// WebAssembly that ends within itself.
    Truncated,
    /// WebAssembly that does not follow its rules.
    Damaged,
    /// Machine code, as `wasmtime compile` makes it.
    CompiledCode,
    /// Readable text.
    Text,
    /// None of these.
    Unknown,
}

/// A file, looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// What it is.
    pub kind: Kind,
    /// Of the file, in bytes.
    pub size: u64,
    /// SHA-256 of the file in lower-case hex.
    pub digest: String,
    /// The version of `keepgate:plugin` that it was made for, where it was.
    pub contract: Option<String>,
    /// What a component imports, in its order.
    pub imports: Vec<Interface>,
    /// What a component exports, in its order.
    pub exports: Vec<Interface>,
    /// Linear memories that it defines.
    pub memories: Vec<Extent>,
    /// Tables that it defines.
    pub tables: Vec<Extent>,
    /// Languages and tools that it names as those it was made with.
    pub made_with: Vec<String>,
    /// Its parts, in their order, those inside others after them.
    pub sections: Vec<Section>,
    /// Where its idea of the contract differs from this gateway's; empty where it can be linked.
    pub differences: Vec<Difference>,
    /// Why it is no plugin at all, with what to do; none where it is one.
    pub refusal: Option<String>,
}

impl Inspection {
    /// Looks at a file's bytes. Takes milliseconds for a file of some megabytes.
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
            "it was compiled for a component's world and not wrapped; `keepgate plugin build` does \
             both, and `wasm-tools component new` wraps it alone"
        } else {
            "build it with `keepgate plugin build`; what was made for another host must be rewritten \
             against the contract"
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
                let what = "this is WIT in its binary form: it says what a plugin may do, and does \
                            nothing; build a plugin against it";
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
            (Some(found), Kind::Plugin) if crate::load::is_spoken(found) => {
                self.differences = compare::differences(&world);
            }
            (Some(found), Kind::Plugin) => {
                self.refusal = Some(crate::load::other_version(found).to_string());
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
    }

    /// Sections, memories and so on; none where the bytes do not follow WebAssembly's rules.
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

    /// Whether anything keeps it from being served here, by its bytes alone.
    pub fn is_refused(&self) -> bool {
        self.refusal.is_some() || !self.differences.is_empty()
    }
}

/// A component's world as WIT; an error says in words why there is none.
pub fn wit(bytes: &[u8]) -> Result<String, String> {
    check_framing(bytes).map_err(|error| error.to_string())?;
    anatomy::dissect(bytes).map_err(|why| damaged(&why))?;
    world::text(bytes).map_err(|why| damaged(&why))
}

/// For a component that the linker refuses: where it differs from the contract, in words; none where
/// nothing can be named.
pub(crate) fn explain(bytes: &[u8]) -> Option<String> {
    let world = world::World::decode(bytes).ok()??;
    let differences = compare::differences(&world);
    let texts: Vec<_> = differences.iter().map(ToString::to_string).collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}

fn damaged(why: &str) -> String {
    format!("the file is damaged, or uses WebAssembly that this gateway does not know: {why}")
}

/// What bytes are that are no WebAssembly, as far as their beginning tells.
fn foreign(bytes: &[u8]) -> (Kind, &'static str) {
    let known: [(&[u8], Kind, &str); 4] = [
        (
            b"\x7fELF",
            Kind::CompiledCode,
            "machine code (an ELF file, perhaps by `wasmtime compile`)",
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
