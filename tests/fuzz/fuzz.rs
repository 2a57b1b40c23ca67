// SPDX-License-Identifier: GPL-2.0

//! libFuzzer's program. LFS_FUZZ names the target; see `./run`.

#![no_main]

use std::sync::OnceLock;

static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let target = TARGET.get_or_init(|| {
        let name = std::env::var("LFS_FUZZ").unwrap_or_default();
        lfs_fuzz::target(&name).expect("LFS_FUZZ must name a target")
    });
    target(data);
});
