//! A C project that is compiled.

use std::{fmt::Write as _, fs, path::Path, process::Command, time::Instant};

use anyhow::Context as _;
use tempfile::TempDir;

use super::{Done, Evidence, Workload, dice::Dice, done, need, quoted};
use crate::{Bench, report::Bound, watcher::Contender};

const HEADERS: u64 = 10;
const MAKEFILE: &str = "\
OBJECTS := $(patsubst %.c,%.o,$(wildcard *.c))
CFLAGS := -O2 -Wall

project: $(OBJECTS)
\t$(CC) -o $@ $(OBJECTS)

%.o: %.c
\t$(CC) $(CFLAGS) -c -o $@ $<
";

pub(super) struct Project {
    dir: TempDir,
    sources: u64,
}

impl Project {
    /// Writes the sources.
    pub(super) fn new(bench: &Bench, sources: u64) -> anyhow::Result<Self> {
        need("make")?;
        need("cc")?;
        let dir = bench.workplace()?;
        write(dir.path(), sources).context("cannot write the project")?;
        Ok(Project { dir, sources })
    }
}

fn write(dir: &Path, sources: u64) -> std::io::Result<()> {
    let mut dice = Dice::new(sources);
    fs::write(dir.join("Makefile"), MAKEFILE)?;
    for n in 0..HEADERS {
        let (body, next) = (dice.roll(1000), (n + 1) % HEADERS);
        let include = if next == 0 { String::new() } else { format!("#include \"part{next}.h\"\n") };
        let text = format!(
            "#pragma once\n{include}struct part{n} {{ int value; char name[32]; }};\nstatic inline int weigh{n}(int x) {{ return x * {body} + {n}; }}\n"
        );
        fs::write(dir.join(format!("part{n}.h")), text)?;
    }
    let mut main = String::from("#include <stdio.h>\n");
    let mut sum = String::from("0");
    for n in 1..sources {
        let header = dice.roll(HEADERS);
        let mut text = format!(
            "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include \"part{header}.h\"\n"
        );
        for f in 0..4 + dice.roll(8) {
            let (by, least) = (1 + dice.roll(99), dice.roll(1000));
            let _ = writeln!(
                text,
                "static int step{f}(const struct part{header} *p, int x)\n{{\n\tchar text[64];\n\tint sum = {least};\n\n\tfor (int i = 0; i < x % {by}; i++)\n\
                 \t\tsum += weigh{header}(i ^ p->value);\n\tsnprintf(text, sizeof(text), \"%s %d\", p->name, sum);\n\treturn sum + (int)strlen(text);\n}}"
            );
        }
        let _ = writeln!(
            text,
            "int unit{n}(int x)\n{{\n\tstruct part{header} p = {{ .value = x, .name = \"unit{n}\" }};\n\n\treturn step0(&p, x) + step1(&p, x) + step2(&p, x) + step3(&p, x);\n}}"
        );
        // The steps beyond the fourth have no caller.
        fs::write(
            dir.join(format!("unit{n}.c")),
            text.replace("static int", "static __attribute__((unused)) int"),
        )?;
        let _ = writeln!(main, "int unit{n}(int x);");
        let _ = write!(sum, "\n\t\t+ unit{n}(argc)");
    }
    let _ = writeln!(
        main,
        "int main(int argc, char **argv)\n{{\n\t(void)argv;\n\tprintf(\"%d\\n\", {sum});\n\treturn 0;\n}}"
    );
    fs::write(dir.join("unit0.c"), main)
}

impl Workload for Project {
    fn unit(&self) -> &'static str {
        "C file"
    }

    fn describe(&self) -> String {
        format!(
            "`make -j2` of a C project of {} files and {HEADERS} headers with `-O2`, linked into one program. The processes are recorded too.",
            self.sources
        )
    }

    fn bound(&self) -> Option<(Contender, Bound)> {
        Some((Contender::Nothing, Bound::AtMost(1.03)))
    }

    fn prepare(&self) -> anyhow::Result<()> {
        for entry in fs::read_dir(self.dir.path())? {
            let path = entry?.path();
            if path.extension().is_none_or(|e| e == "o") && !path.ends_with("Makefile") {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn run(&self, _: &Bench) -> anyhow::Result<Done> {
        let begun = Instant::now();
        done(Command::new("make").arg("-j2").arg("-C").arg(self.dir.path()))?;
        Ok(Done { operations: self.sources, taken: begun.elapsed(), traces: (self.sources, self.sources) })
    }

    fn evidence(&self) -> Option<Evidence> {
        let query = format!(
            "SELECT count(DISTINCT filename) FROM fileinfo WHERE access LIKE '%w%' AND result = 0 AND location = '{}' AND filename LIKE 'unit%.o'",
            quoted(self.dir.path())
        );
        Some(Evidence { query, what: "objects that were written" })
    }
}
