// SPDX-License-Identifier: MIT OR Apache-2.0

//! `revert SELECTION` and `restore`: what was chosen is taken back by one request, as an operation of its
//! own.

use std::collections::HashSet;
use std::path::PathBuf;

use crate::actions::{actions, nanoseconds, seen};
use crate::cli::{Manner, Selection};
use crate::describe::{count, local};
use crate::error::{Error, Refusal};
use crate::group::{ask, ask_partly, operations, LeftOut};
use crate::history::line::Time;
use crate::output::Output;
use crate::point::Point;
use crate::quote::quoted;
use crate::select::Filter;
use crate::timeline::Timeline;
use crate::uapi::{Reason, RevertGroup};

use super::log::Shown;
use super::report::{refused, Report};
use super::site::Site;

/// The flags of a request.
pub fn flags(manner: Manner, more: u32) -> u32 {
    let force = if manner.force { RevertGroup::FORCE } else { 0 };
    let dry_run = if manner.dry_run {
        RevertGroup::DRY_RUN
    } else {
        0
    };
    let no_redo = if manner.no_redo {
        RevertGroup::NO_REDO
    } else {
        0
    };
    force | dry_run | no_redo | more
}

/// Asks for chosen operations, and says what came of it. True: something was taken back, or would be.
pub fn request(
    site: &mut Site<'_>,
    command: &'static str,
    timeline: Timeline,
    chosen: &[usize],
    (manner, more, partial): (Manner, u32, bool),
    output: &mut Output<'_>,
) -> Result<bool, Error> {
    let asked = operations(&timeline, chosen);
    let total = asked.len();
    if u64::try_from(total).unwrap_or(u64::MAX) > RevertGroup::MOST {
        let message = format!("{total} operations are more than one request takes");
        return Err(Error::Nothing { message });
    }
    let flags = flags(manner, more);
    let (answer, done, left_out) = if partial {
        ask_partly(site.object, &timeline, asked, flags)
    } else {
        (ask(site.object, &asked, flags), asked, LeftOut::new())
    };
    if answer.refused.is_some() {
        return Err(refused(command, &timeline, total, &answer, site, output));
    }
    let done: HashSet<u64> = done.iter().map(|operation| operation.seq).collect();
    let mut kept: Vec<usize> = chosen.to_vec();
    let staying: HashSet<u64> = (answer.staying.iter()).map(|note| note.seq).collect();
    kept.retain(|index| {
        let seq = timeline.entries[*index].seq;
        done.contains(&seq) && !staying.contains(&seq)
    });
    kept.sort_unstable();
    let actions = match answer.reply.left_out {
        0 => actions(&timeline, &kept),
        _ => seen(&timeline, &kept),
    };
    let report = Report {
        command,
        shown: &Shown::new(timeline, actions, site),
        answer: &answer,
        left_out: &left_out,
        manner,
    };
    report.print(site, output)?;
    Ok(answer.reply.reverted != 0)
}

/// Takes back what a selection means.
pub fn revert(
    site: &mut Site<'_>,
    words: &[PathBuf],
    selection: &Selection,
    (manner, partial): (Manner, bool),
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let filter = site.filter(selection, words)?;
    let timeline = site.whole()?;
    let chosen = filter.choose(&timeline, site.tree);
    let chosen = chosen.map_err(|message| Error::Nothing { message })?;
    if chosen.entries.is_empty() {
        let message = "no operation that stands is like that".to_owned();
        return Err(Error::Nothing { message });
    }
    let manners = (manner, 0, partial);
    let done = request(site, "revert", timeline, &chosen.entries, manners, output)?;
    if done && !manner.dry_run && !manner.no_redo {
        output.hint("`logctl undo` takes that back.");
    }
    Ok(())
}

/// Says what a revert of the newest operations of files would do.
pub fn try_newest(
    site: &mut Site<'_>,
    files: &[PathBuf],
    count: u64,
    manner: Manner,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let timeline = site.whole()?;
    let standing = timeline.standing(&|_| false);
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let mut chosen = Vec::new();
    for file in files {
        let object = (site.identify)(&site.place(file)?)?;
        let entries = standing.iter().copied();
        let own = entries.filter(|index| timeline.entries[*index].object == object);
        let own: Vec<usize> = own.take(count).collect();
        if object.is_none() || own.len() < count {
            let path = file.clone();
            let (reason, op) = (Reason::NothingLeft, None);
            return Err(Error::Refused(Refusal { path, reason, op }));
        }
        chosen.extend(own);
    }
    let manners = (manner, RevertGroup::WALK, false);
    request(site, "revert", timeline, &chosen, manners, output).map(drop)
}

/// Takes back everything newer than a point.
pub fn restore(
    site: &mut Site<'_>,
    to: &str,
    paths: &[PathBuf],
    (manner, partial): (Manner, bool),
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let point = Point::parse(to, &site.now).map_err(|message| Error::Usage { message })?;
    let timeline = site.whole()?;
    let mut filter = Filter::default();
    for path in paths {
        filter.places.push(site.place(path)?);
    }
    filter.with_kin = !paths.is_empty();
    limit(&mut filter, &timeline, point, to)?;
    let chosen = filter.choose(&timeline, site.tree);
    let chosen = chosen
        .map_err(|message| Error::Nothing { message })?
        .entries;
    let what = match paths {
        [] => "the mount".to_owned(),
        [one] => quoted(one),
        several => count(several.len(), "path", "paths"),
    };
    if chosen.is_empty() {
        let message = format!("nothing was done to {what} since {to}");
        return Err(Error::Nothing { message });
    }
    let when = described(&timeline, point, site);
    let manners = (manner, 0, partial);
    let done = request(site, "restore", timeline, &chosen, manners, output)?;
    if !manner.dry_run {
        if !output.json {
            output.text(&format!("Restored {what} to {when}.\n"))?;
            output.finish()?;
        }
        if done && !manner.no_redo {
            output.hint("`logctl undo` takes that back.");
        }
    }
    Ok(())
}

/// Restricts a filter to what is newer than a point, which the history must reach back to.
fn limit(filter: &mut Filter, timeline: &Timeline, point: Point, to: &str) -> Result<(), Error> {
    let usage = |message: String| Error::Usage { message };
    let newest = timeline.entries.first().map_or(0, |entry| entry.seq);
    let oldest = timeline.entries.last().filter(|entry| entry.at.segment > 1);
    let mut is_too_old = false;
    match point {
        Point::Op(seq) if seq > newest => {
            return Err(usage(format!("operation {seq} is still to come")));
        }
        Point::Op(seq) => {
            is_too_old = oldest.is_some_and(|oldest| seq < oldest.seq);
            filter.after = Some(seq);
        }
        Point::Back(back) => {
            let standing = timeline.standing(&|_| false);
            let all = seen(timeline, &standing);
            filter.after = match all.get(back) {
                Some(action) => Some(action.newest(timeline).seq),
                None if back == all.len() && oldest.is_none() => Some(0),
                None => return Err(usage(format!("the history does not go back to {to}"))),
            };
        }
        Point::At(time) => {
            is_too_old = oldest.is_some_and(|oldest| nanoseconds(time) < nanoseconds(oldest.time));
            filter.since = Some(just_after(time));
        }
    }
    match oldest {
        Some(oldest) if is_too_old => Err(Error::Nothing {
            message: format!(
                "{to} is older than what is left of the history, op {}",
                oldest.seq
            ),
        }),
        _ => Ok(()),
    }
}

fn just_after(time: Time) -> Time {
    match time.nsec {
        999_999_999 => Time {
            sec: time.sec.saturating_add(1),
            nsec: 0,
        },
        nsec => Time {
            sec: time.sec,
            nsec: nsec + 1,
        },
    }
}

/// A point in words: `op 1802 (2026-11-20 13:58:12)`.
fn described(timeline: &Timeline, point: Point, site: &Site<'_>) -> String {
    let zone = site.now.time_zone();
    match point {
        Point::Op(seq) => match timeline.find(seq) {
            Some(index) => format!("op {seq} ({})", local(timeline.entries[index].time, zone)),
            None => format!("op {seq}"),
        },
        Point::Back(1) => "one action before".into(),
        Point::Back(back) => format!("{back} actions before"),
        Point::At(time) => local(time, zone),
    }
}
