//! The memory of a plugin: std's own allocator for this target, dlmalloc, with its first memory reserved in
//! the component. Growing the memory costs a system call and an interrupt of all processors, which otherwise
//! each request would pay, because it gets a fresh instance.

#![expect(unsafe_code, reason = "it is an allocator")]

use std::sync::atomic::{AtomicPtr, Ordering};

use dlmalloc::Allocator;

/// Bytes that an instance can use before its memory grows, more than a usual request needs. Unused bytes cost
/// nothing, neither in the component nor in the host. dlmalloc needs at least 64 KiB.
const ARENA: usize = 128 * 1024;

/// Has the alignment of dlmalloc's chunks.
#[repr(align(16))]
struct Arena(#[expect(dead_code, reason = "only its address is used")] [u8; ARENA]);

impl Arena {
    const ZEROED: Self = Self([0; ARENA]);
}

/// A page of WebAssembly, in bytes.
const PAGE: usize = 64 * 1024;

/// Where dlmalloc gets memory: first the arena, then new pages. It gives nothing back.
struct Source {
    /// Null once it has been handed out.
    arena: AtomicPtr<Arena>,
    /// Adds this many pages to the memory and returns their start, or null if that is impossible.
    grow: fn(usize) -> *mut u8,
}

// SAFETY: `alloc` returns the arena, which is handed out once and to which the creator of this value had the
// only pointer, or new pages. Either has at least `size` zeroed bytes. All of it stays with dlmalloc, and the
// other functions do nothing.
unsafe impl Allocator for Source {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        if size <= ARENA {
            let arena = self.arena.swap(std::ptr::null_mut(), Ordering::Relaxed);
            if !arena.is_null() {
                return (arena.cast(), ARENA, 0);
            }
        }
        let pages = size.div_ceil(PAGE);
        let start = (self.grow)(pages);
        // The end of the address space has no address, so no block may end there.
        let wraps = start.addr().checked_add(pages * PAGE).is_none();
        (start, if wraps { pages * PAGE - 16 } else { pages * PAGE }, 0)
    }

    fn remap(&self, _start: *mut u8, _old: usize, _new: usize, _can_move: bool) -> *mut u8 {
        std::ptr::null_mut()
    }

    fn free_part(&self, _start: *mut u8, _old: usize, _new: usize) -> bool {
        false
    }

    fn free(&self, _start: *mut u8, _size: usize) -> bool {
        false
    }

    fn can_release_part(&self, _flags: u32) -> bool {
        false
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        PAGE
    }
}

#[cfg(target_family = "wasm")]
mod global {
    use std::alloc::{GlobalAlloc, Layout};
    use std::arch::wasm32::memory_grow;
    use std::cell::UnsafeCell;
    use std::ptr::null_mut;
    use std::sync::atomic::AtomicPtr;

    use dlmalloc::Dlmalloc;

    use super::{Arena, PAGE, Source};

    static mut ARENA: Arena = Arena::ZEROED;

    #[global_allocator]
    static GLOBAL: Global = Global(UnsafeCell::new(Dlmalloc::new_with_allocator(Source {
        arena: AtomicPtr::new(&raw mut ARENA),
        grow,
    })));

    struct Global(UnsafeCell<Dlmalloc<Source>>);

    fn grow(pages: usize) -> *mut u8 {
        match memory_grow::<0>(pages) {
            usize::MAX => null_mut(),
            before => std::ptr::with_exposed_provenance_mut(before * PAGE),
        }
    }

    #[cfg(target_feature = "atomics")]
    compile_error!("plugins have one thread: build without the target feature `atomics`");

    // SAFETY: without the target feature `atomics` there is one thread.
    unsafe impl Sync for Global {}

    // SAFETY: dlmalloc keeps the contract, and its callers keep theirs with dlmalloc, whose
    // functions ask for the same. Each borrow of the cell ends before its function returns, and
    // no second one can begin meanwhile: there is one thread, and neither dlmalloc nor `Source`
    // allocates or calls anybody who does.
    unsafe impl GlobalAlloc for Global {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: see above.
            unsafe { (*self.0.get()).malloc(layout.size(), layout.align()) }
        }

        unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
            // SAFETY: see above.
            unsafe { (*self.0.get()).free(start, layout.size(), layout.align()) }
        }

        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            // SAFETY: see above.
            unsafe { (*self.0.get()).calloc(layout.size(), layout.align()) }
        }

        unsafe fn realloc(&self, start: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            // SAFETY: see above.
            unsafe { (*self.0.get()).realloc(start, layout.size(), layout.align(), size) }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::alloc::{Layout, alloc_zeroed};
    use std::cell::Cell;

    use dlmalloc::Dlmalloc;

    use super::*;

    thread_local! {
        /// How often the memory has grown.
        static GROWN: Cell<usize> = const { Cell::new(0) };
    }

    /// Memory as a guest has it: in pages that are zeroed and never given back.
    fn grow(pages: usize) -> *mut u8 {
        GROWN.set(GROWN.get() + 1);
        // SAFETY: the layout is not empty.
        unsafe { alloc_zeroed(Layout::from_size_align(pages * PAGE, PAGE).unwrap()) }
    }

    fn allocator() -> Dlmalloc<Source> {
        let arena = AtomicPtr::new(Box::leak(Box::new(Arena::ZEROED)));
        Dlmalloc::new_with_allocator(Source { arena, grow })
    }

    /// Allocates zeroed blocks of these sizes, writes all of each, and frees them.
    fn use_blocks(allocator: &mut Dlmalloc<Source>, sizes: &[usize]) {
        let mut blocks = Vec::new();
        for (fill, size) in (1..).zip(sizes.iter().copied()) {
            // SAFETY: the block has this size, and is freed once, below.
            let block = unsafe {
                let start = allocator.calloc(size, 8);
                assert!(!start.is_null());
                std::slice::from_raw_parts_mut(start, size)
            };
            assert!(block.iter().all(|byte| *byte == 0));
            block.fill(fill);
            blocks.push((fill, block));
        }
        for (fill, block) in blocks {
            assert!(block.iter().all(|byte| *byte == fill));
            // SAFETY: allocated above with this size and alignment.
            unsafe { allocator.free(block.as_mut_ptr(), block.len(), 8) };
        }
    }

    #[test]
    fn the_arena_is_used_before_the_memory_grows() {
        let mut allocator = allocator();
        for _ in 0..100 {
            use_blocks(&mut allocator, &[1, 100, 1000, 10_000, 100_000]);
        }
        assert_eq!(GROWN.get(), 0);
        use_blocks(&mut allocator, &[100_000, 100_000]);
        assert_eq!(GROWN.get(), 1);
    }

    #[test]
    fn what_does_not_fit_the_arena_leaves_it_to_others() {
        let mut allocator = allocator();
        use_blocks(&mut allocator, &[10 * ARENA]);
        assert_eq!(GROWN.get(), 1);
        use_blocks(&mut allocator, &[10 * ARENA, ARENA / 2]);
        assert_eq!(GROWN.get(), 1);
    }

    #[test]
    fn memory_that_does_not_grow_is_no_memory() {
        let arena = AtomicPtr::new(std::ptr::null_mut());
        let source = Source { arena, grow: |_| std::ptr::null_mut() };
        let mut allocator = Dlmalloc::new_with_allocator(source);
        // SAFETY: the layout is one.
        assert!(unsafe { allocator.malloc(1, 1) }.is_null());
    }
}
