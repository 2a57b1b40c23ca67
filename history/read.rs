// SPDX-License-Identifier: GPL-2.0

//! Reading the history back: lines, payloads, an object's last line.

use kernel::prelude::*;

use super::{
    journal::{is_no_space, Journal},
    lines::Lines,
};
use crate::{
    log::{
        line::{is_intact, split_line, MAX_LINE},
        types::{Extent, ObjectId, Pos},
    },
    vfs::{
        error::{ENODATA, EUCLEAN},
        scope::crc32c,
    },
};

/// Nearly all lines are shorter. A longer one is read a second time, whole.
const USUAL_LINE: usize = 512;

impl Journal {
    /// Reads the line at `at` with its newline into `buf` (of [`MAX_LINE`] bytes); returns its
    /// length. The line's checksum is verified; its fields are not parsed. `ENODATA`: trimmed;
    /// `EUCLEAN`: damaged.
    pub(crate) fn read_line(&self, at: Pos, buf: &mut [u8]) -> Result<usize> {
        let mut most = USUAL_LINE;
        loop {
            let part = buf.get_mut(..most.min(MAX_LINE)).ok_or(EINVAL)?;
            let len = self.read_text(at, part)?;
            let read = part.get(..len).unwrap_or_default();
            if let Some((line, _)) = split_line(read) {
                return match is_intact(line, &self.seed(at.segment), crc32c) {
                    true => Ok(line.len()),
                    false => Err(EUCLEAN),
                };
            }
            if most >= MAX_LINE {
                return Err(EUCLEAN);
            }
            most = MAX_LINE;
        }
    }

    /// Reads the text of a log from `at` on into `buf`; returns the number of bytes.
    fn read_text(&self, at: Pos, buf: &mut [u8]) -> Result<usize> {
        if let Some(len) = self.peek_log(at.segment, at.offset, buf) {
            return Ok(len);
        }
        if self.staging.lock().is_line_staged(at.segment, at.offset) {
            self.flush(false)?;
        }
        let segment = self.files.lock().open_to_read(at.segment)?;
        segment.log.read_at(buf, at.offset)
    }

    /// The number of `segment` (0 means the newest), and the end of its log, with everything placed
    /// so far. `ENODATA`: trimmed; `EINVAL`: the segment does not exist yet.
    pub(crate) fn readable(&self, segment: u64) -> Result<(u64, u64)> {
        let (newest, end) = {
            let staging = self.staging.lock();
            (staging.seed.segment, staging.log_end)
        };
        if segment > newest {
            return Err(EINVAL);
        }
        match self.flush_killable(false) {
            // Lines that cannot be written for lack of space are still readable in memory.
            Err(e) if is_no_space(e) => {}
            flushed => flushed?,
        }
        if segment == 0 || segment == newest {
            return Ok((newest, end));
        }
        let log = self.files.lock().open_to_read(segment)?;
        Ok((segment, log.log.size()))
    }

    /// Copies staged bytes of a log from `at` on; `None`: none are staged there.
    fn peek_log(&self, segment: u64, at: u64, buf: &mut [u8]) -> Option<usize> {
        // Copied under a spinlock: not much at a time.
        let most = buf.len().min(MAX_LINE * 2);
        let staging = self.staging.lock();
        (staging.lines).peek(&self.line_chunks, segment, at, buf.get_mut(..most)?)
    }

    /// Reads a segment's log, from its file or from memory; returns the number of bytes. `ENODATA`:
    /// trimmed.
    pub(crate) fn read_log(&self, segment: u64, at: u64, buf: &mut [u8]) -> Result<usize> {
        if let Some(len) = self.peek_log(segment, at, buf) {
            return Ok(len);
        }
        let segment = self.files.lock().open_to_read(segment)?;
        segment.log.read_at(buf, at)
    }

    /// The number of the oldest line that is there; `None`: it cannot be read.
    pub(crate) fn oldest_number(&self) -> Result<Option<u64>> {
        let first = self.files.lock().first();
        let mut lines = Lines::new(self)?;
        let at = Pos {
            segment: first,
            offset: 0,
        };
        match lines.read(at) {
            Ok(line) => Ok(Some(line.seq)),
            Err(e) if e == ENODATA || e == EUCLEAN => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The segment before `segment`; 0: there is none.
    pub(crate) fn segment_before(&self, segment: u64) -> Result<u64> {
        self.files.lock().before(segment)
    }

    /// Reads `buf.len()` bytes of a payload from its offset `at` on. The caller must compare the
    /// checksum in the line when it has read the whole payload. `ENODATA`: trimmed. `EINTR`: the
    /// payload is not written yet and the caller is being killed; this cannot happen after a flush,
    /// so a revert with a durable intent continues.
    pub(crate) fn read_payload(&self, extent: Extent, at: u64, buf: &mut [u8]) -> Result {
        let end = at.checked_add(buf.len() as u64).ok_or(EINVAL)?;
        if end > extent.length {
            return Err(EINVAL);
        }
        if self.staging.lock().is_payload_staged(&extent) {
            self.flush_killable(false)?;
        }
        let offset = extent.offset.checked_add(at).ok_or(EINVAL)?;
        let segment = self.files.lock().open_to_read(extent.segment)?;
        let read = segment.undo.read_exact_at(buf, offset);
        // Its file may have been recycled meanwhile.
        if extent.segment < self.files.lock().first() {
            return Err(ENODATA);
        }
        // One that is there and too short was cut off.
        read.map_err(|e| if e == ENODATA { EUCLEAN } else { e })
    }

    /// The position of `object`'s last line; `None` if it has none or all were trimmed.
    pub(crate) fn last_line(&self, object: ObjectId) -> Result<Option<Pos>> {
        // In this order: a table is in the index before it leaves memory.
        let staging = self.staging.lock();
        if let Some(offset) = staging.objects.get(object) {
            let segment = staging.seed.segment;
            return Ok(Some(Pos { segment, offset }));
        }
        let ended = staging.ended.zip(staging.ended_objects.as_ref());
        if let Some((ended, objects)) = ended {
            if let Some(offset) = objects.get(object) {
                let segment = ended.segment;
                return Ok(Some(Pos { segment, offset }));
            }
        }
        drop(staging);
        let first = self.files.lock().first();
        self.tables.lock().look_up(object, first)
    }
}
