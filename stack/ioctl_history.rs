// SPDX-License-Identifier: GPL-2.0

//! IOC_READ_HISTORY: reads the lines of the whole mount, at most one segment per call.

use crate::{
    history::{
        journal::Journal,
        objects::{LastLine, Objects, SLOTS},
        orphan_record::HANDLE_MAX,
    },
    log::{
        line::{decode_hex, without_arguments, Line, Op, MAX_LINE},
        types::ObjectId,
    },
    revert::{
        locate,
        rights::{CallerRights, ChainRights},
    },
    uapi::{HistoryLine, ReadHistory},
    vfs::{
        error::{ENODATA, EUCLEAN},
        file::UpperFile,
        inode::UpperInode,
        scope::crc32c,
        task, uaccess,
    },
};
use core::ops::Range;
use kernel::prelude::*;

/// Size of the read window of a log.
const WINDOW: usize = 64 * 1024;

/// Fills the caller's buffer with lines, starting at the request's cursor.
#[inline(never)]
pub(super) fn read(file: &UpperFile, argument: usize) -> Result<c_long> {
    let mount = file.upper_inode().mount();
    let mut request: ReadHistory = uaccess::read(argument)?;
    if !request.is_valid() {
        return Err(EINVAL);
    }
    let journal = mount.journal().ok_or(ENODATA)?;
    let (segment, end) = journal.readable(request.segment)?;
    check_cursor(journal, segment, request.offset, end)?;
    let mut reader = SegmentReader::new(file, journal, segment)?;
    let is_backward = request.flags & ReadHistory::BACKWARD != 0;
    let (from, to) = match (is_backward, request.offset) {
        (false, from) => (from, end),
        (true, 0) => before(journal, segment, end, request.length / 2)?,
        (true, to) => before(journal, segment, to, request.length / 2)?,
    };
    reader.catch_up(from)?;
    let mut out = UserBuffer {
        address: request.buffer as usize,
        capacity: request.length,
        used: 0,
    };
    let next = reader.copy(from, to, &mut out)?;
    // Backward all lines fit: a line's header and padding are shorter than the shortest line.
    request.offset = match (is_backward, next) {
        (false, next) => next,
        (true, ReadHistory::END) => from,
        (true, _) => return Err(EUCLEAN),
    };
    request.segment = segment;
    request.previous = journal.segment_before(segment)?;
    request.used = out.used;
    uaccess::write(argument, &request)?;
    Ok(0)
}

/// Checks that a line begins at `offset`: a forged cursor might point into a line.
fn check_cursor(journal: &Journal, segment: u64, offset: u64, end: u64) -> Result {
    let Some(before) = offset.checked_sub(1) else {
        return Ok(());
    };
    let mut byte = [0];
    if offset > end || journal.read_log(segment, before, &mut byte)? != 1 || byte != *b"\n" {
        return Err(EINVAL);
    }
    Ok(())
}

/// The range of the last whole lines before `to` in a log, at most `most` bytes of them. A line begins at its
/// start. It is longer only where damage leaves no line in so many bytes.
fn before(journal: &Journal, segment: u64, to: u64, most: u32) -> Result<(u64, u64)> {
    let mut buf = KVVec::from_elem(0, MAX_LINE, GFP_KERNEL)?;
    let mut from = to;
    loop {
        from = from.saturating_sub(most.into());
        // The byte before a line is the newline of the one before it.
        let Some(mut at) = from.checked_sub(1) else {
            return Ok((0, to));
        };
        // The last newline before `to` ends the last line, and begins none.
        let last = to.saturating_sub(1);
        while at < last {
            task::resched_killable()?;
            // CAST: At most `MAX_LINE`.
            let len = last.saturating_sub(at).min(MAX_LINE as u64) as usize;
            let read = journal.read_log(segment, at, buf.get_mut(..len).ok_or(EUCLEAN)?)?;
            let text = buf.get(..read).unwrap_or_default();
            if let Some(newline) = text.iter().position(|&b| b == b'\n') {
                let start = at.saturating_add(newline as u64).saturating_add(1);
                return Ok((start, to));
            }
            if read == 0 {
                break;
            }
            at = at.saturating_add(read as u64);
        }
    }
}

/// The caller's buffer.
struct UserBuffer {
    address: usize,
    capacity: u32,
    used: u32,
}

impl UserBuffer {
    /// Appends a line; `false` if the buffer is full.
    fn put(&mut self, offset: u64, text: &[u8]) -> Result<bool> {
        let length = u32::try_from(text.len()).map_err(|_| EUCLEAN)?;
        let head = HistoryLine {
            offset,
            length,
            reserved: 0,
        };
        let whole = size_of::<HistoryLine>().checked_add(text.len());
        let whole = whole.and_then(|whole| whole.checked_next_multiple_of(8));
        let whole = whole.and_then(|whole| u32::try_from(whole).ok());
        let end = whole.and_then(|whole| self.used.checked_add(whole));
        let Some(end) = end.filter(|end| *end <= self.capacity) else {
            return Ok(false);
        };
        let at = self.address.checked_add(self.used as usize).ok_or(EFAULT)?;
        uaccess::write(at, &head)?;
        let at = at.checked_add(size_of::<HistoryLine>()).ok_or(EFAULT)?;
        uaccess::write_bytes(at, text)?;
        let padding = text.len().wrapping_neg() % 8;
        let at = at.checked_add(text.len()).ok_or(EFAULT)?;
        uaccess::write_bytes(at, [0; 8].get(..padding).unwrap_or_default())?;
        self.used = end;
        Ok(true)
    }
}

/// Encoded permissions of the caller, for each object whose handle a line has recorded.
type RightsByObject = Objects<KVVec<LastLine>, KVVec<u16>>;

/// Upper limit of line numbers in the encoding.
const NEVER: u64 = u64::MAX >> 2;

fn code(rights: ChainRights) -> u64 {
    match rights {
        ChainRights::Nothing => 0,
        ChainRights::Since(first) => first.min(NEVER) * 2 + 1,
        ChainRights::Names(first) => first.min(NEVER) * 2 + 2,
    }
}

fn rights(code: u64) -> ChainRights {
    match (code, code.saturating_sub(1) / 2) {
        (0, _) => ChainRights::Nothing,
        (code, first) if code % 2 == 1 => ChainRights::Since(first),
        (_, first) => ChainRights::Names(first),
    }
}

/// Reads one segment.
struct SegmentReader<'a> {
    file: &'a UpperFile,
    journal: &'a Journal,
    segment: u64,
    /// `None`: the caller may read all lines.
    verdicts: Option<RightsByObject>,
    caller: CallerRights<'a>,
    /// The rights over the directory of the last mark. `verdicts` has no space for directories without a line.
    last_marked: Option<(ObjectId, ChainRights)>,
    /// Buffer for a line without arguments.
    stripped: KBox<[u8; MAX_LINE]>,
}

impl<'a> SegmentReader<'a> {
    fn new(file: &'a UpperFile, journal: &'a Journal, segment: u64) -> Result<Self> {
        let caller = CallerRights::new(file, journal);
        let verdicts = if caller.is_administrator() {
            None
        } else {
            // A segment is sealed before the number of its objects reaches SLOTS.
            let slots = KVVec::from_elem(LastLine::FREE, SLOTS, GFP_KERNEL)?;
            let order = KVVec::from_elem(0, SLOTS, GFP_KERNEL)?;
            Some(Objects::new(slots, order))
        };
        Ok(Self {
            file,
            journal,
            segment,
            verdicts,
            caller,
            last_marked: None,
            stripped: KBox::zeroed(GFP_KERNEL)?,
        })
    }

    /// Computes the permissions on objects whose handles are recorded before `to`.
    fn catch_up(&mut self, to: u64) -> Result {
        if self.verdicts.is_none() {
            return Ok(());
        }
        self.each(0, to, |reader, _, _, line| {
            reader.may_read(line)?;
            Ok(true)
        })?;
        Ok(())
    }

    /// Copies the lines of `[from, end)` that the caller may read. Returns the offset to continue
    /// at.
    fn copy(&mut self, from: u64, end: u64, out: &mut UserBuffer) -> Result<u64> {
        let full = self.each(from, end, |reader, offset, text, line| {
            Ok(!reader.may_read(line)? || reader.put(out, offset, text, line)?)
        })?;
        Ok(full.unwrap_or(ReadHistory::END))
    }

    /// Appends a line without the fields that the caller may not see.
    fn put(
        &mut self,
        out: &mut UserBuffer,
        offset: u64,
        text: &[u8],
        line: &Line<'_>,
    ) -> Result<bool> {
        if !self.caller.hides_arguments(line) {
            return out.put(offset, text);
        }
        let seed = self.journal.seed(self.segment);
        let len =
            without_arguments(text, &seed, crc32c, &mut self.stripped[..]).map_err(|_| EUCLEAN)?;
        out.put(offset, self.stripped.get(..len).ok_or(EUCLEAN)?)
    }

    /// Calls `take` with each undamaged line of `[from, end)`, until `take` returns false; returns
    /// the offset of that line.
    fn each(
        &mut self,
        from: u64,
        end: u64,
        mut take: impl FnMut(&mut Self, u64, &[u8], &Line<'_>) -> Result<bool>,
    ) -> Result<Option<u64>> {
        let seed = self.journal.seed(self.segment);
        let mut pieces = SegmentLines::new(self.journal, self.segment, from, end)?;
        while let Some((offset, range)) = pieces.next()? {
            task::resched_killable()?;
            let text = pieces.window.get(range).ok_or(EUCLEAN)?;
            let Ok(line) = Line::parse(text, Some((&seed, crc32c))) else {
                continue;
            };
            if !take(self, offset, text, &line)? {
                return Ok(Some(offset));
            }
        }
        Ok(None)
    }

    /// Whether the caller may read the line of a mark, by the permissions on the directory that the mark was made
    /// in.
    #[inline(never)]
    fn may_read_mark(&mut self, line: &Line<'_>) -> Result<bool> {
        let (Op::Mark, Some(directory), Some(handle)) = (line.op, line.parent, line.pfh) else {
            return Ok(false);
        };
        let known = self.last_marked.filter(|(last, _)| *last == directory);
        let rights = match known {
            Some((_, rights)) => rights,
            None => rights_over(self.file, &mut self.caller, directory, handle)?,
        };
        self.last_marked = Some((directory, rights));
        Ok(self.caller.shows_mark(rights, line))
    }

    /// Whether the caller may read a line, by the permissions on the line's object. Lines of
    /// objects that no longer exist are shown to administrators only.
    fn may_read(&mut self, line: &Line<'_>) -> Result<bool> {
        let Some(verdicts) = &mut self.verdicts else {
            return Ok(true);
        };
        let Some(object) = line.obj else {
            return self.may_read_mark(line);
        };
        let rights = match (verdicts.get(object), line.fh) {
            (Some(verdict), _) => rights(verdict),
            // The object's first line in each segment has the handle.
            (None, None) => return Ok(false),
            (None, Some(handle)) => {
                let found = rights_over(self.file, &mut self.caller, object, handle)?;
                if !verdicts.set(object, code(found)) {
                    return Ok(false);
                }
                found
            }
        };
        self.caller.shows(rights, line)
    }
}

/// The caller's permissions on the object with this handle (hexadecimal).
#[inline(never)]
fn rights_over(
    file: &UpperFile,
    caller: &mut CallerRights<'_>,
    object: ObjectId,
    handle: &[u8],
) -> Result<ChainRights> {
    let sb = file.upper_inode().superblock();
    let mut bytes = [0; HANDLE_MAX];
    let len = decode_hex(handle, &mut bytes).unwrap_or(0);
    let handle = bytes.get(..len).unwrap_or_default();
    let Ok(Some(lower)) = locate::by_handle(sb, caller.journal(), (object, handle), None) else {
        return Ok(ChainRights::Nothing);
    };
    match lower.inode() {
        Some(inode) => caller.may_read(&*UpperInode::iget(sb, inode)?, &lower),
        None => Ok(ChainRights::Nothing),
    }
}

/// Iterator over the lines of a log range.
struct SegmentLines<'j> {
    journal: &'j Journal,
    segment: u64,
    /// End of the range.
    end: u64,
    window: KVVec<u8>,
    /// Offset of the window in the log, its filled length, and the length already returned.
    at: u64,
    filled: usize,
    given: usize,
}

impl<'j> SegmentLines<'j> {
    fn new(journal: &'j Journal, segment: u64, from: u64, end: u64) -> Result<Self> {
        Ok(Self {
            journal,
            segment,
            end,
            window: KVVec::from_elem(0, WINDOW, GFP_KERNEL)?,
            at: from,
            filled: 0,
            given: 0,
        })
    }

    /// The next line, newline included: its offset in the log and its range in the window.
    fn next(&mut self) -> Result<Option<(u64, Range<usize>)>> {
        loop {
            let rest = self.window.get(self.given..self.filled);
            let rest = rest.unwrap_or_default();
            if let Some(newline) = rest.iter().position(|&b| b == b'\n') {
                let start = self.given;
                self.given = start.saturating_add(newline).saturating_add(1);
                let offset = self.at.saturating_add(start as u64);
                return Ok(Some((offset, start..self.given)));
            }
            let rest = rest.len();
            // Longer than any line: damaged. Skip to the next newline.
            let (skip, rest) = match rest {
                WINDOW => (WINDOW, 0),
                _ => (self.given, rest),
            };
            self.at = self.at.saturating_add(skip as u64);
            self.given = 0;
            // CAST: At most `WINDOW`.
            let len = self.end.saturating_sub(self.at).min(WINDOW as u64) as usize;
            let room = self.window.get_mut(..len).ok_or(EUCLEAN)?;
            self.filled = self.journal.read_log(self.segment, self.at, room)?;
            if self.filled <= rest {
                return Ok(None);
            }
        }
    }
}
