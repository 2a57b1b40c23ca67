// SPDX-License-Identifier: GPL-2.0 OR MIT

//! How the fields of a line are spelled: each value and each key of a line in one place, for
//! [`super::LineDraft`] and for the templates.

use super::super::types::{Cookie, Crc, ObjectId, Pos, Time};
use super::{
    digits::{all_eight, digits, hex_digits, EIGHT},
    percent,
    text::NANO_DIGITS,
    Actor, FixedBuffer, LineError, Op, Process, MAX_ARGS,
};

/// A value of a field.
pub(super) trait Value {
    /// Adds the value to a text.
    fn put<const N: usize>(self, text: &mut FixedBuffer<'_, N>);
}

impl Value for u64 {
    #[inline(always)]
    fn put<const N: usize>(self, text: &mut FixedBuffer<'_, N>) {
        text.dec(self);
    }
}

impl Value for &[u8] {
    fn put<const N: usize>(self, text: &mut FixedBuffer<'_, N>) {
        text.put(self);
    }
}

/// The whole seconds of a time, with the dot.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seconds(pub(super) i64);

impl Value for Seconds {
    #[inline]
    fn put<const N: usize>(self, text: &mut FixedBuffer<'_, N>) {
        if self.0 < 0 {
            text.literal(b"-");
        }
        text.dec(self.0.unsigned_abs());
        text.literal(b".");
    }
}

/// The segment of a position, with the colon.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PosSegment(pub(super) u64);

impl Value for PosSegment {
    #[inline(always)]
    fn put<const N: usize>(self, text: &mut FixedBuffer<'_, N>) {
        text.dec(self.0);
        text.literal(b":");
    }
}

/// The field `obj=`.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Obj(pub(super) ObjectId);

impl Value for Obj {
    #[inline]
    fn put<const N: usize>(self, text: &mut FixedBuffer<'_, N>) {
        text.key_object(b" obj=", self.0);
    }
}

/// Values.
impl<const N: usize> FixedBuffer<'_, N> {
    /// Adds a decimal number.
    #[inline(always)]
    pub fn dec(&mut self, number: u64) {
        if number < u64::from(EIGHT) {
            // CAST: below 2^32.
            self.dec_below_eight(number as u32);
        } else {
            self.apart(|text| text.dec_long(number));
        }
    }

    /// Adds a number of more than eight digits.
    #[inline(never)]
    fn dec_long(&mut self, number: u64) {
        let eight = u64::from(EIGHT);
        let (rest, low) = (number / eight, number % eight);
        // CAST: all below 2^32.
        if rest < eight {
            self.dec_below_eight(rest as u32);
        } else {
            self.dec_below_eight((rest / eight) as u32);
            self.dec_all_eight((rest % eight) as u32);
        }
        self.dec_all_eight(low as u32);
    }

    /// Adds a number of at most eight digits.
    #[inline(always)]
    fn dec_below_eight(&mut self, number: u32) {
        let (digits, count) = digits(number);
        self.eight(digits, count);
    }

    /// Adds all eight digits of a number.
    #[inline(always)]
    fn dec_all_eight(&mut self, number: u32) {
        self.eight(all_eight(number), 8);
    }

    /// Adds eight lower-case hexadecimal digits.
    #[inline(always)]
    pub(super) fn hex32(&mut self, number: u32) {
        self.eight(hex_digits(number), 8);
    }

    /// Adds two lower-case hexadecimal digits for each byte.
    #[inline(never)]
    pub fn hex(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(4);
        for word in &mut words {
            let mut four = [0; 4];
            four.copy_from_slice(word);
            self.hex32(u32::from_be_bytes(four));
        }
        for byte in words.remainder() {
            let [.., high, low] = hex_digits(u32::from(*byte));
            self.literal(&[high, low]);
        }
    }

    /// Adds text, percent-encoded.
    #[inline(never)]
    pub(super) fn encoded(&mut self, text: &[u8]) {
        let mut steps = text.chunks_exact(8);
        for step in &mut steps {
            let mut eight = [0; 8];
            eight.copy_from_slice(step);
            self.encoded_step(eight, step);
        }
        let rest = steps.remainder();
        let mut eight = *b"........";
        // A call of memcpy() would cost more.
        for (to, from) in eight.iter_mut().zip(rest) {
            *to = *from;
        }
        self.encoded_step(eight, rest);
    }

    /// Adds `part`, which `eight` begins with, percent-encoded.
    #[inline(always)]
    fn encoded_step(&mut self, eight: [u8; 8], part: &[u8]) {
        if percent::are_plain(eight) {
            self.eight(eight, part.len());
            return;
        }
        for byte in part {
            let ([first, second, third], len) = percent::escape(*byte);
            self.eight([first, second, third, 0, 0, 0, 0, 0], len);
        }
    }

    /// Adds an object.
    #[inline(never)]
    pub fn object(&mut self, object: ObjectId) {
        if object.volume != 0 {
            self.dec(object.volume);
            self.literal(b".");
        }
        self.dec(object.inode);
        self.literal(b".");
        self.dec(u64::from(object.generation));
    }

    /// Adds `SEGMENT:OFFSET`.
    #[inline(always)]
    fn pos(&mut self, segment: impl Value, offset: u64) {
        segment.put(self);
        self.dec(offset);
    }

    /// Adds a time with all nine digits of its fraction.
    #[inline(always)]
    fn time(&mut self, seconds: impl Value, nsec: u32) {
        seconds.put(self);
        // CAST: below ten.
        self.literal(&[b'0' | (nsec / EIGHT % 10) as u8]);
        self.dec_all_eight(nsec % EIGHT);
    }

    /// Adds a time without the zeroes at its fraction's end, of which one digit stays.
    fn short_time(&mut self, time: Time) {
        self.time(Seconds(time.sec), time.nsec);
        let mut zeroes = 0;
        while zeroes < NANO_DIGITS - 1 && self.written().ends_with(b"0") {
            zeroes += 1;
            self.rewind(self.len().saturating_sub(1));
        }
    }
}

/// A key with its value, where several keys have values of a kind. A key begins with the space before it.
impl<const N: usize> FixedBuffer<'_, N> {
    #[inline(always)]
    pub(super) fn key<const K: usize>(&mut self, key: &[u8; K], value: impl Value) {
        self.literal(key);
        value.put(self);
    }

    #[inline]
    pub(super) fn key_object<const K: usize>(&mut self, key: &[u8; K], object: ObjectId) {
        self.literal(key);
        self.apart(|rest| rest.object(object));
    }

    #[inline(always)]
    pub(super) fn key_pos<const K: usize>(
        &mut self,
        key: &[u8; K],
        segment: impl Value,
        offset: u64,
    ) {
        self.literal(key);
        self.pos(segment, offset);
    }

    #[inline]
    pub(super) fn key_encoded<const K: usize>(&mut self, key: &[u8; K], text: &[u8]) {
        self.literal(key);
        self.apart(|rest| rest.encoded(text));
    }

    /// A file handle.
    #[inline]
    pub(super) fn key_handle<const K: usize>(&mut self, key: &[u8; K], kind: u8, handle: &[u8]) {
        self.literal(key);
        self.apart(|rest| {
            rest.hex(&[kind]);
            rest.hex(handle);
        });
    }
}

/// The head, the keys that both a draft and a template write, and the end.
impl<const N: usize> FixedBuffer<'_, N> {
    /// `TIME COMMAND OP OFFSET LENGTH`.
    #[inline(always)]
    pub(super) fn head(
        &mut self,
        (seconds, nsec): (impl Value, u32),
        command: impl Value,
        op: Op,
        (offset, length): (impl Value, impl Value),
    ) {
        self.time(seconds, nsec);
        self.literal(b" ");
        command.put(self);
        let (word, len) = op.spaced();
        self.chunk(word, len);
        offset.put(self);
        self.key(b" ", length);
    }

    #[inline(always)]
    pub(super) fn seq(&mut self, seq: u64) {
        self.key(b" seq=", seq);
    }

    #[inline(always)]
    pub(super) fn prev(&mut self, segment: impl Value, offset: u64) {
        self.key_pos(b" prev=", segment, offset);
    }

    pub(super) fn was(&mut self, cookie: &Cookie) {
        self.literal(b" was=");
        self.short_time(cookie.ctime);
        self.key(b":", cookie.size);
        self.literal(b":");
        match cookie.version {
            Some(version) => self.dec(version),
            None => self.literal(b"-"),
        }
    }

    #[inline(always)]
    pub(super) fn size(&mut self, size: impl Value) {
        self.key(b" size=", size);
    }

    #[inline(always)]
    pub(super) fn open(&mut self, first: u64) {
        self.key(b" open=", first);
    }

    /// `pid=`, `ppid=`, `pgid=`, `pgcomm=`, `sid=`, `uid=`.
    pub(super) fn process(&mut self, actor: &Actor<'_>) {
        self.key(b" pid=", u64::from(actor.pid));
        self.literal(b"@");
        self.short_time(actor.start);
        self.key(b" ppid=", u64::from(actor.ppid));
        self.key(b" pgid=", u64::from(actor.group.pgid));
        if let Some(start) = actor.group.start {
            self.literal(b"@");
            self.short_time(start);
        }
        if !actor.group_comm.is_empty() {
            self.key_encoded(b" pgcomm=", actor.group_comm);
        }
        self.key(b" sid=", u64::from(actor.sid));
        self.key(b" uid=", u64::from(actor.uid));
    }

    /// `anc=`: the process' ancestors, the parent first.
    pub(super) fn ancestors(&mut self, ancestors: &[Process]) {
        for (index, process) in ancestors.iter().enumerate() {
            let separator: &[u8] = if index == 0 { b" anc=" } else { b"," };
            self.put(separator);
            self.dec(u64::from(process.pid));
            self.literal(b"@");
            self.short_time(process.start);
        }
    }

    /// `comm=`, if known, and `exec=`.
    pub(super) fn program(&mut self, actor: &Actor<'_>) {
        if !actor.comm.is_empty() {
            self.key_encoded(b" comm=", actor.comm);
        }
        self.key(b" exec=", actor.exec);
    }

    /// `args=`, if there are any.
    pub(super) fn args(&mut self, actor: &Actor<'_>) {
        if !actor.args.is_empty() {
            let args = actor.args.get(..MAX_ARGS).unwrap_or(actor.args);
            self.key_encoded(b" args=", args);
        }
    }

    #[inline(always)]
    pub(super) fn undo_none(&mut self) {
        self.literal(b" undo=none");
    }

    #[inline(always)]
    pub(super) fn undo_lost(&mut self) {
        self.literal(b" undo=lost");
    }

    #[inline(always)]
    pub(super) fn undo_at(&mut self, segment: impl Value, offset: u64, length: impl Value) {
        self.key_pos(b" undo=", segment, offset);
        self.key(b"+", length);
    }

    #[inline(always)]
    pub(super) fn map(&mut self, records: u64) {
        self.key(b" map=", records);
    }

    #[inline(always)]
    pub(super) fn crc(&mut self, crc: u32) {
        self.literal(b" crc=");
        self.hex32(crc);
    }

    #[inline(always)]
    pub(super) fn kept(&mut self, segment: u64) {
        self.key(b" kept=", segment);
    }

    #[inline]
    pub(super) fn victim_handle(&mut self, kind: u8, handle: &[u8]) {
        self.key_handle(b" vfh=", kind, handle);
    }

    #[inline]
    pub(super) fn name(&mut self, name: &[u8]) {
        self.key_encoded(b" name=", name);
    }

    #[inline]
    pub(super) fn node(&mut self, object: ObjectId) {
        self.key_object(b" node=", object);
    }

    /// Adds the checksum, whose state before the line is `start`, and the newline; returns the
    /// line's length.
    #[inline(always)]
    pub(super) fn finish(mut self, start: u32, crc: Crc) -> Result<usize, LineError> {
        let sum = !crc(start, self.written());
        self.literal(b" sum=");
        self.hex32(sum);
        self.literal(b"\n");
        self.whole().ok_or(LineError::TooLong)
    }
}
