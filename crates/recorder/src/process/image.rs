//! What a process runs, as columns hold it.

use luarm_schema::escape::{escape, escape_list};
use luarm_sensor::observation::{Arguments, ImageFile, Program};

/// The facts of an image that its copies by fork share.
#[derive(Debug, Default)]
pub(crate) struct Image {
    pub(crate) command: String,
    pub(crate) script: Option<String>,
    pub(crate) argv: Argv,
    pub(crate) cwd: Option<String>,
    pub(crate) file: Option<ImageFile>,
}

impl Image {
    pub(crate) fn new(program: &Program) -> Self {
        Self {
            command: escape(&program.path),
            script: program.script.as_deref().map(escape),
            argv: Argv::new(&program.arguments),
            cwd: program.cwd.as_deref().map(escape),
            file: program.file,
        }
    }

    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        let optional = [&self.script, &self.argv.text, &self.cwd].into_iter().flatten();
        self.command.len() + optional.map(String::len).sum::<usize>()
    }
}

/// The three columns that hold arguments.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Argv {
    /// `argv`
    pub(crate) text: Option<String>,
    /// `argc`
    pub(crate) count: i32,
    /// `argvlength`
    pub(crate) length: Option<i64>,
}

impl Argv {
    pub(crate) fn new(arguments: &Arguments) -> Self {
        let bytes = &arguments.bytes[..];
        let length = (arguments.length > bytes.len() as u64)
            .then(|| i64::try_from(arguments.length).unwrap_or(i64::MAX));
        if bytes.is_empty() {
            return Self { length, ..Self::default() };
        }
        let whole = bytes.strip_suffix(b"\0").unwrap_or(bytes);
        let mut count = 0;
        let text = escape_list(whole.split(|&b| b == 0).inspect(|_| count += 1));
        Self { text: Some(text), count, length }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(bytes: &[u8], length: u64) -> (Option<String>, i32, Option<i64>) {
        let argv = Argv::new(&Arguments { bytes: bytes.to_vec(), length });
        (argv.text, argv.count, argv.length)
    }

    #[test]
    fn every_argument_is_kept_empty_ones_too() {
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(argv(b"", 0), (None, 0, None));
        assert_eq!(argv(b"\0", 1), (text(""), 1, None));
        assert_eq!(argv(b"a\0", 2), (text("a"), 1, None));
        assert_eq!(argv(b"a\0\0", 3), (text("a\n"), 2, None));
        assert_eq!(argv(b"\0b\nc\0", 5), (text("\nb\\x0ac"), 2, None));
        assert_eq!(argv(b"overwritten", 11), (text("overwritten"), 1, None));
        assert_eq!(argv(b"a\0bb", 900), (text("a\nbb"), 2, Some(900)));
        assert_eq!(argv(b"", 900), (None, 0, Some(900)));
    }
}
