// SPDX-License-Identifier: GPL-2.0

//! A module with deliberate bugs, which the debug kernel and `tests/debug` must report.
//!
//! `insmod broken.ko bug=N` commits one of the bugs below while loading, and stays loaded, so that
//! its addresses in traces keep their names. `bug=0` commits none.

use core::hint::black_box;
use core::ptr;

use kernel::new_mutex;
use kernel::new_spinlock;
use kernel::prelude::*;

module! {
    type: Broken,
    name: "broken",
    authors: ["LoggerFS developers"],
    description: "Broken on purpose: proves that the debug kernel reports it",
    license: "GPL",
    params: {
        bug: u8 {
            default: 0,
            description: "Which bug: see tests/broken/bugs.rs and c_bugs.c",
        },
    },
}

struct Broken;

impl kernel::Module for Broken {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        match *module_parameters::bug.value() {
            0 => {}
            1 => use_after_free()?,
            2 => lock_inversion()?,
            3 => sleep_under_spinlock()?,
            4 => leak()?,
            5 => overflow(),
            6 => broken_shift(),
            7 => broken_c_use_after_free(),
            _ => return Err(EINVAL),
        }
        Ok(Broken)
    }
}

/// Reads freed memory.
#[inline(never)]
fn use_after_free() -> Result {
    let mut bytes = KVec::with_capacity(256, GFP_KERNEL)?;
    bytes.push(1u8, GFP_KERNEL)?;
    let first = black_box(bytes.as_ptr());
    drop(bytes);
    // SAFETY: There is none: the bug.
    black_box(unsafe { ptr::read_volatile(first) });
    Ok(())
}

/// Takes two mutexes in one order, then in the other. No thread waits; lockdep reports the order
/// all the same.
#[inline(never)]
fn lock_inversion() -> Result {
    let one = KBox::pin_init(new_mutex!((), "broken::one"), GFP_KERNEL)?;
    let two = KBox::pin_init(new_mutex!((), "broken::two"), GFP_KERNEL)?;
    {
        let _first = one.lock();
        let _second = two.lock();
    }
    let _second = two.lock();
    let _first = one.lock();
    Ok(())
}

/// Takes a mutex, which may sleep, under a spinlock.
#[inline(never)]
fn sleep_under_spinlock() -> Result {
    let spin = KBox::pin_init(new_spinlock!((), "broken::spin"), GFP_KERNEL)?;
    let mutex = KBox::pin_init(new_mutex!((), "broken::mutex"), GFP_KERNEL)?;
    let _atomic = spin.lock();
    let _asleep = mutex.lock();
    Ok(())
}

/// Leaks memory, repeatedly, because kmemleak takes a stale pointer to an object for a reference.
#[inline(never)]
fn leak() -> Result {
    for number in 0..400u64 {
        core::mem::forget(black_box(KBox::new([number; 64], GFP_KERNEL)?));
    }
    Ok(())
}

/// Subtracts past zero; in Rust, the debug kernel stops there.
#[inline(never)]
fn overflow() {
    let small = black_box(1u32);
    black_box(small - black_box(2));
}

unsafe extern "C" {
    safe fn broken_shift();
    safe fn broken_c_use_after_free();
}
