// SPDX-License-Identifier: GPL-2.0

// For mutants: whether a change is of this kind.
impl AttrChange<'_> {
    pub(crate) fn sets(&mut self, attributes: u32) -> bool {
        self.raw().ia_valid & attributes != 0
    }
}
