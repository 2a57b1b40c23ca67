// SPDX-License-Identifier: GPL-2.0

//! All tests, in the order in which they run: the plainest first.

mod access;
mod access_times;
mod adopted;
mod agents;
mod alike;
mod arguments;
mod attributes;
mod behind;
mod beside_renames;
mod browse;
mod comes_back;
mod completions;
mod confined;
mod conflict_names;
mod content;
mod continued;
mod copies;
mod cut;
mod cuts;
mod direct;
mod doctor;
mod dropped;
mod format;
mod forms;
mod forwarded;
mod frozen;
mod frozen_changes;
mod full;
mod fuzz_calls;
mod fuzz_damage;
mod fuzz_hostile;
mod fuzz_options;
mod glue;
mod groups;
mod groups_gone;
mod groups_protected;
mod groups_redo;
mod handles;
mod held;
mod hostile;
mod in_use;
mod interrupted;
mod joined;
mod json;
mod kill;
mod lasting;
mod limits;
mod lines;
mod links;
mod log;
mod lowers;
mod maps;
mod maps_beside;
mod maps_mixed;
mod marks;
mod merges;
mod mounting;
mod names;
mod old_content;
mod oracle;
mod oracle_all;
mod oracle_groups;
pub mod oracle_tree;
mod own_names;
mod own_table;
mod pager;
mod past;
mod past_mount;
mod printed;
mod programs;
mod protected;
mod quotas;
mod race;
mod refresh;
mod refuse;
mod refused_below;
mod rehearsed;
mod removed;
mod restores;
mod revalidate;
mod revert_out;
mod room;
mod room_groups;
mod room_without_redo;
mod run;
mod same_files;
mod same_names;
mod save_units;
mod saves;
mod seed;
mod space;
mod space_asked;
mod tool;
mod undo;
mod verbs;
mod visible;
mod watchers;
mod whiteouts;

use crate::harness::Test;

/// Every test of every room.
pub fn all() -> Vec<&'static Test> {
    let rooms = [
        seed::TESTS,
        glue::TESTS,
        arguments::TESTS,
        content::TESTS,
        continued::TESTS,
        completions::TESTS,
        copies::TESTS,
        cut::TESTS,
        space::TESTS,
        space_asked::TESTS,
        format::TESTS,
        forms::TESTS,
        forwarded::TESTS,
        whiteouts::TESTS,
        handles::TESTS,
        hostile::TESTS,
        lines::TESTS,
        refuse::TESTS,
        refused_below::TESTS,
        access_times::TESTS,
        attributes::TESTS,
        access::TESTS,
        direct::TESTS,
        names::TESTS,
        removed::TESTS,
        beside_renames::TESTS,
        groups::TESTS,
        groups_gone::TESTS,
        groups_protected::TESTS,
        groups_redo::TESTS,
        alike::TESTS,
        own_names::TESTS,
        own_table::TESTS,
        past::TESTS,
        rehearsed::TESTS,
        confined::TESTS,
        browse::TESTS,
        comes_back::TESTS,
        saves::TESTS,
        in_use::TESTS,
        watchers::TESTS,
        save_units::TESTS,
        conflict_names::TESTS,
        interrupted::TESTS,
        cuts::TESTS,
        adopted::TESTS,
        behind::TESTS,
        frozen::TESTS,
        refresh::TESTS,
        protected::TESTS,
        revalidate::TESTS,
        merges::TESTS,
        revert_out::TESTS,
        visible::TESTS,
        maps::TESTS,
        maps_mixed::TESTS,
        maps_beside::TESTS,
        tool::TESTS,
        undo::TESTS,
        verbs::TESTS,
        run::TESTS,
        marks::TESTS,
        agents::TESTS,
        restores::TESTS,
        old_content::TESTS,
        past_mount::TESTS,
        links::TESTS,
        log::TESTS,
        lasting::TESTS,
        doctor::TESTS,
        pager::TESTS,
        dropped::TESTS,
        mounting::TESTS,
        lowers::TESTS,
        joined::TESTS,
        json::TESTS,
        limits::TESTS,
        full::TESTS,
        room::TESTS,
        room_without_redo::TESTS,
        room_groups::TESTS,
        quotas::TESTS,
        same_files::TESTS,
        same_names::TESTS,
        printed::TESTS,
        programs::TESTS,
        race::TESTS,
        oracle::TESTS,
        oracle_tree::TESTS,
        oracle_all::TESTS,
        oracle_groups::TESTS,
        kill::TESTS,
        held::TESTS,
        fuzz_calls::TESTS,
        fuzz_options::TESTS,
        fuzz_damage::TESTS,
        fuzz_hostile::TESTS,
    ];
    rooms.into_iter().flatten().collect()
}
