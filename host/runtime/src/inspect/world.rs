//! A component's imports and exports: as WIT, and in words that say what a plugin does with them.

use wit_component::{DecodedWasm, OutputToString, WitPrinter};
use wit_parser::{InterfaceId, PackageId, Resolve, WorldItem, WorldKey};

use super::interface::Interface;
use crate::capability;
use crate::contract::PACKAGE;

/// A component's world.
pub(super) struct World {
    pub(super) resolve: Resolve,
    pub(super) imports: Vec<(String, WorldItem)>,
    pub(super) exports: Vec<(String, WorldItem)>,
}

impl World {
    /// `None` if the bytes are a WIT package.
    pub(super) fn decode(bytes: &[u8]) -> Result<Option<Self>, String> {
        let decoded = wit_component::decode(bytes).map_err(|error| format!("{error:#}"))?;
        let DecodedWasm::Component(resolve, world) = decoded else { return Ok(None) };
        let Some(world) = resolve.worlds.get(world) else { return Ok(None) };
        let items = |items: Vec<(&WorldKey, &WorldItem)>| {
            let item =
                |(key, item): (&WorldKey, &WorldItem)| (resolve.name_world_key(key), item.clone());
            items.into_iter().map(item).collect()
        };
        let imports = items(world.imports.iter().collect());
        let exports = items(world.exports.iter().collect());
        Ok(Some(Self { imports, exports, resolve }))
    }

    pub(super) fn imports(&self) -> Vec<Interface> {
        self.imports.iter().map(|(name, item)| self.interface(name, item)).collect()
    }

    pub(super) fn exports(&self) -> Vec<Interface> {
        self.exports.iter().map(|(name, item)| self.interface(name, item)).collect()
    }

    fn interface(&self, full: &str, item: &WorldItem) -> Interface {
        let (rest, version) = match full.split_once('@') {
            Some((rest, version)) => (rest, Some(version.to_owned())),
            None => (full, None),
        };
        let (package, name) = rest.rsplit_once('/').unwrap_or(("", rest));
        let functions = match item {
            WorldItem::Interface { id, .. } => self.functions(*id),
            WorldItem::Function(_) => vec![name.to_owned()],
            WorldItem::Type { .. } => Vec::new(),
        };
        let words = words(package, name, &functions);
        let (package, name) = (package.to_owned(), name.to_owned());
        Interface { package, name, version, functions, words }
    }

    fn functions(&self, id: InterfaceId) -> Vec<String> {
        let Some(interface) = self.resolve.interfaces.get(id) else { return Vec::new() };
        interface.functions.keys().map(|name| plain(name)).collect()
    }
}

/// `store.get` of `[method]store.get`.
pub(super) fn plain(function: &str) -> String {
    let name = function.rsplit(']').next().unwrap_or(function);
    if function.starts_with("[constructor]") { format!("new {name}") } else { name.to_owned() }
}

/// A component's WIT, with the packages that it uses.
pub(super) fn text(bytes: &[u8]) -> Result<String, String> {
    let decoded = wit_component::decode(bytes).map_err(|error| format!("{error:#}"))?;
    let (resolve, main) = (decoded.resolve(), decoded.package());
    let others: Vec<PackageId> =
        resolve.packages.iter().map(|(id, _)| id).filter(|id| *id != main).collect();
    let mut printer = WitPrinter::new(OutputToString::default());
    printer.print(resolve, main, &others).map_err(|error| format!("{error:#}"))?;
    Ok(printer.output.to_string())
}

/// What a plugin does with an interface.
fn words(package: &str, name: &str, functions: &[String]) -> String {
    let what = match (package, name) {
        (PACKAGE, "guest") => "answers requests",
        (PACKAGE, "job-runner") => "runs jobs",
        (PACKAGE, _) => capability::purpose(name).unwrap_or_default(),
        _ => "",
    };
    let what = match (what, package) {
        ("", "") => name.to_owned(),
        ("", package) => format!("{package}/{name}"),
        (what, _) => what.to_owned(),
    };
    let mut verbs: Vec<&str> = functions
        .iter()
        .map(|function| function.rsplit_once('.').map_or(function.as_str(), |(_, verb)| verb))
        .collect();
    verbs.dedup();
    if verbs.is_empty() {
        format!("{what} (types only)")
    } else {
        format!("{what}: {}", verbs.join(", "))
    }
}
