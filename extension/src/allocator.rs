//! What happens when there is no memory.
//!
//! Rust's own answer to a failed allocation is to abort the process, which takes every session of the cluster through crash
//! recovery. PostgreSQL's is an error, which cannot be raised here: it would jump over Rust's frames, and an allocator must not
//! unwind. What is left is FATAL: the transaction is undone and this backend ends in good order, all others go on.

use std::alloc::{GlobalAlloc, Layout, System};

use std::ffi::{c_char, c_int};
use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::{PgSqlErrorCode, pg_sys};

// PostgreSQL's own steps of raising: pgrx's way to them allocates on ours.
unsafe extern "C-unwind" {
    fn errstart(level: c_int, domain: *const c_char) -> bool;
    fn errcode(sqlerrcode: c_int) -> c_int;
    fn errmsg(format: *const c_char, ...) -> c_int;
    fn errfinish(filename: *const c_char, lineno: c_int, funcname: *const c_char);
}

struct EndSession;

#[global_allocator]
static ALLOCATOR: EndSession = EndSession;

impl EndSession {
    /// Passes on what was allocated, or ends the session.
    fn checked(memory: *mut u8) -> *mut u8 {
        if memory.is_null() {
            out_of_memory();
        }
        memory
    }
}

#[cold]
fn out_of_memory() -> ! {
    static ENDING: AtomicBool = AtomicBool::new(false);
    if !ENDING.swap(true, Ordering::Relaxed) {
        // SAFETY: the arguments are what the functions ask for: a level, no domain, a format without parameters, no file. Only
        // the backend's own thread runs this code. FATAL ends the process inside of errfinish, so nothing unwinds.
        unsafe {
            if errstart(pg_sys::FATAL as c_int, std::ptr::null()) {
                errcode(PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY as c_int);
                errmsg(c"out of memory".as_ptr());
                errfinish(std::ptr::null(), 0, std::ptr::null());
            }
        }
    }
    // Even the way out found no memory.
    std::process::abort()
}

// SAFETY: every call is the system allocator's, with the caller's own arguments; what it cannot give ends the process.
unsafe impl GlobalAlloc for EndSession {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is the system allocator's condition.
        EndSession::checked(unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        EndSession::checked(unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        EndSession::checked(unsafe { System.realloc(memory, layout, size) })
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}
