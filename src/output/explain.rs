//! `outrigger explain ID`: what happened, why outrigger stops there, and what to do. One page per id, all of
//! them in `explain.txt`.

/// Each page begins with its id and a colon at the beginning of a line, after an empty one.
const PAGES: &str = include_str!("explain.txt");

/// Ids and pages, in the file's order.
fn pages() -> impl Iterator<Item = (&'static str, &'static str)> {
    let begins = |text: &str| {
        text.starts_with("OR") && text[2..].len() > 5 && text.as_bytes()[2..6].iter().all(u8::is_ascii_digit)
    };
    let mut starts: Vec<usize> =
        PAGES.match_indices("\n\n").map(|(at, _)| at + 2).filter(|at| begins(&PAGES[*at..])).collect();
    starts.insert(0, 0);
    let ends: Vec<usize> = starts.iter().skip(1).map(|start| start - 1).chain([PAGES.len()]).collect();
    starts.into_iter().zip(ends).map(|(start, end)| (&PAGES[start..start + 6], &PAGES[start..end]))
}

/// The page of a failure id; case does not matter.
#[must_use]
pub fn explain(id: &str) -> Option<&'static str> {
    pages().find(|(page, _)| page.eq_ignore_ascii_case(id)).map(|(_, text)| text)
}

/// Every id that has a page, in order.
pub fn ids() -> impl Iterator<Item = &'static str> {
    pages().map(|(id, _)| id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::{explain, ids, pages};

    /// Every `OR` followed by exactly four digits in the sources below a directory.
    fn used(dir: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(dir).expect("sources").map(|entry| entry.expect("entry").path()) {
            if entry.is_dir() {
                used(&entry, found);
            } else if entry.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&entry).expect("UTF-8");
                for (at, _) in text.match_indices("OR") {
                    let digits: String = text[at + 2..].chars().take_while(char::is_ascii_digit).collect();
                    if digits.len() == 4 {
                        found.insert(format!("OR{digits}"));
                    }
                }
            }
        }
    }

    #[test]
    fn every_id_in_use_has_a_page() {
        let mut found = BTreeSet::new();
        used(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
        let without: Vec<_> = found.iter().filter(|id| explain(id).is_none()).collect();
        assert!(without.is_empty(), "no page for {without:?}");
    }

    #[test]
    fn pages_are_in_order_and_of_one_shape() {
        let ids: Vec<_> = ids().collect();
        assert!(ids.is_sorted() && ids.windows(2).all(|pair| pair[0] != pair[1]));
        for (id, text) in pages() {
            assert!(text.starts_with(&format!("{id}: ")) && text.ends_with(".\n"), "{id}");
            assert!(text.lines().all(|line| line.chars().count() <= 105), "{id} has a long line");
        }
        assert_eq!(explain("or0101"), explain("OR0101"));
        assert!(explain("OR").is_none() && explain("").is_none());
    }
}
