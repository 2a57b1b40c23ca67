// SPDX-License-Identifier: MIT OR Apache-2.0

//! `who`: the process trees, and the changes of each.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::actions::{actions, Action};
use crate::cli::Selection;
use crate::describe::{changes, command, count, local};
use crate::error::Error;
use crate::json::{self, JsonObject};
use crate::output::Output;
use crate::process::{name, Processes};
use crate::process_trees::ProcessTrees;
use crate::quote::quote_bytes;
use crate::timeline::Timeline;
use loggerfs_log::line::Process;
use loggerfs_log::types::Time;

use super::context::Context;
use super::table::{fit, table};
use super::view::View;

/// A process tree with its chosen operations.
struct Tree {
    root: Process,
    /// The number of its first operation.
    first: u64,
    title: String,
    /// The number of its actions.
    actions: usize,
    /// Whether it belongs to the session of this process.
    is_own: bool,
}

/// Lists the trees with chosen operations, the one that worked last before the others.
pub fn run(
    context: &mut Context<'_>,
    paths: &[PathBuf],
    selection: &Selection,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let mut filter = context.filter(selection, paths)?;
    filter.is_looking = true;
    let timeline = context.whole()?;
    context.check_names(&timeline, &filter.places)?;
    let chosen = filter.choose(&timeline, context.tree);
    let chosen = chosen.map_err(|selection_error| context.selection_error(selection_error))?;
    let (trees, parts) = trees(&timeline, &chosen.entries, context);
    let view = View::new(timeline, parts, context);
    if output.json {
        for (tree, part) in trees.iter().zip(&view.actions) {
            output.object(&object(tree, &view, part, context))?;
        }
        return Ok(());
    }
    if trees.is_empty() {
        return output.text("Nothing was done.\n");
    }
    let head = ["", "TREE", "PID", "WHO", "TIME", "COMMAND", "CHANGES"];
    let mut rows = vec![head.map(str::to_owned)];
    let parts = trees.iter().zip(&view.actions);
    rows.extend(parts.map(|(tree, part)| row(tree, &view, part, context)));
    fit(&mut rows, output.columns);
    output.text(&table(&rows))
}

/// The trees of operations, and the operations of each.
fn trees(timeline: &Timeline, chosen: &[usize], context: &Context<'_>) -> (Vec<Tree>, Vec<Action>) {
    let processes = Processes::of(timeline);
    let mut all = ProcessTrees::of(&processes);
    let first = all.first_operations(timeline);
    let (mut trees, mut parts) = (Vec::new(), Vec::<Action>::new());
    let mut of_root: HashMap<Process, usize> = HashMap::new();
    for index in chosen {
        let Some(process) = timeline.entries[*index].actor.process else {
            continue;
        };
        let root = all.root_of(process);
        let at = *of_root.entry(root).or_insert(parts.len());
        if at == parts.len() {
            parts.push(Action::default());
            trees.push(root);
        }
        parts[at].entries.push(*index);
    }
    let described = trees.into_iter().zip(&parts).map(|(root, part)| Tree {
        root,
        first: first.get(&root).copied().unwrap_or_default(),
        title: title(&processes, root),
        actions: actions(timeline, &part.entries).len(),
        is_own: context
            .session
            .is_some_and(|session| session.did(timeline, part)),
    });
    (described.collect(), parts)
}

/// The command of a root: with its arguments if it left lines itself, otherwise its short name.
fn title(processes: &Processes, root: Process) -> String {
    if let Some(known) = processes.get(root) {
        return command(&known.actor, false);
    }
    let mut groups = processes
        .all()
        .filter_map(|known| known.actor.group.as_ref());
    match groups.find(|group| group.leader == Some(root) && !group.comm.is_empty()) {
        Some(group) => quote_bytes(&group.comm, false),
        None => "?".into(),
    }
}

fn row(tree: &Tree, view: &View, part: &Action, context: &Context<'_>) -> [String; 7] {
    let (changed, only) = view.changes(part);
    let (oldest, newest) = (part.oldest(&view.timeline), part.newest(&view.timeline));
    [
        if tree.is_own { "*" } else { "" }.to_owned(),
        format!("t{}", tree.first),
        tree.root.pid.to_string(),
        view.who(part, context),
        span(oldest.time, newest.time, context),
        tree.title.clone(),
        match tree.actions {
            1 => changes(&changed, only.as_ref()),
            several => format!(
                "{}  ({})",
                changes(&changed, only.as_ref()),
                count(several, "action", "actions")
            ),
        },
    ]
}

/// From when to when, without the date of today.
fn span(oldest: Time, newest: Time, context: &Context<'_>) -> String {
    let zone = context.now.time_zone();
    let today = context.now.strftime("%Y-%m-%d ").to_string();
    let [from, to] = [oldest, newest].map(|time| local(time, zone));
    let short = |text: &str| text.strip_prefix(&today).unwrap_or(text).to_owned();
    // The end needs its date only where that is another one.
    let end = match from.get(..10) == to.get(..10) {
        true => to.get(11..).unwrap_or(&to).to_owned(),
        false => short(&to),
    };
    match from == to {
        true => short(&from),
        false => format!("{} - {end}", short(&from)),
    }
}

fn object(tree: &Tree, view: &View, part: &Action, context: &Context<'_>) -> serde_json::Value {
    let (changes, _) = view.changes(part);
    let (oldest, newest) = (part.oldest(&view.timeline), part.newest(&view.timeline));
    let uid = newest.actor.uid;
    let mut object = JsonObject::new("tree", &context.root);
    object
        .put("tree", format!("t{}", tree.first))
        .put("pid", tree.root.pid)
        .put("process", name(tree.root))
        .put("title", tree.title.clone())
        .put("own_session", tree.is_own)
        .put("actions", tree.actions)
        .put("operations", part.entries.len())
        .put("first_op", oldest.seq)
        .put("last_op", newest.seq)
        .put("first_time", json::zoned(oldest.time, &context.now))
        .put("time", json::zoned(newest.time, &context.now))
        .put_known("uid", uid)
        .put_known("user", uid.map(|uid| context.users.name(uid)))
        .put("changes", json::changes_value(&changes));
    object.into_value()
}
