// SPDX-License-Identifier: MIT OR Apache-2.0

//! The lines that are written while the view is mounted.

use rustix::io::Errno;

use crate::fetch::fetch;
use crate::object::Object;
use crate::uapi::{ReadHistory, VERSION};

/// Where the next line is expected.
pub struct NewerLines {
    segment: u64,
    offset: u64,
    buffer: Vec<u8>,
}

/// The buffer's length, in bytes. Usually there are few lines.
const ROOM: usize = 1 << 16;

impl NewerLines {
    /// From the beginning of the newest segment on.
    pub fn of_newest_segment(object: &mut dyn Object) -> Result<Self, Errno> {
        let mut request = ReadHistory {
            version: VERSION,
            ..ReadHistory::default()
        };
        object.read_history(&mut request, &mut vec![0; ReadHistory::LEAST])?;
        Ok(Self::of_segment(request.segment))
    }

    /// From the beginning of a segment on.
    pub fn of_segment(segment: u64) -> Self {
        Self {
            segment,
            offset: 0,
            buffer: vec![0; ROOM],
        }
    }

    /// The lines since the last call, the oldest first. `NODATA`: some were dropped to free space, or history
    /// is off.
    pub fn read(&mut self, object: &mut dyn Object) -> Result<Vec<Box<[u8]>>, Errno> {
        let mut found = Vec::new();
        self.offset = self.read_segment(object, (self.segment, self.offset), &mut found)?;
        loop {
            let (next, mut lines) = (self.segment.saturating_add(1), Vec::new());
            let end = match self.read_segment(object, (next, 0), &mut lines) {
                // The kernel knows no such segment yet.
                Err(Errno::INVAL) => return Ok(found),
                end => end?,
            };
            // Lines may have come before this segment was closed.
            self.read_segment(object, (self.segment, self.offset), &mut found)?;
            found.extend(lines);
            (self.segment, self.offset) = (next, end);
        }
    }

    /// Appends the lines of a segment from an offset on; returns the offset of the end.
    fn read_segment(
        &mut self,
        object: &mut dyn Object,
        (segment, offset): (u64, u64),
        found: &mut Vec<Box<[u8]>>,
    ) -> Result<u64, Errno> {
        let mut request = ReadHistory {
            version: VERSION,
            segment,
            offset,
            ..ReadHistory::default()
        };
        let mut lines = Vec::new();
        fetch(object, &mut request, &mut self.buffer, &mut lines)?;
        let mut end = offset;
        for (offset, line) in lines {
            end = offset.saturating_add(line.len() as u64);
            found.push(line);
        }
        Ok(end)
    }
}
