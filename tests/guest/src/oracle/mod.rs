// SPDX-License-Identifier: GPL-2.0

//! The oracle: sequences of operations of all kinds by several processes, states recorded beside them,
//! and reverts that have to give those states.

pub mod holes;
pub mod op;
pub mod reduce;
pub mod run;
pub mod sequence;
pub mod shares;
pub mod state;
pub mod worker;
pub mod workers;
