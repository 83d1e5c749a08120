//! What those who took part in the incident wrote down. demo/incident says how.

/// One line.
pub struct Deed {
    role: String,
    pub pid: i64,
    deed: String,
    /// The details.
    pub words: Vec<String>,
}

impl Deed {
    /// A detail that is a number.
    pub fn number(&self, at: usize) -> i64 {
        self.words[at].parse().unwrap()
    }
}

/// All lines.
pub struct Journal(Vec<Deed>);

impl Journal {
    pub fn read(text: &str) -> Self {
        let deeds = text.lines().map(|line| {
            let mut words = line.split(' ').map(str::to_owned);
            let mut word = || words.next().unwrap_or_else(|| panic!("no deed: {line}"));
            let (role, pid, deed) = (word(), word().parse().unwrap(), word());
            Deed { role, pid, deed, words: words.collect() }
        });
        Self(deeds.collect())
    }

    /// What was done by all in one role.
    pub fn deeds(&self, role: &str, deed: &str) -> impl Iterator<Item = &Deed> {
        self.0.iter().filter(move |line| line.role == role && line.deed == deed)
    }

    /// What was done by one process.
    pub fn of(&self, pid: i64, deed: &str) -> impl Iterator<Item = &Deed> {
        self.0.iter().filter(move |line| line.pid == pid && line.deed == deed)
    }
}
