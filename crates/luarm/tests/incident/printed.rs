//! Answers as they are printed for people.

/// Names and rows of a box; fails where it does not look as in the seed.
pub fn boxed(text: &str) -> (Vec<String>, Vec<Vec<String>>) {
    let lines: Vec<&str> = text.lines().collect();
    let [border, head, below, inside @ .., end, summary] = &lines[..] else { panic!("no box: {text}") };
    assert!(border.starts_with("+-") && border.ends_with("-+") && border.chars().all(|c| "+-".contains(c)));
    assert!(below == border && end == border, "{text}");
    let corners: Vec<usize> = border.match_indices('+').map(|(at, _)| at).collect();
    let cells = |line: &str| -> Vec<String> {
        assert_eq!(line.len(), border.len(), "{text}");
        let between = corners.windows(2).map(|corner| {
            assert_eq!((&line[corner[0]..=corner[0]], &line[corner[1]..=corner[1]]), ("|", "|"), "{text}");
            let cell = line[corner[0] + 1..corner[1]].strip_prefix(' ').unwrap();
            cell.strip_suffix(' ').unwrap().trim().to_owned()
        });
        between.collect()
    };
    let rows: Vec<_> = inside.iter().map(|line| cells(line)).collect();
    assert_summary(summary, rows.len());
    (cells(head), rows)
}

/// Rows of an answer to `\G`, each with its names.
pub fn vertical(text: &str) -> Vec<Vec<(String, String)>> {
    const STARS: &str = "***************************";
    let mut rows: Vec<Vec<(String, String)>> = Vec::new();
    let (all, summary) = text.trim_end().rsplit_once('\n').unwrap();
    for line in all.lines() {
        if line.starts_with(STARS) {
            assert_eq!(line, format!("{STARS} {}. row {STARS}", rows.len() + 1));
            rows.push(Vec::new());
        } else {
            let (name, value) = line.split_once(": ").unwrap();
            rows.last_mut().unwrap().push((name.trim_start().to_owned(), value.to_owned()));
        }
    }
    assert_summary(summary, rows.len());
    rows
}

fn assert_summary(line: &str, rows: usize) {
    let noun = if rows == 1 { "row" } else { "rows" };
    let seconds =
        line.strip_prefix(&format!("{rows} {noun} in set (")).and_then(|rest| rest.strip_suffix(" sec)"));
    let (whole, part) =
        seconds.and_then(|seconds| seconds.split_once('.')).unwrap_or_else(|| panic!("{line}"));
    assert!(whole.parse::<u32>().is_ok() && part.len() == 2 && part.parse::<u32>().is_ok(), "{line}");
}
