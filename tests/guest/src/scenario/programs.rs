// SPDX-License-Identifier: GPL-2.0

//! Whole programs: the same results as on the raw filesystem.

use crate::harness::Test;
use crate::outcome::Outcome;
use crate::transcript::{compare, Transcript};

pub const TESTS: &[Test] = &[
    Test::new("program-git", |w| compare(w, git))
        .raw()
        .seconds(120),
    Test::new("program-tar", |w| compare(w, tar))
        .raw()
        .lengthy()
        .seconds(120),
    Test::new("program-sqlite", |w| compare(w, sqlite))
        .raw()
        .seconds(120),
    Test::new("program-sed", |w| compare(w, sed)).raw(),
    Test::new("program-compiler", |w| compare(w, compiler))
        .raw()
        .lengthy()
        .seconds(180),
    Test::new("program-rsync", |w| compare(w, rsync))
        .raw()
        .lengthy()
        .seconds(120),
];

fn git(t: &mut Transcript) -> Outcome {
    t.sh("export GIT_CONFIG_GLOBAL=/run/lfs-tests.gitconfig; \
          git config --global user.name Ana; git config --global user.email ana@example.org; \
          git config --global init.defaultBranch main; git config --global safe.directory '*'");
    let git = "export GIT_CONFIG_GLOBAL=/run/lfs-tests.gitconfig \
               GIT_AUTHOR_DATE='2026-01-01T00:00:00Z' GIT_COMMITTER_DATE='2026-01-01T00:00:00Z';";
    t.sh(&format!("{git} git init -q one && cd one && cp $(ls -d /usr/share/perl/5.*.* | head -1)/*.pm . && git add . && git commit -q -m first && git log --format=%H"));
    t.sh(&format!("{git} cd one && for n in 1 2 3; do echo $n >> new; git add new; git commit -q -m $n; done; git log --format=%H; git status --porcelain"));
    t.sh(&format!("{git} git clone -q one two 2>&1 && cd two && git remote remove origin && git fsck --full 2>&1 && git log --format=%H && git status --porcelain"));
    t.sh(&format!("{git} cd two && git gc -q 2>&1; git checkout -q HEAD~2 && git status --porcelain && git fsck 2>&1"));
    // The index holds inode numbers and times: it is no result of the work.
    t.sh("rm -f */.git/index */.git/logs -r; rm -rf */.git/objects/pack/*.rev; ls two | md5sum");
    Ok(())
}

fn tar(t: &mut Transcript) -> Outcome {
    t.sh("tar -C $(ls -d /usr/share/perl/5.*.*) -cf all.tar Test2 CPAN Module && mkdir out && tar -C out -xpf all.tar && ls out");
    t.sh("diff -r $(ls -d /usr/share/perl/5.*.*)/Test2 out/Test2 && echo equal");
    t.sh("tar -C out --sort=name --mtime=@0 -cf - . | md5sum; tar -tf all.tar | wc -l");
    t.sh("rm all.tar; cp -a out copy; find copy -newermt 2000-01-01 -type f | wc -l");
    Ok(())
}

fn sqlite(t: &mut Transcript) -> Outcome {
    for mode in ["delete", "truncate", "persist", "wal"] {
        t.sh(&format!(
            "sqlite3 {mode}.db 'pragma journal_mode={mode}; create table t(a integer primary key, b text);' && \
             for n in 1 2; do sqlite3 {mode}.db \"with recursive c(x) as (select 1 union all select x+1 from c where x<300) insert into t(b) select hex(x*$n) from c; update t set b=b||'-'||a where a%3=0; delete from t where a%7=0;\"; done; \
             sqlite3 {mode}.db 'pragma integrity_check; select count(*), sum(length(b)) from t;'"
        ));
        t.sh(&format!(
            "sqlite3 {mode}.db 'begin; delete from t; rollback; select count(*) from t;'"
        ));
        t.sh(&format!("sqlite3 {mode}.db '.dump' | md5sum; sqlite3 {mode}.db vacuum; sqlite3 {mode}.db 'pragma integrity_check'"));
    }
    t.sh("ls; rm -f *-journal *-wal *-shm");
    Ok(())
}

fn sed(t: &mut Transcript) -> Outcome {
    t.sh("seq 5000 > f; chmod 640 f; chown 1000:1000 f; sed -i s/7/seven/g f; md5sum f; stat -c %a:%u:%g f");
    t.sh(
        "sed -i.bak 2d f; cmp f f.bak | head -c 20; perl -pi -e 's/seven/7/' f; md5sum f f.bak; ls",
    );
    t.sh("perl -i.orig -ne 'print if $. % 2' f; wc -l f f.orig; patch --version | head -1");
    t.sh("cp f g; echo extra >> g; diff -u --label f --label g f g > p; patch f p; cmp f g && echo patched");
    Ok(())
}

fn compiler(t: &mut Transcript) -> Outcome {
    t.sh("printf '#include <stdio.h>\\nint f(int);\\nint main(void){printf(\"%%d\\\\n\",f(20));return 0;}\\n' > a.c; \
          printf 'int f(int n){return n<2?n:f(n-1)+f(n-2);}\\n' > b.c");
    t.sh("printf 'prog: a.o b.o\\n\\tgcc -o prog a.o b.o\\n%%.o: %%.c\\n\\tgcc -O1 -c $<\\n' > Makefile; make -s && ./prog; make -s && echo up to date");
    t.sh("touch -d '-1 hour' b.o; make -n | wc -l; ar rcs lib.a a.o b.o && ar t lib.a && strip prog && ./prog");
    t.sh("rm lib.a");
    Ok(())
}

fn rsync(t: &mut Transcript) -> Outcome {
    t.sh("rsync -a $(ls -d /usr/share/perl/5.*.*)/Test2/ one/ && rsync -aHAX --inplace one/ two/ && diff -r one two && echo equal");
    t.sh("cd one; for f in $(find . -name '*.pm' | sort | head -20); do echo changed >> $f; done; cd ..; \
          rsync -a --inplace --no-whole-file one/ two/ && diff -r one two && echo equal; rsync -a --delete one/ two/");
    Ok(())
}
