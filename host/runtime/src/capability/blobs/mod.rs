//! `blobs`: the stores that a mount grants.

mod convert;
mod metadata;

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use keepgate_store::memory::MemoryStore;
use keepgate_store::{
    BlobStore, DeleteOptions, Folder, Key, Listing, PutOptions, RenameOptions, StoreError, expiry,
    receive,
};
use wasmtime::component::{HasSelf, Linker, Resource};

use super::definition::{Capability, Granted, Request, list, missing};
use super::grants::{Grant, Grants};
use super::requests::Requests;
use super::types::BodyHandle;
use crate::contract::ImportError;
use crate::guest_state::GuestState;
use crate::host_allocation::body_with;
use keepgate_core::{Failure, Principal};

use bindings::keepgate::plugin::blobs;
use convert::must_match;
pub(super) use convert::parse_sha256;

crate::contract::bindings! {
    interface: "blobs",
    imports: {
        "keepgate:plugin/blobs.[static]store.open": trappable,
        default: async | trappable,
    },
    with: {
        "keepgate:plugin/types": crate::guest::bindings::keepgate::plugin::types,
        "keepgate:plugin/blobs.store": crate::capability::blobs::StoreHandle,
        "keepgate:plugin/blobs.listing": crate::capability::blobs::ListingHandle,
    },
}

/// The most entries that one `next` returns, whatever the guest asks for.
const MAX_ENTRIES: u32 = 4096;
/// The most keys of one `heads`.
const MAX_HEADS: usize = 1000;
/// The blobs of one `heads` that a store is asked for at the same time.
const HEADS_AT_ONCE: usize = 16;
/// The most listings that a call may have open.
const MAX_LISTINGS: usize = 16;

/// A store as a mount grants it: the same to everybody, or something else to each principal. Whoever
/// configures the mount decides; the runtime only asks when a plugin opens the store.
pub trait StoreGrant: Send + Sync + Debug + 'static {
    /// The store for the principal of one call; `None` if nobody was authenticated. Called once for
    /// each `store.open` of a plugin, so it must be fast.
    fn store(&self, principal: Option<&Principal>) -> Arc<dyn BlobStore>;
}

/// The same store for everybody.
impl StoreGrant for Arc<dyn BlobStore> {
    fn store(&self, _principal: Option<&Principal>) -> Arc<dyn BlobStore> {
        self.clone()
    }
}

/// The stores that a mount grants, by the names under which the plugin opens them, with the mount's
/// policy around them.
#[derive(Clone, Debug, Default)]
pub struct Stores(pub BTreeMap<String, Arc<dyn StoreGrant>>);

impl Grant for Stores {}

/// The field of a plugin's description, with the names of stores that a mount has to grant.
pub const REQUESTS: &str = "stores";
/// The key of a mount.
const KEY: &str = "stores";

/// See the module.
pub(crate) struct Blobs;

impl Capability for Blobs {
    fn interface(&self) -> &'static str {
        "blobs"
    }

    fn purpose(&self) -> &'static str {
        "stores"
    }

    fn wit(&self) -> &'static str {
        crate::contract::wit!("blobs.wit")
    }

    fn add_to_linker(&self, linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
        blobs::add_to_linker::<_, HasSelf<GuestState>>(linker, |state| state)
    }

    fn request(&self) -> Option<Request> {
        Some(Request { field: REQUESTS, label: "opens store", names: |said| &said.stores })
    }

    fn granted(&self, grants: &Grants) -> Option<Granted> {
        let names = grants.get::<Stores>().map(|stores| stores.0.keys().cloned().collect());
        Some(Granted { key: KEY, label: "store", names: names.unwrap_or_default() })
    }

    fn check(&self, plugin: &str, requests: &Requests, grants: &Grants) -> Result<(), String> {
        let granted = grants.get::<Stores>().map(|stores| &stores.0);
        match missing(requests.names(REQUESTS), granted) {
            None => Ok(()),
            Some(name) => Err(format!(
                "the plugin {plugin} opens a store {name:?}, which the mount does not grant; add \
                 `{KEY} = {{ {name} = \"…\" }}` to the mount"
            )),
        }
    }

    fn lacks_grant(&self, function: &str, failure: &str) -> bool {
        function == "open" && failure == "denied"
    }

    fn stand_in(&self, requests: &Requests, grants: &mut Grants) {
        grants.update::<Stores>(|stores| {
            for name in requests.names(REQUESTS) {
                stores.0.entry(name.clone()).or_insert_with(|| {
                    let store: Arc<dyn BlobStore> = Arc::new(MemoryStore::new());
                    Arc::new(store)
                });
            }
        });
    }
}

/// How many listings the call has open.
#[derive(Default)]
struct OpenListings(usize);

/// The host's side of a store handle.
#[derive(Debug)]
#[doc(hidden)]
pub struct StoreHandle {
    /// The name by which the guest opened it.
    name: String,
    store: Arc<dyn BlobStore>,
}

/// The host's side of a listing handle.
#[doc(hidden)]
pub struct ListingHandle(Box<dyn Listing>);

impl Debug for ListingHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ListingHandle")
    }
}

impl GuestState {
    fn store(&self, handle: &Resource<StoreHandle>) -> Result<Arc<dyn BlobStore>, ImportError> {
        Ok(self.table.get(handle)?.store.clone())
    }

    /// Tells the test hooks about a call to a store.
    fn note_store(
        &mut self,
        import: &'static str,
        handle: &Resource<StoreHandle>,
        about: impl FnOnce() -> String,
    ) {
        self.note(import, |state| {
            let name = state.table.get(handle).map(|handle| handle.name.as_str());
            format!("{} {}", name.unwrap_or_default(), about()).trim_end().to_owned()
        });
    }
}

impl blobs::Host for GuestState {}

impl blobs::HostStore for GuestState {
    fn open(&mut self, name: String) -> Result<Resource<StoreHandle>, ImportError> {
        self.note("blobs.open", |_| name.clone());
        let granted = self.mount.grants.get::<Stores>().map(|stores| &stores.0);
        let Some(store) = granted.and_then(|stores| stores.get(&name)) else {
            return Err(Failure::Denied(format!(
                "the mount {} grants no store {name:?}; granted: {}",
                self.mount.path,
                list(granted.into_iter().flat_map(BTreeMap::keys)),
            ))
            .into());
        };
        let store = store.store(self.principal.as_ref());
        Ok(self.table.push(StoreHandle { name, store })?)
    }

    async fn head(
        &mut self,
        store: Resource<StoreHandle>,
        key: String,
    ) -> Result<blobs::Info, ImportError> {
        self.note_store("blobs.head", &store, || key.clone());
        let store = self.store(&store)?;
        let key = Key::new(key)?;
        Ok(store.head(&key).await?.into())
    }

    async fn heads(
        &mut self,
        store: Resource<StoreHandle>,
        keys: Vec<String>,
    ) -> Result<Vec<Option<blobs::Info>>, ImportError> {
        self.note_store("blobs.heads", &store, || format!("{} keys", keys.len()));
        if keys.len() > MAX_HEADS {
            let why = format!("{} keys in one call; at most {MAX_HEADS} are allowed", keys.len());
            return Err(Failure::Invalid(why).into());
        }
        let store = self.store(&store)?;
        let keys = keys.into_iter().map(Key::new).collect::<Result<Vec<_>, _>>()?;
        let heads = keys.into_iter().map(|key| {
            let store = store.clone();
            async move {
                match store.head(&key).await {
                    Ok(info) => Ok(Some(info.into())),
                    Err(StoreError::NotFound) => Ok(None),
                    Err(error) => Err(error),
                }
            }
        });
        Ok(stream::iter(heads).buffered(HEADS_AT_ONCE).try_collect().await?)
    }

    async fn get(
        &mut self,
        store: Resource<StoreHandle>,
        key: String,
        part: blobs::Part,
    ) -> Result<blobs::Download, ImportError> {
        self.note_store("blobs.get", &store, || format!("{key}{}", part_text(&part)));
        let store = self.store(&store)?;
        let key = Key::new(key)?;
        let open = self.allocation.open()?;
        let download = store.get(&key, part.into()).await?;
        Ok(blobs::Download {
            info: download.info.into(),
            offset: download.offset,
            length: download.length,
            data: self.table.push(BodyHandle::new(body_with(download.body, open)))?,
        })
    }

    async fn put(
        &mut self,
        store: Resource<StoreHandle>,
        key: String,
        data: Resource<BodyHandle>,
        options: blobs::PutOptions,
    ) -> Result<blobs::Stored, ImportError> {
        self.note_store("blobs.put", &store, || format!("{key} {}", options_text(&options)));
        let body = self.table.delete(data)?.into_body();
        let store = self.store(&store)?;
        let key = Key::new(key)?;
        let options = options.try_into()?;
        Ok(self.cpu.free(store.put(&key, body, options)).await?.into())
    }

    async fn put_until(
        &mut self,
        store: Resource<StoreHandle>,
        key: String,
        data: Resource<BodyHandle>,
        options: blobs::PutOptions,
        until: u64,
    ) -> Result<blobs::Stored, ImportError> {
        self.note_store("blobs.put-until", &store, || {
            format!("{key} {} until {until}", options_text(&options))
        });
        let body = self.table.delete(data)?.into_body();
        let store = self.store(&store)?;
        let key = Key::new(key)?;
        let mut options = PutOptions::try_from(options)?;
        options.expires = Some(expiry::time(until));
        Ok(self.cpu.free(store.put(&key, body, options)).await?.into())
    }

    async fn receive(
        &mut self,
        store: Resource<StoreHandle>,
        key: String,
        data: Resource<BodyHandle>,
        options: blobs::PutOptions,
    ) -> Result<blobs::Received, ImportError> {
        self.note_store("blobs.receive", &store, || format!("{key} {}", options_text(&options)));
        let body = self.table.delete(data)?.into_body();
        let store = self.store(&store)?;
        let key = Key::new(key)?;
        let options = options.try_into()?;
        // A task of its own: the call ends with its client, and what has come is to be kept just then.
        let receiving =
            tokio::spawn(async move { receive::receive(&*store, &key, body, options).await });
        let received = self.cpu.free(receiving).await;
        let received =
            received.map_err(|error| ImportError::Trap(wasmtime::Error::new(error)))??;
        let receive::Received { stored, complete } = received;
        Ok(blobs::Received { stored: stored.into(), complete })
    }

    async fn concat(
        &mut self,
        store: Resource<StoreHandle>,
        key: String,
        pieces: Vec<blobs::Piece>,
        options: blobs::PutOptions,
    ) -> Result<blobs::Stored, ImportError> {
        self.note_store("blobs.concat", &store, || {
            let piece = |piece: &blobs::Piece| format!("{}{}", piece.key, part_text(&piece.part));
            format!("{key} from {}", pieces.iter().map(piece).collect::<Vec<_>>().join(", "))
        });
        let store = self.store(&store)?;
        let key = Key::new(key)?;
        let pieces = pieces.into_iter().map(TryInto::try_into).collect::<Result<Vec<_>, _>>()?;
        let options = options.try_into()?;
        Ok(self.cpu.free(store.concat(&key, &pieces, options)).await?.into())
    }

    async fn rename(
        &mut self,
        store: Resource<StoreHandle>,
        key: String,
        to: String,
        condition: blobs::Condition,
    ) -> Result<blobs::Stored, ImportError> {
        self.note_store("blobs.rename", &store, || {
            format!("{key} to {to} {}", condition_text(&condition))
        });
        let store = self.store(&store)?;
        let (key, to) = (Key::new(key)?, Key::new(to)?);
        let options = RenameOptions { condition: condition.into(), ..RenameOptions::default() };
        Ok(self.cpu.free(store.rename(&key, &to, options)).await?.into())
    }

    async fn delete(
        &mut self,
        store: Resource<StoreHandle>,
        key: String,
        condition: blobs::Condition,
    ) -> Result<Option<u64>, ImportError> {
        self.note_store("blobs.delete", &store, || match &condition {
            blobs::Condition::Always => key.clone(),
            condition => format!("{key} {}", condition_text(condition)),
        });
        let store = self.store(&store)?;
        let key = Key::new(key)?;
        let options = DeleteOptions { matches: must_match(condition)?, observer: None };
        Ok(store.delete_with(&key, options).await?)
    }

    async fn list(
        &mut self,
        store: Resource<StoreHandle>,
        folder: String,
        recursive: bool,
        after: Option<String>,
    ) -> Result<Resource<ListingHandle>, ImportError> {
        self.note_store("blobs.list", &store, || {
            let after = after.as_ref().map(|after| format!(" after {after:?}")).unwrap_or_default();
            format!("{folder:?}{}{after}", if recursive { " recursive" } else { "" })
        });
        if self.call.get::<OpenListings>().is_some_and(|open| open.0 >= MAX_LISTINGS) {
            return Err(Failure::Denied(format!(
                "this call has {MAX_LISTINGS} listings open already; drop one first"
            ))
            .into());
        }
        let store = self.store(&store)?;
        let folder = Folder::new(folder)?;
        let listing = store.list_after(&folder, recursive, after.as_deref()).await?;
        match self.call.get_mut::<OpenListings>() {
            Some(open) => open.0 += 1,
            None => self.call.insert(OpenListings(1)),
        }
        Ok(self.table.push(ListingHandle(listing))?)
    }

    async fn prepare(
        &mut self,
        store: Resource<StoreHandle>,
        folders: Vec<String>,
    ) -> Result<(), ImportError> {
        self.note_store("blobs.prepare", &store, || match folders.as_slice() {
            [first, .., last] => format!("{first} .. {last}, {} folders", folders.len()),
            folders => folders.join(" "),
        });
        let store = self.store(&store)?;
        let folders = folders.into_iter().map(Folder::new).collect::<Result<Vec<_>, _>>()?;
        Ok(store.prepare(&folders).await?)
    }

    async fn drop(&mut self, store: Resource<StoreHandle>) -> wasmtime::Result<()> {
        self.table.delete(store)?;
        Ok(())
    }
}

impl blobs::HostListing for GuestState {
    async fn next(
        &mut self,
        listing: Resource<ListingHandle>,
        max: u32,
    ) -> Result<Vec<blobs::Entry>, ImportError> {
        let max = usize::try_from(max.clamp(1, MAX_ENTRIES)).unwrap_or(1);
        let entries = self.table.get_mut(&listing)?.0.next(max).await?;
        Ok(entries.into_iter().map(Into::into).collect())
    }

    async fn drop(&mut self, listing: Resource<ListingHandle>) -> wasmtime::Result<()> {
        self.table.delete(listing)?;
        if let Some(open) = self.call.get_mut::<OpenListings>() {
            open.0 -= 1;
        }
        Ok(())
    }
}

/// For [`GuestState::note`]: the requested part of a blob, after a space; nothing for the whole blob.
fn part_text(part: &blobs::Part) -> String {
    match part {
        blobs::Part::Whole => String::new(),
        blobs::Part::Slice((offset, None)) => format!(" {offset}.."),
        blobs::Part::Slice((offset, Some(length))) => format!(" {offset}..+{length}"),
        blobs::Part::Suffix(length) => format!(" -{length}"),
    }
}

/// For [`GuestState::note`]: the condition on a key.
fn condition_text(condition: &blobs::Condition) -> String {
    match condition {
        blobs::Condition::Always => "always".to_owned(),
        blobs::Condition::Absent => "absent".to_owned(),
        blobs::Condition::AbsentOrIdentical => "absent-or-identical".to_owned(),
        blobs::Condition::Matches(etag) => format!("matches {etag}"),
    }
}

/// For [`GuestState::note`]: the condition on a write.
fn options_text(options: &blobs::PutOptions) -> String {
    let condition = condition_text(&options.condition);
    if options.sha256.is_some() { format!("{condition} sha256") } else { condition }
}
