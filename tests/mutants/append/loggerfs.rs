// SPDX-License-Identifier: GPL-2.0

/// Which mutant this is; 0: none.
pub(crate) fn mutant() -> i64 {
    *module_parameters::mutant.value()
}
