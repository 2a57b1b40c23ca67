// SPDX-License-Identifier: GPL-2.0

//! Reclaim: removes orphans for their space or inodes, one after the other, the oldest first.

use kernel::{prelude::*, sync::atomic::Relaxed};

use super::{
    dir_tree::remove_whole,
    journal::{Journal, OnFull},
    meta::HistoryMeta,
    orphans::ReclaimCandidate,
    sort::sort, //
};
use crate::vfs::{
    quota::{QuotaAccount, QuotaAccounts},
    scope::KernelCreds,
};

/// The fewest new orphans after which the lower filesystem's free inodes are looked at.
pub(super) const CHECK_AFTER: i64 = 64;

/// The most orphans that are removed in one round of the maintenance worker.
const AT_ONCE: u64 = 512;

/// The position of a search for orphans to remove.
#[derive(Default)]
pub(crate) struct Reclaim {
    /// The account that pays for them; `None`: any.
    account: Option<QuotaAccount>,
    /// The segment being searched.
    segment: u64,
    /// Orphans of that segment that are left, the newest first.
    found: KVVec<ReclaimCandidate>,
}

impl Journal {
    /// Removes the oldest orphan that counts for `account` (`None`: for any account), and returns
    /// its size in bytes. `None`: there is none, or running reverts may need the remaining ones.
    pub(crate) fn reclaim_next(
        &self,
        reclaim: &mut Reclaim,
        account: Option<QuotaAccount>,
    ) -> Result<Option<u64>> {
        self.reclaim_one(reclaim, account, true)
    }

    /// As [`Self::reclaim_next`]; with `is_synced`, its blocks are free then.
    fn reclaim_one(
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
            while let Some(candidate) = reclaim.found.pop() {
                if let Some(bytes) = self.reclaim_orphan(&candidate, is_synced)? {
                    return Ok(Some(bytes));
                }
            }
            if !self.look_further(reclaim)? {
                return Ok(None);
            }
        }
    }

    /// Removes orphans of the oldest sealed segment until `bytes` are free: this segment is the
    /// next to be dropped, and often one orphan is enough. False: there is none.
    pub(super) fn reclaim_oldest(&self, bytes: u64) -> Result<bool> {
        let Some(oldest) = self.oldest_sealed() else {
            return Ok(false);
        };
        let mut found = KVVec::new();
        self.list_orphans(oldest, &mut found, None)?;
        let mut taken = 0u64;
        let mut any = false;
        while taken < bytes {
            let Some(candidate) = found.pop() else { break };
            if let Some(bytes) = self.reclaim_orphan(&candidate, true)? {
                taken = taken.saturating_add(bytes);
                any = true;
            }
        }
        Ok(any)
    }

    /// Counts a new orphan.
    pub(super) fn count_orphan(&self) {
        if self.orphans_until_check.fetch_sub(1, Relaxed) == 1 {
            self.maintenance.queue();
        }
    }

    /// Removes orphans, the oldest first, while less than a tenth of the lower filesystem's inodes
    /// is free and orphans have more than a tenth. An orphan keeps its inode, and `history_max=`
    /// limits only bytes, of which an empty file has none: other users of the filesystem could not
    /// create files any more. Where others have the inodes, orphans stay. Nothing is done if blocks
    /// are scarce too, since XFS computes free inodes from free blocks.
    pub(super) fn free_inodes(&self, meta: &HistoryMeta) {
        if self.orphans_until_check.load(Relaxed) > 0 {
            return;
        }
        self.orphans_until_check.store(CHECK_AFTER, Relaxed);
        let Ok(space) = meta.home.dir.space() else {
            return;
        };
        // Counting orphans takes time in proportion to the share: less often on large filesystems.
        let after = i64::try_from(space.inodes / 160).unwrap_or(i64::MAX);
        self.orphans_until_check
            .store(after.max(CHECK_AFTER), Relaxed);
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
            // An orphan that cannot be removed is no failure of the journal.
            if !matches!(self.reclaim_one(&mut reclaim, None, false), Ok(Some(_))) {
                return;
            }
        }
        if count > share && short > AT_ONCE {
            self.orphans_until_check.store(0, Relaxed);
            self.maintenance.queue();
        }
    }

    /// Adds a segment's orphans that count for `account` (`None`: all), the newest first.
    fn list_orphans(
        &self,
        segment: u64,
        found: &mut KVVec<ReclaimCandidate>,
        account: Option<QuotaAccount>,
    ) -> Result {
        let is_wanted = |accounts: QuotaAccounts| account.is_none_or(|one| accounts.has(one));
        self.orphans.lock().list(segment, found, &is_wanted)?;
        sort(found, |a, b| a.since > b.since);
        Ok(())
    }

    /// Continues with the next segment that has orphans. False: there is none.
    fn look_further(&self, reclaim: &mut Reclaim) -> Result<bool> {
        let active = self.segment();
        if reclaim.account.is_none() && reclaim.segment != 0 && reclaim.segment < active {
            // Its directories take space, too, and nothing more comes to them. A revert may have pinned
            // their entries since they were listed; none does as long as this is locked.
            let pins = self.pins.lock();
            if pins.may_reclaim(reclaim.segment) {
                let freed = self.orphans.lock().drop_segment(reclaim.segment)?;
                drop(pins);
                self.count_orphan_bytes(0, freed);
            }
        }
        let later = self.orphans.lock().segments()?;
        let later = later.iter().copied().filter(|s| *s > reclaim.segment);
        let Some(next) = later.min() else {
            return Ok(false);
        };
        if !self.pins.lock().may_reclaim(next) {
            return Ok(false);
        }
        reclaim.segment = next;
        self.list_orphans(next, &mut reclaim.found, reclaim.account)?;
        Ok(true)
    }

    /// Removes an orphan. `None`: it is gone, or a running revert may move it back.
    fn reclaim_orphan(&self, candidate: &ReclaimCandidate, is_synced: bool) -> Result<Option<u64>> {
        // Held until the object is gone: a revert that begins later either pins the orphan or finds
        // that it is gone.
        let pins = self.pins.lock();
        if !pins.may_reclaim(candidate.orphan_dir.segment()) {
            return Ok(None);
        }
        let (dir, name) = (candidate.orphan_dir.dir(), candidate.name.bytes());
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
        self.count_orphan_bytes(0, bytes);
        self.orphans
            .lock()
            .drop_cached_size(candidate.orphan_dir.segment());
        synced.map(|()| Some(bytes))
    }
}
