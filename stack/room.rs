// SPDX-License-Identifier: GPL-2.0

//! Room on the lower filesystem for an operation that found none: what was deleted and is kept is given
//! up for it, as much as it takes. Where a quota is the limit, only what counts there.

use crate::{
    history::{journal::Journal, reclaim::Reclaim},
    vfs::{
        dentry::Dentry,
        error::EDQUOT,
        mount::LowerMount,
        quota::{self, Account, Accounts, Kind},
    },
};
use kernel::prelude::*;

/// What asks for room.
#[derive(Clone, Copy)]
pub(crate) enum Payer<'a> {
    /// The history: no user's quota is its limit.
    History,
    /// A lower object, for so many bytes.
    Object(&'a Dentry, u64),
    /// A new object in this lower directory, and its name.
    New(&'a Dentry),
}

/// Waits, in milliseconds, for the blocks of removed objects: some filesystems free them in the background.
pub(super) const PAUSES: [u32; 6] = [5, 10, 25, 60, 150, 250];

/// Giving up what is kept, until an operation finds room.
pub(super) struct GivingUp<'a> {
    journal: &'a Journal,
    lower: &'a LowerMount,
    payer: Payer<'a>,
    reclaim: Reclaim,
    /// Whose limit it was last.
    account: Option<Account>,
    /// How many bytes were lacking at first, and how many were given up since.
    lacking: u64,
    freed: u64,
    /// Whether something was given up that the filesystem may not have freed yet.
    is_pending: bool,
}

impl<'a> GivingUp<'a> {
    pub(super) fn new(journal: &'a Journal, lower: &'a LowerMount, payer: Payer<'a>) -> Self {
        Self {
            journal,
            lower,
            payer,
            reclaim: Reclaim::default(),
            account: None,
            lacking: 0,
            freed: 0,
            is_pending: false,
        }
    }

    /// Makes room after an error that said there is none. False: there is nothing that may be given up.
    #[cold]
    pub(super) fn go_on(&mut self, error: Error) -> Result<bool> {
        let limit = self.limit();
        let account = match limit {
            Some((account, _)) => Some(account),
            // Whose limit it is, the filesystem does not say: the owner's, most probably.
            None if error == EDQUOT => match self.owner() {
                None => return Ok(false),
                owner => owner,
            },
            None => None,
        };
        if account != self.account || self.freed == 0 {
            (self.account, self.freed) = (account, 0);
            self.lacking = match limit {
                Some((_, over)) => over,
                None => self.bytes().saturating_sub(self.free()?),
            };
        }
        if self.is_pending && self.freed >= self.lacking {
            // What was given up should do.
            self.is_pending = false;
            if self.settle(limit)? {
                return Ok(true);
            }
        }
        match self.journal.give_up_next(&mut self.reclaim, account)? {
            Some(bytes) => {
                self.freed = self.freed.saturating_add(bytes.max(1));
                self.is_pending = true;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Waits for what was given up to be free. False: it was free already.
    fn settle(&self, limit: Option<(Account, u64)>) -> Result<bool> {
        let below = self.lower.root().superblock();
        let Some((account, over)) = limit else {
            below.sync()?;
            // btrfs frees extents in the background: its count of free blocks grows later.
            for pause in PAUSES {
                if self.free()? >= self.bytes() {
                    break;
                }
                if !quota::pause(pause) {
                    return Err(EINTR);
                }
                below.sync()?;
            }
            return Ok(true);
        };
        for pause in PAUSES {
            if !quota::pause(pause) {
                return Err(EINTR);
            }
            if self.over_limit(account) < over {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whose limit is in the way, and by how many bytes or inodes.
    fn limit(&self) -> Option<(Account, u64)> {
        let over = |account| {
            let over = self.over_limit(account);
            (over != 0).then_some((account, over))
        };
        let directory = match self.payer {
            Payer::New(dir) => Accounts::of(dir),
            _ => None,
        };
        let first = self.accounts().and_then(|own| own.each().find_map(over));
        first.or_else(|| directory.and_then(|own| own.each().find_map(over)))
    }

    fn over_limit(&self, account: Account) -> u64 {
        let inodes = u64::from(matches!(self.payer, Payer::New(_)));
        let below = self.lower.root().superblock();
        quota::over_limit(below, account, self.bytes(), inodes)
    }

    fn accounts(&self) -> Option<Accounts> {
        match self.payer {
            Payer::History => None,
            Payer::Object(lower, _) => Accounts::of(lower),
            Payer::New(dir) => Accounts::of_new(dir),
        }
    }

    fn owner(&self) -> Option<Account> {
        let id = self.accounts()?.user;
        Some(Account {
            kind: Kind::User,
            id,
        })
    }

    /// How many bytes are asked for.
    fn bytes(&self) -> u64 {
        match self.payer {
            Payer::Object(_, bytes) => bytes.max(1),
            // A block.
            Payer::History | Payer::New(_) => 4096,
        }
    }

    /// How many bytes are free for everybody.
    fn free(&self) -> Result<u64> {
        Ok(self.lower.directory()?.space()?.free)
    }
}
