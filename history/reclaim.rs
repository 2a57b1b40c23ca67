// SPDX-License-Identifier: GPL-2.0

//! Giving kept objects up for their room, one after the other, the oldest first.

use kernel::{prelude::*, sync::atomic::Relaxed};

use super::{
    books::Keep,
    journal::{Journal, OnFull},
    kept::{remove_whole, Known},
    sort::sort, //
};
use crate::vfs::{
    quota::{QuotaAccount, QuotaAccounts},
    scope::KernelCreds,
};

/// The fewest new orphans after which the lower filesystem's free inodes are looked at.
pub(super) const CHECK_AFTER: i64 = 64;

/// How many objects are given up before others have their turn with the journal.
const AT_ONCE: u64 = 512;

/// Where a search for objects to give up is.
#[derive(Default)]
pub(crate) struct Reclaim {
    /// Whose; `None`: anybody's.
    account: Option<QuotaAccount>,
    /// The segment being searched.
    segment: u64,
    /// Orphans of that segment that are left, the newest first.
    found: KVVec<Known>,
}

impl Journal {
    /// Removes the oldest orphan that counts for `account` (`None`: for any account), and returns
    /// its size in bytes. `None`: there is none, or running reverts may need the remaining ones.
    pub(crate) fn give_up_next(
        &self,
        reclaim: &mut Reclaim,
        account: Option<QuotaAccount>,
    ) -> Result<Option<u64>> {
        self.give_up_one(reclaim, account, true)
    }

    /// As [`Self::give_up_next`]; with `is_synced`, its blocks are free then.
    fn give_up_one(
        &self,
        reclaim: &mut Reclaim,
        account: Option<QuotaAccount>,
        is_synced: bool,
    ) -> Result<Option<u64>> {
        if self.options.on_full == OnFull::Deny {
            return Ok(None);
        }
        let _kernel = KernelCreds::new();
        if reclaim.account != account {
            *reclaim = Reclaim {
                account,
                ..Reclaim::default()
            };
        }
        loop {
            while let Some(known) = reclaim.found.pop() {
                if let Some(bytes) = self.give_up(&known, is_synced)? {
                    return Ok(Some(bytes));
                }
            }
            if !self.look_further(reclaim)? {
                return Ok(None);
            }
        }
    }

    /// Gives up objects that are kept with the oldest sealed segment, until they took `bytes`: as its
    /// lines, they are next to be dropped, and often one of them is room enough. False: there is none.
    pub(super) fn give_up_oldest(&self, bytes: u64) -> Result<bool> {
        let Some(oldest) = self.oldest_sealed() else {
            return Ok(false);
        };
        let mut found = KVVec::new();
        self.list_kept(oldest, &mut found, None)?;
        let mut taken = 0u64;
        let mut any = false;
        while taken < bytes {
            let Some(known) = found.pop() else { break };
            if let Some(bytes) = self.give_up(&known, true)? {
                taken = taken.saturating_add(bytes);
                any = true;
            }
        }
        Ok(any)
    }

    /// Counts a new orphan.
    pub(super) fn count_inode(&self) {
        if self.kept_until_check.fetch_sub(1, Relaxed) == 1 {
            self.keeper.queue();
        }
    }

    /// Removes orphans, the oldest first, while less than a tenth of the lower filesystem's inodes
    /// is free and orphans have more than a tenth. An orphan keeps its inode, and `history_max=`
    /// limits only bytes, of which an empty file has none: other users of the filesystem could not
    /// create files any more. Where others have the inodes, orphans stay. Nothing is done if blocks
    /// are scarce too, since XFS computes free inodes from free blocks.
    pub(super) fn leave_inodes(&self, keep: &Keep) {
        if self.kept_until_check.load(Relaxed) > 0 {
            return;
        }
        self.kept_until_check.store(CHECK_AFTER, Relaxed);
        let Ok(space) = keep.home.dir.space() else {
            return;
        };
        // Counting orphans takes time in proportion to the share: less often on large filesystems.
        let after = i64::try_from(space.inodes / 160).unwrap_or(i64::MAX);
        self.kept_until_check.store(after.max(CHECK_AFTER), Relaxed);
        let share = space.inodes / 10;
        let short = share.saturating_sub(space.free_inodes);
        if short == 0 || space.free < space.total / 10 {
            return;
        }
        let most = share.saturating_add(short.min(AT_ONCE));
        let Ok(count) = self.count_orphans(most) else {
            return;
        };
        let mut reclaim = Reclaim::default();
        for _ in share..count.min(most) {
            // One that cannot be given up is no failure of the journal.
            if !matches!(self.give_up_one(&mut reclaim, None, false), Ok(Some(_))) {
                return;
            }
        }
        if count > share && short > AT_ONCE {
            self.kept_until_check.store(0, Relaxed);
            self.keeper.queue();
        }
    }

    /// Adds the objects that are kept with a segment and count for `account` (`None`: all), the newest first.
    fn list_kept(
        &self,
        segment: u64,
        found: &mut KVVec<Known>,
        account: Option<QuotaAccount>,
    ) -> Result {
        let is_wanted = |accounts: QuotaAccounts| account.is_none_or(|one| accounts.has(one));
        self.kept.lock().list(segment, found, &is_wanted)?;
        sort(found, |a, b| a.since > b.since);
        Ok(())
    }

    /// Goes on to the next segment with which something is kept. False: there is none.
    fn look_further(&self, reclaim: &mut Reclaim) -> Result<bool> {
        let active = self.segment();
        if reclaim.account.is_none() && reclaim.segment != 0 && reclaim.segment < active {
            // Its directories take room, too, and nothing more comes to them. A revert may have pinned
            // their entries since they were listed; none does as long as this is locked.
            let pins = self.pins.lock();
            if pins.may_give_up(reclaim.segment) {
                let freed = self.kept.lock().drop_segment(reclaim.segment)?;
                drop(pins);
                self.count_kept(0, freed);
            }
        }
        let later = self.kept.lock().segments()?;
        let later = later.iter().copied().filter(|s| *s > reclaim.segment);
        let Some(next) = later.min() else {
            return Ok(false);
        };
        if !self.pins.lock().may_give_up(next) {
            return Ok(false);
        }
        reclaim.segment = next;
        self.list_kept(next, &mut reclaim.found, reclaim.account)?;
        Ok(true)
    }

    /// Removes an orphan. `None`: it is gone, or a running revert may move it back.
    fn give_up(&self, known: &Known, is_synced: bool) -> Result<Option<u64>> {
        // Held until the object is gone: a revert that begins later either pins the orphan or finds
        // that it is gone.
        let pins = self.pins.lock();
        if !pins.may_give_up(known.place.segment()) {
            return Ok(None);
        }
        let (dir, name) = (known.place.dir(), known.name.bytes());
        let bytes = dir.bytes_of(name);
        if !dir.has(name) {
            return Ok(None);
        }
        remove_whole(dir, name)?;
        drop(pins);
        let synced = match is_synced {
            // Most filesystems give blocks back with the change of names that freed them.
            true => dir.sync(),
            false => Ok(()),
        };
        self.count_kept(0, bytes);
        self.kept.lock().forget_size(known.place.segment());
        synced.map(|()| Some(bytes))
    }
}
