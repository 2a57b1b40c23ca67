// SPDX-License-Identifier: MIT OR Apache-2.0

//! Points of the history: the line that each means.

use crate::actions::visible;
use crate::describe::local;
use crate::error::Error;
use crate::marks::NamedMark;
use crate::revision::Revision;
use crate::timeline::Timeline;

use super::context::Context;

/// The number of the last line that was written at a point, which the history must reach back to.
pub fn cut(
    timeline: &Timeline,
    revision: Revision,
    to: &str,
    context: &Context<'_>,
) -> Result<u64, Error> {
    let usage = |message: String| Error::Usage { message };
    let newest = timeline.entries.first().map_or(0, |entry| entry.seq);
    let oldest = timeline.oldest_kept();
    let cut = match revision {
        Revision::Op(seq) if seq > newest => {
            return Err(usage(format!("operation {seq} is still to come")));
        }
        Revision::Op(seq) => seq,
        Revision::Back(back) => {
            let all = visible(timeline, &timeline.live(&|_| false));
            let too_far = || usage(format!("the history does not go back to {to}"));
            let last = back.checked_sub(1).and_then(|last| all.get(last));
            match (last, all.get(back)) {
                // The reverted operations were live before.
                (Some(last), _) if last.has_reverts(timeline) => {
                    last.oldest(timeline).seq.saturating_sub(1)
                }
                (_, Some(action)) => action.newest(timeline).seq,
                (_, None) if back == all.len() && oldest.is_none() => 0,
                (_, None) => return Err(too_far()),
            }
        }
        Revision::At(time) => timeline.last_at(time),
    };
    match oldest {
        Some(oldest) if cut < oldest.seq => Err(Error::Nothing {
            message: format!(
                "{to} is older than the history, which begins at {}: older operations were dropped to \
                 free space",
                context.beginning(timeline).unwrap_or_default()
            ),
        }),
        _ => Ok(cut),
    }
}

/// A point in words: `op 1802 (2026-11-20 13:58:12)`.
pub fn described(timeline: &Timeline, revision: Revision, context: &Context<'_>) -> String {
    let zone = context.now.time_zone();
    match revision {
        Revision::Op(seq) => match timeline.find(seq) {
            Some(index) => {
                let entry = &timeline.entries[index];
                let time = local(entry.time, zone);
                match NamedMark::of_entry(entry) {
                    Some(mark) => format!("'{}' ({time})", mark.name),
                    None => format!("op {seq} ({time})"),
                }
            }
            None => format!("op {seq}"),
        },
        Revision::Back(1) => "one action before".into(),
        Revision::Back(back) => format!("{back} actions before"),
        Revision::At(time) => local(time, zone),
    }
}
