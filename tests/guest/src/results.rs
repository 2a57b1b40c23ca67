// SPDX-License-Identifier: GPL-2.0

//! The results as a file, one line a test, for the host to collect.

use std::fs;
use std::io;
use std::path::Path;

use crate::harness::Report;

/// `LOWER NAME SECONDS ok|fail|skip REASON`, separated by tabs.
pub fn write(directory: &Path, reports: &[Report]) -> io::Result<()> {
    let mut text = String::new();
    for report in reports {
        let (word, reason) = match (&report.failure, &report.skipped) {
            (Some(reason), _) => ("fail", reason.as_str()),
            (None, Some(reason)) => ("skip", reason.as_str()),
            (None, None) => ("ok", ""),
        };
        text += &format!(
            "{}\t{}\t{:.3}\t{word}\t{}\n",
            report.lower.name(),
            report.name,
            report.seconds,
            reason.replace(['\t', '\n'], " ")
        );
    }
    fs::create_dir_all(directory)?;
    fs::write(directory.join("results.tsv"), text)
}
