// SPDX-License-Identifier: GPL-2.0
/*
 * The module's version, for modinfo and /sys/module/loggerfs/version. The macro
 * module! of Rust has no field for it. logctl/Cargo.toml has the same version,
 * which tests/lint checks.
 */
#include <linux/module.h>

MODULE_VERSION("0.1.0");
