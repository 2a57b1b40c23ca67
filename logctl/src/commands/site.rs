// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where commands on a whole mount work: the mount, what can be asked of it, and the time.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use jiff::Zoned;
use rustix::io::Errno;

use crate::cli::Selection;
use crate::describe::Users;
use crate::error::{Error, Refusal};
use crate::history::line::ObjectId;
use crate::mount::absolute;
use crate::object::Object;
use crate::paths::Tree;
use crate::point::time;
use crate::select::{glob, relative, Filter, Ops};
use crate::timeline::Timeline;
use crate::uapi::Reason;

/// A mount, as commands see it.
pub struct Site<'s> {
    /// Any open file or directory of it.
    pub object: &'s mut dyn Object,
    /// Its files.
    pub tree: &'s dyn Tree,
    /// The object that a path, relative to the root, is now; `None`: it is gone.
    pub identify: &'s dyn Fn(&Path) -> Result<Option<ObjectId>, Error>,
    /// Where it is.
    pub root: PathBuf,
    /// The time, with a zone.
    pub now: Zoned,
    /// Who is who.
    pub users: Users,
    /// The calling user; `None`: root, to whom everything is shown.
    pub me: Option<u32>,
}

impl Site<'_> {
    /// What went wrong when the history was asked for.
    pub fn unread(&self, errno: Errno) -> Error {
        let path = self.root.clone();
        match errno {
            Errno::NODATA => Error::Refused(Refusal {
                path,
                reason: Reason::HistoryOff,
                op: None,
            }),
            _ => Error::from_errno(&path, "read the history of", errno),
        }
    }

    /// All lines.
    pub fn whole(&mut self) -> Result<Timeline, Error> {
        let mut timeline = Timeline::whole(self.object).map_err(|errno| self.unread(errno))?;
        timeline.is_partial = self.me.is_some();
        Ok(timeline)
    }

    /// A path relative to the mount's root.
    pub fn place(&self, path: &Path) -> Result<PathBuf, Error> {
        let outside = || Error::NotLoggerFs {
            path: path.to_owned(),
        };
        let absolute = absolute(path).map_err(|_| outside())?;
        relative(&self.root, &absolute).ok_or_else(outside)
    }

    /// What a selection and its words mean. Words that name operations are told from files: those that
    /// exist are files.
    pub fn filter(&self, selection: &Selection, words: &[PathBuf]) -> Result<Filter, Error> {
        let usage = |message: String| Error::Usage { message };
        let moment = |text: &Option<String>| {
            let parsed = text.as_deref().map(|text| time(text, &self.now));
            parsed.transpose().map_err(usage)
        };
        let mut filter = Filter {
            is_raw: selection.ops,
            by: selection.by.clone(),
            pid: selection.pid,
            tree: selection.tree,
            session: selection.session,
            since: moment(&selection.since)?,
            until: moment(&selection.until)?,
            open: selection.open,
            last: selection.last,
            ..Filter::default()
        };
        if let Some(user) = &selection.user {
            let unknown = || usage(format!("there is no user '{user}'"));
            filter.uid = Some(self.users.number(user).ok_or_else(unknown)?);
        }
        if let Some(pattern) = &selection.path {
            filter.path = Some(glob(pattern).map_err(|error| usage(error.to_string()))?);
        }
        for path in words {
            match ops_word(path.as_os_str()) {
                Some(ops) if !path.exists() => filter.ops.push(ops),
                _ => filter.places.push(self.place(path)?),
            }
        }
        Ok(filter)
    }
}

/// The operations that a word names.
pub fn ops_word(word: &OsStr) -> Option<Ops> {
    word.to_str().and_then(Ops::parse)
}
