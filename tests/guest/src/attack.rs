// SPDX-License-Identifier: GPL-2.0

//! Ten unprivileged users attack a mount with all modes of `held.rs` while the test times root's writes: one
//! to the mount, and one to the raw filesystem below under the same load.
//!
//!   lfs-tests attack SECONDS

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{chown, FileExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::mount::{mount, unmount, MountFlags, UnmountFlags};
use rustix::process::{setpriority_process, Pid};

const BASE: &str = "/run/attack";
const USERS: u32 = 10;
const FIRST_USER: u32 = 3001;

/// The longest extra time of root's writes to the mount, compared with the raw filesystem.
const ALLOWED: Duration = Duration::from_millis(100);

/// How long a waiting process may live after it was killed. Other processes have to finish work first, and
/// all share one processor.
const DYING: Duration = Duration::from_secs(5);

/// How many of the attacks each user makes at once: with all of them there are more than enough processes
/// to keep any other from the processor.
const AT_ONCE: u32 = 3;

/// The work of each user; `{}` is the user's own directory.
const ATTACKS: &[&[&str]] = &[
    &["splices", "{}", "8"],
    &["buffers", "{}", "8"],
    &["bogus", "300000"],
    &["crowd", "4", "100000"],
    &["reverts", "{}"],
    &["reads"],
    &["names", "shared", "{}"],
];

/// One attacker, which is restarted when it ends.
struct Attacker {
    user: u32,
    attack: &'static [&'static str],
    child: Option<Child>,
}

impl Attacker {
    fn start(&mut self, place: &Path) -> io::Result<()> {
        let own = format!("u{}", self.user);
        let mut command = Command::new("/proc/self/exe");
        command.args(["work", "held", "as", &self.user.to_string()]);
        for word in self.attack {
            command.arg(word.replace("{}", &own));
        }
        command.current_dir(place).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn()?;
        // In a group with little memory, as a container has it.
        let _ = fs::write(
            format!("{BASE}/cgroup/held/cgroup.procs"),
            child.id().to_string(),
        );
        self.child = Some(child);
        Ok(())
    }

    /// Kills the process; returns the time until it ended.
    fn kill(&mut self) -> io::Result<Duration> {
        let since = Instant::now();
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            while child.try_wait()?.is_none() && since.elapsed() < DYING * 8 {
                sleep(Duration::from_millis(10));
            }
        }
        Ok(since.elapsed())
    }
}

pub fn main(words: &[String]) -> i32 {
    let seconds = words.first().and_then(|word| word.parse().ok());
    let Some(seconds) = seconds else {
        eprintln!("usage: lfs-tests attack SECONDS");
        return 2;
    };
    match attack(Duration::from_secs(seconds)) {
        Ok(true) => 0,
        Ok(false) => 1,
        Err(error) => {
            eprintln!("attack: {error}");
            3
        }
    }
}

fn run(program: &str, words: &[&str]) -> io::Result<()> {
    let output = Command::new(program).args(words).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(io::Error::other(format!("{program} {words:?}: {said}")))
}

/// ext4 in memory, because waiting for a disk makes the clock of an instruction-counting guest
/// jump. LoggerFS is mounted on one directory of it; a second directory is the raw one.
fn prepare() -> io::Result<()> {
    run("modprobe", &["brd", "rd_nr=1", "rd_size=786432"])?;
    // The users undo renames of their own: files that a process left come back, and stay.
    run("mkfs.ext4", &["-q", "-N", "200000", "/dev/ram0"])?;
    for name in ["lower", "mnt", "cgroup"] {
        fs::create_dir_all(format!("{BASE}/{name}"))?;
    }
    let none = MountFlags::empty();
    mount("/dev/ram0", format!("{BASE}/lower"), "ext4", none, None)?;
    for name in ["src", "raw"] {
        fs::create_dir(format!("{BASE}/lower/{name}"))?;
    }
    let (source, place) = (format!("{BASE}/lower/src"), format!("{BASE}/mnt"));
    mount(source, &place, "loggerfs", none, None)?;
    for user in FIRST_USER..FIRST_USER + USERS {
        let own = format!("{place}/u{user}");
        fs::create_dir(&own)?;
        chown(&own, Some(user), Some(user))?;
    }
    run("install", &["-d", "-m", "1777", &format!("{place}/shared")])?;
    fs::write("/proc/sys/vm/unprivileged_userfaultfd", "1")?;
    let cgroup = format!("{BASE}/cgroup");
    mount("none", &cgroup, "cgroup2", none, None)?;
    fs::write(format!("{cgroup}/cgroup.subtree_control"), "+memory")?;
    fs::create_dir_all(format!("{cgroup}/held"))?;
    fs::write(format!("{cgroup}/held/memory.max"), "512M")
}

/// The longest that writes took, how many there were, and how long they took together.
#[derive(Default)]
struct Waits {
    longest: Duration,
    total: Duration,
    count: u32,
}

impl Waits {
    fn time(&mut self, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let since = Instant::now();
        work()?;
        let took = since.elapsed();
        self.longest = self.longest.max(took);
        self.total += took;
        self.count += 1;
        Ok(())
    }

    fn say(&self, what: &str) {
        let mean = self.total.checked_div(self.count).unwrap_or_default();
        println!(
            "{what}: {} times, longest {:?}, mean {mean:?}",
            self.count, self.longest
        );
    }
}

/// One writer's file, and a directory for its new names.
struct AttackPlace {
    file: File,
    directory: String,
    writes: Waits,
    names: Waits,
}

impl AttackPlace {
    fn new(directory: String) -> io::Result<AttackPlace> {
        let file = File::create(format!("{directory}/roots"))?;
        Ok(AttackPlace {
            file,
            directory,
            writes: Waits::default(),
            names: Waits::default(),
        })
    }

    fn round(&mut self, round: u64) -> io::Result<()> {
        let (file, at) = (&self.file, round % 64 * 4096);
        self.writes
            .time(|| file.write_all_at(&[round as u8; 4096], at))?;
        if round % 8 == 0 {
            let name = format!("{}/roots-new", self.directory);
            self.names.time(|| {
                File::create(&name)?;
                fs::remove_file(&name)
            })?;
        }
        Ok(())
    }
}

/// The longest from SIGKILL to the end of a process: of those that only wait, and of the others.
#[derive(Default)]
struct Dying {
    waiting: Duration,
    working: Duration,
}

impl Dying {
    fn time(&mut self, attacker: &mut Attacker) -> io::Result<()> {
        let took = attacker.kill()?;
        let is_waiting = matches!(attacker.attack[0], "splices" | "buffers");
        let longest = if is_waiting {
            &mut self.waiting
        } else {
            &mut self.working
        };
        *longest = took.max(*longest);
        Ok(())
    }
}

fn attack(time: Duration) -> io::Result<bool> {
    prepare()?;
    let place = format!("{BASE}/mnt");
    let mut raw = AttackPlace::new(format!("{BASE}/lower/raw"))?;
    let mut ours = AttackPlace::new(place.clone())?;
    let mut attackers: Vec<Attacker> = (FIRST_USER..FIRST_USER + USERS)
        .flat_map(|user| (0..AT_ONCE).map(move |number| (user, number)))
        .map(|(user, number)| Attacker {
            user,
            // Together the users make all of them, each several times.
            attack: ATTACKS[((user + number * 2) as usize) % ATTACKS.len()],
            child: None,
        })
        .collect();
    // The test times waits for locks and space, not for the only processor.
    setpriority_process(None::<Pid>, -20)?;
    for attacker in &mut attackers {
        attacker.start(Path::new(&place))?;
    }
    let (since, mut round, mut dying) = (Instant::now(), 0u64, Dying::default());
    while since.elapsed() < time {
        // Each after the other first, so that neither has the better place.
        if round % 2 == 0 {
            raw.round(round / 2)?;
            ours.round(round / 2)?;
        } else {
            ours.round(round / 2)?;
            raw.round(round / 2)?;
        }
        round += 1;
        if round % 64 == 0 {
            let index = (round / 64 * 11) as usize % attackers.len();
            dying.time(&mut attackers[index])?;
            attackers[index].start(Path::new(&place))?;
        }
        for attacker in &mut attackers {
            let ended = attacker.child.as_mut().map(Child::try_wait);
            if matches!(ended, Some(Ok(Some(_)))) {
                attacker.start(Path::new(&place))?;
            }
        }
        sleep(Duration::from_millis(10));
    }
    for attacker in &mut attackers {
        dying.time(attacker)?;
    }
    let is_good = judge(&raw, &ours, dying, round);
    drop((raw, ours));
    unmount(&place, UnmountFlags::empty())?;
    Ok(is_good)
}

/// Prints the measurements, and whether they are within bounds.
fn judge(raw: &AttackPlace, ours: &AttackPlace, dying: Dying, rounds: u64) -> bool {
    raw.writes.say("4 KiB writes, raw");
    ours.writes.say("4 KiB writes, LoggerFS");
    raw.names.say("create and remove, raw");
    ours.names.say("create and remove, LoggerFS");
    println!(
        "longest from SIGKILL to the end: {:?} of one that waits, {:?} of one that works",
        dying.waiting, dying.working
    );
    let mut is_good = true;
    let mut fail = |sentence: String| {
        println!("FAIL {sentence}");
        is_good = false;
    };
    if rounds < 20 {
        fail(format!("only {rounds} rounds of writes"));
    }
    let (raw, ours) = (raw.writes.longest, ours.writes.longest);
    if ours > raw + ALLOWED {
        fail(format!(
            "a write of root's waited {ours:?}, a raw one {raw:?}"
        ));
    }
    if dying.waiting > DYING || dying.working > DYING * 6 {
        fail("a process went on for too long after SIGKILL".to_owned());
    }
    if is_good {
        println!("PASS nobody is held up");
    }
    is_good
}
