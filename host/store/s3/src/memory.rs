//! The memory of uploads: how much they may hold together, and the buffers themselves.
//!
//! Buffers are used again. Those that are freed would stay in the arenas of the C library, one for each thread that freed
//! some, so that the process would hold a multiple of what its uploads do. What nobody has used for a while is freed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use keepgate_store::{Result, StoreError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Smaller buffers are left to the allocator.
const WORTH: usize = 1024 * 1024;

/// The memory of all uploads of a store.
#[derive(Debug)]
pub(crate) struct Memory {
    /// In KiB.
    free: Arc<Semaphore>,
    buffers: Mutex<Vec<BytesMut>>,
    /// Since the last look.
    used: AtomicBool,
}

/// Memory that was reserved. Dropping it frees it.
#[derive(Debug)]
pub(crate) struct Reserved {
    memory: Arc<Memory>,
    _permit: OwnedSemaphorePermit,
}

impl Memory {
    /// So many bytes.
    pub(crate) fn new(bytes: u64) -> Arc<Self> {
        let kib = usize::try_from(bytes / 1024).unwrap_or(usize::MAX);
        let free = Arc::new(Semaphore::new(kib.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self { free, buffers: Mutex::default(), used: AtomicBool::new(false) })
    }

    /// Waits until so many bytes are free.
    pub(crate) async fn reserve(self: &Arc<Self>, bytes: u64) -> Result<Reserved> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.free).acquire_many_owned(kib).await;
        let closed = |_| StoreError::Unavailable("the store is closed".to_owned());
        Ok(Reserved { memory: Arc::clone(self), _permit: permit.map_err(closed)? })
    }

    /// Frees the buffers that are in no use, if there was no upload since the last call.
    pub(crate) fn free_idle(&self) {
        if !self.used.swap(false, Ordering::Relaxed) {
            self.buffers().clear();
        }
    }

    fn buffers(&self) -> MutexGuard<'_, Vec<BytesMut>> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn free_kib(&self) -> usize {
        self.free.available_permits()
    }
}

impl Reserved {
    /// An empty buffer for so many bytes.
    pub(crate) fn buffer(&self, size: usize) -> BytesMut {
        if size < WORTH {
            return BytesMut::with_capacity(size);
        }
        self.memory.used.store(true, Ordering::Relaxed);
        let mut buffers = self.memory.buffers();
        let fits = |buffer: &BytesMut| (size..=size.saturating_mul(2)).contains(&buffer.capacity());
        if let Some(fits) = buffers.iter().position(fits) {
            return buffers.swap_remove(fits);
        }
        // Too small, or too large, for what is stored now.
        buffers.clear();
        drop(buffers);
        BytesMut::with_capacity(size.next_multiple_of(WORTH))
    }

    /// Takes a buffer back, if nobody else holds it.
    pub(crate) fn give_back(&self, bytes: Bytes) {
        if let Ok(mut buffer) = bytes.try_into_mut()
            && buffer.capacity() >= WORTH
        {
            buffer.clear();
            self.memory.buffers().push(buffer);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn buffers_are_used_again_and_freed_when_nobody_stores_anything() {
        let memory = Memory::new(16 * 1024 * 1024);
        let place = |buffer: &BytesMut| buffer.as_ptr() as usize;
        let reserved = memory.reserve(64 * 1024).await.unwrap();
        assert_eq!(memory.free_kib(), 16 * 1024 - 64);
        let small = reserved.buffer(10);
        assert!(small.capacity() < WORTH);
        reserved.give_back(small.freeze());
        assert!(memory.buffers().is_empty());
        for (length, capacity) in [(10, WORTH + 1), (2 * WORTH, 2 * WORTH)] {
            let mut buffer = reserved.buffer(capacity);
            let first = place(&buffer);
            buffer.extend_from_slice(&vec![1; length]);
            let bytes = buffer.freeze();
            // Somebody still sends it.
            let held = bytes.clone();
            reserved.give_back(bytes);
            assert!(memory.buffers().is_empty());
            reserved.give_back(held);
            let again = reserved.buffer(capacity);
            assert_eq!((place(&again), again.len()), (first, 0));
            reserved.give_back(again.freeze());
        }
        memory.free_idle();
        assert_eq!(memory.buffers().len(), 1, "it was used");
        memory.free_idle();
        assert!(memory.buffers().is_empty());
        drop(reserved);
        assert_eq!(memory.free_kib(), 16 * 1024);
    }
}
