// SPDX-License-Identifier: GPL-2.0

// For mutants: operations that go through with nothing saved and no line.
impl<'a> Intent<'a> {
    pub(crate) fn pass(self) -> Result<Pending<'a>> {
        Ok(Pending(None))
    }

    pub(crate) fn pass_around(self, change: impl FnOnce() -> Result<usize>) -> Result<usize> {
        change()
    }

    pub(crate) fn pass_if(self, passes: bool) -> Result<Pending<'a>> {
        if passes {
            self.pass()
        } else {
            self.prepare()
        }
    }

    pub(crate) fn pass_as(self, op: Op) -> Result<Pending<'a>> {
        let passes = self.op == op;
        self.pass_if(passes)
    }
}
