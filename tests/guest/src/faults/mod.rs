// SPDX-License-Identifier: GPL-2.0

//! Fails every call of the lower filesystem once, every request to the disk below it (disk.rs) and
//! every allocation: each scenario is repeated with the n-th call of each hook failing, n = 1, 2, 3
//! …, until no call fails.
//!
//! After each go, the tree must be that after the steps that succeeded, through the mount and below
//! it; a new operation and its revert must work, also after a remount; and all older contents must
//! come back by reverts, or a line must record why not.

mod case;
mod control;
mod disk;
mod scenarios;
pub mod tree;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::fixture::Fixture;
use crate::outcome::{check, fail, At, Outcome, Stop};
use case::{FaultCase, Golden};
use control::{Fault, LogFollower, Mode, Who};
pub use scenarios::TESTS;

/// A sequence of calls that something may fail in.
pub struct Scenario {
    pub name: &'static str,
    pub options: &'static str,
    /// The initial tree; nothing fails while it is made.
    pub before: fn(&mut FaultCase) -> Outcome,
    /// The steps of the scenario.
    pub act: fn(&mut FaultCase) -> Outcome,
    /// Whether the first steps are a mount's own: then `before` runs without one.
    pub mounts: bool,
    /// Whether the scenario reverts operations on names: an incomplete revert waits for a mount,
    /// which may finish it.
    pub names: bool,
    /// Whether the disk fails in a usual run, too; otherwise only when asked for.
    pub disk: bool,
}

/// The largest n of a usual run.
const USUAL_MOST: u64 = 200;

/// The options of the command line, from the parent process.
struct Wish {
    hooks: Vec<String>,
    /// Only this one.
    fault: Option<Fault>,
    most: u64,
}

impl Wish {
    fn read() -> Outcome<Wish> {
        let word = |name: &str| std::env::var(name).unwrap_or_default();
        let fault = word("LFS_FAULT");
        let wish = Wish {
            hooks: word("LFS_FAULT_HOOKS")
                .split(',')
                .filter(|hook| !hook.is_empty())
                .map(str::to_string)
                .collect(),
            fault: Fault::parse(&fault),
            most: word("LFS_FAULT_MOST").parse().unwrap_or(USUAL_MOST),
        };
        check!(
            wish.fault.is_some() || fault.is_empty(),
            "LFS_FAULT: '{fault}' is no HOOK:WHO:MODE:ERRNO:N"
        );
        Ok(wish)
    }

    /// Whether the disk is to fail as well.
    fn wants_disk(&self, scenario: &Scenario) -> bool {
        let is_asked_for = self.hooks.iter().any(|hook| hook.starts_with("block_"));
        is_asked_for || (self.hooks.is_empty() && (scenario.disk || self.most > USUAL_MOST))
    }

    fn wants(&self, hook: &str) -> bool {
        self.hooks.is_empty() || self.hooks.iter().any(|one| one == hook)
    }
}

/// The goes and their findings.
#[derive(Default)]
struct Tally {
    goes: u64,
    injected: BTreeMap<String, u64>,
    /// Goes after which less could be taken back than without the failure, as a line says.
    lost: u64,
    failures: Vec<String>,
}

/// Runs one scenario to its end.
pub fn run(w: &mut Fixture, scenario: &Scenario) -> Outcome {
    let wish = Wish::read()?;
    let golden = learn(w, scenario)?;
    let plans = plans(w, scenario, &wish)?;
    let mut tally = Tally::default();
    let mut golden = Some(golden);
    for plan in plans {
        sweep(w, scenario, &mut golden, plan, &wish, &mut tally)?;
        if tally.failures.len() >= 40 {
            break;
        }
    }
    w.unmount()?;
    let hooks: Vec<String> = tally
        .injected
        .iter()
        .map(|(hook, n)| format!("{hook} {n}"))
        .collect();
    let sum: u64 = tally.injected.values().sum();
    println!(
        "     {}/{}: {} goes, {sum} faults ({}); {} lost what they could not save",
        w.lower.name(),
        scenario.name,
        tally.goes,
        hooks.join(", "),
        tally.lost
    );
    if !tally.failures.is_empty() {
        fail!(
            "{} of {} goes failed: {}",
            tally.failures.len(),
            tally.goes,
            tally.failures.join(" | ")
        );
    }
    Ok(())
}

/// Goes with this failure, at the first call, the second, and so on.
fn sweep(
    w: &mut Fixture,
    scenario: &Scenario,
    golden: &mut Option<Golden>,
    plan: Fault,
    wish: &Wish,
    tally: &mut Tally,
) -> Outcome {
    let only = wish.fault.is_some();
    let mut fault = plan;
    let mut consecutive = 0;
    while fault.nth <= wish.most || only {
        mark(scenario, &fault);
        let Some(known) = golden.take() else { break };
        let mut case = FaultCase::new(w, scenario.options, Some(known));
        case.by_remount = scenario.names || tally.goes % 2 == 0;
        let result = go(&mut case, scenario, Some(&fault));
        let trace = control::counts()
            .map(|counts| counts.trace)
            .unwrap_or_default();
        let golden_again = std::mem::take(&mut case.golden);
        *golden = Some(golden_again);
        tally.goes += 1;
        let injected = match result {
            Ok(went) => {
                tally.lost += u64::from(!went.whole);
                consecutive = 0;
                went.injected
            }
            Err(Stop::Fail(reason)) => {
                report(tally, scenario, &fault, &reason, &trace);
                consecutive += 1;
                rescue(w)?;
                1
            }
            Err(stop) => return Err(stop),
        };
        if injected == 0 {
            break;
        }
        *tally.injected.entry(fault.hook.clone()).or_default() += injected;
        if only || consecutive >= 5 {
            break;
        }
        fault.nth += if fault.lasting {
            fault.nth.div_ceil(2)
        } else {
            1
        };
    }
    Ok(())
}

fn report(tally: &mut Tally, scenario: &Scenario, fault: &Fault, reason: &str, trace: &str) {
    let text = format!(
        "{} --fault {}: {reason} [{trace}]",
        scenario.name,
        fault.words()
    );
    println!("     FAILED {text}");
    let _ = std::io::stdout().flush();
    tally.failures.push(format!("{}: {reason}", fault.words()));
}

/// Says in the kernel's log which go begins; not on its console.
fn mark(scenario: &Scenario, fault: &Fault) {
    let _ = fs::write(
        "/dev/kmsg",
        format!("<7>faults: {} {}\n", scenario.name, fault.words()),
    );
}

/// After a go that failed: a new beginning, with nothing of the old one.
fn rescue(w: &mut Fixture) -> Outcome {
    control::command("disarm")?;
    w.unmount().at("after a failure")?;
    empty(w, true)
}

/// Removes the contents of the source, also the history when asked.
fn empty(w: &Fixture, history: bool) -> Outcome {
    let Some(src) = &w.src else { return Ok(()) };
    clear(src)?;
    let place = src.join(".loggerfs");
    if history && place.exists() {
        fs::remove_dir_all(place)?;
    }
    Ok(())
}

/// Removes all names of a directory but the history's.
fn clear(directory: &Path) -> Outcome {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name() == ".loggerfs" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// A go without failures, to learn the expected states.
fn learn(w: &mut Fixture, scenario: &Scenario) -> Outcome<Golden> {
    attach(w)?;
    let mut case = FaultCase::new(w, scenario.options, None);
    go(&mut case, scenario, None).at("without failures")?;
    Ok(std::mem::take(&mut case.golden))
}

/// Puts the probes where this lower filesystem's calls come by.
fn attach(w: &Fixture) -> Outcome {
    let probe = w.below("probe")?;
    File::create(&probe)?;
    control::attach(&probe)?;
    Ok(fs::remove_file(&probe)?)
}

/// The hooks that the scenario calls, which can fail.
fn plans(w: &mut Fixture, scenario: &Scenario, wish: &Wish) -> Outcome<Vec<Fault>> {
    if let Some(fault) = &wish.fault {
        return Ok(vec![fault.clone()]);
    }
    let mut plans = Vec::new();
    let mut counted = count(w, scenario, "write_iter")?;
    counted.retain(|(hook, _)| !hook.starts_with("block_"));
    if w.lower.has_disk() && wish.wants_disk(scenario) {
        let all = count(w, scenario, "block_write")?;
        counted.extend(
            all.into_iter()
                .filter(|(hook, _)| hook.starts_with("block_")),
        );
    }
    for (hook, calls) in counted.iter().filter(|(hook, _)| wish.wants(hook)) {
        for who in Who::ALL {
            // Workers run at any time: a call may happen in the next go only.
            if calls[who as usize] == 0 {
                continue;
            }
            for (mode, errno, lasting) in ways(hook, scenario) {
                plans.push(Fault {
                    hook: hook.clone(),
                    who,
                    mode,
                    errno,
                    nth: 1,
                    lasting,
                });
            }
        }
    }
    for hook in ["alloc", "alloc_pages"]
        .into_iter()
        .filter(|hook| wish.wants(hook))
    {
        if counted.iter().any(|(name, _)| name == hook) {
            for who in Who::ALL {
                plans.push(Fault {
                    hook: hook.into(),
                    who,
                    mode: Mode::Fail,
                    errno: libc::ENOMEM,
                    nth: 1,
                    lasting: false,
                });
            }
        }
    }
    Ok(plans)
}

/// How a hook fails: once or from then on, and with which error.
fn ways(hook: &str, scenario: &Scenario) -> Vec<(Mode, i32, bool)> {
    let mut ways = vec![(Mode::Fail, libc::EIO, false)];
    match hook {
        "alloc" | "alloc_pages" => return Vec::new(),
        "write_iter" => {
            ways.extend([
                (Mode::Short, 0, false),
                (Mode::After, libc::EIO, false),
                (Mode::Fail, libc::ENOSPC, false),
            ]);
        }
        "write_begin" | "create" => ways.push((Mode::Fail, libc::ENOSPC, false)),
        "setattr" | "setxattr" => ways.push((Mode::After, libc::EIO, false)),
        "fallocate" => ways.extend([
            (Mode::After, libc::EIO, false),
            (Mode::Fail, libc::ENOSPC, false),
        ]),
        _ => {}
    }
    if !scenario.mounts {
        ways.push((Mode::Fail, libc::EIO, true));
    }
    ways
}

/// Counts the calls of a go without failures.
fn count(w: &mut Fixture, scenario: &Scenario, hook: &str) -> Outcome<Vec<(String, [u64; 2])>> {
    let never = Fault {
        hook: hook.into(),
        who: Who::Caller,
        mode: Mode::Fail,
        errno: libc::EIO,
        nth: 1 << 40,
        lasting: false,
    };
    let mut case = FaultCase::new(w, scenario.options, None);
    start(&mut case, scenario)?;
    if never.is_of_disk() {
        disk::prepare(&case)?;
    }
    never.arm()?;
    (scenario.act)(&mut case)?;
    if never.is_of_disk() {
        disk::sync_at_last(&mut case)?;
    }
    control::command("disarm")?;
    let counts = control::counts()?;
    case.file = None;
    w.unmount()?;
    empty(w, true)?;
    Ok(counts.calls)
}

/// The end of a go that passed.
struct Went {
    injected: u64,
    /// Whether as much could be taken back as without a failure.
    whole: bool,
}

/// Mounts, and makes the initial tree of the scenario.
fn start(case: &mut FaultCase, scenario: &Scenario) -> Outcome {
    case.file = None;
    if !scenario.mounts && !case.w.is_mounted() {
        case.w.mount_with(scenario.options)?;
    }
    (scenario.before)(case)?;
    if !scenario.mounts {
        case.learn()?;
    }
    Ok(())
}

/// One go: the steps with the failure armed, and everything that must hold then.
fn go(case: &mut FaultCase, scenario: &Scenario, fault: Option<&Fault>) -> Outcome<Went> {
    start(case, scenario)?;
    if let Some(fault) = fault.filter(|fault| fault.is_of_disk()) {
        return disk::go(case, scenario, fault);
    }
    let kernel = LogFollower::open()?;
    if let Some(fault) = fault {
        fault.arm()?;
    }
    let acted = (scenario.act)(case);
    let counts = control::counts()?;
    control::command("disarm")?;
    acted?;
    case.file = None;
    if let (Some(failure), 0) = (&case.failure, counts.failed) {
        fail!(
            "{}: {}, though nothing was made to fail",
            failure.what,
            failure.error
        );
    }
    if let Some(failure) = &case.failure {
        let said = failure.error.raw_os_error().unwrap_or(0);
        let made = fault.map_or(0, |fault| fault.errno);
        check!(
            said == made || said == libc::EIO || said == libc::ENOMEM,
            "{} fails with {} where {} was made",
            failure.what,
            crate::outcome::name(said),
            crate::outcome::name(made)
        );
    }
    let is_incomplete = kernel.said().contains("is incomplete");
    if is_incomplete {
        check!(
            fault.is_some_and(|fault| fault.lasting),
            "one failure, and a revert is incomplete"
        );
        case.withdraw()?;
    }
    let lied = fault.is_some_and(|fault| may_have_happened(fault, &counts.trace))
        // A revert that was left incomplete is gone on with, or withdrawn: whole in either case.
        || is_incomplete;
    let whole = judge(case, scenario, fault, lied)?;
    Ok(Went {
        injected: counts.failed,
        whole,
    })
}

/// Whether a failed call may have taken effect. Without LoggerFS, too, a file may exist that could not be
/// opened after its creation, and bytes may be present that could not be made durable.
fn may_have_happened(fault: &Fault, trace: &str) -> bool {
    fault.mode == Mode::After
        || ["open", "fsync", "writepages"].contains(&&fault.hook[..])
        || (fault.hook.starts_with("alloc") && trace.contains("do_dentry_open"))
}

/// The checks after a go.
fn judge(
    case: &mut FaultCase,
    scenario: &Scenario,
    fault: Option<&Fault>,
    lied: bool,
) -> Outcome<bool> {
    let failed = fault.is_some();
    if !case.w.is_mounted() {
        // The mount itself failed.
        case.w
            .mount_with(scenario.options)
            .at("mounting after the failure")?;
    }
    if failed {
        settle(case, fault)?;
        case.check_tree("after it", lied)?;
        case.check_goes_on()?;
    }
    case.w.unmount().at("unmounting after the failure")?;
    no_strays(case.w)?;
    case.w.mount_with(scenario.options).at("mounting again")?;
    if failed {
        case.check_tree("mounted again", lied)?;
    }
    let whole = case.check_reverts().at("mounted again")?;
    clean_up(case, scenario, !failed)?;
    Ok(whole)
}

/// Removes the files of a go, also the history when asked.
fn clean_up(case: &mut FaultCase, scenario: &Scenario, history: bool) -> Outcome {
    if scenario.mounts || history {
        case.w.unmount().at("unmounting in the end")?;
        return empty(case.w, history);
    }
    // The next go has a fresh mount already.
    clear(&case.w.mnt).at("removing what was made")
}

/// Every segment of a history has both of its files; nothing else takes space for ever.
fn no_strays(w: &Fixture) -> Outcome {
    let history = w.history()?;
    let numbers = |directory: &str, suffix: &str| -> Outcome<Vec<String>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(history.join(directory))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            // The file that waits for a new use belongs to none.
            let number = name
                .strip_suffix(suffix)
                .filter(|number| *number != "spare");
            found.extend(number.map(str::to_string));
        }
        found.sort();
        Ok(found)
    };
    let (logs, payloads) = (numbers("log", ".log")?, numbers("undo", ".dat")?);
    check!(
        logs == payloads,
        "unmounted, segments lack one of their files: log/ has {logs:?}, undo/ {payloads:?}"
    );
    Ok(())
}

/// The journal writes its pending lines, which now succeeds.
///
/// If a worker could not make lines durable after the last call, no call has returned that error yet: the first
/// syncfs() does, once.
fn settle(case: &FaultCase, fault: Option<&Fault>) -> Outcome {
    let sync = || rustix::fs::syncfs(File::open(&case.w.mnt)?).at("syncfs after the failure");
    let is_of_worker = fault.is_some_and(|fault| fault.who == Who::Workers);
    sync().or_else(|stop| if is_of_worker { sync() } else { Err(stop) })
}
