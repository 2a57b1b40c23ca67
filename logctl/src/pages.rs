// SPDX-License-Identifier: MIT OR Apache-2.0

//! A file's lines, fetched page by page.

use rustix::io::Errno;

use crate::object::Object;
use crate::uapi::{ReadLog, VERSION};

/// How much is fetched at once.
const PAGE: usize = 64 * 1024;

/// The pages of a file's log, newest first, each with whole lines, newest first.
pub struct Pages<'o, O> {
    object: &'o mut O,
    flags: u32,
    cursor: (u64, u64),
}

impl<'o, O: Object> Pages<'o, O> {
    /// Starts at the newest line; `all`: includes lines that are not live.
    pub fn new(object: &'o mut O, all: bool) -> Self {
        Self {
            object,
            flags: if all { ReadLog::ALL } else { 0 },
            cursor: (0, 0),
        }
    }

    /// Fetches a page.
    fn fetch(&mut self) -> Result<Page, Errno> {
        let mut bytes = vec![0; PAGE];
        let mut request = ReadLog {
            version: VERSION,
            flags: self.flags,
            cursor_segment: self.cursor.0,
            cursor_offset: self.cursor.1,
            ..ReadLog::default()
        };
        self.object.read_log(&mut request, &mut bytes)?;
        let cursor = (request.cursor_segment, request.cursor_offset);
        let stuck = cursor == self.cursor;
        // An answer that leads nowhere would be asked for again and again.
        if stuck || request.used as usize > bytes.len() {
            return Err(Errno::PROTO);
        }
        self.cursor = cursor;
        bytes.truncate(request.used as usize);
        Ok(Page(bytes))
    }
}

impl<O: Object> Iterator for Pages<'_, O> {
    type Item = Result<Page, Errno>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.cursor.0 == ReadLog::END {
            return None;
        }
        let page = self.fetch();
        if page.is_err() {
            self.cursor.0 = ReadLog::END;
        }
        Some(page)
    }
}

/// A page of whole lines, newest first.
pub struct Page(Vec<u8>);

impl Page {
    /// The lines, newest first, their newlines included.
    pub fn lines(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split_inclusive(|byte| *byte == b'\n')
    }
}

/// The newest lines, `count` at most, newest first.
pub fn newest<O: Object>(object: &mut O, all: bool, count: usize) -> Result<Vec<Vec<u8>>, Errno> {
    let mut lines = Vec::new();
    for page in Pages::new(object, all) {
        let page = page?;
        let room = count.saturating_sub(lines.len());
        lines.extend(page.lines().take(room).map(<[u8]>::to_vec));
        if lines.len() >= count {
            break;
        }
    }
    Ok(lines)
}
