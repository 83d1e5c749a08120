//! Statements from an input: until the first error, and no longer than somebody reads.

use std::io::{self, Write};

use luarm_hunt::{Console, Format, HuntError, Options, Outcome};
use luarm_store::{QueryError, Reader};

use crate::fixture::*;

#[test]
fn statements_may_span_lines_and_the_last_needs_no_end() {
    let (mut console, _dir) = console(Format::Csv, false);
    let input = "-- a comment; with an end\nselect 1 as a,\n  'x;\ny' as b;\nuse panoitpsl\nshow tables\nselect 2 as c";
    let out = answers(&mut console, input).unwrap();
    assert!(out.starts_with("a,b\n1,\"x;\ny\"\nTables_in_panoitpsl\nalertinfo\nbatchinfo\n"), "{out}");
    assert!(out.ends_with("userinfo\nc\n2\n"), "{out}");
}

#[test]
fn the_first_error_ends_a_script() {
    let (mut console, _dir) = console(Format::Csv, false);
    for (input, message) in [
        ("select 1;\nselect * from nowhere;\nselect 2;", "no such table: nowhere"),
        ("select 1; delete from netinfo; select 2;", "reads only"),
        ("select 1; describe nowhere; select 2;", "no table \"nowhere\""),
        ("select 1; use nowhere; select 2;", "no host \"nowhere\""),
        ("select 1; show me; select 2;", "show tables"),
        ("select 1; select 'unclosed; select 2;", "unrecognized token"),
    ] {
        let mut out = Vec::new();
        let error = console.text(input, &mut out).unwrap_err();
        assert!(error.to_string().contains(message), "{input}: {error}");
        assert_eq!(String::from_utf8(out).unwrap(), "1\n1\n", "{input}");
    }
    let error = console.script(&b"select '\xff';"[..], &mut Vec::new()).unwrap_err();
    assert!(matches!(error, HuntError::Input(_)), "{error}");
}

#[test]
fn quit_ends_a_script() {
    let (mut console, _dir) = console(Format::Csv, false);
    for input in ["quit\nselect 1;", "exit;\nselect 1;", "\\q\nselect 1;"] {
        let mut out = Vec::new();
        assert_eq!(console.text(input, &mut out).unwrap(), Outcome::Quit);
        assert!(out.is_empty());
    }
}

#[test]
fn use_limits_the_tables_until_it_is_taken_back() {
    let (mut console, _dir) = console(Format::Csv, false);
    let count = "select count(*) as n from netinfo; select count(*) as n from main.netinfo;";
    let out = answers(
        &mut console,
        &format!("use panoitpsl; {count} use *; {count} use '0123456789abcdef'; {count}"),
    )
    .unwrap();
    assert_eq!(out, "n\n2371\n".repeat(6));
}

/// Takes some bytes, then is gone, as `| head` is.
struct Head(usize);

impl Write for Head {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let taken = bytes.len().min(self.0);
        self.0 -= taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_has_gone_is_no_error_but_a_full_disk_is() {
    let dir = tempfile::tempdir().unwrap();
    let url = make_store(&dir.path().join("luarm.db"));
    let endless = "with recursive n(i) as (select 1 union all select i + 1 from n) select i from n;";
    for (_, format) in Format::ALL {
        let mut console = Console::new(Reader::open(&url).unwrap(), Options { format, terminal: false });
        assert_eq!(console.text(endless, &mut Head(1000)).unwrap(), Outcome::Quit, "{format}");
    }
    let mut console =
        Console::new(Reader::open(&url).unwrap(), Options { format: Format::Csv, terminal: false });
    let mut full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let error = console.text(endless, &mut full).unwrap_err();
    assert!(matches!(error, HuntError::Query(QueryError::Output(_))), "{error}");
    assert!(error.to_string().contains("No space left"), "{error}");
}
