// SPDX-License-Identifier: GPL-2.0

// For mutants: the lower filesystem's own commands.
impl File {
    pub(crate) fn forward(&self, command: u32, argument: usize) -> Result<c_long> {
        // SAFETY: A live file.
        let Some(ioctl) = (unsafe { (*(*self.as_ptr()).f_op).unlocked_ioctl }) else {
            return Err(ENOTTY);
        };
        // SAFETY: A live file, and the caller's own words.
        let done = unsafe { ioctl(self.as_ptr(), command, argument) };
        if done < 0 {
            return Err(Error::from_errno(done as c_int));
        }
        Ok(done)
    }
}
