// SPDX-License-Identifier: GPL-2.0

//! The fuzz targets: each is a function of bytes that panics if an invariant fails. The code under
//! test is the module's own, and logctl's.

#![forbid(unsafe_code)]
#![allow(dead_code)]

// The module's files ask for a crate of this name.
extern crate self as kernel;

mod damage;
mod history;
mod line;
mod meta;
mod mount;
mod plan;
mod shim;
mod tool;
/// Of the module's files, one by one.
#[cfg(test)]
mod unit;

// At the paths by which the module's files know these.
use lfs_shared::crc32c;
use loggerfs_log as log;
use shim::sync::new_mutex;
use shim::{prelude, sync, vfs};

/// The model of a file and its journal, which logctl's tests share.
#[path = "../../../logctl/tests/support/mod.rs"]
mod support;

/// The function of a target.
pub type Target = fn(&[u8]);

/// All targets, in the order in which they run.
pub const TARGETS: &[(&str, Target)] = &[
    ("line", line::any_bytes),
    ("draft", line::drafted),
    ("percent", line::percent),
    ("plan", plan::model),
    ("merge", plan::merge),
    ("map", plan::map),
    ("attributes", plan::attributes),
    ("meta", meta::any_bytes),
    ("mount", mount::damaged),
    ("tool", tool::any_answers),
];

/// The target of that name.
pub fn target(name: &str) -> Option<fn(&[u8])> {
    let found = TARGETS.iter().find(|(other, _)| *other == name);
    found.map(|(_, target)| *target)
}

#[cfg(test)]
mod tests {
    /// The corpus: inputs that reached new code, or failed once.
    #[test]
    fn corpus_passes() {
        for (name, target) in super::TARGETS {
            let files = std::fs::read_dir(format!("corpus/{name}")).expect("a corpus");
            let mut count = 0;
            for file in files {
                let path = file.expect("a file").path();
                println!("{}", path.display());
                target(&std::fs::read(&path).expect("its bytes"));
                count += 1;
            }
            assert!(count > 0, "corpus/{name} is empty");
        }
    }

    #[test]
    fn checksums_are_the_tests_own() {
        let bytes: Vec<u8> = (0..=255).collect();
        let reference = crate::support::crc32c(!0, &bytes);
        assert_eq!(super::crc32c(!0, &bytes), reference);
    }
}
