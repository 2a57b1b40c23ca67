// SPDX-License-Identifier: GPL-2.0

// For mutants: operations that go through with nothing saved and no line.
impl<'a> ObjectOperation<'a> {
    pub(crate) fn pass(self) -> Result<PreparedOperation<'a>> {
        Ok(PreparedOperation(PreparedState::Off))
    }

    pub(crate) fn pass_around(self, change: impl FnOnce() -> Result<usize>) -> Result<usize> {
        change()
    }

    pub(crate) fn pass_if(self, passes: bool) -> Result<PreparedOperation<'a>> {
        if passes {
            self.pass()
        } else {
            self.prepare()
        }
    }

    pub(crate) fn pass_as(self, op: Op) -> Result<PreparedOperation<'a>> {
        let passes = self.op == op;
        self.pass_if(passes)
    }
}
