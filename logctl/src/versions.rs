// SPDX-License-Identifier: MIT OR Apache-2.0

//! The versions of the loaded module and of logctl, which are released together.

use std::path::Path;

use crate::system::System;

/// The version of logctl.
pub const OWN: &str = env!("CARGO_PKG_VERSION");

/// The loaded module is of another version than logctl.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Which of them is older.
    pub message: String,
    /// The next step.
    pub advice: String,
}

/// Compares the loaded module with logctl. `None`: they are of one version, or the module states none.
pub fn mismatch(system: &System) -> Option<Mismatch> {
    let module = system.module_version()?;
    if module == OWN {
        return None;
    }
    if !is_older(&module, OWN) {
        return Some(Mismatch {
            message: format!("logctl {OWN} is older than the module {module}"),
            advice: format!("upgrade logctl to {module}."),
        });
    }
    let reload = "unmount, `modprobe -r loggerfs`, and mount anew";
    let advice = match system.installed_module_version().as_deref() {
        Some(OWN) => format!("version {OWN} of the module is installed: {reload}."),
        _ => format!("upgrade the module to {OWN}, then {reload}."),
    };
    Some(Mismatch {
        message: format!("the module {module} is older than logctl {OWN}"),
        advice,
    })
}

/// The next step where the module does not know a request.
pub fn advice(system: &System) -> String {
    match mismatch(system) {
        Some(Mismatch { message, advice }) => format!("{message}: {advice}"),
        None => "logctl and the loaded module are not of one version; `modinfo loggerfs` shows the installed \
                 one. Install them together, then unmount, `modprobe -r loggerfs`, and mount anew."
            .into(),
    }
}

/// Whether a version is older than another one.
fn is_older(one: &str, other: &str) -> bool {
    let parts = |text: &str| -> Vec<u64> {
        let parts = text.split(|c: char| !c.is_ascii_digit());
        parts.filter_map(|part| part.parse().ok()).collect()
    };
    parts(one) < parts(other)
}

/// Whether a path is a file or directory on a mount of LoggerFS. Devices and pipes there answer requests themselves.
pub fn is_on_own_mount(path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else {
        return false;
    };
    (path.is_file() || path.is_dir()) && System::at(Path::new("/")).is_on_own_mount(&path)
}
