//! The pages of `outrigger explain ID`. The titles are in the catalogue, the texts in `explain.txt`.

use crate::base::error::Id;
use crate::base::hint::as_called;

/// A page begins with an empty line, except the first, and a line with its code.
const PAGES: &str = include_str!("explain.txt");

/// The page of a failure with its title.
pub fn page(id: Id) -> String {
    let begins = format!("{id}\n\n");
    let text = PAGES.split_once(begins.as_str()).map_or("", |(_, after)| after);
    let end = text.match_indices("\n\nOR").map(|(at, _)| at).find(|at| is_code(&text[at + 2..]));
    let text = as_called(text[..end.unwrap_or(text.len())].trim_end());
    format!("{id}: {}\n\n{text}\n", id.title())
}

/// Whether the first line of a text is a code.
fn is_code(text: &str) -> bool {
    let line = text.lines().next().unwrap_or_default();
    line.len() == 6 && line.starts_with("OR") && line[2..].bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::{PAGES, is_code, page};
    use crate::base::error::Id;

    #[test]
    fn pages_and_failures_correspond() {
        let codes: Vec<_> = PAGES.lines().filter(|line| is_code(line)).collect();
        let known: Vec<_> = Id::ALL.iter().map(|id| id.code()).collect();
        assert_eq!(codes, known);
    }

    #[test]
    fn pages_have_a_title_and_short_lines() {
        for id in Id::ALL {
            let text = page(*id);
            assert!(text.starts_with(&format!("{id}: {}\n\n", id.title())) && text.ends_with(".\n"), "{id}");
            assert!(text.lines().all(|line| line.chars().count() <= 105), "{id} has a long line");
            assert_eq!(
                text.lines().filter(|line| line.starts_with("OR")).count(),
                1,
                "{id} holds another page"
            );
        }
    }
}
