//! The parts of a WebAssembly file and what it needs to start: sections with their sizes, memories,
//! tables, and the tools that it names.

use serde::Serialize;
use wasmparser::{KnownCustom, Parser, Payload, Validator, WasmFeatures};

/// Bytes of a page of linear memory, unless the memory says otherwise.
const PAGE: u64 = 65536;

/// A section of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Section {
    /// How deep it is nested; 0 at the top.
    pub depth: usize,
    /// As in `core module`, `code`, `custom producers`.
    pub name: String,
    /// In bytes, including nested sections.
    pub size: u64,
}

/// The initial and maximum size of a memory or table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Extent {
    /// Bytes of a memory, elements of a table.
    pub minimum: u64,
    /// `None` if only the mount's limits bound it.
    pub maximum: Option<u64>,
}

/// What [`dissect`] finds.
#[derive(Debug, Default)]
pub(super) struct Anatomy {
    pub(super) sections: Vec<Section>,
    pub(super) memories: Vec<Extent>,
    pub(super) tables: Vec<Extent>,
    pub(super) made_with: Vec<String>,
}

/// Takes a file apart and validates it.
pub(super) fn dissect(bytes: &[u8]) -> Result<Anatomy, String> {
    Validator::new_with_features(WasmFeatures::all())
        .validate_all(bytes)
        .map_err(|error| error.to_string())?;
    let mut anatomy = Anatomy::default();
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(|error| error.to_string())?;
        let inner =
            matches!(payload, Payload::ModuleSection { .. } | Payload::ComponentSection { .. });
        if let Some((name, size)) = named(&payload) {
            anatomy.sections.push(Section { depth, name, size });
        }
        anatomy.needs(&payload).map_err(|error| error.to_string())?;
        if inner {
            depth += 1;
        } else if matches!(payload, Payload::End(_)) {
            depth = depth.saturating_sub(1);
        }
    }
    Ok(anatomy)
}

/// The initial sizes of a file's linear memories, together. The file is valid.
pub(super) fn initial_memory(bytes: &[u8]) -> u64 {
    let mut anatomy = Anatomy::default();
    for payload in Parser::new(0).parse_all(bytes).map_while(Result::ok) {
        if matches!(payload, Payload::MemorySection(_)) && anatomy.needs(&payload).is_err() {
            break;
        }
    }
    anatomy.memories.iter().map(|memory| memory.minimum).fold(0, u64::saturating_add)
}

impl Anatomy {
    fn needs(&mut self, payload: &Payload<'_>) -> wasmparser::Result<()> {
        match payload {
            Payload::MemorySection(memories) => {
                for memory in memories.clone() {
                    let memory = memory?;
                    let page = memory.page_size_log2.map_or(PAGE, |log| 1 << log.min(63));
                    let bytes = |pages: u64| pages.saturating_mul(page);
                    let (minimum, maximum) = (bytes(memory.initial), memory.maximum.map(bytes));
                    self.memories.push(Extent { minimum, maximum });
                }
            }
            Payload::TableSection(tables) => {
                for table in tables.clone() {
                    let table = table?.ty;
                    let (minimum, maximum) = (table.initial, table.maximum);
                    self.tables.push(Extent { minimum, maximum });
                }
            }
            Payload::CustomSection(custom) => {
                if let KnownCustom::Producers(fields) = custom.as_known() {
                    for field in fields {
                        for value in field?.values {
                            let value = value?;
                            let tool = format!("{} {}", value.name, value.version);
                            let tool = tool.trim_end().to_owned();
                            if !self.made_with.contains(&tool) {
                                self.made_with.push(tool);
                            }
                        }
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// A section's name and size.
fn named(payload: &Payload<'_>) -> Option<(String, u64)> {
    let (_, range) = payload.as_section()?;
    let name = match payload {
        Payload::CustomSection(custom) => return Some((custom_name(custom.name()), size(&range))),
        Payload::ModuleSection { unchecked_range, .. } => {
            return Some(("core module".to_owned(), size(unchecked_range)));
        }
        Payload::ComponentSection { unchecked_range, .. } => {
            return Some(("component".to_owned(), size(unchecked_range)));
        }
        Payload::TypeSection(_) => "types",
        Payload::ImportSection(_) => "imports",
        Payload::FunctionSection(_) => "functions",
        Payload::TableSection(_) => "tables",
        Payload::MemorySection(_) => "memories",
        Payload::TagSection(_) => "tags",
        Payload::GlobalSection(_) => "globals",
        Payload::ExportSection(_) => "exports",
        Payload::StartSection { .. } => "start",
        Payload::ElementSection(_) => "elements",
        Payload::DataCountSection { .. } => "data count",
        Payload::DataSection(_) => "data",
        Payload::CodeSectionStart { .. } => "code",
        Payload::InstanceSection(_) => "core instances",
        Payload::CoreTypeSection(_) => "core types",
        Payload::ComponentInstanceSection(_) => "component instances",
        Payload::ComponentAliasSection(_) => "aliases",
        Payload::ComponentTypeSection(_) => "component types",
        Payload::ComponentCanonicalSection(_) => "canonical functions",
        Payload::ComponentStartSection { .. } => "component start",
        Payload::ComponentImportSection(_) => "component imports",
        Payload::ComponentExportSection(_) => "component exports",
        _ => "other",
    };
    Some((name.to_owned(), size(&range)))
}

fn custom_name(name: &str) -> String {
    format!("custom {}", name.chars().take(60).collect::<String>())
}

fn size(range: &std::ops::Range<u64>) -> u64 {
    range.end.saturating_sub(range.start)
}
