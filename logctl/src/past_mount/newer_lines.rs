// SPDX-License-Identifier: MIT OR Apache-2.0

//! The lines that are written while the view is mounted.

use rustix::io::Errno;

use crate::object::Object;
use crate::timeline::fetch;
use crate::uapi::{ReadHistory, VERSION};

/// Where the next line is expected.
pub struct NewerLines {
    segment: u64,
    offset: u64,
}

impl NewerLines {
    /// From the beginning of the newest segment on.
    pub fn of_newest_segment(object: &mut dyn Object) -> Result<Self, Errno> {
        let mut request = ReadHistory {
            version: VERSION,
            ..ReadHistory::default()
        };
        object.read_history(&mut request, &mut vec![0; ReadHistory::LEAST])?;
        Ok(Self {
            segment: request.segment,
            offset: 0,
        })
    }

    /// The lines since the last call, the oldest first. `NODATA`: some were dropped to free space, or history
    /// is off.
    pub fn read(&mut self, object: &mut dyn Object) -> Result<Vec<Box<[u8]>>, Errno> {
        let mut found = Vec::new();
        self.read_segment(object, &mut found)?;
        loop {
            let mut next = Self {
                segment: self.segment.saturating_add(1),
                offset: 0,
            };
            match next.read_segment(object, &mut found) {
                Ok(()) => *self = next,
                // The kernel knows no such segment yet.
                Err(Errno::INVAL) => return Ok(found),
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Appends the lines of the segment from the offset on.
    fn read_segment(
        &mut self,
        object: &mut dyn Object,
        found: &mut Vec<Box<[u8]>>,
    ) -> Result<(), Errno> {
        let mut request = ReadHistory {
            version: VERSION,
            segment: self.segment,
            offset: self.offset,
            ..ReadHistory::default()
        };
        let mut lines = Vec::new();
        fetch(object, &mut request, &mut lines)?;
        for (offset, line) in lines {
            self.offset = offset.saturating_add(line.len() as u64);
            found.push(line);
        }
        Ok(())
    }
}
