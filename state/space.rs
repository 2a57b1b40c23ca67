// SPDX-License-Identifier: GPL-2.0

//! Reclaims orphans for an operation that failed with ENOSPC or EDQUOT, as many as necessary. If a
//! quota is the limit, only orphans charged to that quota are reclaimed.

use crate::{
    history::{journal::Journal, reclaim::Reclaim},
    vfs::{
        dentry::Dentry,
        error::EDQUOT,
        mount::LowerMount,
        quota::{self, QuotaAccount, QuotaAccounts, QuotaKind},
    },
};
use kernel::prelude::*;

/// The kind and size of a space request.
#[derive(Clone, Copy)]
pub(crate) enum SpaceRequest<'a> {
    /// The history: not charged to a user's quota.
    History,
    /// A lower object and a number of bytes.
    Object(&'a Dentry, u64),
    /// A new object in this lower directory.
    New(&'a Dentry),
}

/// Delays in milliseconds for blocks that a filesystem frees asynchronously after a removal. The cleaner
/// thread of btrfs may need more than two seconds on a busy machine.
pub(super) const RECLAIM_DELAYS_MS: [u32; 10] = [5, 10, 25, 60, 150, 250, 500, 1000, 2000, 2000];

/// Reclaims orphans until an operation succeeds.
pub(super) struct SpaceReclaim<'a> {
    journal: &'a Journal,
    lower: &'a LowerMount,
    request: SpaceRequest<'a>,
    reclaim: Reclaim,
    /// The quota that was exceeded last.
    account: Option<QuotaAccount>,
    /// Bytes missing at first, and bytes reclaimed since.
    lacking: u64,
    freed: u64,
    /// Whether the filesystem may not have freed reclaimed blocks yet.
    is_pending: bool,
}

impl<'a> SpaceReclaim<'a> {
    pub(super) fn new(
        journal: &'a Journal,
        lower: &'a LowerMount,
        request: SpaceRequest<'a>,
    ) -> Self {
        Self {
            journal,
            lower,
            request,
            reclaim: Reclaim::default(),
            account: None,
            lacking: 0,
            freed: 0,
            is_pending: false,
        }
    }

    /// Reclaims space after ENOSPC or EDQUOT. False if nothing is left to reclaim.
    #[cold]
    pub(super) fn reclaim_more(&mut self, error: Error) -> Result<bool> {
        let limit = self.limit();
        let account = match limit {
            Some((account, _)) => Some(account),
            // The filesystem does not report the exceeded quota; most probably the owner's.
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
            // The reclaimed bytes should be sufficient.
            self.is_pending = false;
            if self.settle(limit)? {
                return Ok(true);
            }
        }
        match self.journal.reclaim_next(&mut self.reclaim, account)? {
            Some(bytes) => {
                self.freed = self.freed.saturating_add(bytes.max(1));
                self.is_pending = true;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Waits until reclaimed blocks are free. Returns false if they were free already.
    fn settle(&self, limit: Option<(QuotaAccount, u64)>) -> Result<bool> {
        let below = self.lower.root().superblock();
        let Some((account, over)) = limit else {
            below.sync()?;
            // btrfs frees extents asynchronously, so f_bavail grows later.
            for pause in RECLAIM_DELAYS_MS {
                if self.free()? >= self.bytes() {
                    break;
                }
                if !quota::sleep_killable(pause) {
                    return Err(EINTR);
                }
                below.sync()?;
            }
            return Ok(true);
        };
        for pause in RECLAIM_DELAYS_MS {
            if !quota::sleep_killable(pause) {
                return Err(EINTR);
            }
            if self.over_limit(account) < over {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The exceeded quota, and the missing bytes or inodes.
    fn limit(&self) -> Option<(QuotaAccount, u64)> {
        let over = |account| {
            let over = self.over_limit(account);
            (over != 0).then_some((account, over))
        };
        let directory = match self.request {
            SpaceRequest::New(dir) => QuotaAccounts::of(dir),
            _ => None,
        };
        let first = self.accounts().and_then(|own| own.each().find_map(over));
        first.or_else(|| directory.and_then(|own| own.each().find_map(over)))
    }

    fn over_limit(&self, account: QuotaAccount) -> u64 {
        let inodes = u64::from(matches!(self.request, SpaceRequest::New(_)));
        let below = self.lower.root().superblock();
        quota::over_limit(below, account, self.bytes(), inodes)
    }

    fn accounts(&self) -> Option<QuotaAccounts> {
        match self.request {
            SpaceRequest::History => None,
            SpaceRequest::Object(lower, _) => QuotaAccounts::of(lower),
            SpaceRequest::New(dir) => QuotaAccounts::of_new(dir),
        }
    }

    fn owner(&self) -> Option<QuotaAccount> {
        let id = self.accounts()?.user;
        Some(QuotaAccount {
            kind: QuotaKind::User,
            id,
        })
    }

    /// The requested number of bytes.
    fn bytes(&self) -> u64 {
        match self.request {
            SpaceRequest::Object(_, bytes) => bytes.max(1),
            // A block.
            SpaceRequest::History | SpaceRequest::New(_) => 4096,
        }
    }

    /// Bytes free for unprivileged users.
    fn free(&self) -> Result<u64> {
        Ok(self.lower.directory()?.space()?.free)
    }
}
