//! Memory for tables that are read at random: slices on huge pages, and prefetching of what is needed soon.
//!
//! A table of a million hosts spans 16,384 small pages, more than the processor remembers: with pages of 2 MiB the walk through
//! the page tables, which costs more than the cache miss itself, goes away.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ops::Deref;
use std::ptr::NonNull;

/// Size and alignment of a huge page on x86-64 and AArch64 (with pages of 4 KiB).
const HUGE_PAGE: usize = 2 << 20;

/// A slice of fixed length, on huge pages where the kernel gives them (`transparent_hugepage` set to `madvise` or `always`).
pub struct HugeSlice<T> {
    start: NonNull<T>,
    length: usize,
}

// SAFETY: the slice owns its elements, like a boxed slice.
unsafe impl<T: Send> Send for HugeSlice<T> {}
// SAFETY: shared access gives shared references to the elements only.
unsafe impl<T: Sync> Sync for HugeSlice<T> {}

impl<T> HugeSlice<T> {
    /// `length` default elements.
    ///
    /// # Panics
    /// If the size overflows; ends the process when there is no memory, like every allocation.
    #[must_use]
    pub fn new(length: usize) -> Self
    where
        T: Default,
    {
        let layout = Self::layout(length);
        if layout.size() == 0 {
            return Self { start: NonNull::dangling(), length };
        }
        // SAFETY: the size is not zero.
        let start = unsafe { alloc(layout) }.cast::<T>();
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        // SAFETY: the range was allocated just now with this size; advice does not change what it holds. Failure leaves small
        // pages, which work as well.
        unsafe { libc::madvise(start.as_ptr().cast(), layout.size(), libc::MADV_HUGEPAGE) };
        for index in 0..length {
            // SAFETY: below `length`, for which there is room; a panic in `default` leaks and leaves nothing half made.
            unsafe { start.add(index).write(T::default()) };
        }
        Self { start, length }
    }

    fn layout(length: usize) -> Layout {
        let plain = Layout::array::<T>(length).expect("a table fits the address space");
        // Small tables need no page of their own.
        let align = if plain.size() >= HUGE_PAGE { HUGE_PAGE } else { plain.align() };
        plain.align_to(align).expect("a table fits the address space")
    }
}

impl<T> Deref for HugeSlice<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: `length` elements were written at `start` and live as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl<T> Drop for HugeSlice<T> {
    fn drop(&mut self) {
        let layout = Self::layout(self.length);
        // SAFETY: all elements are live and nobody refers to them any more; the layout is that of the allocation.
        unsafe {
            std::ptr::slice_from_raw_parts_mut(self.start.as_ptr(), self.length).drop_in_place();
            if layout.size() > 0 {
                dealloc(self.start.as_ptr().cast(), layout);
            }
        }
    }
}

impl<T> std::fmt::Debug for HugeSlice<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HugeSlice").field("length", &self.length).finish_non_exhaustive()
    }
}

/// Asks the processor to fetch what will be written soon, without waiting for it.
#[inline]
pub fn prefetch<T>(place: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch has no effect but on caches, whatever the address, and this one is valid.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(std::ptr::from_ref(place).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn elements_are_made_once_shared_and_dropped_once() {
        let slice: HugeSlice<Arc<u32>> = HugeSlice::new(1000);
        let kept = Arc::clone(&slice[999]);
        assert_eq!((slice.len(), Arc::strong_count(&kept)), (1000, 2));
        prefetch(&slice[5]);
        std::thread::scope(|s| {
            s.spawn(|| assert_eq!(**slice.first().expect("there"), 0));
        });
        drop(slice);
        assert_eq!(Arc::strong_count(&kept), 1);
        assert!(HugeSlice::<u64>::new(0).is_empty());
        let large = HugeSlice::<u64>::new(HUGE_PAGE / 8 + 1);
        assert_eq!((large[HUGE_PAGE / 8], large.as_ptr() as usize % HUGE_PAGE), (0, 0));
    }
}
