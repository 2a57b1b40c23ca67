// SPDX-License-Identifier: GPL-2.0

//! How a test ends: well, or with the reason why not.

use std::fmt::Display;
use std::io;

/// Why a test stopped before its end.
#[derive(Debug)]
pub enum Stop {
    /// A check failed.
    Fail(String),
    /// The test says nothing on this lower filesystem; the reason.
    Skip(String),
    /// A raw filesystem has no history: the rest of the test does not apply.
    RawEnds,
}

pub type Outcome<T = ()> = Result<T, Stop>;

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Stop::Fail(error.to_string())
    }
}

impl From<rustix::io::Errno> for Stop {
    fn from(error: rustix::io::Errno) -> Self {
        io::Error::from(error).into()
    }
}

/// Stops the test with a formatted reason.
#[macro_export]
macro_rules! fail {
    ($($what:tt)*) => { return Err($crate::outcome::Stop::Fail(format!($($what)*))) };
}
pub use crate::fail;

/// Stops the test with a formatted reason unless the condition holds.
#[macro_export]
macro_rules! check {
    ($condition:expr, $($what:tt)*) => {
        let holds: bool = $condition;
        if !holds {
            $crate::outcome::fail!($($what)*);
        }
    };
}
pub use crate::check;

/// Adds the present step to an error.
pub trait At<T> {
    fn at(self, what: impl Display) -> Outcome<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, what: impl Display) -> Outcome<T> {
        self.map_err(|error| Stop::Fail(format!("{what}: {error}")))
    }
}

impl<T> At<T> for rustix::io::Result<T> {
    fn at(self, what: impl Display) -> Outcome<T> {
        self.map_err(io::Error::from).at(what)
    }
}

impl<T> At<T> for Outcome<T> {
    fn at(self, what: impl Display) -> Outcome<T> {
        self.map_err(|stop| match stop {
            Stop::Fail(reason) => Stop::Fail(format!("{what}: {reason}")),
            other => other,
        })
    }
}

/// Compares two values and names both when they differ.
pub fn same<T: PartialEq + std::fmt::Debug>(what: impl Display, got: T, want: T) -> Outcome {
    check!(got == want, "{what}: got {got:?}, want {want:?}");
    Ok(())
}

/// Compares two byte strings and names the first byte that differs.
pub fn same_bytes(what: impl Display, got: &[u8], want: &[u8]) -> Outcome {
    if got == want {
        return Ok(());
    }
    let common = got.iter().zip(want).take_while(|(a, b)| a == b).count();
    let show = |bytes: &[u8]| match bytes.get(common) {
        Some(byte) => format!("0x{byte:02x}"),
        None => "the end".into(),
    };
    fail!(
        "{what}: {} bytes, want {}; first difference at byte {common}: {} instead of {}",
        got.len(),
        want.len(),
        show(got),
        show(want)
    )
}

/// Expects exactly this errno.
pub fn same_errno<T>(what: impl Display, got: io::Result<T>, want: rustix::io::Errno) -> Outcome {
    match got {
        Ok(_) => fail!("{what}: succeeded, want {}", name(want.raw_os_error())),
        Err(error) if error.raw_os_error() == Some(want.raw_os_error()) => Ok(()),
        Err(error) => fail!(
            "{what}: {error} ({}), want {}",
            error.raw_os_error().map_or("no errno".into(), name),
            name(want.raw_os_error())
        ),
    }
}

/// The names of the error numbers that the tests speak of.
pub fn name(errno: i32) -> String {
    let known = [
        (1, "EPERM"),
        (2, "ENOENT"),
        (5, "EIO"),
        (9, "EBADF"),
        (11, "EAGAIN"),
        (13, "EACCES"),
        (14, "EFAULT"),
        (16, "EBUSY"),
        (17, "EEXIST"),
        (18, "EXDEV"),
        (20, "ENOTDIR"),
        (21, "EISDIR"),
        (22, "EINVAL"),
        (25, "ENOTTY"),
        (26, "ETXTBSY"),
        (27, "EFBIG"),
        (28, "ENOSPC"),
        (30, "EROFS"),
        (31, "EMLINK"),
        (39, "ENOTEMPTY"),
        (40, "ELOOP"),
        (61, "ENODATA"),
        (75, "EOVERFLOW"),
        (95, "EOPNOTSUPP"),
        (116, "ESTALE"),
        (117, "EUCLEAN"),
    ];
    let found = known.iter().find(|(number, _)| *number == errno);
    found.map_or(format!("errno {errno}"), |(_, text)| (*text).into())
}
