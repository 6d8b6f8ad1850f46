//! `blobs`: the stores that the mount grants.

use std::fmt;
use std::sync::Arc;

use wasmtime::component::Resource;

use keepgate_store::{BlobStore, DeleteOptions, Folder, Key, Listing};

use crate::call::Failure;
use crate::contract::{Refusal, blobs, must_match};
use crate::held::body_with;
use crate::imports::types::BodyHandle;
use crate::state::State;

/// The most entries that one `next` hands to a guest, whatever it asks for.
const MAX_ENTRIES: u32 = 4096;
/// The most listings that a call may have open.
const MAX_LISTINGS: usize = 16;

/// A granted store in a guest's hands.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct StoreHandle {
    /// By which the guest opened it.
    name: String,
    store: Arc<dyn BlobStore>,
}

/// A listing under way in a guest's hands.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct ListingHandle(Box<dyn Listing>);

impl fmt::Debug for ListingHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ListingHandle")
    }
}

impl State {
    fn store(&self, handle: &Resource<StoreHandle>) -> Result<Arc<dyn BlobStore>, Refusal> {
        Ok(self.table.get(handle)?.store.clone())
    }

    /// Notes a call to a store.
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

impl blobs::Host for State {}

impl blobs::HostStore for State {
    fn open(&mut self, name: String) -> Result<Resource<StoreHandle>, Refusal> {
        self.note("blobs.open", |_| name.clone());
        let Some(store) = self.grants.stores.get(&name) else {
            return Err(Failure::Denied(format!(
                "the mount {} grants no store named {name:?}; it grants {:?}",
                self.grants.mount,
                self.grants.stores.keys().collect::<Vec<_>>(),
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
    ) -> Result<blobs::Info, Refusal> {
        self.note_store("blobs.head", &store, || key.clone());
        let store = self.store(&store)?;
        let key = Key::new(key)?;
        Ok(store.head(&key).await?.into())
    }

    async fn get(
        &mut self,
        store: Resource<StoreHandle>,
        key: String,
        part: blobs::Part,
    ) -> Result<blobs::Download, Refusal> {
        self.note_store("blobs.get", &store, || format!("{key}{}", part_text(&part)));
        let store = self.store(&store)?;
        let key = Key::new(key)?;
        let open = self.held.open()?;
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
    ) -> Result<blobs::Stored, Refusal> {
        self.note_store("blobs.put", &store, || format!("{key} {}", options_text(&options)));
        let body = self.table.delete(data)?.into_body();
        let store = self.store(&store)?;
        let key = Key::new(key)?;
        let options = options.try_into()?;
        Ok(self.cpu.free(store.put(&key, body, options)).await?.into())
    }

    async fn concat(
        &mut self,
        store: Resource<StoreHandle>,
        key: String,
        pieces: Vec<blobs::Piece>,
        options: blobs::PutOptions,
    ) -> Result<blobs::Stored, Refusal> {
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

    async fn delete(
        &mut self,
        store: Resource<StoreHandle>,
        key: String,
        condition: blobs::Condition,
    ) -> Result<Option<u64>, Refusal> {
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
    ) -> Result<Resource<ListingHandle>, Refusal> {
        self.note_store("blobs.list", &store, || {
            let after = after.as_ref().map(|after| format!(" after {after:?}")).unwrap_or_default();
            format!("{folder:?}{}{after}", if recursive { " recursive" } else { "" })
        });
        if self.listings >= MAX_LISTINGS {
            return Err(Failure::Denied(format!(
                "{MAX_LISTINGS} listings are open in this call; drop one first"
            ))
            .into());
        }
        let store = self.store(&store)?;
        let folder = Folder::new(folder)?;
        let listing = store.list_after(&folder, recursive, after.as_deref()).await?;
        self.listings += 1;
        Ok(self.table.push(ListingHandle(listing))?)
    }

    async fn prepare(
        &mut self,
        store: Resource<StoreHandle>,
        folders: Vec<String>,
    ) -> Result<(), Refusal> {
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

impl blobs::HostListing for State {
    async fn next(
        &mut self,
        listing: Resource<ListingHandle>,
        max: u32,
    ) -> Result<Vec<blobs::Entry>, Refusal> {
        let max = usize::try_from(max.clamp(1, MAX_ENTRIES)).unwrap_or(1);
        let entries = self.table.get_mut(&listing)?.0.next(max).await?;
        Ok(entries.into_iter().map(Into::into).collect())
    }

    async fn drop(&mut self, listing: Resource<ListingHandle>) -> wasmtime::Result<()> {
        self.table.delete(listing)?;
        self.listings -= 1;
        Ok(())
    }
}

/// For [`State::note`]: the part of a blob that is asked for, after a blank; nothing for all of it.
fn part_text(part: &blobs::Part) -> String {
    match part {
        blobs::Part::Whole => String::new(),
        blobs::Part::Slice((offset, None)) => format!(" {offset}.."),
        blobs::Part::Slice((offset, Some(length))) => format!(" {offset}..+{length}"),
        blobs::Part::Suffix(length) => format!(" -{length}"),
    }
}

/// For [`State::note`]: what must hold of a key.
fn condition_text(condition: &blobs::Condition) -> String {
    match condition {
        blobs::Condition::Always => "always".to_owned(),
        blobs::Condition::Absent => "absent".to_owned(),
        blobs::Condition::AbsentOrIdentical => "absent-or-identical".to_owned(),
        blobs::Condition::Matches(etag) => format!("matches {etag}"),
    }
}

/// For [`State::note`]: what must hold for a blob to be written.
fn options_text(options: &blobs::PutOptions) -> String {
    let condition = condition_text(&options.condition);
    if options.sha256.is_some() { format!("{condition} sha256") } else { condition }
}
