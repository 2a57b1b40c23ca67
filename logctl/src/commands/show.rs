// SPDX-License-Identifier: MIT OR Apache-2.0

//! `show`: one action or a run, and each of its operations.

use crate::actions::{actions, visible, Action};
use crate::cli::DiffOptions;
use crate::describe::{action_command, changes, count, local, location, operation};
use crate::error::Error;
use crate::json;
use crate::operation_spec::OperationSpec;
use crate::output::Output;
use crate::process::name;
use crate::revision::Revision;

use super::context::Context;
use super::diff;
use super::log::newest;
use super::table::table;
use super::view::View;

/// Prints one action or a run, and its changes in files if `differences` says how.
pub fn run(
    context: &mut Context<'_>,
    word: &str,
    differences: Option<DiffOptions>,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    if let Some(spec @ OperationSpec::Run { .. }) = OperationSpec::parse(word) {
        let view = view_of_run(context, &spec)?;
        return print(&view, differences, context, output);
    }
    let revision =
        Revision::parse(word, &context.now).map_err(|message| Error::Usage { message })?;
    let (timeline, mut found) = match revision {
        // The names of former states may need all lines.
        Revision::Back(back) if differences.is_none() => newest(context, back.saturating_add(1))?,
        _ => {
            let timeline = context.whole()?;
            let live = timeline.live(&|_| false);
            let found = match revision {
                Revision::Back(_) => visible(&timeline, &live),
                _ => actions(&timeline, &live),
            };
            (timeline, found)
        }
    };
    let at = match revision {
        Revision::Back(back) => (back < found.len()).then_some(back),
        Revision::Op(seq) => {
            let index = timeline.find(seq);
            let has = |action: &Action| index.is_some_and(|index| action.entries.contains(&index));
            found.iter().position(has)
        }
        Revision::At(_) => None,
    };
    let nothing = || Error::Nothing {
        message: format!("no live operation '{word}'"),
    };
    let action = found.swap_remove(at.ok_or_else(nothing)?);
    let view = View::new(timeline, vec![action], context);
    print(&view, differences, context, output)
}

fn print(
    view: &View,
    differences: Option<DiffOptions>,
    context: &mut Context<'_>,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    print_action(view, context, output)?;
    match differences {
        None => Ok(()),
        Some(options) => {
            let entries = &view.actions[0].entries;
            diff::of_entries(context, &view.timeline, entries, &options, output)
        }
    }
}

/// A run as one action.
fn view_of_run(context: &mut Context<'_>, spec: &OperationSpec) -> Result<View, Error> {
    let timeline = context.whole()?;
    let live = timeline.live(&|_| false);
    let entries = spec.find(&timeline, &live, &[], true);
    let mut entries = entries.map_err(|error| context.selection_error(error.into()))?;
    entries.retain(|index| live.binary_search(index).is_ok());
    Ok(View::new(timeline, vec![Action { entries }], context))
}

fn print_action(view: &View, context: &Context<'_>, output: &mut Output<'_>) -> Result<(), Error> {
    let action = &view.actions[0];
    if output.json {
        output.object(&json::action(view, action, context))?;
        for index in &action.entries {
            output.object(&json::operation(view, *index, context))?;
        }
        return Ok(());
    }
    let (newest, oldest) = (action.newest(&view.timeline), action.oldest(&view.timeline));
    let (changed, only) = view.changes(action);
    let zone = context.now.time_zone();
    let mut when = local(oldest.time, zone);
    if newest.time.sec != oldest.time.sec {
        when = format!("{when} to {}", local(newest.time, zone));
    }
    let mut rows = vec![
        ["command".to_owned(), action_command(&view.timeline, action)],
        ["when".to_owned(), when],
        ["who".to_owned(), view.who(action, context)],
    ];
    if let Some(run) = view.run(action) {
        rows.push(["run".to_owned(), run.to_owned()]);
    }
    let actor = action.actor(&view.timeline);
    if let Some(process) = actor.process {
        let number = |value: Option<u32>| value.map_or_else(|| "?".into(), |n| n.to_string());
        let (ppid, sid) = (number(actor.ppid), number(actor.sid));
        let text = format!("{}, parent {ppid}, session {sid}", name(process));
        rows.push(["process".to_owned(), text]);
    }
    rows.push(["changes".to_owned(), changes(&changed, only.as_ref())]);
    let title = count(action.entries.len(), "operation", "operations");
    output.text(&format!("Action {}, {title}\n", newest.seq))?;
    for [name, value] in rows {
        output.text(&format!("  {name:<9}{value}\n"))?;
    }
    let lines = action.entries.iter().map(|index| {
        let entry = &view.timeline.entries[*index];
        let place = location(entry, &view.place(*index));
        [
            String::new(),
            entry.seq.to_string(),
            operation(entry),
            place,
        ]
    });
    output.text(&table(&lines.collect::<Vec<_>>()))
}
