// SPDX-License-Identifier: MIT OR Apache-2.0

//! `revert SELECTION` and `restore`: what was chosen is taken back by one request, as an operation of its
//! own.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::actions::{actions, seen};
use crate::cli::{Manner, Selection};
use crate::describe::{count, local};
use crate::error::{Error, Refusal};
use crate::group::{ask_partly, ask_searching, operations, Answer, LeftOut};
use crate::output::Output;
use crate::paths::Look;
use crate::point::Point;
use crate::process::name;
use crate::quote::quoted;
use crate::rewind::Rewind;
use crate::save::{displaced, Units};
use crate::timeline::Timeline;
use crate::uapi::{Conflict, Reason, RevertGroup};
use crate::verify::{verify, Verdict};

use super::log::{tell_unsure, Shown};
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
    let standing = timeline.standing(&|index| chosen.binary_search(&index).is_ok());
    let units = Units::of(&timeline, &standing);
    let blocked = blocked(&timeline, &units, chosen);
    let (answer, done, left_out) = if partial {
        let all = (asked, &blocked[..]);
        ask_partly(site.object, (&timeline, site.tree), &units, all, flags)
    } else if blocked.is_empty() {
        let known = (&timeline, site.tree);
        let answer = ask_searching(site.object, known, &asked, flags);
        (answer, asked, LeftOut::new())
    } else {
        (Answer::refusal(&blocked), asked, LeftOut::new())
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

/// What is in the way that is no conflict of a single operation.
fn blocked(timeline: &Timeline, units: &Units<'_>, chosen: &[usize]) -> Vec<Conflict> {
    let is_revert = |index: &usize| timeline.entries[*index].group().is_some();
    let reverts: Vec<usize> = chosen.iter().copied().filter(is_revert).collect();
    let chosen: HashSet<usize> = chosen.iter().copied().collect();
    let mut blocked = units.blocked(&chosen);
    blocked.extend(displaced(timeline, &reverts, &chosen));
    blocked
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
    let chosen = chosen.map_err(|unclear| site.unclear(unclear))?;
    if chosen.entries.is_empty() {
        tell_unsure(&chosen.unsure, "were not taken back", site, output);
        let message = "no operation that stands is like that".to_owned();
        return Err(Error::Nothing { message });
    }
    let manners = (manner, 0, partial);
    let done = request(site, "revert", timeline, &chosen.entries, manners, output);
    let is_in_part = matches!(done, Err(Error::Conflicts { code: 3, .. }));
    if done.is_ok() || is_in_part {
        tell_unsure(&chosen.unsure, "were not taken back", site, output);
    }
    if done? && !manner.dry_run && !manner.no_redo {
        output.hint("`logctl undo` takes that back.");
    }
    match chosen.unsure.first() {
        None => Ok(()),
        Some((known, _)) => {
            let process = name(known.process);
            output.hint(&format!(
                "`logctl revert --tree {process}` takes back what that one did."
            ));
            let path = site.root.clone();
            Err(Error::Conflicts { path, code: 3 })
        }
    }
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

/// Brings files, or all of them, to the state that they had at a point, by whichever operations and
/// reverts have to go for that.
pub fn restore(
    site: &mut Site<'_>,
    to: &str,
    paths: &[PathBuf],
    (manner, partial): (Manner, bool),
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let point = Point::parse(to, &site.now).map_err(|message| Error::Usage { message })?;
    let timeline = site.whole()?;
    let cut = cut(&timeline, point, to)?;
    let places = paths.iter().map(|path| site.place(path));
    let places = places.collect::<Result<Vec<_>, _>>()?;
    let what = match paths {
        [] => "the mount".to_owned(),
        [one] => quoted(one),
        several => count(several.len(), "path", "paths"),
    };
    let when = described(&timeline, point, site);
    let rewind = rewind(&timeline, cut, &places, site);
    if rewind.is_there() {
        return is_there(&rewind, &timeline, (&what, &when), &places, site, output);
    }
    let chosen = rewind.entries().map_err(|seq| Error::Nothing {
        message: format!(
            "{what} cannot be restored to {when}: op {seq} was taken back by two reverts"
        ),
    })?;
    let manners = (manner, 0, partial);
    let again = Timeline::clone(&timeline);
    let done = request(site, "restore", again, &chosen, manners, output)?;
    if manner.dry_run {
        return Ok(());
    }
    // What the log says now must be the same.
    let after = site.whole()?;
    let verdict = verify(&timeline, &rewind, &after, site.tree);
    let left = self::rewind(&after, cut, &places, site);
    judge(&verdict, left.left_over(), (&what, &when))?;
    if !output.json {
        output.text(&format!("Restored {what} to {when}.\n"))?;
        output.finish()?;
        tell_not_compared(&verdict, site, output);
    }
    if done && !manner.no_redo {
        output.hint("`logctl undo` takes that back.");
    }
    Ok(())
}

/// What a restore has to do.
fn rewind<'t>(timeline: &'t Timeline, cut: u64, places: &[PathBuf], site: &Site<'_>) -> Rewind<'t> {
    let mut rewind = Rewind::new(timeline, cut);
    if !places.is_empty() {
        rewind.limit(places, site.tree);
    }
    rewind
}

/// Nothing has to be done: nothing was done since, or it was taken back already.
fn is_there(
    rewind: &Rewind<'_>,
    timeline: &Timeline,
    (what, when): (&str, &str),
    places: &[PathBuf],
    site: &Site<'_>,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let mut newer = timeline
        .entries
        .iter()
        .take_while(|entry| entry.seq > rewind.cut());
    let is_newest = newer.all(|entry| entry.op.is_bookkeeping());
    let is_missing = |place: &PathBuf| site.tree.look(place) == Look::Gone;
    if is_newest || places.iter().any(is_missing) {
        let message = format!("nothing was done to {what} since {when}");
        return Err(Error::Nothing { message });
    }
    let verdict = verify(timeline, rewind, timeline, site.tree);
    judge(&verdict, 0, (what, when))?;
    if !output.json {
        output.text(&format!(
            "{what} is as it was at {when}; nothing was changed.\n"
        ))?;
        output.finish()?;
    }
    Ok(())
}

/// Whether a restore led where it should. `left`: how many operations differ from what the log says.
fn judge(verdict: &Verdict, left: usize, (what, when): (&str, &str)) -> Result<(), Error> {
    let mut wrong = verdict
        .wrong
        .iter()
        .map(|(path, how)| format!("{} {how}", quoted(path)));
    let message = match (wrong.next(), left) {
        (None, 0) => return Ok(()),
        (None, left) => {
            let operations = count(left, "operation differs", "operations differ");
            format!("{what} is not as it was at {when}: {operations} from what the log says")
        }
        (Some(first), _) => {
            let more = match wrong.count() {
                0 => String::new(),
                more => format!(", and {more} more"),
            };
            format!("{what} is not as it was at {when}: {first}{more}")
        }
    };
    Err(Error::NotAsWanted { message })
}

/// Says what could not be compared with the log.
fn tell_not_compared(verdict: &Verdict, site: &Site<'_>, output: &mut Output<'_>) {
    let files = |number| count(number, "file", "files");
    if let Some(first) = verdict.unseen.first() {
        // Where nothing can be looked at, nothing was promised.
        if site.tree.look(Path::new("")) != Look::Unknown {
            let names = count(verdict.unseen.len(), "name", "names");
            let first = quoted(first);
            output.say(format_args!(
                "Not compared with the log: {names} that cannot be looked at, {first} first."
            ));
        }
    }
    if let Some(first) = verdict.unknown.first() {
        let all = verdict.compared.saturating_add(verdict.unknown.len());
        output.say(format_args!("Names and sizes are as the log says; the content of {} of {} could not be compared, for the \
             log has no checksum of it: {} first.",
            verdict.unknown.len(),
            files(all),
            quoted(first)
        ));
    }
}

/// The number of the last line that was written at a point, which the history must reach back to.
fn cut(timeline: &Timeline, point: Point, to: &str) -> Result<u64, Error> {
    let usage = |message: String| Error::Usage { message };
    let newest = timeline.entries.first().map_or(0, |entry| entry.seq);
    let oldest = timeline.entries.last().filter(|entry| entry.at.segment > 1);
    let cut = match point {
        Point::Op(seq) if seq > newest => {
            return Err(usage(format!("operation {seq} is still to come")));
        }
        Point::Op(seq) => seq,
        Point::Back(back) => {
            let all = seen(timeline, &timeline.standing(&|_| false));
            let too_far = || usage(format!("the history does not go back to {to}"));
            let last = back.checked_sub(1).and_then(|last| all.get(last));
            match (last, all.get(back)) {
                // What it took back was there before.
                (Some(last), _) if last.newest(timeline).group().is_some() => {
                    last.oldest(timeline).seq.saturating_sub(1)
                }
                (_, Some(action)) => action.newest(timeline).seq,
                (_, None) if back == all.len() && oldest.is_none() => 0,
                (_, None) => return Err(too_far()),
            }
        }
        Point::At(time) => timeline.last_at(time),
    };
    match oldest {
        Some(oldest) if cut < oldest.seq => Err(Error::Nothing {
            message: format!(
                "{to} is older than what is left of the history, op {}",
                oldest.seq
            ),
        }),
        _ => Ok(cut),
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
