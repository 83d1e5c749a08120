//! The console at a terminal: line editor, history, Ctrl-C.

use std::{
    env,
    fs::{DirBuilder, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::PathBuf,
    thread,
};

use rustyline::{Config, Editor, error::ReadlineError, history::FileHistory};
use signal_hook::{consts::SIGINT, iterator::Signals};

use crate::{Console, HuntError, Outcome, Splitter, Statement, complete::Completion};

const PROMPT: &str = "luarm> ";
const CONTINUED: &str = "    -> ";

impl Console {
    /// Talks with the user at the terminal until he leaves. An error of a statement is shown, and the next may come.
    pub fn interactive(&mut self) -> Result<(), HuntError> {
        let terminal = |e: ReadlineError| HuntError::Terminal(e.to_string());
        let config = Config::builder().max_history_size(10_000).map_err(terminal)?.build();
        let mut editor: Editor<Completion, FileHistory> = Editor::with_config(config).map_err(terminal)?;
        let hosts = self.source.hosts()?.into_iter().map(|h| h.name).collect();
        editor.set_helper(Some(Completion { hosts }));
        let history = history_file();
        if let Some(path) = &history {
            // An unreadable history is no reason not to answer.
            let _ = editor.load_history(path);
        }

        // Between prompts Ctrl-C is a signal, and ends the query that runs; at a prompt it is a key.
        let mut signals = Signals::new([SIGINT]).map_err(HuntError::Input)?;
        let handle = signals.handle();
        let interrupt = self.source.interrupter();
        let watch = thread::spawn(move || signals.forever().for_each(|_| interrupt()));
        println!("Type help for help, quit to leave. Statements end with ; or \\G.");
        let result = self.converse(&mut editor);
        handle.close();
        let _ = watch.join();

        if let Some(path) = &history {
            let _ = editor.append_history(path);
        }
        result
    }

    fn converse(&mut self, editor: &mut Editor<Completion, FileHistory>) -> Result<(), HuntError> {
        let mut splitter = Splitter::default();
        loop {
            let prompt = if splitter.is_open() { CONTINUED } else { PROMPT };
            let line = match editor.readline(prompt) {
                Ok(line) => line,
                Err(ReadlineError::Interrupted) => {
                    splitter.clear();
                    continue;
                }
                Err(ReadlineError::Eof) => return Ok(()),
                Err(error) => return Err(HuntError::Terminal(error.to_string())),
            };
            let _ = editor.add_history_entry(line.as_str());
            for statement in self.line(&mut splitter, &(line + "\n")) {
                if self.show(&statement)? == Outcome::Quit {
                    return Ok(());
                }
            }
        }
    }

    /// Runs a statement, and shows its error where it fails.
    fn show(&mut self, statement: &Statement) -> Result<Outcome, HuntError> {
        let mut out = BufWriter::new(io::stdout().lock());
        match self.statement(statement, &mut out) {
            Ok(outcome) => {
                writeln!(out).map_err(HuntError::Output)?;
                Ok(outcome)
            }
            Err(error @ HuntError::Output(_)) => Err(error),
            Err(error) => {
                // Rows that came before the error are part of what happened.
                out.flush().map_err(HuntError::Output)?;
                if error.is_interrupt() {
                    eprintln!("{error}");
                } else {
                    eprintln!("ERROR: {error}");
                }
                Ok(Outcome::Continue)
            }
        }
    }
}

/// `$XDG_STATE_HOME/luarm/history`, or the same below `~/.local/state`; made for its owner only. `None` where that is not possible.
fn history_file() -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let state =
        absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
    let dir = state.join("luarm");
    DirBuilder::new().recursive(true).mode(0o700).create(&dir).ok()?;
    let path = dir.join("history");
    OpenOptions::new().append(true).create(true).mode(0o600).open(&path).ok()?;
    Some(path)
}
