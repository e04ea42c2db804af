//! The allocator of all our processes. A server allocates from every thread and then rests for hours: jemalloc takes less of
//! its time than the C library's, and returns what bursts have left behind.

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Returns unused memory to the system even when nobody allocates any more, by a thread that sleeps while there is none to
/// return. Not for the shim and what starts containers: they are single-threaded.
pub fn give_back_at_rest() {
    if let Err(error) = tikv_jemalloc_ctl::background_thread::write(true) {
        tracing::debug!(%error, "unused memory is only returned while the process works");
    }
}
