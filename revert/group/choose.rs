// SPDX-License-Identifier: GPL-2.0

//! Whether the operations of a group can be taken back: they stand, nothing that stays is in their way,
//! and the caller may. Nothing is changed.

use super::{
    claim::Claim, rehearse::Staying, Done, Ground, Group, Member, Objections, Opened, Outcome,
};
use crate::{
    backup,
    history::{
        line::{Line, ObjectId, Op, Pos, Undo},
        plan::{name_steps, NameStep, OnForeign, Picking, Step},
        sort::sort, //
    },
    revert::{
        binding::is_there,
        gather::{self, Choice, Gathered, List},
        rights::{self, Rights},
        steps::{fate, is_on_names, taken_by, Lines, Redoable},
        taken::Taken,
        Chain, Link, Refusal,
    },
    uapi::Reason,
    vfs::inode::OwnInode,
};
use core::cell::Cell;
use kernel::{prelude::*, rbtree::RBTree, sync::aref::ARef};

/// What it takes to take operations back.
#[derive(Clone, Copy)]
pub(super) struct Needs {
    /// How many bytes of content that replaces.
    bytes: u64,
    /// How many bytes it takes to save what is replaced.
    pub(super) length: u64,
    /// The oldest segment with payloads that are read.
    pub(super) oldest: u64,
}

impl Needs {
    const NOTHING: Self = Self {
        bytes: 0,
        length: 0,
        oldest: u64::MAX,
    };

    fn add(&mut self, other: &Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.length = self.length.saturating_add(other.length);
        self.oldest = self.oldest.min(other.oldest);
    }
}

/// What came of a look at a member.
enum Choosing {
    /// It is gone, and has never had a name.
    LeftOut,
    /// It can be taken back: what that takes, the right to do it, and the object, if it has no name that
    /// keeps it.
    Fits {
        needs: Needs,
        claim: Option<Claim>,
        held: Option<ARef<OwnInode>>,
    },
    /// A lease has to be broken first.
    Leased(ARef<OwnInode>),
}

impl Group<'_> {
    /// Looks at everything, and rehearses the steps on names. Directories that are not empty are left
    /// standing, and the rest is looked at again without them.
    #[inline(never)]
    pub(super) fn plan_all(
        &mut self,
        is_last: bool,
        objections: Objections<'_>,
    ) -> Outcome<(Done, Needs)> {
        let is_refused = Cell::new(false);
        let mut objections = |seq, refusal| {
            is_refused.set(true);
            objections(seq, refusal)
        };
        let (mut done, mut needs) = self.choose(is_last, &mut objections)?;
        if is_refused.get() || !self.leased.is_empty() {
            return Ok((done, needs));
        }
        let staying = self.rehearse(&mut objections)?;
        if is_refused.get() || staying.is_empty() {
            return Ok((done, needs));
        }
        self.leave_standing(&staying)?;
        (done, needs) = self.choose(is_last, &mut objections)?;
        if is_refused.get() || !self.leased.is_empty() {
            return Ok((done, needs));
        }
        if self.members.is_empty() {
            // Nothing else is asked for.
            for one in &staying {
                objections(one.seq, Refusal::new(Reason::NotEmpty, one.in_way))?;
            }
            return Ok((done, needs));
        }
        for one in self.rehearse(&mut objections)? {
            // All of them were found the first time.
            objections(one.seq, Refusal::new(Reason::NotEmpty, one.in_way))?;
        }
        done.staying = staying;
        Ok((done, needs))
    }

    /// Leaves chosen operations standing.
    fn leave_standing(&mut self, staying: &[Staying]) -> Outcome {
        for one in staying {
            self.staying.push(*one, GFP_KERNEL)?;
        }
        sort(&mut self.staying, |a, b| a.seq > b.seq);
        let staying = core::mem::take(&mut self.staying);
        self.chosen.retain(|chosen| {
            let found = staying.binary_search_by(|one| chosen.seq.cmp(&one.seq));
            found.is_err()
        });
        self.staying = staying;
        self.held.clear();
        self.claims.clear();
        self.gather_members()
    }

    /// The newest operation on a name in a directory that stays; 0: its lines tell of none.
    #[inline(never)]
    pub(super) fn newest_inside(&self, dir: ObjectId) -> Outcome<u64> {
        let journal = self.ground.journal;
        let head = journal.last_line(dir)?;
        let mut chain = Chain::new(journal, dir, head, OnForeign::Pass)?;
        loop {
            match &chain.step_with(|seq| fate(self.takes(seq)))? {
                Link::Line(line, _, _, Step::Take) => {
                    if binds_a_name(line.op) && !self.takes(line.seq) {
                        return Ok(line.seq);
                    }
                }
                Link::Line(..) => {}
                Link::End | Link::Trimmed => return Ok(0),
            }
        }
    }

    /// Looks at everything. Objects with leases on them are noted, or objected to when this `is_last`.
    #[inline(never)]
    pub(super) fn choose(
        &mut self,
        is_last: bool,
        objections: Objections<'_>,
    ) -> Outcome<(Done, Needs)> {
        let named = self.named()?;
        let mut done = Done::default();
        let mut all = Needs::NOTHING;
        let mut last = None;
        for index in 0..self.members.len() {
            let member = self.members.get(index).ok_or(EIO)?;
            let (object, count) = (member.object, self.of(member).len() as u64);
            if !member.is_on_names {
                self.object_to_removed(member, &named, objections)?;
            }
            match self.choose_of(member, objections) {
                Ok(Choosing::LeftOut) => {
                    done.left_out = done.left_out.saturating_add(count);
                    if let Some(member) = self.members.get_mut(index) {
                        member.is_left_out = true;
                    }
                    continue;
                }
                Ok(Choosing::Fits { needs, claim, held }) => {
                    all.add(&needs);
                    if let Some(member) = self.members.get_mut(index) {
                        member.length = needs.length;
                    }
                    if let Some(claim) = claim {
                        self.claims.push(claim, GFP_KERNEL)?;
                    }
                    if let Some(held) = held {
                        self.held.push(held, GFP_KERNEL)?;
                    }
                }
                Ok(Choosing::Leased(inode)) if !is_last => self.leased.push(inode, GFP_KERNEL)?,
                Ok(Choosing::Leased(_)) => {
                    let first = self.of(member).first().map_or(0, |chosen| chosen.seq);
                    objections(first, Refusal::new(Reason::Leased, 0))?;
                }
                Err(refusal) => {
                    let first = self.of(member).first().map_or(0, |chosen| chosen.seq);
                    objections(first, refusal)?;
                }
            }
            done.reverted = done.reverted.saturating_add(count);
            if last.replace(object) != Some(object) {
                done.objects = done.objects.saturating_add(1);
            }
        }
        self.members.retain(|member| !member.is_left_out);
        done.bytes = all.bytes;
        Ok((done, all))
    }

    /// Looks at a member.
    #[inline(never)]
    fn choose_of(&self, member: &Member, objections: Objections<'_>) -> Outcome<Choosing> {
        let Some(opened) = self.ground.open_unless_unnamed(member.object)? else {
            return Ok(Choosing::LeftOut);
        };
        let (needs, claim) = match self.choose_opened(member, &opened, objections) {
            Err(refusal) if refusal.reason == Reason::Leased => {
                return Ok(Choosing::Leased(opened.inode))
            }
            looked => looked?,
        };
        let is_leased = claim
            .as_ref()
            .is_some_and(|claim| claim.is_leased(&opened.inode));
        // A dry run asks nobody to give up a lease, and promises nothing about how long that takes.
        if is_leased && !self.request.dry_run {
            return Ok(Choosing::Leased(opened.inode));
        }
        let held = (opened.inode.object().is_unnamed()).then_some(opened.inode);
        Ok(Choosing::Fits { needs, claim, held })
    }

    /// Answers what it takes, and the right to do it, if that changes content.
    #[inline(never)]
    fn choose_opened(
        &self,
        member: &Member,
        opened: &Opened,
        objections: Objections<'_>,
    ) -> Outcome<(Needs, Option<Claim>)> {
        if member.is_on_names {
            let rights = Rights::over(&opened.inode);
            if rights == Rights::Nothing {
                return Err(Refusal::new(Reason::NotOwner, 0));
            }
            // That is for its flags to decide, where these are taken back, too.
            if opened.inode.is_protected() && self.has_content_of(member.object) {
                opened.inode.may_change_names_unprotected()?;
            } else {
                opened.inode.may_change_names()?;
            }
            if self.ground.is_kept(&opened.inode)? && !self.comes_back(member.object)? {
                return Err(Refusal::new(Reason::Conflict, 0));
            }
            let head = {
                let mut state = opened.inode.object().state.lock();
                // One that is half done is put right first.
                let (mount, journal) = (self.ground.mount, self.ground.journal);
                backup::load_known(mount, journal, &opened.inode, &opened.lower, &mut state)?;
                state.head
            };
            let taken = self.names(member, head, objections)?;
            self.are_the_callers(rights, &taken, objections)?;
            self.can_come_back(&taken, objections)?;
            return Ok((Needs::NOTHING, None));
        }
        opened.may_be_reverted()?;
        let file = opened.file(&self.ground, false)?;
        let content = opened.content(&self.ground, file.as_deref(), self.request.force);
        let mut state = opened.inode.object().state.lock();
        let on_foreign = content.verify(&mut state)?;
        let plan = self.plan(&content, member, state.head, on_foreign, objections)?;
        content.is_open_to(&plan)?;
        let mut claim = None;
        if content.has_content(&plan)? {
            let may = match opened.inode.is_protected() {
                true => opened.inode.may_write_unprotected(),
                false => opened.inode.may_write(),
            };
            // As one who could not open it for writing.
            may.map_err(|_| Refusal::new(Reason::NotWritable, 0))?;
            claim = Some(Claim::of(&opened.inode)?);
        }
        let replaced = plan.pieces.iter().map(|piece| piece.length);
        let needs = Needs {
            bytes: replaced.fold(0, u64::saturating_add),
            length: match self.request.no_redo {
                true => 0,
                false => content.length_to_save(&plan)?,
            },
            oldest: plan.oldest,
        };
        Ok((needs, claim))
    }

    /// What is to be done to content and attributes, by the object's lines from `head` on.
    pub(super) fn plan(
        &self,
        content: &super::Content<'_>,
        member: &Member,
        head: Option<Pos>,
        on_foreign: OnForeign,
        objections: Objections<'_>,
    ) -> Outcome<Gathered> {
        let numbers = self.numbers(member)?;
        if self.request.redo {
            let undos = self.to_redo(member, head)?;
            return gather::redo(content, &undos, &numbers);
        }
        let choice = Choice::These(&numbers);
        gather::plan(content, head, choice, on_foreign, objections)
    }

    /// Where the undos stand that are taken back, the newest first: none that is newer may stay.
    #[inline(never)]
    pub(super) fn to_redo(&self, member: &Member, head: Option<Pos>) -> Outcome<KVVec<Pos>> {
        let mut search = Redoable::new(self.ground.journal, head, self.first_number())?;
        let mut places = KVVec::new();
        for chosen in self.of(member) {
            loop {
                let (found, line) = search.next()?;
                // Another one of the same object: operations on names and on attributes.
                if found != chosen.at && !self.takes(line.seq) {
                    return Err(Refusal::new(Reason::Conflict, line.seq));
                }
                if found == chosen.at {
                    if line.undo == Some(Undo::Lost) {
                        return Err(Refusal::new(Reason::Lost, line.seq));
                    }
                    break;
                }
            }
            places.push(chosen.at, GFP_KERNEL)?;
        }
        Ok(places)
    }

    /// Whether operations on this object's content or attributes are taken back, too.
    pub(super) fn has_content_of(&self, object: ObjectId) -> bool {
        let is_its = |member: &Member| member.object == object && !member.is_on_names;
        self.members.iter().any(is_its)
    }

    /// Whether one of the operations brings an object back that has lost its last name.
    #[inline(never)]
    fn comes_back(&self, object: ObjectId) -> Outcome<bool> {
        let mut lines = Lines::new(self.ground.journal)?;
        for chosen in self.chosen.iter().filter(|chosen| chosen.is_on_names) {
            let line = lines.read(chosen.at)?;
            let is_it = line.node == Some(object) || line.over == Some(object);
            if is_it || matches!(line.op, Op::Revert | Op::Redo) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Which operations on names are taken back, by the directory's lines from `head` on.
    #[inline(never)]
    pub(super) fn names(
        &self,
        member: &Member,
        head: Option<Pos>,
        objections: Objections<'_>,
    ) -> Outcome<Taken> {
        let mut taken = Taken {
            places: KVVec::new(),
            newest: 0,
            back: None,
            picks: KVVec::new(),
            is_newest: true,
            is_deep: false,
        };
        if self.request.redo {
            self.names_to_redo(member, head, &mut taken)?;
            return Ok(taken);
        }
        let mut choosing = ChoosingNames {
            group: self,
            standing: RBTree::new(),
            picking: Picking::new(List::new()),
            taken,
            is_newest: true,
        };
        let mut chain = Chain::new(self.ground.journal, member.object, head, OnForeign::Stop)?;
        for chosen in self.of(member) {
            let found = choosing.find(&mut chain, member, chosen.seq, objections);
            if let Err(refusal) = found {
                objections(chosen.seq, refusal)?;
                if chain.next_at().is_none() {
                    break;
                }
            }
        }
        choosing.taken.is_newest = choosing.is_newest && !chain.hides();
        choosing.taken.picks = choosing.picking.finish().into();
        Ok(choosing.taken)
    }

    #[inline(never)]
    fn names_to_redo(&self, member: &Member, head: Option<Pos>, taken: &mut Taken) -> Outcome {
        let mut lines = Lines::new(self.ground.journal)?;
        taken.places = self.to_redo(member, head)?;
        for at in &taken.places {
            let line = lines.read(*at)?;
            if taken.newest == 0 {
                taken.newest = line.seq;
            }
            taken.back = line.prev;
        }
        Ok(())
    }

    /// Whether the operations are such that the caller may take back.
    #[inline(never)]
    fn are_the_callers(
        &self,
        rights: Rights,
        taken: &Taken,
        objections: Objections<'_>,
    ) -> Outcome {
        if rights == Rights::Whole {
            return Ok(());
        }
        let Ground { mount, journal, .. } = self.ground;
        let mut lines = Lines::new(journal)?;
        let mut looks = rights::Lines::new(mount, journal);
        for at in &taken.places {
            let line = lines.read(*at)?;
            if !looks.may_take_back(rights, &line)? {
                objections(line.seq, Refusal::new(Reason::NotOwner, 0))?;
            }
        }
        Ok(())
    }

    /// Whether what has lost the names that come back is there.
    #[inline(never)]
    fn can_come_back(&self, taken: &Taken, objections: Objections<'_>) -> Outcome {
        if self.request.redo || taken.is_deep {
            // Of a directory that a revert had brought back, that revert's steps have to do with it.
            return Ok(());
        }
        let Ground { mount, journal, .. } = self.ground;
        let mut lines = Lines::new(journal)?;
        for at in &taken.places {
            let line = lines.read(*at)?;
            let (first, second) = name_steps(&line).map_err(|e| e.refuse(line.seq))?;
            for step in [Some(first), second].into_iter().flatten() {
                let NameStep::Restore { victim, .. } = step else {
                    continue;
                };
                if let Err(refusal) = is_there(mount, journal, &victim) {
                    objections(line.seq, refusal)?;
                }
            }
        }
        Ok(())
    }

    /// An operation on an object that stays, newer than its creation.
    #[inline(never)]
    fn later_one(&self, object: ObjectId, than: u64) -> Outcome<Option<u64>> {
        let journal = self.ground.journal;
        let head = journal.last_line(object)?;
        let mut chain = Chain::new(journal, object, head, OnForeign::Pass)?;
        loop {
            match chain.step_with(|seq| fate(self.takes(seq)))? {
                Link::Line(line, ..) if line.seq < than => return Ok(None),
                // A revert comes to nothing with what it took back.
                Link::Line(line, _, _, Step::Take) if line.picks.is_some() && !line.deep => {}
                Link::Line(line, _, _, Step::Take) if !self.takes(line.seq) => {
                    return Ok(Some(line.seq))
                }
                Link::Line(..) => {}
                Link::End | Link::Trimmed => return Ok(None),
            }
        }
    }
}

/// A search for operations on names.
struct ChoosingNames<'a> {
    group: &'a Group<'a>,
    /// Names that were touched by operations that stay, and the newest of these.
    standing: RBTree<u64, u64>,
    picking: Picking<List<(u64, u64)>>,
    taken: Taken,
    is_newest: bool,
}

impl ChoosingNames<'_> {
    /// Goes on to the chosen operation with this number.
    #[inline(never)]
    fn find(
        &mut self,
        chain: &mut Chain<'_>,
        member: &Member,
        wanted: u64,
        objections: Objections<'_>,
    ) -> Outcome {
        let group = self.group;
        loop {
            self.is_newest &= !chain.hides();
            // By reference: a line is half a kilobyte.
            match &chain.step_with(|seq| fate(group.takes(seq)))? {
                Link::End => return Err(Refusal::new(Reason::NothingLeft, 0)),
                Link::Trimmed => return Err(Refusal::new(Reason::Trimmed, 0)),
                Link::Line(line, at, _, Step::Take) if line.seq == wanted => {
                    return self.take(member, line, *at, objections);
                }
                Link::Line(line, _, _, Step::Stop(_)) => {
                    return Err(Refusal::new(Reason::Foreign, line.seq))
                }
                Link::Line(line, _, _, Step::Barred) if line.seq == wanted => {
                    objections(wanted, Refusal::new(Reason::Conflict, 0))?;
                    self.is_newest = false;
                    self.picking.part();
                    return Ok(());
                }
                Link::Line(line, ..) if line.seq <= wanted => {
                    // It was taken back already.
                    return Err(Refusal::new(Reason::NothingLeft, 0));
                }
                Link::Line(line, _, _, Step::Take) => self.stays(member, line)?,
                Link::Line(line, ..) => {
                    if !line.op.is_bookkeeping() {
                        self.picking.part();
                    }
                }
            }
        }
    }

    #[inline(never)]
    fn take(
        &mut self,
        member: &Member,
        line: &Line<'_>,
        at: Pos,
        objections: Objections<'_>,
    ) -> Outcome {
        let seq = line.seq;
        let mut in_way = None;
        let standing = &self.standing;
        self.each_name(member, line, &mut |key| {
            let newer = standing.get(&key).copied();
            in_way = in_way.max(newer);
            Ok(())
        })?;
        let made = matches!(line.op, Op::Create | Op::Mknod | Op::Symlink);
        if let (None, true, Some(node)) = (in_way, made, line.node) {
            in_way = self.group.later_one(node, seq)?;
        }
        if let Some(newer) = in_way {
            objections(seq, Refusal::new(Reason::Conflict, newer))?;
            return self.stays(member, line);
        }
        if line.op != Op::Revert {
            name_steps(line).map_err(|e| e.refuse(seq))?;
        }
        self.picking.pick(seq).map_err(|e| e.refuse(seq))?;
        self.taken.places.push(at, GFP_KERNEL)?;
        if self.taken.newest == 0 {
            self.taken.newest = seq;
        }
        self.taken.back = line.prev;
        self.taken.is_deep |= line.op == Op::Revert;
        Ok(())
    }

    /// An operation stays.
    #[inline(never)]
    fn stays(&mut self, member: &Member, line: &Line<'_>) -> Outcome {
        self.is_newest = false;
        self.picking.part();
        if line.picks.is_some() && !line.deep {
            // With what it took back it comes to nothing.
            return Ok(());
        }
        let mut keys = KVVec::new();
        self.each_name(member, line, &mut |key| Ok(keys.push(key, GFP_KERNEL)?))?;
        for key in keys {
            if self.standing.get(&key).is_none() {
                self.standing
                    .try_create_and_insert(key, line.seq, GFP_KERNEL)?;
            }
        }
        Ok(())
    }

    /// Calls `f` with a key for each name that an operation touched.
    fn each_name(
        &self,
        member: &Member,
        line: &Line<'_>,
        f: &mut dyn FnMut(u64) -> Result,
    ) -> Outcome {
        if line.op == Op::Revert && is_on_names(line) {
            let journal = self.group.ground.journal;
            let mut lines = Lines::new(journal)?;
            for at in taken_by(journal, line)? {
                let line = lines.read(at)?;
                names_of(member.object, &line, f)?;
            }
            return Ok(());
        }
        Ok(names_of(member.object, line, f)?)
    }
}

/// Whether an operation leaves a name more in its directory.
fn binds_a_name(op: Op) -> bool {
    matches!(
        op,
        Op::Create
            | Op::Mkdir
            | Op::Mknod
            | Op::Symlink
            | Op::Link
            | Op::Rename
            | Op::Exchange
            | Op::Revert
    )
}

fn names_of(dir: ObjectId, line: &Line<'_>, f: &mut dyn FnMut(u64) -> Result) -> Result {
    if let Some(name) = line.name {
        f(key(dir, name))?;
    }
    if let Some(to) = line.to {
        f(key(line.parent.unwrap_or(dir), to))?;
    }
    Ok(())
}

/// A number for a name in a directory (FNV-1a). Two that have the same one are taken for one name, which
/// at worst refuses something.
fn key(dir: ObjectId, name: &[u8]) -> u64 {
    let place = [dir.volume, dir.inode, u64::from(dir.generation)];
    let place = place.iter().flat_map(|number| number.to_le_bytes());
    let bytes = Iterator::chain(place, name.iter().copied());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
