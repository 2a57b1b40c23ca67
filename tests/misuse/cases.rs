// SPDX-License-Identifier: GPL-2.0

//! Misuses of the safe layer. `tests/misuse/run` checks that each marked line is refused, and that the
//! rest compiles.

#![allow(dead_code)]

use crate::vfs::{
    attr::AttrChange,
    dentry::{Dentry, UpperDentry},
    file::{File, Kiocb, OpeningFile, UpperFile, WriteCall},
    fs_context::MountReport,
    inode::{Inode, UpperInode},
    lock::HeldInodes,
    locked_name::{LockedName, NewName},
    mmap::NewVma,
    superblock::{NewSuperBlock, SuperBlock},
    task,
    upper_names::{LockedChild, LockedDirectory},
    xattr,
};
use kernel::{prelude::*, str::CStr, sync::aref::ARef};

type Mount = <crate::Fs as crate::vfs::FileSystem>::Mount;
type OpenFile = <crate::Fs as crate::vfs::FileSystem>::OpenFile;

// Right uses.

fn write_rightly(call: &mut WriteCall<'_>) -> Result<u64> {
    let (file, lower) = (call.upper_file(), call.lower_file());
    let lock = file.upper_inode().lock_killable()?;
    file.remove_privileges(&lock)?;
    Ok(lower.inode().size())
}

fn bind_rightly(dentry: NewName<'_>, lower: ARef<Dentry>, inode: ARef<UpperInode>) -> Result<bool> {
    let _changing = dentry.begin_change();
    let was_there = dentry.lower().is_ok() && dentry.name() != b"x";
    dentry.bind(lower, inode);
    Ok(was_there)
}

fn look_up_rightly(inode: &UpperInode, dentry: &UpperDentry) -> Option<bool> {
    let lock = inode.lock();
    let dir = lock.directory(dentry)?;
    Some(dir.child(b"x").ok()?.is_negative())
}

// What a call lends ends with the call.

fn keep_file(_: &'static UpperFile) {}
fn keep_lower_file(_: &'static File) {}
fn keep_report(_: &'static MountReport) {}
fn keep_directory(_: LockedDirectory<'static>) {}

fn file_of_call_for_ever(call: &mut Kiocb<'_>) {
    keep_file(call.upper_file()); //~ file-of-call-for-ever E0521
}

fn lower_file_of_call_for_ever(call: &mut WriteCall<'_>) {
    keep_lower_file(call.lower_file()); //~ lower-file-of-call-for-ever E0521
}

fn file_of_change_for_ever(change: &mut AttrChange<'_>) -> Option<()> {
    keep_file(change.file()?); //~ file-of-change-for-ever E0521
    None
}

fn lower_file_after_upper_file(file: ARef<File>) -> Result<u64> {
    let inode = file.inode();
    drop(file); //~ inode-after-file E0505
    Ok(inode.size())
}

fn report_for_ever(report: &MountReport) {
    keep_report(report); //~ report-for-ever E0521
}

// A lower dentry or a name that is lent is not replaced.

fn bind_while_lower_is_lent(
    dentry: NewName<'_>,
    lower: ARef<Dentry>,
    inode: ARef<UpperInode>,
) -> Result<bool> {
    let lent = dentry.lower()?;
    dentry.bind(lower, inode); //~ bind-while-lower-is-lent E0505
    Ok(lent.inode().is_some())
}

fn look_up_while_lower_is_lent(dentry: NewName<'_>, lower: ARef<Dentry>) -> Result<bool> {
    let lent = dentry.lower()?;
    let _ = dentry.d_splice_alias(Some(lower), None); //~ look-up-while-lower-is-lent E0505
    Ok(lent.inode().is_some())
}

fn move_while_name_is_lent(old: LockedName<'_>, new: LockedName<'_>) -> usize {
    let lent = old.name();
    old.d_move(new); //~ move-while-name-is-lent E0505
    lent.len()
}

fn exchange_while_parent_is_lent(old: LockedName<'_>, new: LockedName<'_>) -> Result<bool> {
    let lent = new.parent();
    old.d_exchange(new); //~ exchange-while-parent-is-lent E0505
    Ok(lent.lower()?.inode().is_some())
}

fn bind_twice(dentry: NewName<'_>, lower: ARef<Dentry>, inode: ARef<UpperInode>) {
    dentry.bind(lower.clone(), inode.clone());
    dentry.bind(lower, inode); //~ bind-twice E0382
}

fn set_lower_of_any_dentry(dentry: &UpperDentry, lower: ARef<Dentry>) {
    dentry.set_lower(lower); //~ set-lower-of-any-dentry E0624
}

fn name_without_lock(dentry: &UpperDentry) -> usize {
    dentry.name().len() //~ name-without-lock E0599
}

// Types that prove what a pointer points to.

fn state_of_any_superblock(sb: &SuperBlock) -> &Mount {
    sb.mount() //~ state-of-any-superblock E0599
}

fn upper_inode_on_any_superblock(sb: &SuperBlock, lower: &Inode) -> Result<ARef<UpperInode>> {
    UpperInode::iget(sb, lower) //~ upper-inode-on-any-superblock E0308
}

fn state_before_it_is_there(sb: NewSuperBlock<'_>) -> usize {
    core::ptr::from_ref(sb.mount()) as usize //~ state-before-it-is-there E0599
}

fn fill_twice(sb: NewSuperBlock<'_>, one: Pin<KBox<Mount>>, two: Pin<KBox<Mount>>) -> Result {
    sb.prepare(one)?;
    sb.prepare(two).map(|_| ()) //~ fill-twice E0382
}

fn lower_file_before_open(file: OpeningFile<'_>) -> u64 {
    file.lower().inode().size() //~ lower-file-before-open E0599
}

fn open_twice(file: OpeningFile<'_>, lower: ARef<File>, one: OpenFile, two: OpenFile) -> Result {
    file.opened(lower.clone(), one)?;
    file.opened(lower, two).map(|_| ()) //~ open-twice E0382
}

fn release_while_open(file: &UpperFile) {
    file.release(); //~ release-while-open E0624
}

fn upper_from_any_inode(inode: &Inode) -> &UpperInode {
    UpperInode::from_raw(inode.as_ptr()) //~ upper-from-any-inode E0624
}

fn map_twice(area: NewVma<'_>, file: &UpperFile) -> Result {
    area.map_lower(file.lower())?;
    area.map_lower(file.lower()) //~ map-twice E0382
}

fn any_pointer_as_buffer(file: &UpperFile, name: &CStr, at: usize) -> Result<usize> {
    let mount =
        <crate::Fs as crate::vfs::table::superblock::SuperHooks>::lower(file.upper_inode().mount());
    xattr::get_xattr(mount, file.lower_dentry(), name, at as *mut u8) //~ any-pointer-as-buffer E0308
}

// Guards.

fn no_lock(file: &UpperFile) -> Result {
    file.remove_privileges() //~ no-lock E0061
}

fn read_lock(file: &UpperFile) -> Result {
    let lock = file.upper_inode().try_lock_shared().ok_or(EAGAIN)?;
    file.remove_privileges(&lock) //~ read-lock E0308
}

fn any_directory(dentry: &UpperDentry) -> Result<LockedChild<'_>> {
    dentry.child(b"x") //~ any-directory E0599
}

fn directory_after_unlock(inode: &UpperInode, dentry: &UpperDentry) -> Option<bool> {
    let dir = {
        let lock = inode.lock();
        lock.directory(dentry)? //~ directory-after-unlock E0597
    };
    Some(dir.child(b"x").is_ok())
}

fn unlock_a_used_directory(inode: &UpperInode, dentry: &UpperDentry) -> Option<bool> {
    let lock = inode.lock();
    let dir = lock.directory(dentry)?;
    drop(lock); //~ unlock-a-used-directory E0505
    Some(dir.child(b"x").is_ok())
}

fn directory_for_ever(dir: LockedDirectory<'_>) {
    keep_directory(dir); //~ directory-for-ever E0521
}

fn unlock_on_another_task(inode: &UpperInode) {
    let lock = inode.lock();
    task::call_on_workqueue(move || drop(lock)); //~ unlock-on-another-task E0277
}

fn unlock_all_on_another_task(locks: HeldInodes<'_>) {
    task::call_on_workqueue(move || drop(locks)); //~ unlock-all-on-another-task E0277
}

fn clear_dead_without_lock(inode: &UpperInode) {
    inode.clear_dead(); //~ clear-dead-without-lock E0599
}

fn removed_without_object_lock(child: &LockedChild<'_>) {
    child.removed(); //~ removed-without-object-lock E0061
}

// Only vfs/ may use `unsafe`.

fn unsafe_here(inode: &Inode) -> u64 {
    // SAFETY: Refused, though true: a live inode. The compiler is to refuse the block itself.
    unsafe { (*inode.as_ptr()).i_ino } //~ unsafe-here `unsafe` block
}
