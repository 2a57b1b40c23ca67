// SPDX-License-Identifier: GPL-2.0

// For mutants: changes of names that go through with nothing kept and no line.
impl<'a> NameChange<'a> {
    pub(crate) fn pass() -> Result<Self> {
        Ok(Self::Off)
    }

    pub(crate) fn pass_as(passes: Op, dir: &'a UpperInode, op: Op, name: &'a [u8]) -> Result<Self> {
        if op == passes {
            return Self::pass();
        }
        Self::begin(dir, op, name)
    }
}
