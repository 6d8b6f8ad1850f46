//! How a component's contract differs from this gateway's. The linker finds the same differences but
//! describes them in a linker's terms; this names the interface, the function or type, the side that lacks
//! it, and what to do.

use std::fmt;

use serde::Serialize;
use wit_parser::{
    Function, Handle, Interface, Resolve, SourceMap, Type, TypeDefKind, TypeId, WorldItem,
};

use super::world::{World, plain};
use crate::capability;
use crate::component_kind::is_supported;
use crate::contract::PACKAGE;

/// The text of what plugins export.
const WORLD: &str = crate::contract::wit!("world.wit");

/// The side that lacks something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// The plugin does not have what the gateway calls.
    Plugin,
    /// The gateway does not have what the plugin calls.
    Gateway,
    /// Both have it, with different types.
    Both,
}

/// One difference between a plugin and this gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// As in `keepgate:plugin/blobs@0.1.0`.
    pub interface: String,
    /// The function or type, as in `store.get`; `None` for the whole interface.
    pub item: Option<String>,
    /// The side that lacks it.
    pub side: Side,
    /// What each side has.
    pub what: String,
    /// What to do.
    pub advice: &'static str,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.interface)?;
        if let Some(item) = &self.item {
            write!(f, " `{item}`")?;
        }
        write!(f, ": {}; {}", self.what, self.advice)
    }
}

const NEWER_GATEWAY: &str =
    "use a gateway that has it, or build the plugin for this gateway's contract";
const COMPLETE: &str = "export it; the SDK's `export!` exports all that is needed";
const REBUILD: &str = "build the plugin again with this gateway's SDK";

/// All differences that keep the component from being linked or called.
pub(super) fn differences(world: &World) -> Vec<Difference> {
    let Some(contract) = contract() else { return Vec::new() };
    let mut found = Vec::new();
    for (name, item) in &world.imports {
        let (Some(short), WorldItem::Interface { id, .. }) = (ours(name), item) else { continue };
        let Some(theirs) = world.resolve.interfaces.get(*id) else { continue };
        match interface(&contract, short) {
            Some(known) => {
                let (theirs, known) =
                    (Text::of(&world.resolve, theirs), Text::of(&contract, known));
                for function in theirs.functions.iter().filter(|f| known.function(&f.0).is_none()) {
                    found.push(Difference {
                        interface: name.clone(),
                        item: Some(function.0.clone()),
                        side: Side::Gateway,
                        what: "the plugin calls it, but this gateway does not have it".to_owned(),
                        advice: NEWER_GATEWAY,
                    });
                }
                other_shapes(name, &theirs, &known, &mut found);
            }
            None => found.push(Difference {
                interface: name.clone(),
                item: None,
                side: Side::Gateway,
                what: "the plugin imports it, but this gateway does not have it".to_owned(),
                advice: NEWER_GATEWAY,
            }),
        }
    }
    for (name, item) in &world.exports {
        let (Some(short), WorldItem::Interface { id, .. }) = (ours(name), item) else { continue };
        let Some(known) = interface(&contract, short) else { continue };
        let Some(theirs) = world.resolve.interfaces.get(*id) else { continue };
        let (theirs, known) = (Text::of(&world.resolve, theirs), Text::of(&contract, known));
        for function in known.functions.iter().filter(|f| theirs.function(&f.0).is_none()) {
            found.push(Difference {
                interface: name.clone(),
                item: Some(function.0.clone()),
                side: Side::Plugin,
                what: "the gateway calls it, but the plugin does not export it".to_owned(),
                advice: COMPLETE,
            });
        }
        other_shapes(name, &theirs, &known, &mut found);
    }
    found
}

/// What both have, with different types.
fn other_shapes(interface: &str, theirs: &Text, known: &Text, found: &mut Vec<Difference>) {
    let pairs =
        theirs.types.iter().filter_map(|(name, shape)| Some((name, shape, known.ty(name)?)));
    let functions = theirs.functions.iter();
    let functions =
        functions.filter_map(|(name, shape)| Some((name, shape, known.function(name)?)));
    for (name, shape, here) in pairs.chain(functions).filter(|(_, there, here)| there != here) {
        found.push(Difference {
            interface: interface.to_owned(),
            item: Some(name.clone()),
            side: Side::Both,
            what: format!("the plugin has `{shape}`, this gateway `{here}`"),
            advice: REBUILD,
        });
    }
}

/// The name of an interface of the contract, if it is of a supported version.
fn ours(full: &str) -> Option<&str> {
    let (name, version) = full.strip_prefix(PACKAGE)?.strip_prefix('/')?.split_once('@')?;
    is_supported(version).then_some(name)
}

/// The parsed contract. `None` only if its text is invalid, which a test rules out.
fn contract() -> Option<Resolve> {
    let mut map = SourceMap::default();
    for (name, text) in capability::wit() {
        map.push_str(name, text);
    }
    map.push_str("world", WORLD);
    let mut resolve = Resolve::default();
    let group = map.parse().ok()?;
    resolve.push_group(group).ok()?;
    Some(resolve)
}

fn interface<'a>(resolve: &'a Resolve, name: &str) -> Option<&'a Interface> {
    resolve.interfaces.iter().map(|(_, found)| found).find(|i| i.name.as_deref() == Some(name))
}

/// An interface's types and functions, each as one line of WIT, to compare them.
struct Text {
    types: Vec<(String, String)>,
    functions: Vec<(String, String)>,
}

impl Text {
    fn of(resolve: &Resolve, interface: &Interface) -> Self {
        let types = interface.types.iter();
        let types = types.map(|(name, id)| (name.clone(), definition(resolve, *id))).collect();
        let functions = interface.functions.iter();
        let functions =
            functions.map(|(name, function)| (plain(name), signature(resolve, function))).collect();
        Self { types, functions }
    }

    fn ty(&self, name: &str) -> Option<&String> {
        self.types.iter().find(|(known, _)| known == name).map(|(_, shape)| shape)
    }

    fn function(&self, name: &str) -> Option<&String> {
        self.functions.iter().find(|(known, _)| known == name).map(|(_, shape)| shape)
    }
}

fn signature(resolve: &Resolve, function: &Function) -> String {
    let params: Vec<_> = function
        .params
        .iter()
        .map(|param| format!("{}: {}", param.name, reference(resolve, &param.ty)))
        .collect();
    let result = function.result.as_ref();
    let result = result.map_or(String::new(), |ty| format!(" -> {}", reference(resolve, ty)));
    format!("func({}){result}", params.join(", "))
}

/// A named type's definition, with other named types by name.
fn definition(resolve: &Resolve, id: TypeId) -> String {
    let Some(def) = resolve.types.get(id) else { return "?".to_owned() };
    let list = |items: Vec<String>| items.join(", ");
    match &def.kind {
        TypeDefKind::Record(record) => {
            let field =
                |f: &wit_parser::Field| format!("{}: {}", f.name, reference(resolve, &f.ty));
            format!("record {{ {} }}", list(record.fields.iter().map(field).collect()))
        }
        TypeDefKind::Variant(variant) => {
            let case = |case: &wit_parser::Case| match &case.ty {
                Some(ty) => format!("{}({})", case.name, reference(resolve, ty)),
                None => case.name.clone(),
            };
            format!("variant {{ {} }}", list(variant.cases.iter().map(case).collect()))
        }
        TypeDefKind::Enum(cases) => {
            format!("enum {{ {} }}", list(cases.cases.iter().map(|c| c.name.clone()).collect()))
        }
        TypeDefKind::Flags(flags) => {
            format!("flags {{ {} }}", list(flags.flags.iter().map(|f| f.name.clone()).collect()))
        }
        TypeDefKind::Resource => "resource".to_owned(),
        // An alias, mostly of another interface's type, is compared there.
        TypeDefKind::Type(Type::Id(_)) => "alias".to_owned(),
        _ => anonymous(resolve, &def.kind),
    }
}

/// A type as it is written when it is used.
fn reference(resolve: &Resolve, ty: &Type) -> String {
    let Type::Id(id) = ty else { return primitive(ty).to_owned() };
    let Some(def) = resolve.types.get(*id) else { return "?".to_owned() };
    match (&def.kind, &def.name) {
        // By its original name: components and sources may use aliases differently.
        (TypeDefKind::Type(inner @ Type::Id(_)), _) => reference(resolve, inner),
        (_, Some(name)) => name.clone(),
        (kind, None) => anonymous(resolve, kind),
    }
}

fn anonymous(resolve: &Resolve, kind: &TypeDefKind) -> String {
    let one = |ty: &Type| reference(resolve, ty);
    let maybe = |ty: &Option<Type>| ty.as_ref().map_or("_".to_owned(), one);
    match kind {
        TypeDefKind::Handle(Handle::Own(id)) => one(&Type::Id(*id)),
        TypeDefKind::Handle(Handle::Borrow(id)) => format!("borrow<{}>", one(&Type::Id(*id))),
        TypeDefKind::Tuple(tuple) => {
            let types: Vec<_> = tuple.types.iter().map(one).collect();
            format!("tuple<{}>", types.join(", "))
        }
        TypeDefKind::Option(ty) => format!("option<{}>", one(ty)),
        TypeDefKind::Result(result) => {
            format!("result<{}, {}>", maybe(&result.ok), maybe(&result.err))
        }
        TypeDefKind::List(ty) => format!("list<{}>", one(ty)),
        TypeDefKind::Type(ty) => one(ty),
        TypeDefKind::Future(ty) => format!("future<{}>", maybe(ty)),
        TypeDefKind::Stream(ty) => format!("stream<{}>", maybe(ty)),
        _ => "another type".to_owned(),
    }
}

fn primitive(ty: &Type) -> &'static str {
    match ty {
        Type::Bool => "bool",
        Type::U8 => "u8",
        Type::U16 => "u16",
        Type::U32 => "u32",
        Type::U64 => "u64",
        Type::S8 => "s8",
        Type::S16 => "s16",
        Type::S32 => "s32",
        Type::S64 => "s64",
        Type::F32 => "f32",
        Type::F64 => "f64",
        Type::Char => "char",
        Type::String => "string",
        Type::ErrorContext => "error-context",
        Type::Id(_) => "?",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_contract_is_parsed() {
        let contract = contract().unwrap();
        assert!(interface(&contract, "guest").is_some());
        for (name, _) in capability::wit() {
            assert!(interface(&contract, name).is_some(), "{name}");
        }
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = folder.join("../../wit").join(crate::contract::VERSION);
        let mut files: Vec<_> = folder
            .read_dir()
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let mut known: Vec<_> = capability::wit().map(|(name, _)| format!("{name}.wit")).collect();
        known.push("world.wit".to_owned());
        known.sort_unstable();
        assert_eq!(files, known, "a file of the contract is not compared");
    }
}
